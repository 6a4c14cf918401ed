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
	next := *t.rec
	claim := *next.Claim
	claim.Lease, claim.LastCost = lease, max(cost, 0)
	if ref.SlotID != "" {
		claim.SlotID, next.SlotID = ref.SlotID, ref.SlotID
	}
	next.Claim = &claim
	next.Version++
	s.change(t, &next)
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
		return TaskRecord{}, fmt.Errorf("task %s has had no claim with fence %d: %w", tr.Task, tr.Fence, ErrFenced)
	}
	moves, err := tr.check(t.rec)
	next := *t.rec
	changed := moves
	if tr.Attempt != nil && claim.attempt == nil {
		s.settle(t, &next, claim, tr, !(moves && tr.holds(t.rec)))
		changed = true
	}
	if moves {
		if tr.holds(t.rec) && tr.To != StateCancelled {
			s.release(t, claim) // given back unused, if it was not settled
		}
		tr.apply(&next)
	}
	if !changed {
		return t.rec.clone(), err
	}
	if next.Claim != nil && !t.claim(next.Claim.Fence).open {
		next.Claim = nil
	}
	next.Version++
	if next.Result != nil {
		result := *next.Result
		result.TaskID, result.State, result.Outcome = next.ID, next.State, next.Outcome
		result.Success = next.Outcome == OutcomeOK
		result.Cost, result.Estimated, result.Attempts = next.Cost, next.Estimated, next.Attempts
		next.Result = &result
	}
	s.change(t, &next)
	s.retire(t)
	return t.rec.clone(), err
}

// settle records the attempt of a claim and enters its cost.
func (s *MemoryStore) settle(t *memTask, next *TaskRecord, claim *memClaim, tr Transition, late bool) {
	a := tr.Attempt.clone()
	a.TaskID, a.Fence, a.Late = tr.Task, tr.Fence, late
	a.Cost = max(a.Cost, 0)
	if a.Ended.IsZero() {
		a.Ended = tr.At
	}
	claim.attempt = &a
	s.release(t, claim)
	s.ledger.add(spend{at: a.Ended, cost: a.Cost, attempts: 1})
	if allowance := next.Task.Allowance; allowance != nil {
		m := s.allowances[allowance.ID]
		m.spent = addCost(m.spent, a.Cost)
	}
	next.Cost = addCost(next.Cost, a.Cost)
	next.Estimated = next.Estimated || a.Estimated
	if last := t.claims[len(t.claims)-1].fence == tr.Fence; last && a.SessionID != "" {
		next.SessionID = a.SessionID
	}
}

// holds reports whether the one who asks holds the claim of r.
func (tr Transition) holds(r *TaskRecord) bool {
	return r.State == StateRunning && tr.Fence == r.Fence
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

// apply makes r what it is after the transition, its claim and money aside.
func (tr Transition) apply(r *TaskRecord) {
	if r.State == StateRunning || tr.To.Terminal() && r.Ended.IsZero() {
		r.Ended = tr.At
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
		r.Result = nil
		return
	}
	switch {
	case tr.Result != nil:
		r.Result = tr.Result.clone()
	case r.Result == nil:
		r.Result = &TaskResult{SlotID: r.SlotID, SessionID: r.SessionID}
	}
}
