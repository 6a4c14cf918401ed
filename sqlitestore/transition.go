package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/claudepool/claudepool"
)

// Extend implements [claudepool.PoolStore]. It waits for the disk only before
// money is spent: what else it says is of no use after the end of the machine.
func (s *Store) Extend(ctx context.Context, ref claudepool.ClaimRef, lease time.Time, cost claudepool.Microdollars) error {
	do := s.note
	if ref.Asked {
		do = s.do
	}
	return do(ctx, func(x *tx) error {
		t, err := x.task(ref.Task)
		if err != nil {
			return err
		}
		r := &t.rec
		if err := r.Extend(ref, lease, cost); err != nil {
			return err
		}
		_, err = x.change(`UPDATE tasks SET version = ?, slot = ?, claim_slot = ?, claim_session = ?, claim_lease = ?, claim_last_cost = ?, claim_asked = ? WHERE seq = ?`,
			r.Version, r.SlotID, r.Claim.SlotID, r.Claim.SessionID, nanos(r.Claim.Lease), int64(r.Claim.LastCost), r.Claim.Asked, t.seq)
		return err
	})
}

// Transition implements [claudepool.PoolStore]. For the end of an attempt the
// caller does not wait for the disk, but those who watch are told when it is there.
func (s *Store) Transition(ctx context.Context, tr claudepool.Transition) (claudepool.TaskRecord, error) {
	do := s.do
	if tr.Attempt != nil {
		do = s.flow
	}
	var rec claudepool.TaskRecord
	var refused error
	err := do(ctx, func(x *tx) error {
		rec, refused = claudepool.TaskRecord{}, nil
		t, err := x.task(tr.Task)
		if err != nil {
			return err
		}
		refused, err = x.transition(t, tr)
		rec = t.rec
		return err
	})
	if err != nil {
		return claudepool.TaskRecord{}, err
	}
	return rec, refused
}

// transition does what tr says, to t and to what surrounds it. The first error
// is that of the rules, the second means that nothing can be stored.
func (x *tx) transition(t *taskRow, tr claudepool.Transition) (refused, err error) {
	x.saw(clamped(tr.At))
	from, before := t.rec.State, t.rec.Result
	done, refused := tr.Apply(&t.rec, func(fence int64) (claudepool.ClaimStatus, error) {
		status, broken := x.claimStatus(t.seq, fence)
		err = errors.Join(err, broken)
		return status, broken
	})
	if err != nil || !done.Changed() {
		return refused, err
	}
	if done.Attempt != nil {
		if err := x.settle(t, done.Attempt); err != nil {
			return nil, err
		}
	}
	if done.Released {
		if _, err := x.change("UPDATE claims SET open = 0 WHERE task = ? AND fence = ? AND open = 1", t.seq, tr.Fence); err != nil {
			return nil, err
		}
	}
	if done.Moved {
		t.dequeue()
	}
	if done.Moved && t.rec.State == claudepool.StatePending {
		// Its own claim has ended, so its lane is free for it too.
		if err := x.enqueue(t); err != nil {
			return nil, err
		}
	}
	if err := x.update(t); err != nil {
		return nil, err
	}
	if t.rec.Result != before {
		if err := x.setResult(t); err != nil {
			return nil, err
		}
	}
	if done.Freed || done.Moved && from == claudepool.StatePending {
		if err := x.release(t.rec.Lane); err != nil {
			return nil, err
		}
	}
	if t.rec.State.Terminal() {
		x.ended++
	}
	return refused, nil
}

// claimStatus is what is known of a claim, for [claudepool.Transition.Apply].
func (x *tx) claimStatus(seq, fence int64) (claudepool.ClaimStatus, error) {
	c := claudepool.ClaimStatus{Known: true}
	err := x.row(`SELECT open, attempt IS NOT NULL, NOT EXISTS (SELECT 1 FROM claims l WHERE l.task = c.task AND l.fence > c.fence)
		FROM claims c WHERE task = ? AND fence = ?`, []any{seq, fence}, &c.Open, &c.Recorded, &c.Last)
	if errors.Is(err, sql.ErrNoRows) {
		return claudepool.ClaimStatus{}, nil
	}
	return c, err
}

// settle records an attempt and enters its cost.
func (x *tx) settle(t *taskRow, a *claudepool.Attempt) error {
	text, err := encode(a)
	if err != nil {
		return err
	}
	if _, err := x.change("UPDATE claims SET attempt = ? WHERE task = ? AND fence = ?", text, t.seq, a.Fence); err != nil {
		return err
	}
	if id := allowanceID(&t.rec); id != "" {
		if _, err := x.change("UPDATE allowances SET spent = iif(spent > 9223372036854775807 - ?1, 9223372036854775807, spent + ?1) WHERE id = ?2", int64(a.Cost-a.Assumed), id); err != nil {
			return err
		}
	}
	return x.enter(entry{at: a.Ended, cost: a.Cost, assumed: a.Assumed, attempts: 1, task: t.rec.ID, fence: a.Fence})
}

// setResult stores the result of a task, or that it has none.
func (x *tx) setResult(t *taskRow) error {
	if t.rec.Result == nil {
		_, err := x.change("DELETE FROM results WHERE task = ?", t.seq)
		return err
	}
	text, err := encode(t.rec.Result)
	if err == nil {
		_, err = x.change("INSERT INTO results (task, result) VALUES (?, ?) ON CONFLICT (task) DO UPDATE SET result = excluded.result", t.seq, text)
	}
	return err
}
