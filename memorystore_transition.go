package claudepool

import (
	"context"
	"fmt"
	"time"
)

// Extend implements [PoolStore].
func (s *MemoryStore) Extend(ctx context.Context, ref ClaimRef, lease time.Time, cost Microdollars) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	t, err := s.task(ref.Task)
	if err != nil {
		return err
	}
	if t.rec.State != StateRunning || t.rec.Fence != ref.Fence {
		return fmt.Errorf("task %s is %s with fence %d, not %d: %w", ref.Task, t.rec.State, t.rec.Fence, ref.Fence, ErrFenced)
	}
	rec := t.edit()
	rec.Version++
	rec.Claim = new(*rec.Claim)
	rec.Claim.Lease, rec.Claim.LastCost = lease, max(cost, 0)
	if ref.SlotID != "" {
		rec.Claim.SlotID, rec.SlotID = ref.SlotID, ref.SlotID
	}
	if ref.SessionID != "" {
		rec.Claim.SessionID = ref.SessionID
	}
	return nil
}

// Transition implements [PoolStore].
func (s *MemoryStore) Transition(ctx context.Context, tr Transition) (TaskRecord, error) {
	if err := s.begin(ctx); err != nil {
		return TaskRecord{}, err
	}
	defer s.mu.Unlock()
	t, err := s.task(tr.Task)
	if err != nil {
		return TaskRecord{}, err
	}
	claim := t.claim(tr.Fence)
	if tr.Attempt != nil && claim == nil {
		return t.rec.clone(), fmt.Errorf("task %s has had no claim with fence %d: %w", tr.Task, tr.Fence, ErrFenced)
	}
	moves, err := tr.check(t.rec)
	settles := tr.Attempt != nil && claim.attempt == nil
	if !moves && !settles {
		return t.rec.clone(), err
	}
	rec, from := t.edit(), t.rec.State
	holds := moves && from == StateRunning && tr.Fence == rec.Fence
	if settles {
		s.settle(t, claim, tr, !holds)
	}
	if holds && tr.To != StateCancelled {
		s.release(t, claim) // given back unused, unless it was just settled
	}
	if moves {
		tr.apply(rec)
	} else if rec.Result != nil {
		rec.setResult(new(*rec.Result))
	}
	if rec.Claim != nil && rec.State != StateRunning && !t.claim(rec.Claim.Fence).open {
		rec.Claim = nil
		s.countTags(rec, -1)
		s.queue.vacate(rec.Lane)
	}
	if moves {
		s.moved(t, from)
	}
	rec.Version++
	s.retire(t)
	return rec.clone(), err
}

// settle records the attempt of a claim and enters its cost.
func (s *MemoryStore) settle(t *memTask, claim *memClaim, tr Transition, late bool) {
	a := tr.Attempt.clone()
	a.TaskID, a.Fence, a.Late = tr.Task, tr.Fence, late
	a.Cost = max(a.Cost, 0)
	if a.Ended.IsZero() {
		a.Ended = tr.At
	}
	claim.attempt = &a
	s.release(t, claim)
	s.ledger.add(spend{at: a.Ended, cost: a.Cost, attempts: 1})
	rec := t.rec
	if allowance := rec.Task.Allowance; allowance != nil {
		m := s.allowances[allowance.ID]
		m.spent = addCost(m.spent, a.Cost)
	}
	rec.Cost = addCost(rec.Cost, a.Cost)
	rec.Estimated = rec.Estimated || a.Estimated
	if last := t.claims[len(t.claims)-1].fence == tr.Fence; last && a.SessionID != "" {
		rec.SessionID = a.SessionID
	}
}

// check reports whether the transition moves r. It does not, without an error,
// when r is to be cancelled and has ended.
func (tr Transition) check(r *TaskRecord) (bool, error) {
	switch {
	case tr.To == StateCancelled && r.State.Terminal():
		return false, nil
	case r.State != tr.From:
		return false, fmt.Errorf("task %s is %s, not %s: %w", r.ID, r.State, tr.From, ErrConflict)
	case tr.To == StateRunning || !tr.From.CanBecome(tr.To):
		return false, fmt.Errorf("task %s is %s and cannot become %s: %w", r.ID, r.State, tr.To, ErrConflict)
	case tr.From == StateRunning && tr.To != StateCancelled && tr.Fence != r.Fence:
		return false, fmt.Errorf("task %s has fence %d, not %d: %w", r.ID, r.Fence, tr.Fence, ErrFenced)
	}
	return true, nil
}

// givesBack reports whether the transition returns a claim unused.
func (tr Transition) givesBack(from TaskState) bool {
	return from == StateRunning && tr.To == StatePending && tr.Attempt == nil
}

// apply makes r what it is after the transition, its claim and money aside.
func (tr Transition) apply(r *TaskRecord) {
	if r.State == StateRunning || tr.To.Terminal() && r.Ended.IsZero() {
		r.Ended = tr.At
	}
	if tr.givesBack(r.State) {
		if r.Attempts--; r.Attempts == 0 {
			r.First, r.Started, r.Ended = time.Time{}, time.Time{}, time.Time{}
		}
	}
	r.State = tr.To
	if tr.Outcome != "" {
		r.Outcome = tr.Outcome
	}
	if tr.To == StateCancelled {
		r.Fence++
	}
	if tr.To == StatePending {
		r.NotBefore, r.ResumeSession = tr.NotBefore, tr.ResumeSession
		if tr.CountRetry {
			r.Retries++
		}
		if tr.CountCrash {
			r.Crashes++
		}
		if tr.CountRejection {
			r.Rejections++
			r.Feedback = tr.Feedback
		}
		r.Result = nil
		return
	}
	switch {
	case tr.Result != nil:
		r.setResult(tr.Result.clone())
	case r.Result != nil:
		r.setResult(new(*r.Result))
	default:
		r.setResult(&TaskResult{SlotID: r.SlotID, SessionID: r.SessionID})
	}
}

// setResult makes result, which nothing else refers to, that of r, and has it
// say the same as the record.
func (r *TaskRecord) setResult(result *TaskResult) {
	result.TaskID, result.State, result.Outcome = r.ID, r.State, r.Outcome
	result.Success = r.Outcome == OutcomeOK
	result.Cost, result.Estimated, result.Attempts = r.Cost, r.Estimated, r.Attempts
	for _, step := range result.Steps {
		result.Cost = addCost(result.Cost, step.Cost)
	}
	r.Result = result
}
