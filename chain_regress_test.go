package claudepool_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
)

// execute runs a chain to its end, whatever that is.
func execute(t *testing.T, p *claudepool.Pool, c claudepool.Chain) claudepool.ChainResult {
	t.Helper()
	id, err := p.SubmitChain(t.Context(), c, claudepool.ChainOptions{})
	if err != nil {
		t.Fatalf("SubmitChain: %v", err)
	}
	return waitChain(t, p, id)
}

func waitChain(t *testing.T, p *claudepool.Pool, id claudepool.TaskID) claudepool.ChainResult {
	t.Helper()
	r, err := p.WaitChain(t.Context(), id)
	if !r.State.Terminal() {
		t.Fatalf("WaitChain: %v", err)
	}
	return r
}

// retry resumes a chain and runs it to its end.
func retry(t *testing.T, p *claudepool.Pool, r claudepool.ChainResult) claudepool.ChainResult {
	t.Helper()
	id, err := p.Retry(t.Context(), r.TaskID)
	if err != nil {
		t.Fatalf("Retry: %v", err)
	}
	return waitChain(t, p, id)
}

func TestAChainWaitsForAStoreThatCannotBeRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var bad atomic.Bool
		var reads atomic.Int64
		s := &faultyStore{PoolStore: stored(t), task: func(r claudepool.TaskRecord) error {
			if bad.Load() && strings.HasSuffix(string(r.ID), ".a") {
				reads.Add(1)
				return errLocked
			}
			return nil
		}}
		b := newBlocker()
		p := build(t, claudepool.PoolConfig{Store: s, Launcher: &fakeLauncher{turn: b.turn}})
		id, err := p.SubmitChain(t.Context(), threeSteps(), claudepool.ChainOptions{})
		if err != nil {
			t.Fatal(err)
		}
		<-b.begun
		synctest.Wait()
		bad.Store(true)
		b.release <- struct{}{}
		time.Sleep(10 * time.Second)
		if n := reads.Load(); n == 0 || n > 50 {
			t.Errorf("the store was asked %d times in 10 s, want about one a second", n)
		}
		bad.Store(false)
		close(b.release)
		if r := waitChain(t, p, id); r.State != claudepool.StateCompleted {
			t.Errorf("the chain ended %s: %+v", r.Outcome, r.Failure)
		}
	})
}

func TestARetriedChainOutlivesAStoreThatIsLockedOnce(t *testing.T) {
	t.Parallel()
	var first claudepool.TaskID
	var locked atomic.Bool
	s := &faultyStore{PoolStore: stored(t)}
	s.claimed = func(r claudepool.TaskRecord) {
		if r.Chain != nil && r.Chain.Resume != "" {
			locked.Store(true)
		}
	}
	s.task = func(r claudepool.TaskRecord) error {
		if r.ID == first && locked.CompareAndSwap(true, false) {
			return errLocked
		}
		return nil
	}
	sc := newScript(func(p string, n int) claude.Result {
		if strings.HasPrefix(p, "b") && n == 1 {
			return failing("no")
		}
		return ok(p, 10)
	})
	p := build(t, claudepool.PoolConfig{Store: s, Launcher: &fakeLauncher{turn: sc.turn}})
	c := threeSteps()
	c.Steps[1].OnFailure = once
	r := execute(t, p, c)
	first = r.TaskID
	if r = retry(t, p, r); r.State != claudepool.StateCompleted || locked.Load() {
		t.Errorf("the chain ended %s: %+v", r.Outcome, r.Failure)
	}
}

func TestAChainThatHasBegunDoesNotExpire(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := durable{stored(t)}
		b := newBlocker()
		first := build(t, claudepool.PoolConfig{Store: store, Launcher: &fakeLauncher{turn: b.turn}})
		id, err := first.SubmitChain(t.Context(), threeSteps(), claudepool.ChainOptions{QueueTimeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		<-b.begun
		time.Sleep(2 * time.Second)
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		second := build(t, claudepool.PoolConfig{Store: store, Launcher: &fakeLauncher{turn: echo}})
		if r := waitChain(t, second, id); r.State != claudepool.StateCompleted {
			t.Errorf("the chain ended %s: %+v", r.Outcome, r.Failure)
		}
	})
}

func TestACancellationBetweenClaimAndRunIsSeen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p *claudepool.Pool
		s := &faultyStore{PoolStore: stored(t)}
		s.claimed = func(r claudepool.TaskRecord) {
			if r.Chain != nil {
				if _, err := p.Cancel(context.Background(), r.ID); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Second) // the news of it is gone by
			}
		}
		sc := newScript(func(p string, _ int) claude.Result { return ok(p, 10) })
		p = build(t, claudepool.PoolConfig{Store: s, Launcher: &fakeLauncher{turn: sc.turn}})
		execute(t, p, threeSteps())
		time.Sleep(5 * time.Second)
		if asked := sc.times(); len(asked) > 0 {
			t.Errorf("steps of a cancelled chain ran: %v", asked)
		}
	})
}

func TestOutputThatLacksAVariableIsAFailureLikeAnyOther(t *testing.T) {
	t.Parallel()
	prose := true
	sc := newScript(func(p string, _ int) claude.Result {
		if p == "look" && prose {
			return ok("sorry, prose", 10)
		}
		return ok(`{"x":"`+strings.SplitN(p, ":", 2)[0]+`"}`, 10)
	})
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: sc.turn}})
	look := prompt("look", "look")
	look.OutputVars = map[string]string{"x": "x"}
	c := claudepool.Chain{Steps: []claudepool.ChainStep{look, prompt("use", "got {steps.look.x}")}}
	failed := execute(t, p, c)
	if failed.Outcome != claudepool.OutcomeSchema {
		t.Errorf("without a recovery it ended %s", failed.Outcome)
	}
	prose = false
	if r := retry(t, p, failed); r.State != claudepool.StateCompleted || sc.times()["look"] != 2 {
		t.Errorf("the retry ended %s after %d looks, want the step to run again: %+v", r.Outcome, sc.times()["look"], r.Failure)
	}
	prose = true
	c.Steps[0].OnFailure.RecoveryPrompt = "mend: {error}"
	if r := execute(t, p, c); r.State != claudepool.StateCompleted || !r.Steps[0].Recovered || r.Steps[0].Vars["x"] != "mend" {
		t.Errorf("with a recovery: %+v, %+v", r.Steps[0], r.Failure)
	}
}

func TestWhatIsTakenOverBelongsTogether(t *testing.T) {
	t.Parallel()
	var broken atomic.Value
	sc := newScript(func(p string, _ int) claude.Result {
		if strings.Contains(broken.Load().(string), p) {
			return failing("no")
		}
		return ok("<"+p+">", 10)
	})
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: sc.turn}})

	// A step that its recovery completed is not run again.
	broken.Store("a|b")
	c := claudepool.Chain{Steps: []claudepool.ChainStep{prompt("a", "a"), prompt("b", "b")}}
	c.Steps[0].OnFailure = claudepool.StepFailurePolicy{Retry: once.Retry, RecoveryPrompt: "mend"}
	c.Steps[1].OnFailure = once
	first := execute(t, p, c)
	broken.Store("-")
	second := retry(t, p, first)
	if n := sc.times()["a"]; n != 1 || !second.Steps[0].Resumed || !second.Steps[0].Recovered || second.Output != "<b>" {
		t.Errorf("step a ran %d times: %+v", n, second.Steps)
	}
	if spent := p.Metrics().Spend; first.Cost+second.Cost != spent {
		t.Errorf("the chains have cost %v and %v, and %v was spent", first.Cost, second.Cost, spent)
	}

	// One whose input is another now is run again.
	broken.Store("c|e")
	c = claudepool.Chain{Steps: []claudepool.ChainStep{prompt("c", "c"), prompt("d", "d uses [{steps.c.output}]"), prompt("e", "e")}}
	c.Steps[0].OnFailure = claudepool.StepFailurePolicy{Retry: once.Retry, Continue: true}
	c.Steps[2].OnFailure = once
	first = execute(t, p, c)
	broken.Store("-")
	if r := retry(t, p, first); r.Steps[1].Output != "<d uses [<c>]>" || r.Steps[1].Resumed {
		t.Errorf("d used what c gave the first time: %+v", r.Steps[1])
	}
}

func TestAPipelineHasItsWholeCap(t *testing.T) {
	t.Parallel()
	l := &fakeLauncher{turn: func(ctx context.Context, a *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
		return ok(p.Text, 200_000), nil
	}}
	p := build(t, claudepool.PoolConfig{Slots: 8, Launcher: l})
	p.Pause()
	c := threeSteps()
	c.MaxCost = 1_000_000
	id, err := p.SubmitChain(t.Context(), c, claudepool.ChainOptions{})
	if err != nil {
		t.Fatal(err)
	}
	exists(t, p, id+".a")
	p.Resume()
	for {
		r, err := p.Task(t.Context(), id+".a")
		if err != nil {
			t.Fatal(err)
		}
		if r.Claim != nil && r.Claim.Reserved != 1_000_000 {
			t.Errorf("the only step that waits has %v of $1", r.Claim.Reserved)
		}
		if r.State.Terminal() {
			break
		}
	}
	if r := waitChain(t, p, id); r.State != claudepool.StateCompleted {
		t.Errorf("the chain ended %s: %+v", r.Outcome, r.Failure)
	}
}

func TestTheStepsOfARunningChainAreKept(t *testing.T) {
	t.Parallel()
	memory := claudepool.NewMemoryStore()
	memory.Retain(1)
	t.Cleanup(func() { memory.Close() })
	store := durable{memory}
	b := newBlocker()
	first := build(t, claudepool.PoolConfig{Store: store, Launcher: &fakeLauncher{turn: b.turn}})
	id, err := first.SubmitChain(t.Context(), threeSteps(), claudepool.ChainOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		<-b.begun
		b.release <- struct{}{}
	}
	<-b.begun // the third runs
	r, err := first.ChainProgress(t.Context(), id)
	want := map[string]claudepool.StepState{"a": claudepool.StepCompleted, "b": claudepool.StepCompleted, "c": claudepool.StepRunning}
	if diff := gocmp.Diff(want, states(r)); diff != "" || err != nil {
		t.Errorf("progress (%v) (-want +got):\n%s", err, diff)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	sc := newScript(func(p string, _ int) claude.Result { return ok(p, 10) })
	second := build(t, claudepool.PoolConfig{Store: store, Launcher: &fakeLauncher{turn: sc.turn}})
	if _, err := second.Wait(t.Context(), id); err != nil {
		t.Errorf("Wait: %v", err)
	}
	if n := sc.times()["a"]; n != 0 {
		t.Error("a step that had completed ran again")
	}
}

func TestACancelledChainTellsWhatItCostInTheEnd(t *testing.T) {
	t.Parallel()
	begun := make(chan string, 10)
	l := &fakeLauncher{turn: func(ctx context.Context, _ *fakeAgent, p claude.Prompt, _ func(claude.Event)) (claude.Result, error) {
		if p.Text == "a" {
			return ok("a", 10), nil
		}
		begun <- p.Text
		<-ctx.Done()
		return claude.Result{Interrupted: true, Subtype: "error_during_execution", IsError: true, Cost: 500}, context.Cause(ctx)
	}}
	p := build(t, claudepool.PoolConfig{Launcher: l})
	id, err := p.SubmitChain(t.Context(), threeSteps(), claudepool.ChainOptions{})
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	if _, err := p.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	for { // until the interrupted turn is paid for
		if s, err := p.Status(t.Context()); err != nil {
			t.Fatal(err)
		} else if s.TotalSpend == 510 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	res := wait(t, p, id)
	if res.Cost != 510 || len(res.Steps) != 3 || res.Steps[1].State != claudepool.StepCancelled {
		t.Errorf("Wait says %v, and %+v", res.Cost, res.Steps)
	}
	if r, err := p.Task(t.Context(), id); err != nil || r.Result.Cost != 510 {
		t.Errorf("Task says %+v (%v)", r.Result, err)
	}
}

func TestAChainThatHasEndedHasNoRunningSteps(t *testing.T) {
	t.Parallel()
	list, err := json.Marshal(make([]int, 300))
	if err != nil {
		t.Fatal(err)
	}
	b := newBlocker()
	p := build(t, claudepool.PoolConfig{Slots: 4, Launcher: &fakeLauncher{turn: b.turn}})
	each := prompt("each", "{index}")
	each.ForEach = "list"
	id, err := p.SubmitChain(t.Context(), claudepool.Chain{
		Arguments: map[string]string{"list": string(list)}, Steps: []claudepool.ChainStep{each, prompt("z", "z")},
	}, claudepool.ChainOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		<-b.begun
	}
	ended := make(chan claudepool.ChainResult)
	go func() {
		r, _ := p.WaitChain(context.WithoutCancel(t.Context()), id)
		ended <- r
	}()
	if _, err := p.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	want := map[string]claudepool.StepState{"each": claudepool.StepCancelled, "z": claudepool.StepSkipped}
	if diff := gocmp.Diff(want, states(<-ended)); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
}

func TestAStepThatCannotBeSubmittedIsSeenByAll(t *testing.T) {
	t.Parallel()
	b := newBlocker()
	l := &fakeLauncher{turn: func(ctx context.Context, a *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
		if p.Text == "a" {
			return ok("", 1), nil
		}
		return b.turn(ctx, a, p, emit)
	}}
	p := build(t, claudepool.PoolConfig{Launcher: l})
	empty := prompt("b", "{previous_output}")
	empty.OnFailure.Continue = true
	id, err := p.SubmitChain(t.Context(), claudepool.Chain{Steps: []claudepool.ChainStep{prompt("a", "a"), empty, prompt("c", "c")}}, claudepool.ChainOptions{})
	if err != nil {
		t.Fatal(err)
	}
	<-b.begun
	r, err := p.ChainProgress(t.Context(), id)
	want := map[string]claudepool.StepState{"a": claudepool.StepCompleted, "b": claudepool.StepFailed, "c": claudepool.StepRunning}
	if diff := gocmp.Diff(want, states(r)); diff != "" || err != nil {
		t.Errorf("progress (%v) (-want +got):\n%s", err, diff)
	}
	close(b.release)
	waitChain(t, p, id)
}

func TestListsOfNothing(t *testing.T) {
	t.Parallel()
	sc := newScript(func(p string, _ int) claude.Result { return failing("no") })
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: sc.turn}})
	each := prompt("each", "{item}")
	each.ForEach = "steps.split.output"
	each.OnFailure = claudepool.StepFailurePolicy{Retry: once.Retry, Continue: true}
	split := prompt("split", "split")
	split.When = "on"
	r := execute(t, p, claudepool.Chain{Arguments: map[string]string{"on": "false"}, Steps: []claudepool.ChainStep{split, each}})
	if r.State != claudepool.StateCompleted || r.Steps[1].State != claudepool.StepSkipped {
		t.Errorf("over a skipped step: %v, %+v", states(r), r.Failure)
	}
	each.ForEach = "list"
	r = execute(t, p, claudepool.Chain{Arguments: map[string]string{"list": "[1,2,3]"}, Steps: []claudepool.ChainStep{each}})
	if r.Steps[0].State != claudepool.StepFailed || r.State != claudepool.StateCompleted {
		t.Errorf("a list of which nothing was done: %v, %s", states(r), r.State)
	}
}

func TestAChainThatIsGivenBackIsTakenAtOnce(t *testing.T) {
	t.Parallel()
	store := durable{stored(t)}
	b := newBlocker()
	first := build(t, claudepool.PoolConfig{Store: store, Launcher: &fakeLauncher{turn: b.turn}})
	id, err := first.SubmitChain(t.Context(), threeSteps(), claudepool.ChainOptions{})
	if err != nil {
		t.Fatal(err)
	}
	<-b.begun
	second := build(t, claudepool.PoolConfig{Store: store, Launcher: &fakeLauncher{turn: echo}, CheckEvery: -1})
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if r := waitChain(t, second, id); r.State != claudepool.StateCompleted {
		t.Errorf("the chain ended %s", r.Outcome)
	}
}
