// Package storetest holds the semantics of [claudepool.PoolStore] as a test
// suite. A store is right when
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) claudepool.PoolStore { return open(t) })
//	}
//
// passes, also under the race detector. The names of the subtests, read from
// top to bottom, say what a store does; design decisions that the comments of
// the interface leave to be guessed are a fault of those.
package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/claudepool/claudepool"
)

// test is one behaviour and how it is seen. Each gets a store of its own.
type test struct {
	name string
	run  func(t *testing.T, s *store)
}

// Run tests the stores that open returns, each in a subtest that runs in
// parallel to the others. Each call of open must return a new, empty store;
// Run closes it. What open needs to clean up besides it registers with t.
func Run(t *testing.T, open func(t *testing.T) claudepool.PoolStore) {
	for _, group := range []struct {
		name  string
		tests []test
	}{
		{"create", createTests},
		{"list", listTests},
		{"claim", claimTests},
		{"lane", laneTests},
		{"tag", tagTests},
		{"chain", chainTests},
		{"prefer", preferTests},
		{"transition", transitionTests},
		{"fence", fenceTests},
		{"final", finalTests},
		{"extend", extendTests},
		{"reserve", reserveTests},
		{"money", moneyTests},
		{"allowance", allowanceTests},
		{"watch", watchTests},
		{"slots", slotTests},
		{"instances", instanceTests},
		{"context", contextTests},
		{"messages", messageTests},
		{"step", stepTests},
		{"model", modelTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, c := range group.tests {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					c.run(t, newStore(t, open(t)))
				})
			}
		})
	}
}

// store is a store under test. Its own methods end the test when something
// fails that must not; they are for the goroutine of the test alone.
type store struct {
	claudepool.PoolStore
	t *testing.T
}

func newStore(t *testing.T, s claudepool.PoolStore) *store {
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, claudepool.ErrClosed) {
			t.Errorf("Close: %v", err)
		}
	})
	return &store{s, t}
}

// start is when the tests begin.
var start = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// at returns the time so many seconds after the start.
func at(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }

// equal compares what stores return: an empty list is none.
var equal = cmpopts.EquateEmpty()

// anyVersion leaves versions out of a comparison.
var anyVersion = cmpopts.IgnoreFields(claudepool.TaskRecord{}, "Version")

func (s *store) ctx() context.Context { return s.t.Context() }

// new returns a record as a pool would create it.
func newTask(id string, edit ...func(*claudepool.TaskRecord)) claudepool.TaskRecord {
	r := claudepool.TaskRecord{ID: claudepool.TaskID(id), Task: claudepool.Task{Prompt: "do " + id, Owner: "go"}, Submitted: start}
	for _, e := range edit {
		e(&r)
	}
	return r
}

func (s *store) create(id string, edit ...func(*claudepool.TaskRecord)) claudepool.TaskRecord {
	s.t.Helper()
	r, created, err := s.CreateTask(s.ctx(), newTask(id, edit...))
	if err != nil || !created {
		s.t.Fatalf("CreateTask(%s) = created %v, error %v", id, created, err)
	}
	return r
}

func (s *store) task(id claudepool.TaskID) claudepool.TaskRecord {
	s.t.Helper()
	r, err := s.Task(s.ctx(), id)
	if err != nil {
		s.t.Fatalf("Task(%s): %v", id, err)
	}
	return r
}

// request returns what a pool without limits asks for.
func request(edit ...func(*claudepool.ClaimRequest)) claudepool.ClaimRequest {
	r := claudepool.ClaimRequest{Holder: "pool-1", SlotID: "slot-0", Now: at(10), Lease: 30 * time.Second}
	for _, e := range edit {
		e(&r)
	}
	return r
}

func (s *store) claim(edit ...func(*claudepool.ClaimRequest)) claudepool.TaskRecord {
	s.t.Helper()
	r, err := s.Claim(s.ctx(), request(edit...))
	if err != nil {
		s.t.Fatalf("Claim: %v; %+v", err, err)
	}
	return r
}

// claimIs claims and checks which task that gives.
func (s *store) claimIs(want claudepool.TaskID, edit ...func(*claudepool.ClaimRequest)) claudepool.TaskRecord {
	s.t.Helper()
	r := s.claim(edit...)
	if r.ID != want {
		s.t.Fatalf("Claim gave %s, want %s", r.ID, want)
	}
	return r
}

// noClaim checks that nothing can be claimed, and returns why.
func (s *store) noClaim(edit ...func(*claudepool.ClaimRequest)) *claudepool.NotRunnable {
	s.t.Helper()
	r, err := s.Claim(s.ctx(), request(edit...))
	var none *claudepool.NotRunnable
	if !errors.As(err, &none) || !errors.Is(err, claudepool.ErrNotRunnable) {
		s.t.Fatalf("Claim = %s, error %v, want a NotRunnable", r.ID, err)
	}
	return none
}

// transition returns the move of r, as it is, to another state.
func transition(r claudepool.TaskRecord, to claudepool.TaskState, edit ...func(*claudepool.Transition)) claudepool.Transition {
	tr := claudepool.Transition{Task: r.ID, From: r.State, Fence: r.Fence, To: to, At: at(20)}
	for _, e := range edit {
		e(&tr)
	}
	return tr
}

func (s *store) move(r claudepool.TaskRecord, to claudepool.TaskState, edit ...func(*claudepool.Transition)) claudepool.TaskRecord {
	s.t.Helper()
	moved, err := s.Transition(s.ctx(), transition(r, to, edit...))
	if err != nil {
		s.t.Fatalf("Transition of %s from %s to %s: %v", r.ID, r.State, to, err)
	}
	return moved
}

// costing adds an attempt of that cost.
func costing(cost claudepool.Microdollars) func(*claudepool.Transition) {
	return func(tr *claudepool.Transition) {
		tr.Attempt = &claudepool.Attempt{Cost: cost, Outcome: tr.Outcome, Started: at(10), Ended: tr.At}
	}
}

// finish completes a claimed task at that cost.
func (s *store) finish(r claudepool.TaskRecord, cost claudepool.Microdollars) claudepool.TaskRecord {
	s.t.Helper()
	return s.move(r, claudepool.StateCompleted, func(tr *claudepool.Transition) {
		tr.Outcome = claudepool.OutcomeOK
		tr.Result = &claudepool.TaskResult{Output: "done"}
	}, costing(cost))
}

func (s *store) attempts(id claudepool.TaskID) []claudepool.Attempt {
	s.t.Helper()
	a, err := s.Attempts(s.ctx(), id)
	if err != nil {
		s.t.Fatalf("Attempts(%s): %v", id, err)
	}
	return a
}

// wantLedger checks the sums of everything.
func (s *store) wantLedger(want claudepool.Ledger) {
	s.t.Helper()
	s.wantLedgerSince(time.Time{}, want)
}

func (s *store) wantLedgerSince(since time.Time, want claudepool.Ledger) {
	s.t.Helper()
	got, err := s.Ledger(s.ctx(), claudepool.LedgerQuery{Since: since})
	if err != nil {
		s.t.Fatalf("Ledger: %v", err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Fatalf("Ledger since %v (-want +got):\n%s", since, diff)
	}
}

// wantError checks that err is the one that was meant.
func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}
