package claudepool

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"
)

// FanOut submits the tasks and waits for all of them. Results come in the order
// of the tasks, whatever became of each; no failure loses another's result. If
// a task is refused, none is started, and the error names it. If ctx ends, the
// tasks that have not ended are cancelled, and the results so far are returned
// with the context's cause.
func (p *Pool) FanOut(ctx context.Context, tasks []Task, o FanOutOptions) (FanOutResult, error) {
	ids, err := p.submitAll(ctx, tasks, o)
	if err != nil {
		return FanOutResult{}, err
	}
	out := FanOutResult{Results: make([]TaskResult, len(ids))}
	var mu sync.Mutex // for OnDone and failed
	failed := 0
	stop := func() { p.cancelAll(context.WithoutCancel(ctx), ids) }
	stopOnce := sync.OnceFunc(stop)
	if ctx.Done() != nil {
		unhook := context.AfterFunc(ctx, stopOnce)
		defer unhook()
	}
	// The wait outlives ctx: what was cancelled because of it ends at once, and
	// its result is wanted too.
	g, wait := errgroup.WithContext(context.WithoutCancel(ctx))
	for i, id := range ids {
		g.Go(func() error {
			r, err := p.Wait(wait, id)
			var failure *TaskError
			if err != nil && !errors.As(err, &failure) {
				return fmt.Errorf("wait for task %d of %d: %w", i, len(ids), err)
			}
			mu.Lock()
			defer mu.Unlock()
			out.Results[i] = r
			if o.OnDone != nil {
				o.OnDone(i, r)
			}
			if failure != nil {
				failed++
			}
			if o.StopAfter > 0 && failed == o.StopAfter {
				stopOnce()
			}
			return nil
		})
	}
	err = g.Wait()
	out.Census = census(out.Results)
	if err == nil && ctx.Err() != nil && out.Census.Failed[OutcomeCancelled] > 0 {
		err = context.Cause(ctx)
	}
	return out, err
}

// submitAll submits all tasks or none.
func (p *Pool) submitAll(ctx context.Context, tasks []Task, o FanOutOptions) ([]TaskID, error) {
	switch {
	case len(tasks) == 0:
		return nil, invalidField("tasks", "is empty")
	case o.StopAfter < 0:
		return nil, invalidField("stop_after", "must not be negative")
	case o.MaxCost < 0:
		return nil, invalidField("max_budget_usd", "must not be negative")
	}
	if err := p.open(); err != nil {
		return nil, err
	}
	var shared *Allowance
	if o.MaxCost > 0 {
		shared = &Allowance{ID: p.ids.Next("fanout", p.started), Limit: o.MaxCost}
	}
	for i := range tasks { // a look at all before the first is stored
		if _, err := p.newRecord(ctx, tasks[i]); err != nil {
			return nil, fmt.Errorf("task %d of %d: %w", i, len(tasks), err)
		}
	}
	ids := make([]TaskID, len(tasks))
	for i, t := range tasks {
		if shared != nil {
			t.Allowance = shared
		}
		id, err := p.Submit(ctx, t)
		if err != nil {
			p.cancelAll(context.WithoutCancel(ctx), ids[:i])
			return nil, fmt.Errorf("task %d of %d: %w", i, len(tasks), err)
		}
		ids[i] = id
	}
	return ids, nil
}

// cancelAll cancels what has not ended.
func (p *Pool) cancelAll(ctx context.Context, ids []TaskID) {
	for _, id := range ids {
		if _, err := p.Cancel(ctx, id); err != nil && !errors.Is(err, ErrClosed) {
			p.log.Warn("task of an ended fan-out could not be cancelled", "task", id, "err", err)
		}
	}
}

func census(rs []TaskResult) Census {
	c := Census{Asked: len(rs), Failed: map[Outcome]int{}}
	for _, r := range rs {
		c.Cost += r.Cost
		if r.State == StateCompleted {
			c.OK++
		} else {
			c.Failed[r.Outcome]++
		}
	}
	return c
}
