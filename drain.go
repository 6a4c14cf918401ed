package claudepool

import (
	"context"
	"errors"
	"slices"
)

// Drain ends the pool's work for good. No new work is taken; what runs may
// finish until ctx ends. What then still runs goes back to the queue of a
// durable store, where waiting tasks stay too, and results that wait for a
// review; with a store that ends with the program all of them are cancelled,
// the results with what they hold. Results can be read until Close.
//
// What isolated tasks have written by then is given a few seconds more to be
// saved. What takes longer stays in its place, and is saved before that is used
// again or its task goes on.
//
// A second Drain waits for the first, and returns its summary.
func (p *Pool) Drain(ctx context.Context) (DrainSummary, error) {
	p.mu.Lock()
	if p.phase == phaseClosed {
		p.mu.Unlock()
		return DrainSummary{}, ErrClosed
	}
	first := p.phase == phaseOpen
	p.phase = phaseDraining
	p.mu.Unlock()
	if first {
		p.events.publish(Event{Kind: EventPool, Message: "drains"})
		p.sched.close()
		p.drained, p.drainErr = p.drain(ctx)
		close(p.drainDone)
		return p.drained, p.drainErr
	}
	select {
	case <-p.drainDone:
		return p.drained, p.drainErr
	case <-ctx.Done():
		return DrainSummary{}, context.Cause(ctx)
	}
}

func (p *Pool) drain(ctx context.Context) (DrainSummary, error) {
	p.mu.Lock()
	slots := slices.Clone(p.slots)
	before := make([]TaskID, 0, len(p.running))
	for id := range p.running {
		before = append(before, id)
	}
	p.mu.Unlock()
	before = append(before, p.chains.running()...)
	for _, s := range slots {
		s.stop()
	}
	for _, s := range slots {
		select {
		case <-s.done:
			continue
		case <-ctx.Done():
		}
		break
	}
	p.stop(errHandBack) // ends what still runs; each attempt hands its task back
	for _, s := range slots {
		<-s.done // bounded: a turn is interrupted, then its process is ended
	}
	<-p.sched.done  // a claim under way, or parked, is back in the store
	<-p.chains.done // and every chain too

	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseTime)
	defer cancel()
	var sum DrainSummary
	var errs []error
	for _, id := range before {
		r, err := p.store.Task(end, id)
		switch {
		case errors.Is(err, ErrUnknownTask): // it ended, and the store keeps few that have
			sum.Finished++
		case err != nil:
			errs = append(errs, err)
		case r.State == StatePending:
			sum.Requeued++
		case r.State == StateCancelled:
			sum.Cancelled++
		case r.State == StatePendingReview && !p.durable: // cancelled and counted below
		default:
			sum.Finished++
		}
	}
	errs = append(errs, p.settleWaiting(end, &sum))
	l, err := p.ledger(end)
	sum.Spend = l.Spent
	return sum, errors.Join(append(errs, err, p.syncStore(end))...)
}

// settleWaiting counts the waiting tasks, or cancels them, and those whose
// result waits for a review, when they have no later.
func (p *Pool) settleWaiting(ctx context.Context, sum *DrainSummary) error {
	if p.durable {
		counts, err := p.store.Count(ctx)
		sum.Pending = counts[StatePending]
		return err
	}
	for r, err := range p.store.Tasks(ctx, TaskFilter{States: []TaskState{StatePending, StatePendingReview}}) {
		if err != nil {
			return err
		}
		// A review may still come in between.
		r, err = p.transition(ctx, r.ID, func(r TaskRecord) Transition {
			return Transition{To: StateCancelled, Outcome: OutcomeCancelled, Result: p.endedEarly(r, OutcomeCancelled, errNoLater)}
		})
		if err != nil {
			return err
		}
		if r.State == StateCancelled {
			sum.Cancelled++
		}
	}
	return nil
}

// Close drains the pool without waiting for running work, ends every process,
// and closes the store if it is the pool's own. It returns when nothing of the
// pool is left. Further calls do nothing.
func (p *Pool) Close() error {
	p.closing.Do(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, err := p.Drain(ctx)
		if errors.Is(err, context.Canceled) { // another Drain is under way: it is not waited for
			p.stop(errHandBack)
			<-p.drainDone
			err = p.drainErr
		}
		p.mu.Lock()
		p.phase = phaseClosed
		p.mu.Unlock()
		p.stopWatch()
		p.work.Wait()
		p.pruner.flush()
		if !p.ownStore {
			p.unregister()
		}
		p.waits.wakeAll()
		p.events.close()
		close(p.closed)
		p.closeErr = errors.Join(err, p.trees.close(), p.transcript.close(), p.closeStore())
	})
	return p.closeErr
}
