package claudepool

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// windowStart is the start of the window whose spending counts.
func (p *Pool) windowStart(now time.Time) time.Time {
	switch p.cfg.Window {
	case WindowRun:
		return p.started
	case WindowDay:
		return now.UTC().Truncate(24 * time.Hour)
	}
	return time.Time{}
}

// freeSlots counts the slots without a task, those that are starting or being
// reset included: what is left of the budget is shared among them.
func (p *Pool) freeSlots() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.slots) - len(p.running)
}

// ledger returns the sums of the budget's window.
func (p *Pool) ledger(ctx context.Context) (Ledger, error) {
	return p.store.Ledger(ctx, LedgerQuery{Since: p.windowStart(time.Now())})
}

// SetBudget raises or lowers the limit at once. Running attempts keep what is
// reserved for them. The limit must be more than zero.
func (p *Pool) SetBudget(limit Microdollars) error {
	if err := p.open(); err != nil {
		return err
	}
	if limit <= 0 {
		return invalidField("budget", "must be more than zero, not %v", limit)
	}
	if was := Microdollars(p.limit.Swap(int64(limit))); was > 0 && limit > was {
		p.replaceAll("its own ceiling is the former budget")
	}
	p.sched.kick()
	p.events.publish(Event{Kind: EventPool, Message: fmt.Sprintf("budget is %v", limit)})
	return nil
}

// unaffordable decides about the best task when the money does not suffice for
// it. It reports whether that changed anything: then there may be other work.
//
// What others have reserved may come back, so the task waits for it. When
// nothing is reserved it never will: the task fails, unless tasks are to wait
// for a larger budget.
func (p *Pool) unaffordable(ctx context.Context, n *NotRunnable) bool {
	b := n.Budget
	if b.Scope == ScopePool && b.Limit != Microdollars(p.limit.Load()) {
		return true // it was raised or lowered while the store looked
	}
	if b.Reserved > 0 && b.Scope != ScopeTask || b.Scope == ScopePool && p.cfg.WaitForBudget {
		return false
	}
	r, err := p.store.Task(ctx, n.Task)
	if err != nil || r.State != StatePending {
		return true
	}
	_, err = p.store.Transition(ctx, Transition{
		Task: n.Task, From: StatePending, To: StateFailed, At: time.Now(),
		Outcome: OutcomeBudget, Result: p.endedEarly(r, OutcomeBudget, b.Error()),
	})
	if err != nil && !errors.Is(err, ErrConflict) {
		if ctx.Err() == nil {
			p.log.Error("task that cannot be paid for could not be failed", "task", n.Task, "err", err)
		}
		return false
	}
	return true
}
