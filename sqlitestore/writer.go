package sqlitestore

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/claudepool/claudepool"
)

// step is one atomic change. Those that are asked for at once become one
// transaction of the database, so that they share the wait for the disk.
type step struct {
	ctx context.Context
	// run makes the change. After an error nothing of it remains. It may be run
	// again when the transaction fails, so it must set all that it gives back.
	run     func(*tx) error
	durable bool // it must survive the end of the machine, not only of the program
	soon    bool // it is to reach the disk at once, though its caller does not wait for that
	err     error
	done    chan struct{}
	// taken is set by the writer, which then answers, or by a caller whose
	// context has ended first.
	taken atomic.Bool
}

const (
	// maxBatch bounds the steps of one transaction, and with them how long
	// others wait for the file.
	maxBatch = 128
	// peerPoll is how often a shared file is looked at for changes of others.
	peerPoll = 50 * time.Millisecond
)

// do has the writer make a change, and returns when it is on the disk.
func (s *Store) do(ctx context.Context, run func(*tx) error) error {
	return s.await(s.steps, &step{ctx: ctx, run: run, durable: true})
}

// note is do for what only has to outlive the program. It does not wait for the disk.
func (s *Store) note(ctx context.Context, run func(*tx) error) error {
	return s.await(s.steps, &step{ctx: ctx, run: run})
}

// flow is note for what others wait for: those who watch are told as soon as it is
// on the disk.
func (s *Store) flow(ctx context.Context, run func(*tx) error) error {
	return s.await(s.steps, &step{ctx: ctx, run: run, soon: true})
}

// Sync implements [claudepool.Syncer].
func (s *Store) Sync(ctx context.Context) error {
	return s.do(ctx, func(*tx) error { return nil })
}

// await hands a step to the writer and waits for its answer.
func (s *Store) await(to chan<- *step, st *step) error {
	st.done = make(chan struct{})
	select {
	case <-s.closing: // alone, for the others may be ready as well
		return claudepool.ErrClosed
	default:
	}
	if err := cmp.Or(context.Cause(st.ctx), s.disk.failed()); err != nil {
		return err
	}
	select {
	case to <- st:
	case <-s.closing:
		return claudepool.ErrClosed
	case <-st.ctx.Done():
		return context.Cause(st.ctx)
	}
	select {
	case <-st.done:
		return st.err
	case <-s.written:
		// The writer may have ended just before the step came to it. Else it is
		// answered when it is on the disk.
		if st.taken.CompareAndSwap(false, true) {
			return claudepool.ErrClosed
		}
	case <-st.ctx.Done():
	}
	if st.taken.CompareAndSwap(false, true) {
		return context.Cause(st.ctx) // the writer leaves it alone
	}
	<-st.done // it is under way: bounded by the disk and the wait for a lock
	return st.err
}

// write makes changes until the store closes. Those that wait then are refused.
func (s *Store) write() {
	defer close(s.written)
	defer s.disk.end()
	var poll <-chan time.Time
	if s.opts.Peer {
		ticker := time.NewTicker(peerPoll)
		defer ticker.Stop()
		poll = ticker.C
	}
	var batch []*step
	for {
		select {
		case st := <-s.steps:
			batch = s.waiting(append(batch[:0], st))
			done := s.commit(batch)
			done.news = s.news()
			s.disk.add(done)
			clear(batch)
			s.prune()
		case st := <-s.watches:
			s.disk.add(s.enlist(st))
		case <-poll:
			s.disk.add(committed{news: s.news()})
		case <-s.closing:
			s.refuse()
			return
		}
	}
}

// waiting adds the steps that wait to a batch.
func (s *Store) waiting(batch []*step) []*step {
	for len(batch) < maxBatch {
		select {
		case st := <-s.steps:
			batch = append(batch, st)
		default:
			return batch
		}
	}
	return batch
}

// refuse answers the steps that came too late.
func (s *Store) refuse() {
	for {
		var st *step
		select {
		case st = <-s.steps:
		case st = <-s.watches:
		default:
			return
		}
		if st.taken.CompareAndSwap(false, true) {
			st.err = claudepool.ErrClosed
			close(st.done)
		}
	}
}

// commit makes the changes of a batch, in one transaction if that works. Those
// who need not wait for the disk are answered.
func (s *Store) commit(batch []*step) committed {
	live := make([]*step, 0, len(batch))
	for _, st := range batch {
		switch {
		case !st.taken.CompareAndSwap(false, true): // its caller has gone
		case st.ctx.Err() != nil:
			st.err = context.Cause(st.ctx)
			close(st.done)
		default:
			live = append(live, st)
		}
	}
	writes := s.tx.writes
	if err := s.tx.transaction(live); err != nil {
		_, untried := errors.AsType[notBegun](err)
		for i, st := range live {
			st.err = err
			if len(live) > 1 && !untried { // one of them may be what there is no room for
				if err := s.tx.transaction(live[i : i+1]); err != nil {
					st.err = err
				}
			}
		}
	}
	done := committed{wrote: s.tx.writes != writes}
	for _, st := range live {
		st.err = s.translate(st.err)
		done.soon = done.soon || st.soon
		if st.durable && st.err == nil {
			done.steps = append(done.steps, st)
		} else {
			close(st.done)
		}
	}
	return done
}
