package storetest

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
)

// chains asks for a chain.
func chains(r *claudepool.ClaimRequest) { r.Chains = true }

// chainOf returns a chain of prompts.
func chainOf(prompts ...string) *claudepool.Chain {
	c := &claudepool.Chain{}
	for _, p := range prompts {
		c.Steps = append(c.Steps, claudepool.ChainStep{Name: p, Action: claudepool.StepAction{Prompt: p}})
	}
	return c
}

// chained makes a task a chain.
func chained(r *claudepool.TaskRecord) { r.Chain = chainOf("one", "two") }

var chainTests = []test{
	{"a chain is claimed as a chain alone, and a task as a task", func(t *testing.T, s *store) {
		s.create("a", chained)
		s.create("b")
		s.claimIs("b")
		s.noClaim()
		s.claimIs("a", chains)
		s.noClaim(chains)
		s.create("c")
		s.noClaim(chains)
	}},
	{"a claimed chain is as a claimed task", func(t *testing.T, s *store) {
		want := s.create("a", chained)
		got := s.claim(chains, now(10), func(r *claudepool.ClaimRequest) { r.SlotID = "" })
		want.State, want.Started, want.First = claudepool.StateRunning, at(10), at(10)
		want.Fence, want.Attempts = 1, 1
		want.Claim = &claudepool.TaskClaim{Holder: "pool-1", Fence: 1, Lease: at(40)}
		if diff := cmp.Diff(want, got, equal, anyVersion); diff != "" {
			t.Errorf("record (-want +got):\n%s", diff)
		}
		if err := s.Extend(t.Context(), claudepool.ClaimRef{Task: "a", Fence: got.Fence}, at(70), 0); err != nil {
			t.Errorf("Extend: %v", err)
		}
		s.move(got, claudepool.StatePending, costing(0), func(tr *claudepool.Transition) { tr.CountCrash = true })
		again := s.claimIs("a", chains)
		_, err := s.Transition(t.Context(), transition(got, claudepool.StateCompleted))
		wantError(t, "the first holder's transition", err, claudepool.ErrFenced)
		s.move(again, claudepool.StateCompleted)
	}},
	{"its changes say that it is a chain", func(t *testing.T, s *store) {
		changes := s.watch(t.Context())
		s.create("a", chained)
		s.create("b")
		s.move(s.claimIs("a", chains), claudepool.StateCompleted, costing(0))
		var got []claudepool.Change
		for range 4 {
			got = append(got, next(t, changes))
		}
		want := []claudepool.Change{
			{TaskID: "a", State: claudepool.StatePending, Chain: true},
			{TaskID: "b", State: claudepool.StatePending},
			{TaskID: "a", State: claudepool.StateRunning, SlotID: "slot-0", Chain: true},
			{TaskID: "a", State: claudepool.StateCompleted, SlotID: "slot-0", Chain: true},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("changes (-want +got):\n%s", diff)
		}
	}},
	{"chains go by priority, then by id, and wait for their earliest start", func(t *testing.T, s *store) {
		s.create("d", chained, priority(1))
		s.create("c", chained)
		s.create("b", chained, priority(9), notBefore(50))
		s.create("a", chained)
		for _, want := range []claudepool.TaskID{"d", "a", "c"} {
			s.claimIs(want, chains, now(20))
		}
		if got := s.noClaim(chains, now(20)).NextAt; !got.Equal(at(50)) {
			t.Errorf("NextAt is %v, want %v", got, at(50))
		}
		s.claimIs("b", chains, now(50))
	}},
	{"nothing that waits for the one kind keeps back the other", func(t *testing.T, s *store) {
		s.create("a", chained, priority(9))
		s.create("b", capped(100), priority(9))
		s.create("c", chained)
		s.create("d", capped(10))
		s.wantRefused("b", claudepool.BudgetExhausted{Scope: claudepool.ScopePool, Limit: 50, Needed: 100}, limited(50))
		s.claimIs("a", chains, limited(50))
		s.claimIs("c", chains, limited(50))
		s.move(s.task("b"), claudepool.StateCancelled)
		s.claimIs("d", limited(50))
	}},
	{"limits of tags neither hold up a chain nor count it", func(t *testing.T, s *store) {
		s.create("a", chained, tagged("x"))
		s.create("b", chained, tagged("x"))
		s.create("c", tagged("x"))
		s.create("d", tagged("x"))
		s.claimIs("a", chains, tagLimit("x", 0))
		s.claimIs("c", tagLimit("x", 1))
		b := s.claimIs("b", chains, tagLimit("x", 1)) // though the tag is at its limit
		s.noClaim(tagLimit("x", 1))
		s.finish(b, 1) // it held no tag, so it gives none back
		s.noClaim(tagLimit("x", 1))
		s.finish(s.task("c"), 1)
		s.claimIs("d", tagLimit("x", 1))
	}},
	{"a cancelled chain gives back no tag either", func(t *testing.T, s *store) {
		s.create("a", chained, tagged("x"))
		s.create("b", tagged("x"))
		s.create("c", tagged("x"))
		held := s.claimIs("a", chains)
		s.claimIs("b", tagLimit("x", 1))
		s.move(held, claudepool.StateCancelled)
		s.move(held, claudepool.StateCancelled, costing(0))
		s.noClaim(tagLimit("x", 1))
	}},
	{"a chain reserves nothing, and needs nothing", func(t *testing.T, s *store) {
		s.create("a", chained, capped(70), allowed("fan", 0))
		s.create("b", chained)
		s.create("c", capped(100))
		for _, id := range []claudepool.TaskID{"a", "b"} {
			got := s.claimIs(id, chains, terms(claudepool.BudgetTerms{Limit: 100, DefaultCap: 60, Share: 2}))
			if got.Claim.Reserved != 0 {
				t.Errorf("chain %s reserves %v", id, got.Claim.Reserved)
			}
		}
		s.wantLedger(claudepool.Ledger{})
		s.finish(s.claimIs("c", limited(100)), 100)
		s.create("d", chained)
		s.claimIs("d", chains, limited(100)) // though nothing is left
	}},
	{"neither pins nor preferences have a bearing on a chain", func(t *testing.T, s *store) {
		s.create("a", chained, pinned("slot-9", "reviewer"), launchKey("cold"))
		s.create("b", chained, launchKey("warm"))
		s.create("c", chained, pinned("slot-9", ""), launchKey("cold"))
		nobody := func(r *claudepool.ClaimRequest) { r.Accepts = func(_, _ string) bool { return false } }
		s.claimIs("a", chains, preferring("warm"))
		s.claimIs("b", chains, preferring("warm"), nobody)
		s.claimIs("c", chains, preferring("warm"), nobody)
	}},
	{"a chain has its lane as a task has", func(t *testing.T, s *store) {
		s.create("a", chained, lane("x"))
		s.create("b", lane("x"))
		s.create("c", chained, lane("x"))
		s.create("d", chained, lane("y"))
		a := s.claimIs("a", chains)
		s.noClaim()
		s.claimIs("d", chains)
		s.noClaim(chains)
		s.finish(a, 0)
		b := s.claimIs("b")
		s.noClaim(chains)
		s.move(b, claudepool.StateFailed, costing(1))
		s.claimIs("c", chains)
	}},
	{"a chain that has cost something is paid like a task", func(t *testing.T, s *store) {
		s.create("a", chained)
		got := s.finish(s.claimIs("a", chains), 5)
		if got.Cost != 5 || got.Result.Cost != 5 {
			t.Errorf("record at %v, result at %v; want 5 each", got.Cost, got.Result.Cost)
		}
		s.wantLedger(claudepool.Ledger{Spent: 5, Attempts: 1})
	}},
	{"a result of which the steps cost too much says the most", func(t *testing.T, s *store) {
		s.create("a", chained)
		got := s.move(s.claimIs("a", chains), claudepool.StateCompleted, costing(1), func(tr *claudepool.Transition) {
			tr.Result = &claudepool.TaskResult{Steps: []claudepool.StepResult{{Cost: math.MaxInt64}}}
		})
		if got.Result.Cost != math.MaxInt64 || got.Cost != 1 {
			t.Errorf("result at %v, record at %v", got.Result.Cost, got.Cost)
		}
	}},
}
