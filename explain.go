package claudepool

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Explain says in words why a task is where it is.
func (p *Pool) Explain(ctx context.Context, id TaskID) (Explanation, error) {
	r, err := p.Task(ctx, id)
	if err != nil {
		return Explanation{}, err
	}
	e := Explanation{TaskID: id, State: r.State}
	switch r.State {
	case StatePending:
		e.Reason, e.Until, err = p.whyPending(ctx, r)
	case StateRunning:
		e.Reason, err = p.whyRunning(ctx, r)
	case StatePendingReview:
		e.Reason = whyInReview(r)
	default:
		e.Reason = fmt.Sprintf("ended %s after %d attempts", r.Outcome, r.Attempts)
		if r.Result != nil && r.Result.Failure != nil {
			e.Reason += ": " + r.Result.Failure.Message
		}
	}
	return e, err
}

func whyInReview(r TaskRecord) string {
	reason := "its result waits for somebody to approve or reject it"
	if r.Rejections > 0 {
		reason += fmt.Sprintf("; %d before it were rejected, and the task fails with rejection %d", r.Rejections, r.Task.Review.limit())
	}
	return reason
}

func (p *Pool) whyRunning(ctx context.Context, r TaskRecord) (string, error) {
	if r.Chain != nil {
		return p.whyChainRuns(ctx, r.ID)
	}
	p.mu.Lock()
	a := p.running[r.ID]
	p.mu.Unlock()
	if a == nil {
		return fmt.Sprintf("runs on %s of %s", r.SlotID, r.Claim.Holder), nil
	}
	quiet := time.Since(time.Unix(0, a.life.Load())).Round(time.Second)
	return fmt.Sprintf("runs on %s for %v, attempt %d, %s; last sign of life %v ago",
		a.s.id, time.Since(a.started).Round(time.Second), r.Attempts, *a.phase.Load(), quiet), nil
}

// whyChainRuns says which steps a chain waits for.
func (p *Pool) whyChainRuns(ctx context.Context, id TaskID) (string, error) {
	c, err := p.ChainProgress(ctx, id)
	if err != nil {
		return "", err
	}
	done, running := 0, []string{}
	for _, s := range c.Steps {
		switch s.State {
		case StepRunning:
			running = append(running, fmt.Sprintf("%q", s.Name))
		case StepWaiting:
		default:
			done++
		}
	}
	return fmt.Sprintf("%d of %d steps have ended; it waits for %s (explain the task of a step for more)",
		done, len(c.Steps), cmp.Or(strings.Join(running, ", "), "the next to start")), nil
}

// whyPending names the first reason that holds, in the order in which the
// scheduler would meet them.
func (p *Pool) whyPending(ctx context.Context, r TaskRecord) (reason string, until time.Time, err error) {
	now := time.Now()
	if p.open() != nil {
		return "the pool is shut down; the task waits for the next one on this store", until, nil
	}
	if h := p.gate.hopeless(); h != nil {
		others, err := p.ableSlots(ctx)
		if err == nil && anyRuns(others, &r) {
			return "waits for another pool on the store; of this one " + h.Reason, until, nil
		}
		return h.Reason, until, err
	}
	if r.Chain != nil && !r.NotBefore.After(now) {
		return fmt.Sprintf("%d chains run here, as many as may, or the next look at the queue is due", len(p.chains.running())), until, nil
	}
	if p.sched.isPaused() && r.Chain == nil {
		return "dispatch is paused; resume it", until, nil
	}
	if h := p.gate.holding(); h != nil {
		return fmt.Sprintf("dispatch waits (%s): %s", h.Class, h.Reason), h.Until, nil
	}
	if before := r.Task.Session.Task; before != "" && r.Attempts == 0 {
		if b, err := p.store.Task(ctx, before); err == nil && b.State == StatePendingReview {
			return fmt.Sprintf("continues the session of task %s, whose result waits for a review", before), until, nil
		}
	}
	if r.Task.Isolation.apart() && r.Attempts == 0 {
		for _, id := range r.Task.From {
			if b, err := p.store.Task(ctx, id); err == nil && !b.State.Terminal() {
				return fmt.Sprintf("begins with the work of task %s, which is %s", id, b.State), until, nil
			}
		}
	}
	if r.NotBefore.After(now) {
		p.mu.Lock()
		why := p.whyBack[r.ID]
		p.mu.Unlock()
		if why != "" {
			return "could not begin yet: " + why, r.NotBefore, nil
		}
		if r.Attempts > 0 {
			return fmt.Sprintf("attempt %d ended %s; the next starts later", r.Attempts, r.Outcome), r.NotBefore, nil
		}
		return "is not to start before a given time", r.NotBefore, nil
	}
	if busy, err := p.laneBusy(ctx, r); err != nil || busy != "" {
		return fmt.Sprintf("task %s uses the same session; the two run one after the other", busy), until, err
	}
	if tag, n := p.tagFull(ctx, r); tag != "" {
		return fmt.Sprintf("%d tasks with the tag %q run, as many as may", n, tag), until, nil
	}
	if reason := p.whyNoSlot(r); reason != "" {
		return reason, until, nil
	}
	return p.whyNoMoney(ctx, r)
}

func (p *Pool) laneBusy(ctx context.Context, r TaskRecord) (TaskID, error) {
	if r.Task.Session.Fresh() {
		return "", nil
	}
	for o, err := range p.store.Tasks(ctx, TaskFilter{States: []TaskState{StateRunning}}) {
		if err != nil {
			return "", err
		}
		if o.Lane == r.Lane && r.Lane != "" {
			return o.ID, nil
		}
	}
	return "", nil
}

func (p *Pool) tagFull(ctx context.Context, r TaskRecord) (string, int) {
	for _, tag := range r.Task.Tags {
		limit, ok := p.cfg.TagLimits[tag]
		if !ok {
			continue
		}
		n := 0
		for o, err := range p.store.Tasks(ctx, TaskFilter{States: []TaskState{StateRunning}, Tag: tag}) {
			if err == nil && o.Chain == nil {
				n++
			}
		}
		if n >= limit {
			return tag, n
		}
	}
	return "", 0
}

func (p *Pool) whyNoSlot(r TaskRecord) string {
	p.mu.Lock()
	slots := slices.Clone(p.slots)
	p.mu.Unlock()
	fit, idle, busy := 0, 0, 0
	for _, s := range slots {
		if !s.answersTo(r.Task.Slot, r.Task.Role) {
			continue
		}
		fit++
		switch st := s.snapshot(); st.State {
		case SlotIdle:
			idle++
		case SlotBusy, SlotResetting:
			busy++
		}
	}
	switch {
	case fit == 0:
		return fmt.Sprintf("no slot is called %q with the role %q; configure one", r.Task.Slot, r.Task.Role)
	case idle > 0:
		return ""
	case busy == fit:
		return fmt.Sprintf("all %d slots that may run it are busy", fit)
	}
	return fmt.Sprintf("of the %d slots that may run it %d are busy and the others are starting or have failed", fit, busy)
}

func (p *Pool) whyNoMoney(ctx context.Context, r TaskRecord) (string, time.Time, error) {
	limit := Microdollars(p.limit.Load())
	l, err := p.ledger(ctx)
	if err != nil || limit == 0 {
		return "waits for tasks of higher rank, and is next after them", time.Time{}, err
	}
	need := max(cmp.Or(r.Task.Overrides.MaxCost-r.Cost, p.cfg.DefaultCap), 1)
	if need > limit-l.Spent-l.Reserved {
		return fmt.Sprintf("of the budget of %v, %v is spent and %v is reserved by running tasks; the task needs %v and waits for more", limit, l.Spent, l.Reserved, need), time.Time{}, nil
	}
	return "waits for tasks of higher rank, and is next after them", time.Time{}, nil
}
