package mcp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/claudepool/claudepool"
)

// maxTranscript bounds what is read of a transcript: 8 MiB.
const maxTranscript = 8 << 20

const jsonType = "application/json"

// budget is how the money stands.
type budget struct {
	Spent    claudepool.Microdollars  `json:"spent_microdollars"`
	Assumed  claudepool.Microdollars  `json:"assumed_microdollars,omitempty"` // part of it; see claudepool.Attempt
	Reserved claudepool.Microdollars  `json:"reserved_microdollars"`
	Limit    claudepool.Microdollars  `json:"limit_microdollars"` // 0 means no limit
	Left     *claudepool.Microdollars `json:"left_microdollars,omitempty"`
	Window   claudepool.BudgetWindow  `json:"window"`
}

// taskView is a task without its result, which is a resource of its own.
type taskView struct {
	listed
	Prompt    string               `json:"prompt"` // all of it
	Owner     string               `json:"owner"`
	Session   string               `json:"session"`
	Priority  int                  `json:"priority"`
	Attempts  []claudepool.Attempt `json:"attempts"`
	Retries   int                  `json:"retries"`
	Crashes   int                  `json:"crashes"`
	Explained string               `json:"explained"`
}

func (s *Server) addResources() {
	s.fixed(statusURI, "status", "How the pool stands", func(ctx context.Context) (any, error) { return s.status(ctx) })
	s.fixed(slotsURI, "slots", "All slots", func(ctx context.Context) (any, error) {
		return s.pool.FindSlots(ctx, claudepool.SlotFilter{})
	})
	s.fixed(budgetURI, "budget", "Spending and budget", func(ctx context.Context) (any, error) { return s.budget(ctx) })
	s.fixed(contextURI, "context", "The run context", func(ctx context.Context) (any, error) { return s.pool.Context(ctx) })

	s.template(slotPrefix+"{id}", "slot", "One slot", slotPrefix, s.readSlot)
	s.template(taskPrefix+"{task_id}", "task", "A task and its attempts", taskPrefix, s.readTask)
	s.template(chainPrefix+"{task_id}", "chain", "How a chain stands, with all that its steps gave", chainPrefix, s.readChain)
	s.template(resultPrefix+"{task_id}", "result", "The whole result of a task that has ended", resultPrefix, s.readResult)
	s.template(transcriptPrefix+"{task_id}", "transcript", "The messages of a task's last attempt, a JSON object a line", transcriptPrefix, s.readTranscript)
}

// fixed adds a resource that is always there.
func (s *Server) fixed(uri, name, about string, read func(context.Context) (any, error)) {
	s.mcp.AddResource(&sdk.Resource{URI: uri, Name: name, Description: about, MIMEType: jsonType},
		func(ctx context.Context, _ *sdk.ReadResourceRequest) (*sdk.ReadResourceResult, error) {
			v, err := read(ctx)
			if err != nil {
				return nil, err
			}
			return contents(uri, v)
		})
}

// template adds the resources that have an id. read fails with
// [claudepool.ErrUnknownTask] or [claudepool.ErrUnknownSlot] when there is none.
func (s *Server) template(uri, name, about, prefix string, read func(context.Context, string) (any, error)) {
	s.mcp.AddResourceTemplate(&sdk.ResourceTemplate{URITemplate: uri, Name: name, Description: about, MIMEType: jsonType},
		func(ctx context.Context, req *sdk.ReadResourceRequest) (*sdk.ReadResourceResult, error) {
			uri := req.Params.URI
			id, ok := idIn(uri, prefix)
			if !ok {
				return nil, sdk.ResourceNotFoundError(uri)
			}
			v, err := read(ctx, id)
			if errors.Is(err, claudepool.ErrUnknownTask) || errors.Is(err, claudepool.ErrUnknownSlot) {
				return nil, sdk.ResourceNotFoundError(uri)
			}
			if err != nil {
				return nil, err
			}
			return contents(uri, v)
		})
}

// lines is text that is a JSON object a line.
type lines string

// contents is v as the contents of a resource.
func contents(uri string, v any) (*sdk.ReadResourceResult, error) {
	c := &sdk.ResourceContents{URI: uri, MIMEType: jsonType}
	if text, ok := v.(lines); ok {
		c.MIMEType, c.Text = "application/x-ndjson", string(text)
	} else {
		b, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", uri, err)
		}
		c.Text = string(b)
	}
	return &sdk.ReadResourceResult{Contents: []*sdk.ResourceContents{c}}, nil
}

func (s *Server) budget(ctx context.Context) (budget, error) {
	st, err := s.pool.Status(ctx)
	b := budget{Spent: st.TotalSpend, Assumed: st.Assumed, Reserved: st.Reserved, Limit: st.Budget, Window: s.pool.Config().Window}
	if b.Limit > 0 {
		left := max(0, b.Limit-b.Spent-b.Reserved)
		b.Left = &left
	}
	return b, err
}

func (s *Server) readSlot(ctx context.Context, id string) (any, error) {
	all, err := s.pool.FindSlots(ctx, claudepool.SlotFilter{})
	if err != nil {
		return nil, err
	}
	for _, sl := range all {
		if sl.ID == id {
			return sl, nil
		}
	}
	return nil, claudepool.ErrUnknownSlot
}

func (s *Server) readTask(ctx context.Context, id string) (any, error) {
	r, err := s.pool.Task(ctx, claudepool.TaskID(id))
	if err != nil {
		return nil, err
	}
	attempts, err := s.pool.Attempts(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	e, err := s.pool.Explain(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	return taskView{
		listed: lineOf(r), Prompt: r.Task.Prompt, Owner: r.Task.Owner, Session: r.Task.Session.String(), Priority: r.Task.Priority,
		Attempts: attempts, Retries: r.Retries, Crashes: r.Crashes, Explained: e.Reason,
	}, nil
}

func (s *Server) readChain(ctx context.Context, id string) (any, error) {
	c, err := s.pool.ChainProgress(ctx, claudepool.TaskID(id))
	if _, other := errors.AsType[*claudepool.InvalidError](err); other {
		return nil, claudepool.ErrUnknownTask // it is no chain
	}
	return c, err
}

func (s *Server) readResult(ctx context.Context, id string) (any, error) {
	r, err := s.pool.Task(ctx, claudepool.TaskID(id))
	if err != nil {
		return nil, err
	}
	return s.reportOf(r), nil
}

func (s *Server) readTranscript(ctx context.Context, id string) (_ any, err error) {
	r, err := s.pool.Task(ctx, claudepool.TaskID(id))
	if err != nil {
		return nil, err
	}
	f, err := s.pool.Transcript(r.ID, r.Attempts)
	if errors.Is(err, claudepool.ErrNoTranscript) {
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: err.Error()}
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b, err := io.ReadAll(io.LimitReader(f, maxTranscript+1))
	if err != nil {
		return nil, fmt.Errorf("read transcript: %w", err)
	}
	if len(b) > maxTranscript {
		b = b[:bytes.LastIndexByte(b[:maxTranscript], '\n')+1]
		b = append(b, `{"type":"cut","reason":"the transcript goes on; its file has all of it"}`+"\n"...)
	}
	return lines(b), nil
}
