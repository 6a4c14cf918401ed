package mcp

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"golang.org/x/sync/errgroup"

	"github.com/claudepool/claudepool"
)

type fanOutInput struct {
	Prompts  []string `json:"prompts"`
	FailFast bool     `json:"fail_fast,omitempty" jsonschema:"cancel the rest when one does not complete"`
	work
}

// fannedOut is how the tasks of a fan-out stand, in the order of the prompts.
type fannedOut struct {
	Results []report `json:"results"`
	Census  census   `json:"census"`
}

// census counts how tasks stand. It is a [claudepool.Census] that also knows
// of tasks which have not ended.
type census struct {
	claudepool.Census
	Unfinished int `json:"unfinished"`
}

func (o fannedOut) text() string {
	c := o.Census
	head := fmt.Sprintf("%d of %d completed, %v", c.OK, c.Asked, c.Cost)
	for _, class := range claudepool.Outcomes() {
		if n := c.Failed[class]; n > 0 {
			head += fmt.Sprintf(", %d %s", n, class)
		}
	}
	if c.Unfinished > 0 {
		head += fmt.Sprintf("; %d go on, collect them with pool_wait", c.Unfinished)
	}
	return head + "\n\n" + textOf(o.Results)
}

func (o fannedOut) links() []*sdk.ResourceLink { return linksOf(o.Results) }

func (s *Server) addFanOutTools() {
	add(s, ToolsetCore, tool{
		name: "pool_fan_out", hints: works,
		about: "Run independent tasks at once and wait for all. Gives every result in the order of the prompts, and a census; a failure does not lose the others. If some are unfinished, their work goes on: collect them with pool_wait, do not run them again.",
		input: func(in *jsonschema.Schema) {
			overridesSchema(in)
			p := in.Properties["prompts"]
			p.MinItems, p.MaxItems = jsonschema.Ptr(1), jsonschema.Ptr(maxTasks)
			p.Items.MinLength = jsonschema.Ptr(1)
		},
	}, s.fanOut)
}

func (s *Server) fanOut(ctx context.Context, req *sdk.CallToolRequest, in fanOutInput) (fannedOut, error) {
	ids, err := s.submitAll(ctx, req, in)
	if err != nil {
		return fannedOut{}, err
	}
	done := make(chan struct{})
	if err := s.background(func() { defer close(done); s.watch(ids, in.FailFast) }); err != nil {
		return fannedOut{}, err
	}
	end := s.attend(ctx, req, 0, done, s.look(ids))
	ctx = context.WithoutCancel(ctx)
	if end == cancelled {
		if err := s.cancelAll(ctx, ids); err != nil {
			return fannedOut{}, err
		}
	}
	results, err := s.reports(ctx, ids)
	if err != nil {
		return fannedOut{}, err
	}
	return fannedOut{results, count(results)}, nil
}

// submitAll submits a task for each prompt: all, or after an error none, save
// those of an idempotency key, with which the caller can repeat the call. They
// are returned with the error.
func (s *Server) submitAll(ctx context.Context, req *sdk.CallToolRequest, in fanOutInput) ([]claudepool.TaskID, error) {
	t, err := s.task(ctx, req, "", in.work)
	if err != nil {
		return nil, err
	}
	for i, prompt := range in.Prompts { // the one thing that can be wrong with some of them
		if strings.TrimSpace(prompt) == "" {
			return nil, invalid(fmt.Sprintf("prompts[%d]", i), "is empty")
		}
	}
	ids := make([]claudepool.TaskID, 0, len(in.Prompts))
	for i, prompt := range in.Prompts {
		t.Prompt = prompt
		if in.Key != "" {
			t.IdempotencyKey = fmt.Sprintf("%s#%d", in.Key, i)
		}
		id, err := s.submitTask(ctx, t)
		if err != nil {
			if in.Key == "" {
				err = errors.Join(err, s.cancelAll(context.WithoutCancel(ctx), ids))
			}
			return ids, fmt.Errorf("prompts[%d]: %w", i, err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// watch waits until all tasks are settled. With failFast it cancels the rest
// when one has not completed. It ends early when the server is closed.
func (s *Server) watch(ids []claudepool.TaskID, failFast bool) {
	failure := errors.New("a task has not completed")
	g, ctx := errgroup.WithContext(s.ctx)
	for _, id := range ids {
		g.Go(func() error {
			r, err := s.pool.WaitFor(ctx, id, settled)
			if err == nil && failFast && r.State.Terminal() && r.State != claudepool.StateCompleted {
				return failure
			}
			return nil
		})
	}
	if g.Wait() == nil {
		return
	}
	if err := s.cancelAll(s.ctx, ids); err != nil {
		s.log.Warn("the rest of a fan-out could not be cancelled", "err", err)
	}
}

// cancelAll cancels those of the tasks that have not ended.
func (s *Server) cancelAll(ctx context.Context, ids []claudepool.TaskID) error {
	var errs []error
	for _, id := range ids {
		if _, err := s.pool.Cancel(ctx, id); err != nil {
			errs = append(errs, fmt.Errorf("cancel %s: %w", id, err))
		}
	}
	return errors.Join(errs...)
}

// count takes the census of tasks.
func count(rs []report) census {
	c := census{Census: claudepool.Census{Asked: len(rs), Failed: map[claudepool.Outcome]int{}}}
	for _, r := range rs {
		switch {
		case r.TaskResult == nil || !r.State.Terminal():
			c.Unfinished++
			continue
		case r.State == claudepool.StateCompleted:
			c.OK++
		default:
			c.Failed[r.Outcome]++
		}
		c.Cost += r.Cost
	}
	return c
}
