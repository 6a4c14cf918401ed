package mcp

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"sync"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/claudepool/claudepool"
)

// autoRun is what becomes of a request, as far as it has come. It goes on when
// the caller no longer waits.
type autoRun struct {
	key string // under which the caller finds it again

	mu    sync.Mutex
	route claudepool.Route    // without a kind while it is not decided
	ids   []claudepool.TaskID // the tasks that carry it out
	err   error
}

func (a *autoRun) set(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

func (a *autoRun) state() (claudepool.Route, []claudepool.TaskID, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.route, a.ids, a.err
}

// note tells a caller that was answered before the decision how to go on.
func (a *autoRun) note() string {
	return fmt.Sprintf("not decided yet; repeat the call with idempotency_key %q to get what it comes to", a.key)
}

// decide decides how to carry a request out.
func (s *Server) decide(ctx context.Context, a *autoRun, prompt string, hints claudepool.RouteHints, o claudepool.AutoOptions) error {
	o.IdempotencyKey = a.key
	r, err := s.pool.RouteWith(ctx, prompt, hints, o)
	a.set(func() { a.route, a.err = r, err })
	return err
}

// attendAuto runs f on a goroutine of the server and waits for its end as long
// as the caller does. f ends early when the caller takes the call back.
func (s *Server) attendAuto(ctx context.Context, req *sdk.CallToolRequest, a *autoRun, f func(context.Context)) (ending, error) {
	run, stop := context.WithCancel(s.ctx)
	done := make(chan struct{})
	if err := s.background(func() { defer stop(); defer close(done); f(run) }); err != nil {
		stop()
		return gone, err
	}
	end := s.attend(ctx, req, 0, done, func(ctx context.Context) progress {
		if _, ids, _ := a.state(); len(ids) > 0 {
			return s.look(ids)(ctx)
		}
		return progress{total: 1, message: "deciding how to carry it out"}
	})
	if end == cancelled {
		stop()
		<-done
	}
	return end, nil
}

func (s *Server) route(ctx context.Context, req *sdk.CallToolRequest, in routeInput, hints claudepool.RouteHints) (route, error) {
	a := &autoRun{key: cmp.Or(in.Key, rand.Text())}
	o := claudepool.AutoOptions{Tags: in.Tags, Owner: s.owner(req)}
	if _, err := s.attendAuto(ctx, req, a, func(ctx context.Context) { _ = s.decide(ctx, a, in.Prompt, hints, o) }); err != nil {
		return route{}, err
	}
	r, _, err := a.state()
	out := routeOf(r)
	if r.Kind == "" {
		out.Note = a.note()
	}
	return out, err
}

func (s *Server) auto(ctx context.Context, req *sdk.CallToolRequest, in autoInput, hints claudepool.RouteHints) (auto, error) {
	o, err := s.overrides(ctx, in.Overrides)
	if err == nil {
		err = s.withinShared("", in.Isolation, o.PermissionMode)
	}
	if err != nil {
		return auto{}, err // before a decision is paid for
	}
	a := &autoRun{key: cmp.Or(in.Key, rand.Text())}
	ask := claudepool.AutoOptions{Tags: in.Tags, Priority: in.Priority, Owner: s.owner(req)}
	end, err := s.attendAuto(ctx, req, a, func(ctx context.Context) {
		if s.decide(ctx, a, in.Prompt, hints, ask) != nil {
			return
		}
		ids, err := s.carryOut(ctx, req, a, in.work)
		a.set(func() { a.ids, a.err = ids, err })
		for _, id := range ids {
			if _, err := s.pool.WaitFor(ctx, id, settled); err != nil {
				return // the server closes, or the call was taken back
			}
		}
	})
	if err != nil {
		return auto{}, err
	}
	ctx = context.WithoutCancel(ctx)
	if _, ids, _ := a.state(); end == cancelled {
		if err := s.cancelAll(ctx, ids); err != nil {
			return auto{}, err
		}
	}
	return s.autoAnswer(ctx, a)
}

// carryOut submits what was decided and returns the ids, those before an error
// included.
func (s *Server) carryOut(ctx context.Context, req *sdk.CallToolRequest, a *autoRun, w work) ([]claudepool.TaskID, error) {
	r, _, _ := a.state()
	w.Key = a.key + "/" + string(r.Kind)
	if r.Kind != claudepool.RouteChain {
		return s.submitAll(ctx, req, fanOutInput{Prompts: r.Prompts, work: w})
	}
	c := claudepool.Chain{Steps: r.Steps}
	if err := s.adapt(ctx, &c, w); err != nil {
		return nil, err
	}
	id, err := s.pool.SubmitChain(ctx, c, s.chainOptions(ctx, req, w))
	if err != nil {
		return nil, inSteps(err)
	}
	return []claudepool.TaskID{id}, nil
}

// autoAnswer reports how far a request has come.
func (s *Server) autoAnswer(ctx context.Context, a *autoRun) (auto, error) {
	r, ids, err := a.state()
	if err != nil {
		return auto{}, err
	}
	out := auto{Route: routeOf(r), Cost: r.Cost}
	switch {
	case len(ids) == 0:
		out.Note = a.note()
		return out, nil
	case r.Kind == claudepool.RouteChain:
		c, err := s.chainReport(ctx, ids[0])
		if err != nil {
			return out, err
		}
		out.Chain, out.Done, out.Success = &c, c.State.Terminal(), c.Success
		out.Cost += c.Cost
	default:
		if out.Results, err = s.reports(ctx, ids); err != nil {
			return out, err
		}
		out.Done, out.Success = true, true
		for _, res := range out.Results {
			out.Done = out.Done && res.State.Terminal()
			out.Success = out.Success && res.TaskResult != nil && res.Success
			if res.TaskResult != nil {
				out.Cost += res.Cost
			}
		}
	}
	if !out.Done {
		out.Note = "the work goes on; collect it with pool_wait"
	}
	return out, nil
}
