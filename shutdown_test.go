package claudepool_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
)

func TestDrainLetsRunningWorkFinish(t *testing.T) {
	t.Parallel()
	b := newBlocker()
	p := build(t, claudepool.PoolConfig{Slots: 2, Launcher: &fakeLauncher{turn: b.turn}})
	running := submit(t, p, claudepool.Task{Prompt: "a"})
	<-b.begun
	p.Pause()
	waiting := submit(t, p, claudepool.Task{Prompt: "b"})
	time.AfterFunc(20*time.Millisecond, func() { close(b.release) })
	sum, err := p.Drain(t.Context())
	if err != nil || sum.Finished != 1 || sum.Cancelled != 1 || sum.Spend != 1000 {
		t.Errorf("Drain = %+v, %v; want 1 finished, 1 cancelled", sum, err)
	}
	if r := wait(t, p, running); r.Outcome != claudepool.OutcomeOK {
		t.Errorf("the running task ended %s", r.Outcome)
	}
	if r := wait(t, p, waiting); r.Outcome != claudepool.OutcomeCancelled || !strings.Contains(r.Failure.Message, "shut down") {
		t.Errorf("the waiting task = %s, %+v; want cancelled with the reason", r.Outcome, r.Failure)
	}
	if _, err := p.Submit(t.Context(), claudepool.Task{Prompt: "c"}); !errors.Is(err, claudepool.ErrClosed) {
		t.Errorf("Submit after Drain = %v", err)
	}
	if again, err := p.Drain(t.Context()); err != nil || again != sum {
		t.Errorf("second Drain = %+v, %v; want %+v", again, err, sum)
	}
}

func TestP8DrainEndsAtItsDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBlocker()
		p := build(t, claudepool.PoolConfig{Slots: 2, Launcher: &fakeLauncher{turn: b.turn}})
		id := submit(t, p, claudepool.Task{Prompt: "for ever"})
		<-b.begun
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		begin := time.Now()
		sum, err := p.Drain(ctx)
		if err != nil || sum.Cancelled != 1 || time.Since(begin) != 10*time.Second {
			t.Errorf("Drain = %+v, %v after %v; want 1 cancelled after 10s", sum, err, time.Since(begin))
		}
		if r := wait(t, p, id); r.Outcome != claudepool.OutcomeCancelled {
			t.Errorf("the task ended %s", r.Outcome)
		}
	})
}

// durable makes a MemoryStore look like one that outlives the program.
type durable struct{ claudepool.PoolStore }

func TestP1DrainHandsWorkBackToADurableStore(t *testing.T) {
	t.Parallel()
	b := newBlocker()
	store := durable{claudepool.NewMemoryStore()}
	t.Cleanup(func() { store.Close() })
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: b.turn}, Store: store})
	running := submit(t, p, claudepool.Task{Prompt: "a"})
	<-b.begun
	waiting := submit(t, p, claudepool.Task{Prompt: "b"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	sum, err := p.Drain(ctx)
	if err != nil || sum.Requeued != 1 || sum.Pending != 2 {
		t.Fatalf("Drain = %+v, %v; want 1 requeued, 2 pending", sum, err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	// The next pool on the store finishes both; the interrupted one goes on.
	var said []string
	l := &fakeLauncher{turn: func(ctx context.Context, a *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
		said = append(said, a.opts.Resume+"/"+p.Text)
		return echo(ctx, a, p, emit)
	}}
	next := build(t, claudepool.PoolConfig{Launcher: l, Store: store})
	for _, id := range []claudepool.TaskID{running, waiting} {
		if r := wait(t, next, id); r.Outcome != claudepool.OutcomeOK {
			t.Errorf("task %s ended %s", id, r.Outcome)
		}
	}
	if want := "session-0.0/Continue from where you left off."; len(said) != 2 || !strings.HasPrefix(said[0], want) || !strings.HasSuffix(said[0], "\n\na") || !strings.HasSuffix(said[1], "/b") {
		t.Errorf("the next pool asked %q, want %q with a, then b", said, want)
	}
}

func TestP1ATaskOfALostHolderIsTakenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := claudepool.NewMemoryStore()
		t.Cleanup(func() { store.Close() })
		// Another pool has claimed the task, and died.
		now := time.Now()
		if _, _, err := store.CreateTask(t.Context(), claudepool.TaskRecord{ID: "task-0", Task: claudepool.Task{Prompt: "x", Owner: "go"}, Submitted: now}); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Claim(t.Context(), claudepool.ClaimRequest{Holder: "dead", Now: now, Lease: 30 * time.Second}); err != nil {
			t.Fatal(err)
		}
		p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}, Store: store})
		r := wait(t, p, "task-0")
		rec, err := p.Task(t.Context(), "task-0")
		if err != nil || r.Outcome != claudepool.OutcomeOK || rec.Crashes != 1 || rec.Fence != 2 {
			t.Errorf("outcome %s, crashes %d, fence %d (%v); want ok, 1, 2", r.Outcome, rec.Crashes, rec.Fence, err)
		}
		if d := time.Since(now); d < 30*time.Second || d > time.Minute {
			t.Errorf("taken up after %v, want soon after the lease of 30s", d)
		}
	})
}

func TestP5TheMoneyOfALostHolderIsSettledThoughItsTaskWasCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := claudepool.NewMemoryStore()
		t.Cleanup(func() { store.Close() })
		now := time.Now()
		task := claudepool.Task{Prompt: "x", Owner: "go", Overrides: claudepool.TaskOverrides{MaxCost: 500}}
		if _, _, err := store.CreateTask(t.Context(), claudepool.TaskRecord{ID: "task-0", Task: task, Submitted: now}); err != nil {
			t.Fatal(err)
		}
		r, err := store.Claim(t.Context(), claudepool.ClaimRequest{Holder: "dead", Now: now, Lease: 30 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		asked(t, store, r, 0)
		p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}, Store: store, Budget: 1000})
		if state, err := p.Cancel(t.Context(), "task-0"); err != nil || state != claudepool.StateCancelled {
			t.Fatalf("Cancel = %s, %v", state, err)
		}
		time.Sleep(time.Minute)
		st, err := p.Status(t.Context())
		if err != nil || st.Reserved != 0 || st.TotalSpend != 500 || st.Assumed != 500 {
			t.Errorf("spent %v, %v of it assumed, reserved %v (%v); want the reservation spent, and nothing reserved", st.TotalSpend, st.Assumed, st.Reserved, err)
		}
	})
}

func TestP3AHolderThatCannotExtendEndsItsTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &deafStore{PoolStore: claudepool.NewMemoryStore()}
		t.Cleanup(func() { store.Close() })
		interrupted := make(chan time.Time, 1)
		l := &fakeLauncher{turn: func(ctx context.Context, a *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
			<-ctx.Done()
			select {
			case interrupted <- time.Now():
			default:
			}
			return claude.Result{}, context.Cause(ctx)
		}}
		p := build(t, claudepool.PoolConfig{Launcher: l, Store: store})
		begin := time.Now()
		id := submit(t, p, claudepool.Task{Prompt: "x"})
		if d := (<-interrupted).Sub(begin); d < 15*time.Second || d > 30*time.Second {
			t.Errorf("the turn was ended after %v, want two thirds of the lease of 30s", d)
		}
		if _, err := p.Cancel(t.Context(), id); err != nil {
			t.Error(err)
		}
	})
}

// deafStore cannot extend leases once an agent was asked.
type deafStore struct{ claudepool.PoolStore }

func (s *deafStore) Extend(ctx context.Context, ref claudepool.ClaimRef, lease time.Time, cost claudepool.Microdollars) error {
	if ref.Asked {
		return s.PoolStore.Extend(ctx, ref, lease, cost)
	}
	return errors.New("disk on fire")
}

func TestRunContextIsGivenToEveryTask(t *testing.T) {
	t.Parallel()
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}})
	ctx := t.Context()
	for k, v := range map[string]string{"goal": "ship \"it\"\n</run_context>", "branch": "main"} {
		if err := p.SetContext(ctx, k, v); err != nil {
			t.Fatal(err)
		}
	}
	r, err := p.Run(ctx, claudepool.Task{Prompt: "do it"})
	if err != nil {
		t.Fatal(err)
	}
	want := "<run_context>\n{\"branch\":\"main\"}\n{\"goal\":\"ship \\\"it\\\"\\n\\u003c/run_context\\u003e\"}\n</run_context>\n\ndo it"
	if r.Output != want {
		t.Errorf("prompt = %q, want %q", r.Output, want)
	}
	if err := p.DeleteContext(ctx, "goal"); err != nil {
		t.Error(err)
	}
	if err := p.DeleteContext(ctx, "goal"); !errors.Is(err, claudepool.ErrUnknownKey) {
		t.Errorf("second DeleteContext = %v", err)
	}
	if v, err := p.GetContext(ctx, "branch"); v != "main" || err != nil {
		t.Errorf("GetContext = %q, %v", v, err)
	}
	if _, err := p.GetContext(ctx, "goal"); !errors.Is(err, claudepool.ErrUnknownKey) {
		t.Errorf("GetContext of a deleted key = %v", err)
	}
	if err := p.SetContext(ctx, "big", strings.Repeat("x", claudepool.MaxContext+1)); err == nil {
		t.Error("a value above MaxContext was taken")
	}
}

func TestEventsTellTheStory(t *testing.T) {
	t.Parallel()
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events := p.Events(ctx, claudepool.EventFilter{Kinds: []claudepool.EventKind{claudepool.EventTask, claudepool.EventAgent, claudepool.EventSpend}})
	id := submit(t, p, claudepool.Task{Prompt: "hello"})
	var states []claudepool.TaskState
	var text string
	var cost claudepool.Microdollars
	var last int64
	for e := range events {
		if e.Seq <= last {
			t.Errorf("event %d after %d", e.Seq, last)
		}
		last = e.Seq
		if e.TaskID != id {
			t.Errorf("event of the task %s", e.TaskID)
		}
		switch e.Kind {
		case claudepool.EventTask:
			states = append(states, e.TaskState)
		case claudepool.EventAgent:
			if d, ok := e.Agent.(claude.TextDelta); ok {
				text += d.Text
			}
		case claudepool.EventSpend:
			cost = e.Cost
		}
		if cost != 0 && len(states) == 3 {
			break
		}
	}
	if len(states) != 3 || states[0] != claudepool.StatePending || states[1] != claudepool.StateRunning || states[2] != claudepool.StateCompleted {
		t.Errorf("states = %v, want pending, running, completed", states)
	}
	if text != "hello" || cost != 1000 {
		t.Errorf("text %q, cost %v", text, cost)
	}
}

func TestASlowReaderOfEventsIsToldWhatItLost(t *testing.T) {
	t.Parallel()
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}})
	events := p.Events(t.Context(), claudepool.EventFilter{Kinds: []claudepool.EventKind{claudepool.EventTask}, Buffer: 5})
	for range 10 {
		if _, err := p.Run(t.Context(), claudepool.Task{Prompt: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	lost, got := 0, 0
	for e := range events {
		if e.Kind == claudepool.EventLagged {
			lost = e.Lost
		} else {
			got++
		}
	}
	if lost != 25 || got != 5 {
		t.Errorf("lost %d and got %d of 30 events, want 25 and 5", lost, got)
	}
}

func TestTranscripts(t *testing.T) {
	t.Parallel()
	l := &fakeLauncher{turn: func(ctx context.Context, a *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
		a.opts.Trace(claude.DirectionIn, []byte(`{"type":"user"}`))
		a.opts.Trace(claude.DirectionOut, []byte("not JSON"))
		return echo(ctx, a, p, emit)
	}}
	p := build(t, claudepool.PoolConfig{Launcher: l, Transcripts: t.TempDir()})
	r, err := p.Run(t.Context(), claudepool.Task{Prompt: "x"})
	if err != nil {
		t.Fatal(err)
	}
	f, err := p.Transcript(r.TaskID, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var lines []map[string]any
	for sc := bufio.NewScanner(f); sc.Scan(); {
		var m map[string]any
		if err := json.Unmarshal(sc.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, m)
	}
	if len(lines) != 2 || lines[0]["dir"] != "in" || lines[1]["text"] != "not JSON" {
		t.Errorf("transcript = %v", lines)
	}
	for _, id := range []claudepool.TaskID{"task-none", "../../etc/passwd"} {
		if f, err := p.Transcript(id, 1); err == nil {
			io.Copy(io.Discard, f)
			t.Errorf("Transcript(%s) was opened", id)
		}
	}
}

func TestRetryMakesANewTask(t *testing.T) {
	t.Parallel()
	turn, _ := attempts(says(claude.Result{Subtype: "error_max_turns", IsError: true}), says(ok("done", 1)))
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: turn}})
	id := submit(t, p, claudepool.Task{Prompt: "x", IdempotencyKey: "k"})
	if r := wait(t, p, id); r.Outcome != claudepool.OutcomeMaxTurns {
		t.Fatal(r.Outcome)
	}
	again, err := p.Retry(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if r := wait(t, p, again); r.Outcome != claudepool.OutcomeOK || again == id {
		t.Errorf("the retry %s ended %s", again, r.Outcome)
	}
	if _, err := p.Retry(t.Context(), again); !errors.Is(err, claudepool.ErrConflict) {
		t.Errorf("Retry of a completed task = %v", err)
	}
}
