package claudepool_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
)

// reviewed is a task whose result waits for a review.
func reviewed(prompt string) claudepool.Task {
	return claudepool.Task{Prompt: prompt, Review: &claudepool.ReviewPolicy{}}
}

// inReview waits until the result of a task waits for a review.
func inReview(t *testing.T, p *claudepool.Pool, id claudepool.TaskID) claudepool.TaskRecord {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	r, err := p.WaitFor(ctx, id, func(s claudepool.TaskState) bool {
		return s == claudepool.StatePendingReview || s.Terminal()
	})
	if err != nil || r.State != claudepool.StatePendingReview {
		t.Fatalf("task %s is %s (%v), want it in review", id, r.State, err)
	}
	return r
}

func reject(t *testing.T, p *claudepool.Pool, id claudepool.TaskID, feedback string) claudepool.TaskState {
	t.Helper()
	state, err := p.RejectResult(t.Context(), id, feedback)
	if err != nil {
		t.Fatalf("RejectResult(%s): %v", id, err)
	}
	return state
}

func approve(t *testing.T, p *claudepool.Pool, id claudepool.TaskID) claudepool.TaskResult {
	t.Helper()
	if state, err := p.ApproveResult(t.Context(), id); err != nil || state != claudepool.StateCompleted {
		t.Fatalf("ApproveResult(%s) = %s, %v", id, state, err)
	}
	return wait(t, p, id)
}

func TestReviewRejectedTwiceThenApproved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &fakeLauncher{turn: recall}
		p := build(t, claudepool.PoolConfig{Launcher: l})
		task := reviewed("write it")
		task.KeepSession = time.Hour
		task.QueueTimeout, task.Overrides.Timeout, task.StallTimeout = time.Minute, time.Minute, time.Minute
		id := submit(t, p, task)
		ended := make(chan claudepool.TaskResult, 1)
		go func() {
			r, err := p.Wait(t.Context(), id)
			if err != nil {
				t.Errorf("Wait: %v", err)
			}
			ended <- r
		}()
		r := inReview(t, p, id)
		if r.Result == nil || r.Result.Output != "write it" || r.Result.State != claudepool.StatePendingReview || r.Result.Failure != nil {
			t.Errorf("in review the result is %+v, want the output and no failure", r.Result)
		}
		for i, feedback := range []string{"too long", "too short"} {
			time.Sleep(10 * time.Minute) // no deadline runs while somebody reads
			if state := reject(t, p, id, feedback); state != claudepool.StatePending {
				t.Errorf("after rejection %d the task is %s, want pending", i+1, state)
			}
			r = inReview(t, p, id)
			if r.Rejections != i+1 || r.Retries+r.Crashes != 0 || r.Attempts != i+2 {
				t.Errorf("rejections %d, retries %d, crashes %d, attempts %d; want %d, 0, 0, %d", r.Rejections, r.Retries, r.Crashes, r.Attempts, i+1, i+2)
			}
		}
		if len(ended) != 0 {
			t.Error("Wait has returned before the review")
		}
		if res := approve(t, p, id); res.Outcome != claudepool.OutcomeOK || !res.Success || res.Attempts != 3 {
			t.Errorf("after approval: %+v", res)
		}
		if res := <-ended; res.State != claudepool.StateCompleted {
			t.Errorf("Wait gave %s, want completed", res.State)
		}
		agents := l.agents()
		said := agents[0].said()
		if len(agents) != 1 || len(said) != 3 {
			t.Fatalf("%d processes, of which the first was asked %q; want one that was asked three times", len(agents), said)
		}
		for i, want := range []string{"write it", "too long", "too short"} {
			contains(t, "prompt", said[i], want)
		}
		if strings.Contains(said[2], "too long") || strings.Contains(said[1], "write it") {
			t.Errorf("prompts %q repeat what the conversation has already", said)
		}
	})
}

func TestReviewCountsEveryAttemptsCost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}}) // each turn costs 1000
		task := reviewed("x")
		task.Overrides.MaxCost = 2000
		id := submit(t, p, task)
		inReview(t, p, id)
		reject(t, p, id, "again")
		if r := inReview(t, p, id); r.Cost != 2000 || r.Result.Cost != 2000 {
			t.Errorf("after two attempts the task has cost %v, its result %v; want 2000 each", r.Cost, r.Result.Cost)
		}
		reject(t, p, id, "and again")
		if r := wait(t, p, id); r.Outcome != claudepool.OutcomeBudget || r.Cost != 2000 {
			t.Errorf("ended %s at %v, want budget at 2000: the cap covers the rework too", r.Outcome, r.Cost)
		}
	})
}

func TestReviewLastRejectionFailsTheTask(t *testing.T) {
	t.Parallel()
	for limit, rejections := range map[int]int{0: claudepool.DefaultMaxRejections, 1: 1, 2: 2} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			t.Parallel()
			p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}})
			id := submit(t, p, claudepool.Task{Prompt: "x", Review: &claudepool.ReviewPolicy{MaxRejections: limit}})
			for range rejections - 1 {
				inReview(t, p, id)
				if state := reject(t, p, id, "no"); state != claudepool.StatePending {
					t.Fatalf("rejected, the task is %s", state)
				}
			}
			output := inReview(t, p, id).Result.Output
			if state := reject(t, p, id, "not good enough"); state != claudepool.StateFailed {
				t.Errorf("after rejection %d the task is %s, want failed", rejections, state)
			}
			r := wait(t, p, id)
			if r.Outcome != claudepool.OutcomeRejected || r.Success || r.Output == "" || r.Output != output || r.Failure == nil {
				t.Fatalf("result = %+v, want rejected with the output %q", r, output)
			}
			contains(t, "failure", r.Failure.Message, "not good enough")
			if r.Failure.Class != claudepool.OutcomeRejected || r.Attempts != rejections {
				t.Errorf("failure of class %s after %d attempts, want rejected after %d", r.Failure.Class, r.Attempts, rejections)
			}
		})
	}
}

func TestReviewHoldsBackOnlyWhatWouldComplete(t *testing.T) {
	t.Parallel()
	denied := claude.Result{Subtype: "success", Text: "the rest", Denials: []claude.Denial{{Tool: "Write"}}}
	failed := claude.Result{Subtype: "error_max_turns", IsError: true}
	turn, _ := attempts(says(denied), says(failed))
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: turn}})
	id := submit(t, p, reviewed("x"))
	inReview(t, p, id)
	if r := approve(t, p, id); r.Outcome != claudepool.OutcomePartlyDenied || r.Success || len(r.Denials) != 1 {
		t.Errorf("approved as %s (success %t), want it as partly denied as it was", r.Outcome, r.Success)
	}
	if r := wait(t, p, submit(t, p, reviewed("x"))); r.Outcome != claudepool.OutcomeMaxTurns {
		t.Errorf("ended %s, want max_turns without a review", r.Outcome)
	}
}

func TestReviewOfATaskThatIsInNone(t *testing.T) {
	t.Parallel()
	b := newBlocker()
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: b.turn}})
	running := submit(t, p, reviewed("a"))
	<-b.begun
	pending := submit(t, p, reviewed("b"))
	cancelled := submit(t, p, reviewed("c"))
	if _, err := p.Cancel(t.Context(), cancelled); err != nil {
		t.Fatal(err)
	}
	check := func(id claudepool.TaskID, want claudepool.TaskState) {
		t.Helper()
		for what, review := range map[string]func() (claudepool.TaskState, error){
			"ApproveResult": func() (claudepool.TaskState, error) { return p.ApproveResult(t.Context(), id) },
			"RejectResult":  func() (claudepool.TaskState, error) { return p.RejectResult(t.Context(), id, "no") },
		} {
			state, err := review()
			if !errors.Is(err, claudepool.ErrNotInReview) || state != want || !strings.Contains(err.Error(), string(want)) {
				t.Errorf("%s of a task that is %s = %s, %v; want its state and ErrNotInReview", what, want, state, err)
			}
		}
	}
	check(running, claudepool.StateRunning)
	check(pending, claudepool.StatePending)
	check(cancelled, claudepool.StateCancelled)
	close(b.release)
	inReview(t, p, running)
	approve(t, p, running)
	check(running, claudepool.StateCompleted)
	if _, err := p.ApproveResult(t.Context(), "task-none"); !errors.Is(err, claudepool.ErrUnknownTask) {
		t.Errorf("ApproveResult of an unknown task: %v", err)
	}
}

func TestReviewRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}})
	id := submit(t, p, reviewed("x"))
	before := inReview(t, p, id)
	for name, feedback := range map[string]string{
		"none": "", "blank": " \n\t", "no UTF-8": "a\xff", "too long": strings.Repeat("a", claudepool.MaxFeedback+1),
	} {
		_, err := p.RejectResult(t.Context(), id, feedback)
		if bad, ok := errors.AsType[*claudepool.InvalidError](err); !ok || bad.Field != "feedback" {
			t.Errorf("%s: RejectResult = %v, want an InvalidError of feedback", name, err)
		}
	}
	if after := inReview(t, p, id); after.Version != before.Version {
		t.Error("a refused rejection has changed the task")
	}
	_, err := p.Submit(t.Context(), claudepool.Task{Prompt: "x", Review: &claudepool.ReviewPolicy{MaxRejections: -1}})
	if bad, ok := errors.AsType[*claudepool.InvalidError](err); !ok || bad.Field != "max_rejections" {
		t.Errorf("Submit = %v, want an InvalidError of max_rejections", err)
	}
}

// Of several who decide at once one wins, and the others are told.
func TestReviewOfSeveralReviewersOneWins(t *testing.T) {
	t.Parallel()
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}})
	for range 30 {
		id := submit(t, p, claudepool.Task{Prompt: "x", Review: &claudepool.ReviewPolicy{MaxRejections: 1}})
		inReview(t, p, id)
		begin := make(chan struct{})
		states, errs := make([]claudepool.TaskState, 4), make([]error, 4)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() {
				<-begin
				if i%2 == 0 {
					states[i], errs[i] = p.ApproveResult(t.Context(), id)
				} else {
					states[i], errs[i] = p.RejectResult(t.Context(), id, "no")
				}
			})
		}
		close(begin)
		wg.Wait()
		won := 0
		for i, err := range errs {
			if err == nil {
				won++
			} else if !errors.Is(err, claudepool.ErrNotInReview) {
				t.Errorf("a reviewer who came too late got %v", err)
			}
			if end := wait(t, p, id).State; states[i] != end {
				t.Errorf("a reviewer was told %s, and the task is %s", states[i], end)
			}
		}
		if won != 1 {
			t.Errorf("%d reviewers have won, want 1", won)
		}
	}
}

// A reviewer who has seen the task in review and is overtaken is told so too.
func TestReviewThatIsOvertaken(t *testing.T) {
	t.Parallel()
	for _, to := range []claudepool.TaskState{claudepool.StateCompleted, claudepool.StateCancelled, claudepool.StatePending} {
		t.Run(string(to), func(t *testing.T) {
			t.Parallel()
			s := &faultyStore{PoolStore: stored(t)}
			p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}, Store: s})
			id := submit(t, p, reviewed("x"))
			inReview(t, p, id)
			p.Pause() // nobody takes it up again
			var once sync.Once
			s.task = func(r claudepool.TaskRecord) (err error) {
				once.Do(func() {
					_, err = s.PoolStore.Transition(context.Background(), claudepool.Transition{Task: id, From: r.State, To: to, At: time.Now()})
				})
				return err
			}
			state, err := p.RejectResult(t.Context(), id, "no")
			if !errors.Is(err, claudepool.ErrNotInReview) || errors.Is(err, claudepool.ErrConflict) || state != to {
				t.Errorf("RejectResult = %s, %v; want %s and ErrNotInReview", state, err, to)
			}
			if r := record(t, s, id); r.State != to || r.Rejections != 0 {
				t.Errorf("the task is %s with %d rejections, want it as it was", r.State, r.Rejections)
			}
		})
	}
}

func TestReviewRejectedWhileItIsCancelled(t *testing.T) {
	t.Parallel()
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}})
	for range 30 {
		id := submit(t, p, reviewed("x"))
		inReview(t, p, id)
		begin := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			<-begin
			if _, err := p.RejectResult(t.Context(), id, "no"); err != nil && !errors.Is(err, claudepool.ErrNotInReview) {
				t.Errorf("RejectResult: %v", err)
			}
		})
		close(begin)
		if state, err := p.Cancel(t.Context(), id); err != nil || state != claudepool.StateCancelled {
			t.Errorf("Cancel = %s, %v", state, err)
		}
		wg.Wait()
		if r := wait(t, p, id); r.Outcome != claudepool.OutcomeCancelled {
			t.Errorf("the task ended %s, want cancelled", r.Outcome)
		}
	}
}

func TestReviewCancelKeepsTheWork(t *testing.T) {
	t.Parallel()
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}})
	id := submit(t, p, reviewed("the work"))
	inReview(t, p, id)
	if state, err := p.Cancel(t.Context(), id); err != nil || state != claudepool.StateCancelled {
		t.Fatalf("Cancel = %s, %v", state, err)
	}
	if r := wait(t, p, id); r.Outcome != claudepool.OutcomeCancelled || r.Output != "the work" || r.Cost != 1000 || r.Failure == nil {
		t.Errorf("result = %+v, want cancelled, with the work and its cost", r)
	}
}

func TestReviewIsExplained(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}})
		why := func(id claudepool.TaskID, want string) {
			t.Helper()
			e, err := p.Explain(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			contains(t, "Explain", e.Reason, want)
		}
		id := submit(t, p, reviewed("x"))
		inReview(t, p, id)
		why(id, "approve or reject")
		next := submit(t, p, claudepool.Task{Prompt: "y", Session: claudepool.Session{Task: id}})
		synctest.Wait()
		why(next, "waits for a review")
		reject(t, p, id, "no")
		inReview(t, p, id)
		why(id, "fails with rejection 3")
		st, err := p.Status(t.Context())
		if err != nil || st.PendingReviewTasks != 1 || st.RunningTasks != 0 || st.Reserved != 0 {
			t.Errorf("Status = %+v, %v; want one task in review and nothing held for it", st, err)
		}
		approve(t, p, id)
		if r := wait(t, p, next); r.Outcome != claudepool.OutcomeOK {
			t.Errorf("the follow-up ended %s", r.Outcome)
		}
	})
}
