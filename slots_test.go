package claudepool_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/google/go-cmp/cmp"
)

func TestPriorityThenFirstComeFirstServed(t *testing.T) {
	t.Parallel()
	b := newBlocker()
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: b.turn}})
	p.Pause()
	var ids []claudepool.TaskID
	for i, priority := range []int{0, 0, 5, -1, 5} {
		ids = append(ids, submit(t, p, claudepool.Task{Prompt: fmt.Sprintf("%d/%d", i, priority), Priority: priority}))
	}
	close(b.release)
	p.Resume()
	for _, id := range ids {
		wait(t, p, id)
	}
	var got []string
	for range ids {
		got = append(got, <-b.begun)
	}
	if diff := cmp.Diff([]string{"2/5", "4/5", "0/0", "1/0", "3/-1"}, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestPauseHoldsDispatchOnly(t *testing.T) {
	t.Parallel()
	b := newBlocker()
	p := build(t, claudepool.PoolConfig{Slots: 2, Launcher: &fakeLauncher{turn: b.turn}})
	running := submit(t, p, claudepool.Task{Prompt: "a"})
	<-b.begun
	p.Pause()
	waiting := submit(t, p, claudepool.Task{Prompt: "b"})
	if e, err := p.Explain(t.Context(), waiting); err != nil {
		t.Error(err)
	} else {
		contains(t, "Explain", e.Reason, "paused")
	}
	close(b.release)
	if r := wait(t, p, running); r.Outcome != claudepool.OutcomeOK {
		t.Errorf("the running task ended %s", r.Outcome)
	}
	if r, _ := p.Task(t.Context(), waiting); r.State != claudepool.StatePending {
		t.Errorf("the waiting task is %s while paused", r.State)
	}
	p.Resume()
	if r := wait(t, p, waiting); r.Outcome != claudepool.OutcomeOK {
		t.Errorf("the waiting task ended %s", r.Outcome)
	}
}

func TestTasksGoToTheSlotTheyName(t *testing.T) {
	t.Parallel()
	p := build(t, claudepool.PoolConfig{
		Slots: 3, Launcher: &fakeLauncher{turn: echo},
		SlotConfigs: []claudepool.SlotConfig{{Name: "alice", Role: "reviewer"}, {Role: "writer"}},
	})
	for _, tc := range []struct {
		task claudepool.Task
		want string
	}{
		{claudepool.Task{Prompt: "x", Slot: "slot-2"}, "slot-2"},
		{claudepool.Task{Prompt: "x", Slot: "alice"}, "slot-0"},
		{claudepool.Task{Prompt: "x", Role: "writer"}, "slot-1"},
	} {
		for range 5 {
			if r, err := p.Run(t.Context(), tc.task); err != nil || r.SlotID != tc.want {
				t.Errorf("Slot %q Role %q ran on %s (%v), want %s", tc.task.Slot, tc.task.Role, r.SlotID, err, tc.want)
			}
		}
	}
}

func TestARoleMayComeLater(t *testing.T) {
	t.Parallel()
	p := build(t, claudepool.PoolConfig{Slots: 1, Launcher: &fakeLauncher{turn: echo}})
	id := submit(t, p, claudepool.Task{Prompt: "x", Role: "tester"})
	if e, err := p.Explain(t.Context(), id); err != nil {
		t.Error(err)
	} else {
		contains(t, "Explain", e.Reason, "tester")
	}
	role := "tester"
	if _, err := p.ConfigureSlot(t.Context(), "slot-0", claudepool.SlotUpdate{Role: &role}); err != nil {
		t.Fatal(err)
	}
	if r := wait(t, p, id); r.Outcome != claudepool.OutcomeOK {
		t.Errorf("ended %s", r.Outcome)
	}
}

func TestClaimDispatchesToOneSlot(t *testing.T) {
	t.Parallel()
	b := newBlocker()
	p := build(t, claudepool.PoolConfig{Slots: 2, Launcher: &fakeLauncher{turn: b.turn}})
	if err := p.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.Pause()
	id := submit(t, p, claudepool.Task{Prompt: "x"})
	got, found, err := claimWhenIdle(t, p, "slot-1")
	if err != nil || !found || got != id {
		t.Fatalf("Claim = %s, %t, %v; want %s", got, found, err, id)
	}
	<-b.begun
	if _, _, err := p.Claim(t.Context(), "slot-1"); !errors.Is(err, claudepool.ErrSlotBusy) {
		t.Errorf("Claim of a busy slot = %v", err)
	}
	if _, _, err := p.Claim(t.Context(), "slot-5"); !errors.Is(err, claudepool.ErrUnknownSlot) {
		t.Errorf("Claim of an unknown slot = %v", err)
	}
	close(b.release)
	if r := wait(t, p, id); r.SlotID != "slot-1" {
		t.Errorf("ran on %s, want slot-1", r.SlotID)
	}
	if _, found, err := claimWhenIdle(t, p, "slot-0"); found || err != nil {
		t.Errorf("Claim without work = %t, %v", found, err)
	}
}

// claimWhenIdle claims for a slot that may still be starting or resetting.
func claimWhenIdle(t *testing.T, p *claudepool.Pool, slot string) (claudepool.TaskID, bool, error) {
	t.Helper()
	for {
		id, found, err := p.Claim(t.Context(), slot)
		if !errors.Is(err, claudepool.ErrSlotBusy) {
			return id, found, err
		}
		time.Sleep(time.Millisecond)
	}
}

func TestSlotsAreChosenByTheirProcess(t *testing.T) {
	t.Parallel()
	l := &fakeLauncher{turn: func(_ context.Context, a *fakeAgent, _ claude.Prompt, _ func(claude.Event)) (claude.Result, error) {
		return ok(a.opts.SystemPrompt, 1), nil
	}}
	p := build(t, claudepool.PoolConfig{Slots: 2, Launcher: l})
	for { // until both slots are up, or the first tasks take what there is
		if idle, err := p.FindSlots(t.Context(), claudepool.SlotFilter{State: claudepool.SlotIdle}); err != nil || len(idle) == 2 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	special := claudepool.Task{Prompt: "x", Overrides: claudepool.TaskOverrides{AgentConfig: claudepool.AgentConfig{SystemPrompt: "be brief"}}}
	for range 10 {
		if r, err := p.Run(t.Context(), claudepool.Task{Prompt: "x"}); err != nil || r.Output != "" {
			t.Fatalf("a plain task ran under the prompt %q (%v)", r.Output, err)
		}
		if r, err := p.Run(t.Context(), special); err != nil || r.Output != "be brief" {
			t.Fatalf("a special task ran under the prompt %q (%v)", r.Output, err)
		}
	}
	if n := len(l.agents()); n > 3 {
		t.Errorf("%d processes were started for two kinds of tasks on two slots, want at most 3", n)
	}
	if m := p.Metrics(); m.Warm < 18 {
		t.Errorf("%d of 20 tasks were warm hits", m.Warm)
	}
}

func TestTagLimits(t *testing.T) {
	t.Parallel()
	b := newBlocker()
	p := build(t, claudepool.PoolConfig{Slots: 3, Launcher: &fakeLauncher{turn: b.turn}, TagLimits: map[string]int{"db": 1}})
	first := submit(t, p, claudepool.Task{Prompt: "db 1", Tags: []string{"db"}})
	second := submit(t, p, claudepool.Task{Prompt: "db 2", Tags: []string{"db"}})
	other := submit(t, p, claudepool.Task{Prompt: "other"})
	got := map[string]bool{<-b.begun: true, <-b.begun: true}
	if !got["db 1"] || !got["other"] {
		t.Errorf("running: %v, want db 1 and other", got)
	}
	if e, err := p.Explain(t.Context(), second); err != nil {
		t.Error(err)
	} else {
		contains(t, "Explain", e.Reason, `"db"`)
	}
	close(b.release)
	for _, id := range []claudepool.TaskID{first, second, other} {
		if r := wait(t, p, id); r.Outcome != claudepool.OutcomeOK {
			t.Errorf("task %s ended %s", id, r.Outcome)
		}
	}
}

func TestSessionsContinue(t *testing.T) {
	t.Parallel()
	l := &fakeLauncher{turn: func(_ context.Context, a *fakeAgent, _ claude.Prompt, _ func(claude.Event)) (claude.Result, error) {
		return ok(strings.Join(a.said(), "|"), 1), nil
	}}
	p := build(t, claudepool.PoolConfig{Slots: 2, Launcher: l})
	first, err := p.Run(t.Context(), claudepool.Task{Prompt: "a", KeepSession: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	warm, err := p.Run(t.Context(), claudepool.Task{Prompt: "b", Session: claudepool.Session{Task: first.TaskID}})
	if err != nil || warm.Output != "a|b" || warm.SessionID != first.SessionID {
		t.Errorf("continued with KeepSession: %q in %s (%v), want a|b in %s", warm.Output, warm.SessionID, err, first.SessionID)
	}
	// Its slot is reset now: the next continuation starts a process that resumes.
	cold, err := p.Run(t.Context(), claudepool.Task{Prompt: "c", Session: claudepool.Session{ID: first.SessionID}})
	if err != nil || cold.SessionID != first.SessionID {
		t.Errorf("continued by id: session %s (%v), want %s", cold.SessionID, err, first.SessionID)
	}
	fork, err := p.Run(t.Context(), claudepool.Task{Prompt: "d", Session: claudepool.Session{ID: first.SessionID, Fork: true}})
	if err != nil || fork.SessionID == first.SessionID {
		t.Errorf("fork: session %s (%v), want another than %s", fork.SessionID, err, first.SessionID)
	}
	resumed := 0
	for _, a := range l.agents() {
		if a.opts.Resume == first.SessionID {
			resumed++
		}
	}
	if resumed != 2 {
		t.Errorf("%d processes resumed the session, want 2", resumed)
	}
}

func TestAContinuationWaitsForTheTaskItContinues(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBlocker()
		p := build(t, claudepool.PoolConfig{Slots: 2, Launcher: &fakeLauncher{turn: b.turn}})
		first := submit(t, p, claudepool.Task{Prompt: "a"})
		<-b.begun
		second := submit(t, p, claudepool.Task{Prompt: "b", Session: claudepool.Session{Task: first}})
		time.Sleep(time.Minute)
		if r, err := p.Task(t.Context(), second); err != nil || r.State != claudepool.StatePending {
			t.Fatalf("the continuation is %s (%v) while the first runs", r.State, err)
		}
		close(b.release)
		if r := wait(t, p, second); r.Outcome != claudepool.OutcomeOK {
			t.Errorf("the continuation ended %s: %+v", r.Outcome, r.Failure)
		}
	})
}

func TestASessionThatNeverWasIsInvalid(t *testing.T) {
	t.Parallel()
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}})
	if _, err := p.Submit(t.Context(), claudepool.Task{Prompt: "x", Session: claudepool.Session{Task: "task-none"}}); !errors.Is(err, claudepool.ErrUnknownTask) {
		t.Errorf("Submit = %v, want ErrUnknownTask", err)
	}
	p.Pause()
	dead := submit(t, p, claudepool.Task{Prompt: "x"})
	if _, err := p.Cancel(t.Context(), dead); err != nil {
		t.Fatal(err)
	}
	p.Resume()
	if r := wait(t, p, submit(t, p, claudepool.Task{Prompt: "y", Session: claudepool.Session{Task: dead}})); r.Outcome != claudepool.OutcomeInvalid {
		t.Errorf("ended %s, want invalid", r.Outcome)
	}
}

func TestAHeldSessionGivesWay(t *testing.T) {
	t.Parallel()
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: func(_ context.Context, a *fakeAgent, _ claude.Prompt, _ func(claude.Event)) (claude.Result, error) {
		return ok(strings.Join(a.said(), "|"), 1), nil
	}}})
	if _, err := p.Run(t.Context(), claudepool.Task{Prompt: "secret", KeepSession: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if r, err := p.Run(t.Context(), claudepool.Task{Prompt: "other"}); err != nil || r.Output != "other" {
		t.Errorf("a task on a slot that held a session saw %q (%v)", r.Output, err)
	}
}

func TestProcessesAreRecycled(t *testing.T) {
	t.Parallel()
	l := &fakeLauncher{turn: echo}
	p := build(t, claudepool.PoolConfig{Launcher: l, MaxTasks: 3})
	for range 9 {
		if _, err := p.Run(t.Context(), claudepool.Task{Prompt: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	for i, a := range l.agents() {
		if n := a.turns.Load(); n > 3 {
			t.Errorf("process %d ran %d tasks, want at most 3", i, n)
		}
	}
}

func TestReuseNever(t *testing.T) {
	t.Parallel()
	l := &fakeLauncher{turn: echo}
	p := build(t, claudepool.PoolConfig{Launcher: l, Reuse: claudepool.ReuseNever})
	for range 4 {
		if _, err := p.Run(t.Context(), claudepool.Task{Prompt: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	for i, a := range l.agents() {
		if n := a.turns.Load(); n > 1 || a.resets.Load() != 0 {
			t.Errorf("process %d ran %d tasks and was reset %d times", i, n, a.resets.Load())
		}
	}
}

func TestAnIdleProcessThatDiesIsReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &fakeLauncher{turn: echo}
		p := build(t, claudepool.PoolConfig{Launcher: l})
		synctest.Wait()
		l.agents()[0].die()
		time.Sleep(10 * time.Second)
		if r, err := p.Run(t.Context(), claudepool.Task{Prompt: "x"}); err != nil || r.Attempts != 1 {
			t.Errorf("Run = %+v, %v", r, err)
		}
		if n := p.Metrics().Restarts; n != 1 {
			t.Errorf("%d restarts, want 1", n)
		}
	})
}

func TestCircuitOpensAndCloses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var starts atomic.Int32
		l := &fakeLauncher{turn: echo, start: func(claude.Options) error { starts.Add(1); return errors.New("no") }}
		p := build(t, claudepool.PoolConfig{Launcher: l, Restart: claudepool.RestartPolicy{
			First: 100 * time.Millisecond, Most: time.Second, Failures: 4, Window: time.Minute, Cooldown: time.Hour,
		}})
		time.Sleep(30 * time.Minute)
		if n := starts.Load(); n != 4 {
			t.Errorf("%d starts in half an hour, want 4 until the circuit opened", n)
		}
		if s, err := p.FindSlots(t.Context(), claudepool.SlotFilter{State: claudepool.SlotErrored}); err != nil || len(s) != 1 {
			t.Errorf("errored slots = %+v, %v; want one", s, err)
		}
		time.Sleep(time.Hour)
		if starts.Load() <= 4 {
			t.Error("the slot was not tried again after its cool-down")
		}
	})
}

func TestScaling(t *testing.T) {
	t.Parallel()
	b := newBlocker()
	p := build(t, claudepool.PoolConfig{Slots: 2, MinSlots: 1, MaxSlots: 4, Launcher: &fakeLauncher{turn: b.turn}})
	busy := submit(t, p, claudepool.Task{Prompt: "long"})
	<-b.begun
	if n, err := p.ScaleUp(t.Context(), 2); n != 4 || err != nil {
		t.Fatalf("ScaleUp(2) = %d, %v", n, err)
	}
	for name, call := range map[string]func() (int, error){
		"above the maximum": func() (int, error) { return p.ScaleUp(t.Context(), 1) },
		"below the minimum": func() (int, error) { return p.ScaleDown(t.Context(), 4) },
		"up by none":        func() (int, error) { return p.ScaleUp(t.Context(), 0) },
		"down by less":      func() (int, error) { return p.ScaleDown(t.Context(), -1) },
		"to none":           func() (int, error) { return p.SetTargetSlots(t.Context(), 0) },
	} {
		var bad *claudepool.InvalidError
		if n, err := call(); !errors.As(err, &bad) || n != 4 {
			t.Errorf("%s = %d, %v; want an InvalidError and 4 slots as before", name, n, err)
		}
	}
	if n, err := p.SetTargetSlots(t.Context(), 1); n != 1 || err != nil {
		t.Fatalf("SetTargetSlots(1) = %d, %v", n, err)
	}
	close(b.release)
	if r := wait(t, p, busy); r.Outcome != claudepool.OutcomeOK {
		t.Errorf("the busy slot's task ended %s, want ok: busy slots finish first", r.Outcome)
	}
	if r, err := p.Run(t.Context(), claudepool.Task{Prompt: "x"}); err != nil || r.SlotID == "" {
		t.Errorf("Run on what is left = %v", err)
	}
}

func TestP13BypassNeedsItsOwnOptIn(t *testing.T) {
	t.Parallel()
	bypass := claudepool.AgentConfig{PermissionMode: claude.PermissionBypass}
	for name, c := range map[string]claudepool.PoolConfig{
		"the pool": {Agent: bypass},
		"a slot":   {SlotConfigs: []claudepool.SlotConfig{{AgentConfig: bypass}}},
	} {
		c.Launcher = &fakeLauncher{turn: echo}
		var bad *claudepool.InvalidError
		if p, err := claudepool.NewPoolBuilder().Config(c).Build(t.Context()); p != nil || !errors.As(err, &bad) {
			t.Errorf("%s in bypass mode = %v, want an InvalidError", name, err)
		}
	}
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}})
	var bad *claudepool.InvalidError
	if _, err := p.Submit(t.Context(), claudepool.Task{Prompt: "x", Overrides: claudepool.TaskOverrides{AgentConfig: bypass}}); !errors.As(err, &bad) {
		t.Errorf("a task in bypass mode = %v, want an InvalidError", err)
	}
	if _, err := p.Run(t.Context(), claudepool.Task{Prompt: "x"}); err != nil {
		t.Error(err)
	}
	allowed := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}, AllowBypass: true, Env: map[string]string{"IS_SANDBOX": "1"}, Agent: bypass})
	if _, err := allowed.Run(t.Context(), claudepool.Task{Prompt: "x"}); err != nil {
		t.Error(err)
	}
}

func TestConfigureSlot(t *testing.T) {
	t.Parallel()
	p := build(t, claudepool.PoolConfig{Slots: 2, Launcher: &fakeLauncher{turn: echo}})
	name, description := "bob", "reads a lot"
	st, err := p.ConfigureSlot(t.Context(), "slot-0", claudepool.SlotUpdate{Name: &name, Description: &description})
	if err != nil || st.Name != name || st.Description != description {
		t.Fatalf("ConfigureSlot = %+v, %v", st, err)
	}
	found, err := p.FindSlots(t.Context(), claudepool.SlotFilter{Name: "bob"})
	if err != nil || len(found) != 1 || found[0].ID != "slot-0" {
		t.Errorf("FindSlots = %+v, %v", found, err)
	}
	var bad *claudepool.InvalidError
	if _, err := p.ConfigureSlot(t.Context(), "slot-1", claudepool.SlotUpdate{Name: &name}); !errors.As(err, &bad) {
		t.Errorf("a name used twice = %v", err)
	}
	evil := "../../etc"
	if _, err := p.ConfigureSlot(t.Context(), "slot-1", claudepool.SlotUpdate{Name: &evil}); !errors.As(err, &bad) {
		t.Errorf("a name with slashes = %v", err)
	}
}

func TestBuildRefusesBadConfigurations(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		b     *claudepool.PoolBuilder
		field string
	}{
		"zero slots":      {claudepool.NewPoolBuilder().Slots(0), "slots"},
		"negative slots":  {claudepool.NewPoolBuilder().Slots(-3), "slots"},
		"min above max":   {claudepool.NewPoolBuilder().Bounds(5, 2), "min_slots"},
		"zero min":        {claudepool.NewPoolBuilder().Bounds(0, 2), "min_slots"},
		"outside bounds":  {claudepool.NewPoolBuilder().Slots(9).Bounds(1, 4), "slots"},
		"zero budget":     {claudepool.NewPoolBuilder().Budget(0), "budget"},
		"negative budget": {claudepool.NewPoolBuilder().Budget(-5), "budget"},
		"names twice": {claudepool.NewPoolBuilder().Slots(2).Slot(claudepool.SlotConfig{Name: "a"}).
			Slot(claudepool.SlotConfig{Name: "a"}), "slot_configs[1].name"},
		"too many slot configs": {claudepool.NewPoolBuilder().Slot(claudepool.SlotConfig{}).Slot(claudepool.SlotConfig{}), "slot_configs"},
		"permission mode":       {claudepool.NewPoolBuilder().PermissionMode("sudo"), "agent.permission_mode"},
		"window":                {claudepool.NewPoolBuilder().Config(claudepool.PoolConfig{Window: "week"}), "window"},
		"reuse":                 {claudepool.NewPoolBuilder().Config(claudepool.PoolConfig{Reuse: "often"}), "reuse"},
		"tag limit":             {claudepool.NewPoolBuilder().Config(claudepool.PoolConfig{TagLimits: map[string]int{"x": 0}}), "tag_limits"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := tc.b.Launcher(&fakeLauncher{turn: echo}).Build(t.Context())
			var bad *claudepool.InvalidError
			if p != nil || !errors.As(err, &bad) || bad.Field != tc.field {
				t.Errorf("Build = %v, want an InvalidError of the field %s", err, tc.field)
			}
		})
	}
	t.Run("all mistakes are told", func(t *testing.T) {
		t.Parallel()
		_, err := claudepool.NewPoolBuilder().Slots(-1).Budget(-1).Build(t.Context())
		contains(t, "error", fmt.Sprint(err), "slots")
		contains(t, "error", fmt.Sprint(err), "budget")
	})
	t.Run("no program", func(t *testing.T) {
		t.Parallel()
		_, err := claudepool.NewPoolBuilder().ClaudePath("/nowhere/claude").Build(t.Context())
		if !errors.Is(err, claude.ErrNotFound) {
			t.Errorf("Build = %v, want ErrNotFound", err)
		}
	})
	t.Run("another program", func(t *testing.T) {
		t.Parallel()
		_, err := claudepool.NewPoolBuilder().ClaudePath("/bin/true").Build(t.Context())
		if !errors.Is(err, claude.ErrNotClaude) {
			t.Errorf("Build = %v, want ErrNotClaude", err)
		}
	})
}

// lateAgent keeps its slot busy for a while after its first turn was settled.
type lateAgent struct {
	*fakeAgent
	slow bool
}

func (a lateAgent) Unsolicited() (claude.Microdollars, int) {
	if a.slow && a.turns.Load() == 1 {
		time.Sleep(5 * time.Second)
	}
	return 0, 0
}

type lateLauncher struct{ *fakeLauncher }

func (l lateLauncher) Launch(ctx context.Context, o claude.Options) (claudepool.Agent, error) {
	a, err := l.fakeLauncher.Launch(ctx, o)
	if err != nil {
		return nil, err
	}
	return lateAgent{a.(*fakeAgent), o.Resume == ""}, nil
}

func TestP9AHoldThatComesLateIsOutOfDate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := build(t, claudepool.PoolConfig{Launcher: lateLauncher{&fakeLauncher{turn: recall}}, Slots: 2})
		r1 := wait(t, p, submit(t, p, claudepool.Task{Prompt: "one", Slot: "slot-0", KeepSession: time.Minute}))
		r2 := wait(t, p, submit(t, p, claudepool.Task{Prompt: "two", Slot: "slot-1", Session: claudepool.Session{Task: r1.TaskID}}))
		time.Sleep(20 * time.Second)
		r3 := wait(t, p, submit(t, p, claudepool.Task{Prompt: "three", Session: claudepool.Session{Task: r2.TaskID}}))
		if r3.Output != "three" {
			t.Errorf("the third turn came after %q on %s, want a process that has resumed", r3.Output, r3.SlotID)
		}
	})
}
