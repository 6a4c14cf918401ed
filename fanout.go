package claudepool

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

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
	for i, id := range ids {
		out.Results[i].TaskID = id
	}
	// The wait outlives ctx: what is cancelled because of it ends at once, and
	// its result is wanted too. It is bounded, in case the store fails.
	wait, giveUp := context.WithCancelCause(context.WithoutCancel(ctx))
	defer giveUp(nil)
	stop := sync.OnceFunc(func() { p.cancelAll(wait, ids) })
	stopped := make(chan struct{})
	unhook := context.AfterFunc(ctx, func() {
		defer close(stopped)
		stop()
		select {
		case <-time.After(fanOutGrace):
			giveUp(context.Cause(ctx))
		case <-wait.Done(): // all have ended
		}
	})
	var g errgroup.Group // without a context: no failure ends the wait for the others
	var mu sync.Mutex    // for OnDone and failed
	failed := 0
	done := func(i int, r TaskResult, failure bool) (enough bool) {
		mu.Lock()
		defer mu.Unlock()
		out.Results[i] = r
		if o.OnDone != nil {
			o.OnDone(i, r)
		}
		if failure {
			failed++
		}
		return failure && failed == o.StopAfter
	}
	for i, id := range ids {
		g.Go(func() error {
			r, err := p.Wait(wait, id)
			failure, ended := errors.AsType[*TaskError](err)
			if err != nil && !ended {
				return fmt.Errorf("wait for task %d of %d, %s: %w", i, len(ids), id, err)
			}
			if done(i, r, failure != nil) {
				stop()
			}
			return nil
		})
	}
	err = g.Wait()
	if giveUp(nil); !unhook() {
		<-stopped
	}
	out.Census = census(out.Results)
	if err == nil && ctx.Err() != nil && out.Census.Failed[OutcomeCancelled] > 0 {
		err = context.Cause(ctx)
	}
	return out, err
}

// fanOutGrace is how long a fan-out whose context has ended waits for the
// results of what it cancelled.
const fanOutGrace = 10 * time.Second

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
	var shared *Allowance
	if o.MaxCost > 0 {
		shared = &Allowance{ID: p.ids.Next("fanout", p.started), Limit: o.MaxCost}
	}
	all := make([]admitted, len(tasks))
	for i, t := range tasks { // a look at all before the first is stored
		if shared != nil {
			t.Allowance = shared
		}
		var err error
		if all[i], err = p.admit(ctx, TaskRecord{Task: t}, func() (TaskRecord, error) { return p.newTask(ctx, t) }); err != nil {
			return nil, fmt.Errorf("task %d of %d: %w", i, len(tasks), err)
		}
	}
	return p.createAll(ctx, "task", all)
}

// createAll stores what was let in: all, or after an error none. What was there
// before, by its idempotency key, is left alone. what is what they are.
func (p *Pool) createAll(ctx context.Context, what string, all []admitted) ([]TaskID, error) {
	ids := make([]TaskID, len(all))
	var created []TaskID
	for i, a := range all {
		r, isNew, err := p.create(ctx, a)
		if err != nil {
			p.cancelAll(context.WithoutCancel(ctx), created)
			return nil, fmt.Errorf("%s %d of %d: %w", what, i, len(all), err)
		}
		if ids[i] = r.ID; isNew {
			created = append(created, r.ID)
		}
	}
	return ids, nil
}

// cancelAll cancels what has not ended. A store that fails is asked a few times.
func (p *Pool) cancelAll(ctx context.Context, ids []TaskID) {
	for _, id := range ids {
		var err error
		for try := 1; try <= 3; try++ {
			if _, err = p.Cancel(ctx, id); err == nil || errors.Is(err, ErrClosed) || ctx.Err() != nil {
				break
			}
			time.Sleep(backoff(20*time.Millisecond, time.Second, try))
		}
		if err != nil && !errors.Is(err, ErrClosed) {
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
