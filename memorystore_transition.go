package claudepool

import (
	"context"
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
	rec := *t.rec
	if err := rec.Extend(ref, lease, cost); err != nil {
		return err
	}
	*t.edit() = rec
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
	rec := *t.rec // nobody else's, but for what Apply replaces and does not change
	done, err := tr.Apply(&rec, t.status)
	if !done.Changed() {
		return t.rec.clone(), err
	}
	from := t.rec.State
	*t.edit() = rec
	claim := t.claim(tr.Fence)
	if done.Attempt != nil {
		a := done.Attempt.clone()
		claim.attempt = &a
		s.ledger.add(spend{at: a.Ended, cost: a.Cost, assumed: a.Assumed, attempts: 1})
		if allowance := rec.Task.Allowance; allowance != nil {
			m := s.allowances[allowance.ID]
			m.Spent = AddCost(m.Spent, a.Cost-a.Assumed)
		}
	}
	if done.Released {
		s.release(t, claim)
	}
	if done.Freed {
		s.countTags(t.rec, -1)
		s.queue.vacate(rec.Lane)
	}
	if done.Moved {
		s.moved(t, from)
	}
	s.retire(t)
	return t.rec.clone(), err
}

// status is what is known of a claim, for [Transition.Apply].
func (t *memTask) status(fence int64) (ClaimStatus, error) {
	c := t.claim(fence)
	if c == nil {
		return ClaimStatus{}, nil
	}
	last := t.claims[len(t.claims)-1].fence == fence
	return ClaimStatus{Known: true, Open: c.open, Recorded: c.attempt != nil, Last: last}, nil
}
