//go:build unix

package main

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/claudepool/claudepool"
)

// errShaky is the failure of a store that fails on purpose.
var errShaky = errors.New("the store fails on purpose")

// shaky is a store that answers slowly, fails now and then before or after it
// has done what it was asked, or lives by another clock than the pool.
type shaky struct {
	claudepool.PoolStore
	slow  time.Duration // at most, of each call
	fails int           // of a thousand calls
	after bool          // some of the failures come after the effect

	mu    sync.Mutex
	rand  *rand.Rand
	jumps bool // the clock jumps
	shift time.Duration
}

// maxJump bounds how far the clock is off. It is more than a lease, so that all
// leases run out at once.
const maxJump = 90 * time.Second

// Volatile tells the pool that the store outlives the program.
func (s *shaky) Volatile() bool { return false }

// clock returns by how much the store's clock is ahead of the pool's now.
func (s *shaky) clock() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.jumps && s.rand.IntN(50) == 0 {
		s.shift = time.Duration(s.rand.Int64N(int64(maxJump)))
	}
	return s.shift
}

// settle ends the jumps with the clock as far ahead as it ever was, so that
// everything that was put off comes.
func (s *shaky) settle() {
	s.mu.Lock()
	s.jumps = false
	if s.shift > 0 {
		s.shift = maxJump
	}
	s.mu.Unlock()
}

// in and out move a time into and out of the store.
func in(shift time.Duration, t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(shift)
}

func out(shift time.Duration, r claudepool.TaskRecord) claudepool.TaskRecord {
	for _, t := range []*time.Time{&r.Submitted, &r.NotBefore, &r.Started, &r.First, &r.Ended} {
		*t = in(-shift, *t)
	}
	if r.Claim != nil {
		c := *r.Claim
		c.Lease = in(-shift, c.Lease)
		r.Claim = &c
	}
	return r
}

// pass waits, and returns an error before or after the call, if it is to fail.
func (s *shaky) pass(ctx context.Context) (before, after error) {
	s.mu.Lock()
	wait := time.Duration(0)
	if s.slow > 0 {
		wait = time.Duration(s.rand.Int64N(int64(s.slow)))
		if s.rand.IntN(100) == 0 {
			wait *= 20
		}
	}
	if s.rand.IntN(1000) < s.fails {
		if s.after && s.rand.IntN(2) == 0 {
			after = errShaky
		} else {
			before = errShaky
		}
	}
	s.mu.Unlock()
	if wait > 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx), nil
		}
	}
	return before, after
}

// CreateTask implements [claudepool.PoolStore].
func (s *shaky) CreateTask(ctx context.Context, r claudepool.TaskRecord) (claudepool.TaskRecord, bool, error) {
	shift := s.clock()
	before, after := s.pass(ctx)
	if before != nil {
		return claudepool.TaskRecord{}, false, before
	}
	r.Submitted, r.NotBefore = in(shift, r.Submitted), in(shift, r.NotBefore)
	r, created, err := s.PoolStore.CreateTask(ctx, r)
	return out(shift, r), created, errors.Join(err, after)
}

// Claim implements [claudepool.PoolStore].
func (s *shaky) Claim(ctx context.Context, r claudepool.ClaimRequest) (claudepool.TaskRecord, error) {
	shift := s.clock()
	before, _ := s.pass(ctx) // one that was made and is not known is given back with its lease, much later
	if before != nil {
		return claudepool.TaskRecord{}, before
	}
	r.Now = in(shift, r.Now)
	rec, err := s.PoolStore.Claim(ctx, r)
	if none, ok := errors.AsType[*claudepool.NotRunnable](err); ok {
		n := *none
		n.NextAt = in(-shift, n.NextAt)
		err = &n
	}
	return out(shift, rec), err
}

// Extend implements [claudepool.PoolStore].
func (s *shaky) Extend(ctx context.Context, ref claudepool.ClaimRef, lease time.Time, cost claudepool.Microdollars) error {
	before, after := s.pass(ctx)
	if before != nil {
		return before
	}
	return errors.Join(s.PoolStore.Extend(ctx, ref, in(s.clock(), lease), cost), after)
}

// Transition implements [claudepool.PoolStore].
func (s *shaky) Transition(ctx context.Context, t claudepool.Transition) (claudepool.TaskRecord, error) {
	shift := s.clock()
	before, after := s.pass(ctx)
	if before != nil {
		return claudepool.TaskRecord{}, before
	}
	t.At, t.NotBefore = in(shift, t.At), in(shift, t.NotBefore)
	r, err := s.PoolStore.Transition(ctx, t)
	if after != nil && err == nil {
		return claudepool.TaskRecord{}, after
	}
	return out(shift, r), err
}

// Task implements [claudepool.PoolStore].
func (s *shaky) Task(ctx context.Context, id claudepool.TaskID) (claudepool.TaskRecord, error) {
	if before, _ := s.pass(ctx); before != nil {
		return claudepool.TaskRecord{}, before
	}
	r, err := s.PoolStore.Task(ctx, id)
	return out(s.clock(), r), err
}

// Tasks implements [claudepool.PoolStore].
func (s *shaky) Tasks(ctx context.Context, f claudepool.TaskFilter) iter.Seq2[claudepool.TaskRecord, error] {
	shift := s.clock()
	f.LeaseBefore = in(shift, f.LeaseBefore)
	return func(yield func(claudepool.TaskRecord, error) bool) {
		if before, _ := s.pass(ctx); before != nil {
			yield(claudepool.TaskRecord{}, before)
			return
		}
		for r, err := range s.PoolStore.Tasks(ctx, f) {
			if !yield(out(shift, r), err) {
				return
			}
		}
	}
}
