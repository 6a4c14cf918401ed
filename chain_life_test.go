package claudepool_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
)

// threeSteps is a pipeline.
func threeSteps() claudepool.Chain {
	return claudepool.Chain{Steps: []claudepool.ChainStep{prompt("a", "a"), prompt("b", "b {previous_output}"), prompt("c", "c {previous_output}")}}
}

// TestP1_AChainGoesOnAfterARestart: what was recorded is not paid for again.
func TestP1_AChainGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	store := durable{stored(t)}
	b := newBlocker()
	first, err := claudepool.NewPoolBuilder().Config(claudepool.PoolConfig{SlotMemory: -1, Store: store, Launcher: &fakeLauncher{turn: b.turn}}).Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id, err := first.SubmitChain(t.Context(), threeSteps(), claudepool.ChainOptions{})
	if err != nil {
		t.Fatal(err)
	}
	<-b.begun
	b.release <- struct{}{}
	<-b.begun // the second step runs when the pool ends
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err := store.Task(t.Context(), id); err != nil || r.State != claudepool.StatePending || r.Claim != nil {
		t.Fatalf("after the end of the pool the chain is %s with the claim %v (%v), want it back in the queue", r.State, r.Claim, err)
	}
	s := newScript(func(p string, _ int) claude.Result { return ok("<"+p+">", 10) })
	second := build(t, claudepool.PoolConfig{Store: store, Launcher: &fakeLauncher{turn: s.turn}})
	r, err := second.WaitChain(t.Context(), id)
	if err != nil || !strings.HasPrefix(r.Output, "<c <") {
		t.Fatalf("WaitChain = %q, %v", r.Output, err)
	}
	for asked := range s.times() {
		if asked == "a" {
			t.Error("the first step ran again")
		}
	}
}

// TestP1_AChainOfALostHostIsTakenOver: the claim runs out, and another pool on
// the store goes on.
func TestP1_AChainOfALostHostIsTakenOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := durable{stored(t)}
		s := newScript(func(p string, _ int) claude.Result { return ok("<"+p+">", 10) })
		p := build(t, claudepool.PoolConfig{Store: store, Launcher: &fakeLauncher{turn: s.turn}})
		p.Pause()
		id, err := p.SubmitChain(t.Context(), threeSteps(), claudepool.ChainOptions{NotBefore: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		// Somebody else claims it, and is never heard of again.
		now := time.Now().Add(2 * time.Hour)
		if _, err := store.Claim(t.Context(), claudepool.ClaimRequest{Chains: true, Holder: "lost", Now: now, Lease: -2 * time.Hour}); err != nil {
			t.Fatal(err)
		}
		p.Resume()
		time.Sleep(time.Minute)
		r, err := p.WaitChain(t.Context(), id)
		if err != nil || r.Output != "<c <b <a>>>" {
			t.Errorf("WaitChain = %q, %v", r.Output, err)
		}
		if rec, err := p.Task(t.Context(), id); err != nil || rec.Crashes != 0 || rec.Attempts != 2 {
			t.Errorf("the chain has %d crashes and %d attempts (%v), want 0 and 2: its steps have counters of their own", rec.Crashes, rec.Attempts, err)
		}
	})
}

func TestRetryOfAChainGoesOnWithWhatIsThere(t *testing.T) {
	t.Parallel()
	broken := true
	s := newScript(func(p string, _ int) claude.Result {
		if broken && strings.HasPrefix(p, "b") {
			return failing("no")
		}
		return ok("<"+p+">", 10)
	})
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: s.turn}})
	chain := threeSteps()
	chain.Steps[1].OnFailure = once
	r, err := p.ExecuteChain(t.Context(), chain, claudepool.ChainOptions{Tags: []string{"x"}})
	if err == nil {
		t.Fatal("the chain did not fail")
	}
	again, err := p.Retry(t.Context(), r.TaskID)
	if err != nil {
		t.Fatal(err)
	}
	if r, err = p.WaitChain(t.Context(), again); err == nil {
		t.Fatal("the second did not fail")
	}
	broken = false
	if again, err = p.Retry(t.Context(), r.TaskID); err != nil {
		t.Fatal(err)
	}
	r, err = p.WaitChain(t.Context(), again)
	if err != nil || r.Output != "<c <b <a>>>" || s.times()["a"] != 1 {
		t.Errorf("the third = %q (%v), and the first step was run %d times, want once", r.Output, err, s.times()["a"])
	}
	other := threeSteps()
	other.Resume = r.TaskID
	var bad *claudepool.InvalidError
	if _, err := p.SubmitChain(t.Context(), other, claudepool.ChainOptions{}); !errors.As(err, &bad) || bad.Field != "resume" {
		t.Errorf("SubmitChain of another chain as a continuation = %v, want an InvalidError about resume", err)
	}
}

func TestChainsHaveIdempotencyKeys(t *testing.T) {
	t.Parallel()
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}})
	o := claudepool.ChainOptions{IdempotencyKey: "k"}
	id, err := p.SubmitChain(t.Context(), threeSteps(), o)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := p.SubmitChain(t.Context(), threeSteps(), o); err != nil || again != id {
		t.Errorf("the second submission = %s, %v; want %s", again, err, id)
	}
	other := threeSteps()
	other.Steps[2].Action.Prompt = "d"
	if _, err := p.SubmitChain(t.Context(), other, o); !errors.Is(err, claudepool.ErrKeyReused) {
		t.Errorf("another chain with the key = %v, want ErrKeyReused", err)
	}
	ids, err := p.FanOutChains(t.Context(), []claudepool.Chain{threeSteps(), threeSteps()}, o)
	if err != nil || len(ids) != 2 || ids[0] == ids[1] || ids[0] == id {
		t.Errorf("FanOutChains = %v, %v", ids, err)
	}
	if again, err := p.FanOutChains(t.Context(), []claudepool.Chain{threeSteps(), threeSteps()}, o); err != nil || !gocmp.Equal(again, ids) {
		t.Errorf("the second FanOutChains = %v, %v; want %v", again, err, ids)
	}
	if _, err := p.FanOutChains(t.Context(), []claudepool.Chain{threeSteps(), {}}, claudepool.ChainOptions{}); err == nil {
		t.Error("FanOutChains took an empty chain")
	}
	for _, id := range append(ids, id) {
		if _, err := p.WaitChain(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
}

// TestP5_ACapCoversAllSteps: nothing more is started when it is used up.
func TestP5_ACapCoversAllSteps(t *testing.T) {
	t.Parallel()
	s := newScript(func(p string, _ int) claude.Result { return ok(p, 6000) })
	p := build(t, claudepool.PoolConfig{Slots: 2, Launcher: &fakeLauncher{turn: s.turn}, Budget: 1_000_000})
	chain := threeSteps()
	chain.MaxCost = 10_000
	r, err := p.ExecuteChain(t.Context(), chain, claudepool.ChainOptions{})
	if err == nil || r.Outcome != claudepool.OutcomeBudget || r.Cost != 12_000 {
		t.Errorf("ended %s for %v (%v), want budget after two steps at $0.012", r.Outcome, r.Cost, err)
	}
	if states(r)["c"] == claudepool.StepCompleted {
		t.Error("the third step ran")
	}
	chain.MaxCost = 2_000_000
	if _, err := p.SubmitChain(t.Context(), chain, claudepool.ChainOptions{}); err == nil {
		t.Error("a cap beyond the budget was taken")
	}
}

func TestChainsOutliveNeitherTheirPoolNorItsMemory(t *testing.T) {
	t.Parallel()
	b := newBlocker()
	store := claudepool.NewMemoryStore()
	defer store.Close()
	p := build(t, claudepool.PoolConfig{Store: store, Launcher: &fakeLauncher{turn: b.turn}})
	id, err := p.SubmitChain(t.Context(), threeSteps(), claudepool.ChainOptions{})
	if err != nil {
		t.Fatal(err)
	}
	<-b.begun
	sum := make(chan claudepool.DrainSummary)
	go func() {
		s, err := p.Drain(t.Context())
		if err != nil {
			t.Error(err)
		}
		sum <- s
	}()
	for { // the drain has begun
		if _, err := p.Submit(t.Context(), claudepool.Task{Prompt: "x"}); errors.Is(err, claudepool.ErrClosed) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	close(b.release) // the running step may finish
	got := <-sum
	if got.Cancelled < 1 { // the step may have finished before the drain began to count
		t.Errorf("drain: %+v, want the chain cancelled", got)
	}
	r, err := p.ChainProgress(t.Context(), id)
	if err != nil || r.State != claudepool.StateCancelled {
		t.Fatalf("the chain is %s (%v)", r.State, err)
	}
	want := map[string]claudepool.StepState{"a": claudepool.StepCompleted, "b": claudepool.StepSkipped, "c": claudepool.StepSkipped}
	if diff := gocmp.Diff(want, states(r)); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
}

func TestTheLastStepOfADrainEndsItsChain(t *testing.T) {
	t.Parallel()
	b := newBlocker()
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: b.turn}})
	id, err := p.SubmitChain(t.Context(), claudepool.Chain{Steps: []claudepool.ChainStep{prompt("a", "a")}}, claudepool.ChainOptions{})
	if err != nil {
		t.Fatal(err)
	}
	<-b.begun
	done := make(chan error)
	go func() {
		_, err := p.Drain(t.Context())
		done <- err
	}()
	close(b.release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if r, err := p.ChainProgress(t.Context(), id); err != nil || r.State != claudepool.StateCompleted {
		t.Errorf("the chain is %s (%v), want completed: its only step is", r.State, err)
	}
}

func TestWatchChain(t *testing.T) {
	t.Parallel()
	say := make(chan string)
	l := &fakeLauncher{turn: func(ctx context.Context, _ *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
		for text := range say {
			emit(claude.TextDelta{Text: text})
			if text == "." {
				break
			}
		}
		return ok(p.Text, 1), nil
	}}
	p := build(t, claudepool.PoolConfig{Launcher: l})
	id, err := p.SubmitChain(t.Context(), claudepool.Chain{Steps: []claudepool.ChainStep{prompt("a", "a"), prompt("b", "b")}}, claudepool.ChainOptions{})
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("é", claudepool.MaxPartial)
	go func() {
		for _, text := range []string{"x", long} {
			say <- text
		}
	}()
	seen := ""
	for r, err := range p.WatchChain(t.Context(), id) {
		if err != nil {
			t.Fatal(err)
		}
		if s := r.Steps[0]; s.Partial == "x"+long || len(s.Partial) > claudepool.MaxPartial || strings.ContainsRune(s.Partial, '�') {
			t.Fatalf("partial output of %d bytes", len(s.Partial))
		} else if seen == "" && len(s.Partial) > claudepool.MaxPartial/2 {
			seen = s.Partial
			go func() { say <- "."; say <- "." }()
		}
		if r.State.Terminal() {
			if r.State != claudepool.StateCompleted || r.Steps[0].Partial != "" {
				t.Errorf("at the end: %s, %q", r.State, r.Steps[0].Partial)
			}
		}
	}
	if !strings.HasSuffix(long, seen) || seen == "" {
		t.Errorf("the partial output is not the end of the answer")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range p.WatchChain(ctx, id) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("WatchChain with an ended context = %v", err)
		}
	}
	task := claudepool.Task{Prompt: "x"}
	go func() { say <- "." }()
	r, err := p.Run(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	var bad *claudepool.InvalidError
	if _, err := p.ChainProgress(t.Context(), r.TaskID); !errors.As(err, &bad) {
		t.Errorf("ChainProgress of a task = %v, want an InvalidError", err)
	}
}

// TestACancelledChainStartsNothing: whenever the cancellation comes.
func TestACancelledChainStartsNothing(t *testing.T) {
	t.Parallel()
	s := newScript(func(p string, _ int) claude.Result { return ok(p, 1) })
	p := build(t, claudepool.PoolConfig{Slots: 2, Launcher: &fakeLauncher{turn: s.turn}})
	for range 50 {
		id, err := p.SubmitChain(t.Context(), threeSteps(), claudepool.ChainOptions{})
		if err != nil {
			t.Fatal(err)
		}
		state, err := p.Cancel(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		for {
			if r, err := p.Task(t.Context(), id); err != nil {
				t.Fatal(err)
			} else if r.Claim == nil {
				break // the run is over
			}
			time.Sleep(100 * time.Microsecond)
		}
		for r, err := range p.Tasks(t.Context(), claudepool.TaskFilter{States: []claudepool.TaskState{claudepool.StatePending}}) {
			if err != nil {
				t.Fatal(err)
			}
			t.Fatalf("task %s is pending after its chain was %s", r.ID, state)
		}
	}
}

// TestP3_PoolsOnOneStoreShareChains: every step runs once, wherever.
func TestP3_PoolsOnOneStoreShareChains(t *testing.T) {
	t.Parallel()
	store := durable{stored(t)}
	s := newScript(func(p string, _ int) claude.Result { return ok("<"+p+">", 10) })
	c := claudepool.PoolConfig{Slots: 2, Store: store, Launcher: &fakeLauncher{turn: s.turn}}
	pools := []*claudepool.Pool{build(t, c), build(t, c)}
	var ids []claudepool.TaskID
	for i := range 30 {
		chain := threeSteps()
		for j := range chain.Steps {
			chain.Steps[j].Action.Prompt = fmt.Sprintf("%d%s", i, chain.Steps[j].Name)
		}
		id, err := pools[i%2].SubmitChain(t.Context(), chain, claudepool.ChainOptions{})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	for i, id := range ids {
		if r, err := pools[(i+1)%2].WaitChain(t.Context(), id); err != nil || r.Output != fmt.Sprintf("<%dc>", i) {
			t.Errorf("chain %d = %q, %v", i, r.Output, err)
		}
	}
	for asked, n := range s.times() {
		if n != 1 {
			t.Errorf("%q was asked %d times", asked, n)
		}
	}
}

// TestP8_AChainFailsWhenNoSlotCanStart: it does not wait for ever.
func TestP8_AChainFailsWhenNoSlotCanStart(t *testing.T) {
	t.Parallel()
	l := &fakeLauncher{start: func(claude.Options) error { return claude.ErrNotFound }}
	p := build(t, claudepool.PoolConfig{Launcher: l})
	r, err := p.ExecuteChain(t.Context(), threeSteps(), claudepool.ChainOptions{})
	if err == nil || r.Outcome != claudepool.OutcomeLaunch {
		t.Errorf("ExecuteChain = %s (%v), want launch", r.Outcome, err)
	}
}

// TestTheStepsOfACancelledChainOfALostHostDoNotRun: one that was started just
// before the host was lost is cancelled too.
func TestTheStepsOfACancelledChainOfALostHostDoNotRun(t *testing.T) {
	t.Parallel()
	store := durable{stored(t)}
	s := newScript(func(p string, _ int) claude.Result { return ok(p, 1) })
	p := build(t, claudepool.PoolConfig{Store: store, Launcher: &fakeLauncher{turn: s.turn}, CheckEvery: -1})
	p.Pause()
	id, err := p.SubmitChain(t.Context(), threeSteps(), claudepool.ChainOptions{NotBefore: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	r, err := store.Claim(t.Context(), claudepool.ClaimRequest{Chains: true, Holder: "lost", Now: time.Now().Add(2 * time.Hour), Lease: -3 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	late := claudepool.TaskRecord{ID: id + ".a", Task: claudepool.Task{Prompt: "a", Parent: id}, LaunchKey: r.LaunchKey, Lane: "x", Submitted: time.Now()}
	if _, _, err := store.CreateTask(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	if _, err := p.CheckAndRestartSlots(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := record(t, store, id+".a"); r.State != claudepool.StateCancelled {
		t.Errorf("the step is %s, want cancelled", r.State)
	}
	if r := record(t, store, id); r.Claim != nil {
		t.Errorf("the claim of the lost host is still there: %+v", r.Claim)
	}
}
