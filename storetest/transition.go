package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/worktree"
)

// enter creates a task and brings it into a state. All but the pending one
// have been claimed once.
func (s *store) enter(id string, state claudepool.TaskState) claudepool.TaskRecord {
	s.t.Helper()
	r := s.create(id, priority(1))
	if state == claudepool.StatePending {
		return r
	}
	r = s.claimIs(r.ID)
	if state == claudepool.StateRunning {
		return r
	}
	return s.move(r, state, costing(5), func(tr *claudepool.Transition) { tr.Outcome = claudepool.OutcomeOK })
}

// rejecting counts a rejection.
func rejecting(feedback string) func(*claudepool.Transition) {
	return func(tr *claudepool.Transition) { tr.CountRejection, tr.Feedback = true, feedback }
}

// wantTransition says, by the contract, what a transition of a task in the
// state comes to.
func wantTransition(is claudepool.TaskState, tr claudepool.Transition, fence int64) (moves bool, err error) {
	switch {
	case is.Terminal() && tr.To == claudepool.StateCancelled:
		return false, nil
	case is != tr.From, !is.CanBecome(tr.To), tr.To == claudepool.StateRunning:
		return false, claudepool.ErrConflict
	case is == claudepool.StateRunning && tr.To != claudepool.StateCancelled && tr.Fence != fence:
		return false, claudepool.ErrFenced
	}
	return true, nil
}

var transitionTests = []test{
	{"only what the state machine allows is done", func(t *testing.T, s *store) {
		n := 0
		for _, is := range claudepool.TaskStates() {
			for _, from := range claudepool.TaskStates() {
				for _, to := range claudepool.TaskStates() {
					for _, wrongBy := range []int64{0, -1, 1} {
						n++
						before := s.enter(fmt.Sprintf("task-%04d", n), is)
						tr := transition(before, to, func(tr *claudepool.Transition) {
							tr.From = from
							tr.Fence += wrongBy
							tr.Outcome = claudepool.OutcomeInvalid
							tr.Result = &claudepool.TaskResult{Output: "new"}
						})
						what := fmt.Sprintf("from %s to %s of a task that is %s, fence off by %d", from, to, is, wrongBy)
						moves, wantErr := wantTransition(is, tr, before.Fence)

						got, err := s.Transition(t.Context(), tr)
						if !errors.Is(err, wantErr) {
							t.Errorf("%s: error %v, want %v", what, err, wantErr)
						}
						after := s.task(before.ID)
						if diff := cmp.Diff(after, got, equal); diff != "" {
							t.Errorf("%s: the record that came back is not the one stored (-stored +returned):\n%s", what, diff)
						}
						switch {
						case !moves:
							if diff := cmp.Diff(before, after, equal); diff != "" {
								t.Errorf("%s: the record has changed (-before +after):\n%s", what, diff)
							}
						case after.State != to || after.Outcome != claudepool.OutcomeInvalid || after.Version <= before.Version:
							t.Errorf("%s: state %s, outcome %s, version %d after %d", what, after.State, after.Outcome, after.Version, before.Version)
						}
						if r := s.task(before.ID); r.State == claudepool.StatePending { // out of the way of the next claim
							s.move(r, claudepool.StateCancelled)
						}
					}
				}
			}
		}
	}},
	{"a result says what the record says", func(t *testing.T, s *store) {
		s.create("a")
		s.move(s.claim(), claudepool.StatePending, costing(2), func(tr *claudepool.Transition) { tr.Attempt.Estimated = true })
		got := s.move(s.claim(), claudepool.StateCompleted, costing(3), func(tr *claudepool.Transition) {
			tr.Outcome = claudepool.OutcomeOK
			tr.Result = &claudepool.TaskResult{TaskID: "wrong", State: "wrong", Outcome: "wrong", Cost: 99, Attempts: 99, Output: "done", Turns: 4}
		})
		want := &claudepool.TaskResult{
			TaskID: "a", State: claudepool.StateCompleted, Outcome: claudepool.OutcomeOK, Success: true,
			Cost: 5, Estimated: true, Attempts: 2, Output: "done", Turns: 4,
		}
		if diff := cmp.Diff(want, got.Result, equal); diff != "" {
			t.Errorf("result (-want +got):\n%s", diff)
		}
		if got.Cost != 5 || !got.Estimated {
			t.Errorf("record has cost %v, estimated %v", got.Cost, got.Estimated)
		}
	}},
	{"a task that ends without a result gets an empty one", func(t *testing.T, s *store) {
		s.create("a")
		got := s.move(s.task("a"), claudepool.StateFailed, func(tr *claudepool.Transition) { tr.Outcome = claudepool.OutcomeExpired })
		want := &claudepool.TaskResult{TaskID: "a", State: claudepool.StateFailed, Outcome: claudepool.OutcomeExpired}
		if diff := cmp.Diff(want, got.Result, equal); diff != "" {
			t.Errorf("result (-want +got):\n%s", diff)
		}
		if !got.Ended.Equal(at(20)) || !got.Started.IsZero() {
			t.Errorf("started %v, ended %v", got.Started, got.Ended)
		}
	}},
	{"approval keeps the result that was reviewed", func(t *testing.T, s *store) {
		s.create("a")
		review := s.move(s.claim(), claudepool.StatePendingReview, costing(3), func(tr *claudepool.Transition) {
			tr.Outcome = claudepool.OutcomeOK
			tr.Result = &claudepool.TaskResult{Output: "work"}
		})
		if review.Claim != nil || review.Result == nil || review.Result.State != claudepool.StatePendingReview {
			t.Errorf("in review, claim %v and result %+v", review.Claim, review.Result)
		}
		got := s.move(review, claudepool.StateCompleted, func(tr *claudepool.Transition) { tr.At = at(90) })
		if got.Result.Output != "work" || got.Result.State != claudepool.StateCompleted || got.Outcome != claudepool.OutcomeOK || !got.Result.Success {
			t.Errorf("after approval, outcome %s and result %+v", got.Outcome, got.Result)
		}
		if !got.Ended.Equal(at(20)) {
			t.Errorf("ended %v, want the end of the attempt", got.Ended)
		}
	}},
	{"rejected work goes back to the queue with its session", func(t *testing.T, s *store) {
		s.create("a")
		review := s.move(s.claim(), claudepool.StatePendingReview, costing(3), func(tr *claudepool.Transition) { tr.Attempt.SessionID = "s1" })
		got := s.move(review, claudepool.StatePending, rejecting("tests fail\n\U0001F600"), func(tr *claudepool.Transition) { tr.ResumeSession = "s1" })
		if got.Result != nil || got.ResumeSession != "s1" || got.SessionID != "s1" || got.Retries+got.Crashes != 0 {
			t.Errorf("result %v, sessions %q and %q, retries %d, crashes %d", got.Result, got.SessionID, got.ResumeSession, got.Retries, got.Crashes)
		}
		again := s.claimIs("a")
		if again.ResumeSession != "s1" || again.Outcome != review.Outcome || again.Rejections != 1 || again.Feedback != "tests fail\n\U0001F600" {
			t.Errorf("claimed again with session %q, outcome %q, %d rejections and feedback %q",
				again.ResumeSession, again.Outcome, again.Rejections, again.Feedback)
		}
		s.finish(again, 1)
	}},
	{"rejections are counted apart, and the last feedback stays", func(t *testing.T, s *store) {
		s.create("a")
		want := func(what string, got claudepool.TaskRecord, rejections int, feedback string) {
			t.Helper()
			if got.Rejections != rejections || got.Feedback != feedback || got.Retries+got.Crashes > 1 {
				t.Errorf("%s: %d rejections, feedback %q, retries %d, crashes %d; want %d and %q",
					what, got.Rejections, got.Feedback, got.Retries, got.Crashes, rejections, feedback)
			}
		}
		uncounted := func(tr *claudepool.Transition) { tr.Feedback = "not to be kept" }
		want("after a return without a review", s.move(s.claim(), claudepool.StatePending, costing(1), uncounted), 0, "")
		review := func() claudepool.TaskRecord { return s.move(s.claim(), claudepool.StatePendingReview, costing(1)) }
		want("after the first rejection", s.move(review(), claudepool.StatePending, rejecting("one")), 1, "one")
		want("after a crash", s.move(s.claim(), claudepool.StatePending, costing(1), uncounted, func(tr *claudepool.Transition) { tr.CountCrash = true }), 1, "one")
		want("in review", review(), 1, "one")
		want("after the second rejection", s.move(s.task("a"), claudepool.StatePending, rejecting("two")), 2, "two")
		want("after one without a word", s.move(review(), claudepool.StatePending, rejecting("")), 3, "")
		want("in the end", s.move(review(), claudepool.StateFailed, rejecting("ignored")), 3, "") // for To pending alone
	}},
	{"rejected for good, the task keeps the work", func(t *testing.T, s *store) {
		s.create("a")
		review := s.move(s.claim(), claudepool.StatePendingReview, costing(3), func(tr *claudepool.Transition) {
			tr.Outcome, tr.Result = claudepool.OutcomeOK, &claudepool.TaskResult{Output: "work"}
		})
		got := s.move(review, claudepool.StateFailed, func(tr *claudepool.Transition) { tr.Outcome = claudepool.OutcomeRejected })
		want := &claudepool.TaskResult{TaskID: "a", State: claudepool.StateFailed, Outcome: claudepool.OutcomeRejected, Output: "work", Cost: 3, Attempts: 1}
		if diff := cmp.Diff(want, got.Result, equal); diff != "" {
			t.Errorf("result (-want +got):\n%s", diff)
		}
	}},
	{"what the steps of a result have cost is added to its cost alone", func(t *testing.T, s *store) {
		s.create("a")
		held := s.claim()
		s.move(held, claudepool.StateCancelled, func(tr *claudepool.Transition) {
			tr.Result = &claudepool.TaskResult{Cost: 99, Steps: []claudepool.StepResult{
				{Name: "one", Cost: 5}, {Name: "two", Cost: 7, Items: []claudepool.StepResult{{Name: "0", Cost: 3}, {Name: "1", Cost: 4}}},
			}}
		})
		for _, cost := range []claudepool.Microdollars{0, 2} {
			got := s.task("a")
			if got.Result.Cost != 12+cost || got.Cost != cost || len(got.Result.Steps) != 2 {
				t.Errorf("result of %d steps at %v, record at %v; want 2 at %v and %v", len(got.Result.Steps), got.Result.Cost, got.Cost, 12+cost, cost)
			}
			s.wantLedger(claudepool.Ledger{Spent: cost, Attempts: int(cost) / 2})
			s.move(held, claudepool.StateCancelled, costing(2)) // the holder settles, and settles again
		}
	}},
	{"crashes and retries are counted apart", func(t *testing.T, s *store) {
		s.create("a")
		requeue := func(edit func(*claudepool.Transition)) claudepool.TaskRecord {
			return s.move(s.claim(), claudepool.StatePending, costing(1), edit)
		}
		requeue(func(tr *claudepool.Transition) { tr.CountCrash, tr.ResumeSession = true, "s1" })
		got := requeue(func(tr *claudepool.Transition) { tr.CountCrash = true })
		if got.ResumeSession != "" {
			t.Errorf("session to resume is %q, want that of the last transition: none", got.ResumeSession)
		}
		requeue(func(tr *claudepool.Transition) { tr.CountRetry = true })
		requeue(func(*claudepool.Transition) {})
		got = s.move(s.claim(), claudepool.StateFailed, costing(1), func(tr *claudepool.Transition) {
			tr.CountRetry, tr.CountCrash, tr.NotBefore, tr.ResumeSession = true, true, at(99), "s2" // for To pending alone
		})
		if got.Crashes != 2 || got.Retries != 1 || got.Attempts != 5 || got.ResumeSession != "" || !got.NotBefore.IsZero() {
			t.Errorf("crashes %d, retries %d, attempts %d, resume %q, not before %v; want 2, 1, 5 and nothing else",
				got.Crashes, got.Retries, got.Attempts, got.ResumeSession, got.NotBefore)
		}
	}},
	{"the outcome before stays when none is given", func(t *testing.T, s *store) {
		s.create("a")
		s.move(s.claim(), claudepool.StatePending, costing(1), func(tr *claudepool.Transition) { tr.Outcome = claudepool.OutcomeOverloaded })
		if got := s.claim().Outcome; got != claudepool.OutcomeOverloaded {
			t.Errorf("outcome is %q while the next attempt runs", got)
		}
		if got := s.move(s.task("a"), claudepool.StatePending).Outcome; got != claudepool.OutcomeOverloaded {
			t.Errorf("outcome is %q after a transition without one", got)
		}
	}},
}

var fenceTests = []test{
	{"a late result of a lost claim is recorded and paid, and changes no state", func(t *testing.T, s *store) {
		s.create("a")
		lost := s.claim()
		s.move(lost, claudepool.StatePending, costing(10), func(tr *claudepool.Transition) {
			tr.Outcome, tr.CountCrash = claudepool.OutcomeLost, true
			tr.Attempt.Outcome, tr.Attempt.Estimated = claudepool.OutcomeLost, true
		})
		running := s.claim()
		_, err := s.Transition(t.Context(), transition(lost, claudepool.StateCompleted, costing(99)))
		wantError(t, "the lost holder's transition", err, claudepool.ErrFenced)
		if diff := cmp.Diff(running, s.task("a"), equal); diff != "" {
			t.Errorf("the first settlement of a fence counts, so nothing may change (-want +got):\n%s", diff)
		}
		s.wantLedger(claudepool.Ledger{Spent: 10, Attempts: 1})

		s.move(running, claudepool.StateCancelled)
		work := &worktree.Result{Branch: "claude-pool/a", Total: 1}
		_, err = s.Transition(t.Context(), transition(running, claudepool.StateCompleted, costing(7), func(tr *claudepool.Transition) {
			tr.Attempt.SessionID, tr.Attempt.Work = "s2", work
			tr.Result = &claudepool.TaskResult{Output: "too late"}
		}))
		wantError(t, "the cancelled holder's transition", err, claudepool.ErrConflict)
		got := s.task("a")
		if got.State != claudepool.StateCancelled || got.Cost != 17 || got.Result.Cost != 17 || !got.Result.Estimated || got.Result.Output != "" {
			t.Errorf("state %s, cost %v, result %+v", got.State, got.Cost, got.Result)
		}
		if got.SessionID != "s2" {
			t.Errorf("session is %q, want that of the last attempt", got.SessionID)
		}
		if diff := cmp.Diff(work, got.Result.Work, equal); diff != "" {
			t.Errorf("work, want that of the last attempt (-want +got):\n%s", diff)
		}
		s.wantLedger(claudepool.Ledger{Spent: 17, Attempts: 2})
		want := []claudepool.Attempt{
			{TaskID: "a", Fence: lost.Fence, Outcome: claudepool.OutcomeLost, Cost: 10, Estimated: true, Started: at(10), Ended: at(20)},
			{TaskID: "a", Fence: running.Fence, Cost: 7, SessionID: "s2", Work: work, Started: at(10), Ended: at(20), Late: true},
		}
		if diff := cmp.Diff(want, s.attempts("a"), equal); diff != "" {
			t.Errorf("attempts (-want +got):\n%s", diff)
		}
	}},
	{"a claim that was given back unused can still turn out to have cost something", func(t *testing.T, s *store) {
		s.create("a")
		first := s.claim()
		s.move(first, claudepool.StatePending)
		second := s.claim()
		done := s.finish(second, 3)
		_, err := s.Transition(t.Context(), transition(first, claudepool.StateFailed, costing(4), func(tr *claudepool.Transition) {
			tr.Attempt.SessionID = "old"
		}))
		wantError(t, "the first holder's transition", err, claudepool.ErrConflict)
		got := s.task("a")
		if got.State != done.State || got.Cost != 7 || got.Result.Cost != 7 || got.SessionID != "" {
			t.Errorf("state %s, cost %v, session %q, result %+v", got.State, got.Cost, got.SessionID, got.Result)
		}
		a := s.attempts("a")
		if len(a) != 2 || a[0].Fence != first.Fence || !a[0].Late || a[1].Fence != second.Fence || a[1].Late {
			t.Errorf("attempts are %+v, want those of both fences in order, the first one late", a)
		}
	}},
	{"an attempt is settled once however often it is reported", func(t *testing.T, s *store) {
		s.create("a")
		held := s.claim(limited(1000), func(r *claudepool.ClaimRequest) { r.Budget.DefaultCap = 100 })
		s.wantLedger(claudepool.Ledger{Reserved: 100})
		done := s.finish(held, 30)
		for _, to := range claudepool.TaskStates() {
			_, err := s.Transition(t.Context(), transition(held, to, costing(30)))
			if to != claudepool.StateCancelled {
				wantError(t, "to "+string(to), err, claudepool.ErrConflict)
			} else if err != nil {
				t.Errorf("cancel of an ended task: %v", err)
			}
		}
		if diff := cmp.Diff(done, s.task("a"), equal); diff != "" {
			t.Errorf("record (-want +got):\n%s", diff)
		}
		s.wantLedger(claudepool.Ledger{Spent: 30, Attempts: 1})
	}},
	{"an attempt that no claim belongs to is refused", func(t *testing.T, s *store) {
		s.create("a")
		before := s.task("a")
		for _, fence := range []int64{0, 1, -1} {
			_, err := s.Transition(t.Context(), transition(before, claudepool.StateFailed, costing(5), func(tr *claudepool.Transition) { tr.Fence = fence }))
			wantError(t, fmt.Sprint("fence ", fence, " of a pending task"), err, claudepool.ErrFenced)
		}
		if diff := cmp.Diff(before, s.task("a"), equal); diff != "" {
			t.Errorf("record (-want +got):\n%s", diff)
		}
		held := s.claim()
		s.move(held, claudepool.StateCancelled) // raises the fence without a claim
		_, err := s.Transition(t.Context(), transition(held, claudepool.StateCancelled, costing(5), func(tr *claudepool.Transition) { tr.Fence = s.task("a").Fence }))
		wantError(t, "the fence that the cancellation made", err, claudepool.ErrFenced)
		s.wantLedger(claudepool.Ledger{})
	}},
	{"an attempt is settled also when its transition fails", func(t *testing.T, s *store) {
		s.create("a", capped(100))
		held := s.claim()
		_, err := s.Transition(t.Context(), transition(held, claudepool.StateCompleted, costing(5), func(tr *claudepool.Transition) {
			tr.From = claudepool.StatePendingReview
		}))
		wantError(t, "a transition from another state", err, claudepool.ErrConflict)
		s.wantLedger(claudepool.Ledger{Spent: 5, Attempts: 1})
		got := s.task("a")
		if got.State != claudepool.StateRunning || got.Claim == nil || got.Cost != 5 || !s.attempts("a")[0].Late {
			t.Errorf("state %s, claim %v, cost %v, attempts %+v", got.State, got.Claim, got.Cost, s.attempts("a"))
		}
		// The claim is as good as before.
		if err := s.Extend(t.Context(), claudepool.ClaimRef{Task: "a", Fence: held.Fence}, at(99), 6); err != nil {
			t.Errorf("Extend: %v", err)
		}
		if got := s.finish(held, 7); got.Cost != 5 || got.Claim != nil {
			t.Errorf("cost %v, claim %v; want the first settlement alone, and no claim", got.Cost, got.Claim)
		}
	}},
	{"what the attempt says of itself is overruled", func(t *testing.T, s *store) {
		s.create("a")
		held := s.claim()
		s.move(held, claudepool.StateFailed, func(tr *claudepool.Transition) {
			tr.Attempt = &claudepool.Attempt{TaskID: "other", Fence: 99, Late: true, Cost: -5, SlotID: "slot-0", Holder: "pool-1", Message: "m"}
		})
		want := []claudepool.Attempt{{TaskID: "a", Fence: held.Fence, SlotID: "slot-0", Holder: "pool-1", Message: "m", Ended: at(20)}}
		if diff := cmp.Diff(want, s.attempts("a"), equal); diff != "" {
			t.Errorf("attempts (-want +got):\n%s", diff)
		}
	}},
	{"a cancellation raises the fence", func(t *testing.T, s *store) {
		s.create("a")
		held := s.claim()
		got := s.move(held, claudepool.StateCancelled, func(tr *claudepool.Transition) { tr.Fence = 0 })
		if got.Fence <= held.Fence {
			t.Errorf("fence is %d after %d", got.Fence, held.Fence)
		}
		if got.Claim == nil || got.Claim.Fence != held.Fence {
			t.Errorf("claim is %+v, want the holder's until it has settled", got.Claim)
		}
		got = s.move(held, claudepool.StateCancelled, costing(1))
		if got.Claim != nil || got.State != claudepool.StateCancelled {
			t.Errorf("after the attempt: claim %+v, state %s", got.Claim, got.State)
		}
	}},
	{"the holder can cancel and settle in one step", func(t *testing.T, s *store) {
		s.create("a")
		got := s.move(s.claim(), claudepool.StateCancelled, costing(4))
		if got.Claim != nil || got.Cost != 4 || s.attempts("a")[0].Late {
			t.Errorf("claim %+v, cost %v, attempts %+v", got.Claim, got.Cost, s.attempts("a"))
		}
	}},
}

var finalTests = []test{
	{"nothing changes a task that has ended", func(t *testing.T, s *store) {
		for i, state := range []claudepool.TaskState{claudepool.StateCompleted, claudepool.StateFailed, claudepool.StateCancelled} {
			done := s.enter(fmt.Sprint("task-", i), state)
			for _, to := range claudepool.TaskStates() {
				for _, from := range []claudepool.TaskState{state, claudepool.StateRunning, claudepool.StatePending} {
					_, err := s.Transition(t.Context(), transition(done, to, func(tr *claudepool.Transition) {
						tr.From, tr.Fence, tr.Outcome = from, 1, claudepool.OutcomeAgentError
						tr.Result = &claudepool.TaskResult{Output: "new"}
					}))
					if to == claudepool.StateCancelled {
						if err != nil {
							t.Errorf("cancel of a task that is %s: %v", state, err)
						}
					} else {
						wantError(t, fmt.Sprintf("from %s to %s of a task that is %s", from, to, state), err, claudepool.ErrConflict)
					}
				}
			}
			wantError(t, "Extend", s.Extend(t.Context(), claudepool.ClaimRef{Task: done.ID, Fence: done.Fence}, at(99), 9), claudepool.ErrFenced)
			if diff := cmp.Diff(done, s.task(done.ID), equal); diff != "" {
				t.Errorf("record of a task that was %s (-before +after):\n%s", state, diff)
			}
		}
	}},
	{"a cancelled task stays cancelled when its result comes a moment later", func(t *testing.T, s *store) {
		s.create("a")
		held := s.claim()
		s.move(held, claudepool.StateCancelled, func(tr *claudepool.Transition) { tr.Outcome = claudepool.OutcomeCancelled })
		_, err := s.Transition(t.Context(), transition(held, claudepool.StateCompleted, costing(5), func(tr *claudepool.Transition) { tr.Outcome = claudepool.OutcomeOK }))
		wantError(t, "the result", err, claudepool.ErrConflict)
		if got := s.task("a"); got.State != claudepool.StateCancelled || got.Outcome != claudepool.OutcomeCancelled || got.Cost != 5 {
			t.Errorf("state %s, outcome %s, cost %v", got.State, got.Outcome, got.Cost)
		}
	}},
	{"a completed task stays completed when it is cancelled a moment later", func(t *testing.T, s *store) {
		s.create("a")
		held := s.claim()
		done := s.finish(held, 5)
		got := s.move(held, claudepool.StateCancelled)
		if diff := cmp.Diff(done, got, equal); diff != "" {
			t.Errorf("record (-completed +cancelled):\n%s", diff)
		}
	}},
	{"of all who end a task at once one succeeds", func(t *testing.T, s *store) {
		for round := range 30 {
			id := claudepool.TaskID(fmt.Sprint("task-", round))
			s.create(string(id))
			held := s.claimIs(id)
			endings := []struct {
				to      claudepool.TaskState
				outcome claudepool.Outcome
			}{
				{claudepool.StateCompleted, claudepool.OutcomeOK},
				{claudepool.StateCancelled, claudepool.OutcomeCancelled},
				{claudepool.StateFailed, claudepool.OutcomeTimeout},
				{claudepool.StateFailed, claudepool.OutcomeLost},
				{claudepool.StatePending, claudepool.OutcomeCrashed},
			}
			errs := make([]error, len(endings))
			begin := make(chan struct{})
			var wg sync.WaitGroup
			for i, e := range endings {
				wg.Go(func() {
					<-begin
					_, errs[i] = s.Transition(t.Context(), transition(held, e.to, costing(1), func(tr *claudepool.Transition) { tr.Outcome = e.outcome }))
				})
			}
			close(begin)
			wg.Wait()

			got := s.task(id)
			for i, e := range endings {
				won := got.State == e.to && got.Outcome == e.outcome
				lost := errors.Is(errs[i], claudepool.ErrConflict) || errors.Is(errs[i], claudepool.ErrFenced) ||
					e.to == claudepool.StateCancelled && errs[i] == nil // a cancellation after the end is no error
				if won && errs[i] != nil || !won && !lost {
					t.Errorf("task is %s (%s), and who made it %s (%s) got error %v", got.State, got.Outcome, e.to, e.outcome, errs[i])
				}
			}
			if got.Cost != 1 || len(s.attempts(id)) != 1 {
				t.Errorf("one attempt was settled as %d, at %v in all", len(s.attempts(id)), got.Cost)
			}
			if got.State == claudepool.StatePending {
				s.move(got, claudepool.StateCancelled)
			}
		}
	}},
}

var extendTests = []test{
	{"a lease is moved, and the cost, the slot and the session are noted", func(t *testing.T, s *store) {
		s.create("a")
		held := s.claim()
		ref := claudepool.ClaimRef{Task: "a", Fence: held.Fence}
		if err := s.Extend(t.Context(), ref, at(70), 5); err != nil {
			t.Fatal(err)
		}
		ref.SlotID, ref.SessionID = "slot-3", "session-3"
		if err := s.Extend(t.Context(), ref, at(60), 4); err != nil { // as the caller says, less too
			t.Fatal(err)
		}
		got := s.task("a")
		want := held
		want.SlotID = "slot-3"
		want.Claim = &claudepool.TaskClaim{Holder: "pool-1", SlotID: "slot-3", Fence: held.Fence, Lease: at(60), LastCost: 4, SessionID: "session-3"}
		if diff := cmp.Diff(want, got, equal, anyVersion); diff != "" {
			t.Errorf("record (-want +got):\n%s", diff)
		}
		if got.Version <= held.Version {
			t.Errorf("version is %d after %d", got.Version, held.Version)
		}
		s.wantLedger(claudepool.Ledger{}) // what was seen is not settled
	}},
	{"that the agent is asked is noted for as long as the claim lasts", func(t *testing.T, s *store) {
		s.create("a")
		held := s.claim()
		if held.Claim.Asked {
			t.Error("a new claim says that its agent was asked")
		}
		for _, asked := range []bool{true, false} {
			if err := s.Extend(t.Context(), claudepool.ClaimRef{Task: "a", Fence: held.Fence, Asked: asked}, at(70), 5); err != nil {
				t.Fatal(err)
			}
			if !s.task("a").Claim.Asked {
				t.Errorf("after Extend with Asked %v the claim says that its agent was not asked", asked)
			}
		}
		if got := s.move(s.task("a"), claudepool.StateCancelled); !got.Claim.Asked {
			t.Error("a cancelled task's claim says that its agent was not asked")
		}
		s.move(held, claudepool.StateCancelled, costing(1))
		s.create("b")
		s.move(s.claim(), claudepool.StatePending)
		if s.claim().Claim.Asked {
			t.Error("the next claim says that its agent was asked")
		}
	}},
	{"a lease that has run out can be extended until somebody takes over", func(t *testing.T, s *store) {
		s.create("a")
		held := s.claim(func(r *claudepool.ClaimRequest) { r.Lease = time.Second })
		ref := claudepool.ClaimRef{Task: "a", Fence: held.Fence}
		if err := s.Extend(t.Context(), ref, at(1000), 1); err != nil {
			t.Errorf("Extend of an old lease: %v", err)
		}
		s.move(held, claudepool.StatePending, costing(1))
		wantError(t, "Extend after the take-over", s.Extend(t.Context(), ref, at(2000), 1), claudepool.ErrFenced)
		again := s.claim()
		wantError(t, "Extend while another holds it", s.Extend(t.Context(), ref, at(2000), 1), claudepool.ErrFenced)
		if diff := cmp.Diff(again, s.task("a"), equal); diff != "" {
			t.Errorf("record (-want +got):\n%s", diff)
		}
	}},
	{"a holder learns from it that its task was cancelled", func(t *testing.T, s *store) {
		s.create("a")
		held := s.claim()
		cancelled := s.move(held, claudepool.StateCancelled)
		for _, fence := range []int64{held.Fence, cancelled.Fence} {
			wantError(t, fmt.Sprint("Extend with fence ", fence), s.Extend(t.Context(), claudepool.ClaimRef{Task: "a", Fence: fence}, at(99), 1), claudepool.ErrFenced)
		}
	}},
	{"a task without a claim has no lease", func(t *testing.T, s *store) {
		s.create("a")
		wantError(t, "Extend of a pending task", s.Extend(t.Context(), claudepool.ClaimRef{Task: "a"}, at(99), 1), claudepool.ErrFenced)
	}},
}
