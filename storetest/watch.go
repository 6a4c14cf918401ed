package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
)

// next reads a change. It fails when none comes before the test binary's
// deadline, if that has one.
func next(t *testing.T, changes <-chan claudepool.Change) claudepool.Change {
	t.Helper()
	ctx := t.Context()
	if deadline, ok := t.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-5*time.Second)) // to report it
		defer cancel()
	}
	select {
	case c, ok := <-changes:
		if !ok {
			t.Fatal("the channel of changes is closed")
		}
		return c
	case <-ctx.Done():
		t.Fatal("no change came")
	}
	return claudepool.Change{}
}

// drained reads until the channel is closed, and returns how many changes came.
func drained(changes <-chan claudepool.Change) int {
	n := 0
	for range changes {
		n++
	}
	return n
}

func (s *store) watch(ctx context.Context) <-chan claudepool.Change {
	s.t.Helper()
	changes, err := s.Watch(ctx)
	if err != nil {
		s.t.Fatalf("Watch: %v", err)
	}
	return changes
}

var watchTests = []test{
	{"every reader gets every change of a state, in order", func(t *testing.T, s *store) {
		s.create("before")
		readers := []<-chan claudepool.Change{s.watch(t.Context()), s.watch(t.Context())}
		s.create("a", priority(1))
		held := s.claim()
		if err := s.Extend(t.Context(), claudepool.ClaimRef{Task: "a", Fence: held.Fence}, at(50), 1); err != nil { // changes no state
			t.Fatal(err)
		}
		s.move(held, claudepool.StatePending, costing(1), func(tr *claudepool.Transition) { tr.Outcome = claudepool.OutcomeCrashed })
		held = s.claim()
		s.move(held, claudepool.StateCancelled, func(tr *claudepool.Transition) { tr.Outcome = claudepool.OutcomeCancelled })
		s.move(held, claudepool.StateCancelled, costing(1)) // settles, and changes no state
		s.move(s.task("before"), claudepool.StateFailed, func(tr *claudepool.Transition) { tr.Outcome = claudepool.OutcomeExpired })
		want := []claudepool.Change{
			{TaskID: "a", State: claudepool.StatePending},
			{TaskID: "a", State: claudepool.StateRunning, SlotID: "slot-0"},
			{TaskID: "a", State: claudepool.StatePending, SlotID: "slot-0"},
			{TaskID: "a", State: claudepool.StateRunning, SlotID: "slot-0"},
			{TaskID: "a", State: claudepool.StateCancelled, Outcome: claudepool.OutcomeCancelled, SlotID: "slot-0"},
			{TaskID: "before", State: claudepool.StateFailed, Outcome: claudepool.OutcomeExpired},
		}
		for i, changes := range readers {
			var got []claudepool.Change
			for range want {
				got = append(got, next(t, changes))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("changes of reader %d (-want +got):\n%s", i, diff)
			}
		}
	}},
	{"the channel is closed when the reader's context ends", func(t *testing.T, s *store) {
		ctx, cancel := context.WithCancel(t.Context())
		one, other := s.watch(ctx), s.watch(t.Context())
		s.create("a")
		cancel()
		if n := drained(one); n > 1 {
			t.Errorf("%d changes came, want at most 1", n)
		}
		next(t, other)
		s.create("b")
		if got := next(t, other).TaskID; got != "b" {
			t.Errorf("the other reader got a change of %s, want b", got)
		}
	}},
	{"the channel is closed when the store is", func(t *testing.T, s *store) {
		changes := s.watch(t.Context())
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		drained(changes)
	}},
	{"a slow reader holds nobody up, is told that it lost changes, and then finds them", func(t *testing.T, s *store) {
		changes := s.watch(t.Context())
		const tasks = 5000
		for i := range tasks { // far more than anybody buffers for a reader
			s.create(fmt.Sprintf("task-%05d", i))
		}
		seen := 0
		for {
			c := next(t, changes)
			if c.Lost {
				if want := (claudepool.Change{Lost: true}); c != want {
					t.Errorf("the change that says so is %+v, want %+v", c, want)
				}
				count, err := s.Count(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				seen = count[claudepool.StatePending]
			} else {
				seen++
			}
			if seen == tasks {
				break
			}
		}
		// From here on it gets changes as before.
		s.move(s.claim(), claudepool.StateFailed)
		for {
			if c := next(t, changes); c.State == claudepool.StateFailed {
				break
			}
		}
	}},
	{"a reader that is a little late loses nothing", func(t *testing.T, s *store) {
		changes := s.watch(t.Context())
		const tasks = 500
		for i := range tasks {
			s.create(fmt.Sprintf("task-%05d", i))
		}
		for i := range tasks {
			if c := next(t, changes); c.TaskID != claudepool.TaskID(fmt.Sprintf("task-%05d", i)) {
				t.Fatalf("change %d is %+v", i, c)
			}
		}
	}},
}
