package storetest

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
)

// steps are all methods that take a context, each called so that it would
// succeed. They are given the task "running" with its claim, the task
// "pending", the key "key", the pool "pool-1", its slot "slot-0" and a message to that.
var steps = []struct {
	name string
	call func(ctx context.Context, s *store, running claudepool.TaskRecord) error
}{
	{"CreateTask", func(ctx context.Context, s *store, _ claudepool.TaskRecord) error {
		_, _, err := s.CreateTask(ctx, newTask("new"))
		return err
	}},
	{"Task", func(ctx context.Context, s *store, _ claudepool.TaskRecord) error {
		_, err := s.Task(ctx, "pending")
		return err
	}},
	{"Tasks", func(ctx context.Context, s *store, _ claudepool.TaskRecord) error {
		for _, err := range s.Tasks(ctx, claudepool.TaskFilter{}) {
			if err != nil {
				return err
			}
		}
		return nil
	}},
	{"Count", func(ctx context.Context, s *store, _ claudepool.TaskRecord) error {
		_, err := s.Count(ctx)
		return err
	}},
	{"Claim", func(ctx context.Context, s *store, _ claudepool.TaskRecord) error {
		_, err := s.Claim(ctx, request())
		return err
	}},
	{"Extend", func(ctx context.Context, s *store, running claudepool.TaskRecord) error {
		return s.Extend(ctx, claudepool.ClaimRef{Task: running.ID, Fence: running.Fence}, at(99), 5)
	}},
	{"Transition", func(ctx context.Context, s *store, running claudepool.TaskRecord) error {
		_, err := s.Transition(ctx, transition(running, claudepool.StateCompleted, costing(5)))
		return err
	}},
	{"Attempts", func(ctx context.Context, s *store, _ claudepool.TaskRecord) error {
		_, err := s.Attempts(ctx, "pending")
		return err
	}},
	{"Ledger", func(ctx context.Context, s *store, _ claudepool.TaskRecord) error {
		_, err := s.Ledger(ctx, claudepool.LedgerQuery{})
		return err
	}},
	{"Charge", func(ctx context.Context, s *store, _ claudepool.TaskRecord) error {
		return s.Charge(ctx, at(1), 5, "why")
	}},
	{"PutSlot", func(ctx context.Context, s *store, _ claudepool.TaskRecord) error {
		_, err := s.PutSlot(ctx, claudepool.SlotRecord{Instance: "pool-1", ID: "slot-1"})
		return err
	}},
	{"DeleteSlot", func(ctx context.Context, s *store, _ claudepool.TaskRecord) error {
		return s.DeleteSlot(ctx, "pool-1", "slot-0")
	}},
	{"Slots", func(ctx context.Context, s *store, _ claudepool.TaskRecord) error {
		_, err := s.Slots(ctx)
		return err
	}},
	{"PutInstance", func(ctx context.Context, s *store, _ claudepool.TaskRecord) error {
		return s.PutInstance(ctx, pool("pool-2"))
	}},
	{"DeleteInstance", func(ctx context.Context, s *store, _ claudepool.TaskRecord) error {
		return s.DeleteInstance(ctx, "pool-1")
	}},
	{"Instances", func(ctx context.Context, s *store, _ claudepool.TaskRecord) error {
		_, err := s.Instances(ctx)
		return err
	}},
	{"SetContext", func(ctx context.Context, s *store, _ claudepool.TaskRecord) error {
		return s.SetContext(ctx, "key", "other")
	}},
	{"DeleteContext", func(ctx context.Context, s *store, _ claudepool.TaskRecord) error {
		return s.DeleteContext(ctx, "key")
	}},
	{"Context", func(ctx context.Context, s *store, _ claudepool.TaskRecord) error {
		_, err := s.Context(ctx)
		return err
	}},
	{"SendMessage", func(ctx context.Context, s *store, _ claudepool.TaskRecord) error {
		return s.SendMessage(ctx, message("m2", "slot-0"))
	}},
	{"Messages", func(ctx context.Context, s *store, _ claudepool.TaskRecord) error {
		_, err := s.Messages(ctx, "slot-0")
		return err
	}},
	{"TakeMessages", func(ctx context.Context, s *store, _ claudepool.TaskRecord) error {
		_, err := s.TakeMessages(ctx, "slot-0", nil)
		return err
	}},
	{"Watch", func(ctx context.Context, s *store, _ claudepool.TaskRecord) error {
		_, err := s.Watch(ctx)
		return err
	}},
}

// furnish gives a store what steps need, and returns the running task.
func (s *store) furnish() claudepool.TaskRecord {
	s.t.Helper()
	s.create("running", capped(50))
	running := s.claim()
	s.create("pending")
	s.putInstance(pool("pool-1"))
	s.putSlot(claudepool.SlotRecord{Instance: "pool-1", ID: "slot-0"})
	if err := s.SetContext(s.ctx(), "key", "value"); err != nil {
		s.t.Fatal(err)
	}
	s.send("slot-0", "m1")
	return running
}

// snapshot is all that a store shows.
type snapshot struct {
	Tasks     []claudepool.TaskRecord
	Attempts  []claudepool.Attempt
	Ledger    claudepool.Ledger
	Slots     []claudepool.SlotRecord
	Instances []claudepool.InstanceRecord
	Context   map[string]string
	Messages  []claudepool.Message // to slot-0
}

func (s *store) snapshot() snapshot {
	s.t.Helper()
	var snap snapshot
	var errs []error
	keep := func(err error) { errs = append(errs, err) }
	for r, err := range s.Tasks(s.ctx(), claudepool.TaskFilter{}) {
		keep(err)
		snap.Tasks = append(snap.Tasks, r)
		attempts, err := s.Attempts(s.ctx(), r.ID)
		keep(err)
		snap.Attempts = append(snap.Attempts, attempts...)
	}
	var err error
	snap.Ledger, err = s.Ledger(s.ctx(), claudepool.LedgerQuery{})
	keep(err)
	snap.Slots, err = s.Slots(s.ctx())
	keep(err)
	snap.Instances, err = s.Instances(s.ctx())
	keep(err)
	snap.Context, err = s.Context(s.ctx())
	keep(err)
	snap.Messages, err = s.Messages(s.ctx(), "slot-0")
	keep(err)
	if err := errors.Join(errs...); err != nil {
		s.t.Fatal(err)
	}
	return snap
}

var stepTests = []test{
	{"a context that has ended makes every step fail without effect", func(t *testing.T, s *store) {
		running := s.furnish()
		before := s.snapshot()
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for _, step := range steps {
			wantError(t, step.name, step.call(ended, s, running), context.Canceled)
			if diff := cmp.Diff(before, s.snapshot(), equal); diff != "" {
				t.Fatalf("after %s (-before +after):\n%s", step.name, diff)
			}
		}
	}},
	{"every step succeeds while its context lives", func(t *testing.T, s *store) {
		running := s.furnish()
		for _, step := range steps {
			if err := step.call(t.Context(), s, running); err != nil {
				t.Errorf("%s: %v", step.name, err)
			}
		}
	}},
	{"a listing ends when its context does", func(t *testing.T, s *store) {
		s.createShuffled(5)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		n := 0
		for r, err := range s.Tasks(ctx, claudepool.TaskFilter{}) {
			if n++; n == 1 {
				cancel()
				continue
			}
			wantError(t, "the listing at "+string(r.ID), err, context.Canceled)
		}
		if n != 2 {
			t.Errorf("the listing went on for %d steps, want 2: a task and the error", n)
		}
	}},
	{"a closed store does nothing more", func(t *testing.T, s *store) {
		running := s.furnish()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for _, step := range steps {
			wantError(t, step.name, step.call(t.Context(), s, running), claudepool.ErrClosed)
		}
		wantError(t, "Close", s.Close(), claudepool.ErrClosed)
	}},
	{"what nobody has created is unknown", func(t *testing.T, s *store) {
		_, err := s.Task(t.Context(), "x")
		wantError(t, "Task", err, claudepool.ErrUnknownTask)
		_, err = s.Attempts(t.Context(), "x")
		wantError(t, "Attempts", err, claudepool.ErrUnknownTask)
		_, err = s.Transition(t.Context(), claudepool.Transition{Task: "x", From: claudepool.StatePending, To: claudepool.StateCancelled})
		wantError(t, "Transition", err, claudepool.ErrUnknownTask)
		wantError(t, "Extend", s.Extend(t.Context(), claudepool.ClaimRef{Task: "x", Fence: 1}, at(1), 1), claudepool.ErrUnknownTask)
	}},
}
