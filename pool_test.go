package claudepool_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/google/go-cmp/cmp"
)

func TestRunReturnsTheAnswerAndWhatItCost(t *testing.T) {
	t.Parallel()
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}})
	got, err := p.Run(t.Context(), claudepool.Task{Prompt: "hello", Tags: []string{"greeting"}})
	if err != nil {
		t.Fatalf("Run: %v", err)
	}
	if got.Output != "hello" || !got.Success || got.Outcome != claudepool.OutcomeOK || got.State != claudepool.StateCompleted {
		t.Errorf("Run = %+v, want the output hello and success", got)
	}
	if got.Cost != 1000 || got.Attempts != 1 || got.SlotID != "slot-0" || got.SessionID == "" || got.Model != "fake" {
		t.Errorf("Run = %+v, want cost 1000, one attempt, slot-0, a session and the model fake", got)
	}
	m := p.Metrics()
	if m.Spend != 1000 || m.Tags["greeting"].Count != 1 || m.Slots["slot-0"].Count != 1 || m.Models["fake"].Output != 5 || m.Outcomes[claudepool.OutcomeOK].Count != 1 {
		t.Errorf("Metrics = %+v, want the task in every sum", m)
	}
}

func TestFanOutKeepsOrder(t *testing.T) {
	t.Parallel()
	p := build(t, claudepool.PoolConfig{Slots: 3, Launcher: &fakeLauncher{turn: echo}})
	out, err := p.FanOut(t.Context(), prompts(50, "task %d"), claudepool.FanOutOptions{})
	if err != nil {
		t.Fatalf("FanOut: %v", err)
	}
	for i, r := range out.Results {
		if want := prompts(50, "task %d")[i].Prompt; r.Output != want {
			t.Errorf("result %d = %q, want %q", i, r.Output, want)
		}
	}
	want := claudepool.Census{Asked: 50, OK: 50, Failed: map[claudepool.Outcome]int{}, Cost: 50_000}
	if diff := cmp.Diff(want, out.Census); diff != "" {
		t.Errorf("census (-want +got):\n%s", diff)
	}
}

func TestFanOutLosesNoResultToAFailure(t *testing.T) {
	t.Parallel()
	l := &fakeLauncher{turn: func(ctx context.Context, a *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
		if strings.HasSuffix(p.Text, "3") {
			return claude.Result{Subtype: "error_max_turns", IsError: true, TerminalReason: "max_turns", Errors: []string{"Reached maximum number of turns (1)"}}, nil
		}
		return echo(ctx, a, p, emit)
	}}
	p := build(t, claudepool.PoolConfig{Slots: 4, Launcher: l})
	out, err := p.FanOut(t.Context(), prompts(8, "task %d"), claudepool.FanOutOptions{})
	if err != nil {
		t.Fatalf("FanOut: %v", err)
	}
	want := claudepool.Census{Asked: 8, OK: 7, Failed: map[claudepool.Outcome]int{claudepool.OutcomeMaxTurns: 1}, Cost: 7000}
	if diff := cmp.Diff(want, out.Census); diff != "" {
		t.Errorf("census (-want +got):\n%s", diff)
	}
	if f := out.Results[3].Failure; f == nil || f.Class != claudepool.OutcomeMaxTurns {
		t.Errorf("result 3 has the failure %+v, want max_turns", f)
	}
}

func TestFanOutStopsEarly(t *testing.T) {
	t.Parallel()
	b := newBlocker()
	l := &fakeLauncher{turn: func(ctx context.Context, a *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
		if p.Text == "task 0" {
			return claude.Result{Subtype: "error_max_turns", IsError: true}, nil
		}
		return b.turn(ctx, a, p, emit)
	}}
	p := build(t, claudepool.PoolConfig{Slots: 2, Launcher: l})
	out, err := p.FanOut(t.Context(), prompts(6, "task %d"), claudepool.FanOutOptions{StopAfter: 1})
	if err != nil {
		t.Fatalf("FanOut: %v", err)
	}
	want := map[claudepool.Outcome]int{claudepool.OutcomeMaxTurns: 1, claudepool.OutcomeCancelled: 5}
	if diff := cmp.Diff(want, out.Census.Failed); diff != "" {
		t.Errorf("failures (-want +got):\n%s", diff)
	}
}

func TestFanOutRefusesAllForOne(t *testing.T) {
	t.Parallel()
	l := &fakeLauncher{turn: echo}
	p := build(t, claudepool.PoolConfig{Launcher: l})
	tasks := prompts(3, "task %d")
	tasks[1].Prompt = "  "
	_, err := p.FanOut(t.Context(), tasks, claudepool.FanOutOptions{})
	var bad *claudepool.InvalidError
	if !errors.As(err, &bad) || bad.Field != "prompt" || !strings.Contains(err.Error(), "task 1 of 3") {
		t.Fatalf("FanOut = %v, want an invalid prompt of task 1 of 3", err)
	}
	for r, err := range p.Tasks(t.Context(), claudepool.TaskFilter{}) {
		t.Fatalf("task %v was stored (%v)", r.ID, err)
	}
}

func TestP9NothingOfATaskIsSeenByTheNext(t *testing.T) {
	t.Parallel()
	l := &fakeLauncher{turn: func(ctx context.Context, a *fakeAgent, p claude.Prompt, _ func(claude.Event)) (claude.Result, error) {
		return ok(strings.Join(a.said(), "|"), 1), nil
	}}
	p := build(t, claudepool.PoolConfig{Launcher: l})
	for _, prompt := range []string{"first secret", "second", "third"} {
		r, err := p.Run(t.Context(), claudepool.Task{Prompt: prompt})
		if err != nil {
			t.Fatal(err)
		}
		if r.Output != prompt {
			t.Errorf("the conversation of %q was %q", prompt, r.Output)
		}
	}
	if n := len(l.agents()); n != 1 {
		t.Errorf("%d processes were started for three tasks, want 1", n)
	}
	if m := p.Metrics(); m.Warm != 3 {
		t.Errorf("Metrics.Warm = %d, want 3", m.Warm)
	}
}

func TestP9AnUnprovenResetMeansAnotherProcess(t *testing.T) {
	t.Parallel()
	l := &fakeLauncher{turn: func(ctx context.Context, a *fakeAgent, p claude.Prompt, _ func(claude.Event)) (claude.Result, error) {
		a.noReset.Store(true)
		return ok(strings.Join(a.said(), "|"), 1), nil
	}}
	p := build(t, claudepool.PoolConfig{Launcher: l})
	for _, prompt := range []string{"one", "two"} {
		r, err := p.Run(t.Context(), claudepool.Task{Prompt: prompt})
		if err != nil || r.Output != prompt {
			t.Errorf("Run(%q) = %q, %v", prompt, r.Output, err)
		}
	}
	if n := p.Metrics().ResetFailures; n < 1 {
		t.Errorf("Metrics.ResetFailures = %d, want at least 1", n)
	}
}

func TestSubmitRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}, Budget: claudepool.USD(1)})
	over := func(c claudepool.AgentConfig) claudepool.Task {
		return claudepool.Task{Prompt: "x", Overrides: claudepool.TaskOverrides{AgentConfig: c}}
	}
	for name, tc := range map[string]struct {
		task  claudepool.Task
		field string
	}{
		"empty prompt":    {claudepool.Task{}, "prompt"},
		"blank prompt":    {claudepool.Task{Prompt: " \n"}, "prompt"},
		"invalid UTF-8":   {claudepool.Task{Prompt: "a\xffb"}, "prompt"},
		"isolation":       {claudepool.Task{Prompt: "x", Isolation: "worktre"}, "isolation"},
		"effort":          {over(claudepool.AgentConfig{Effort: "huge"}), "overrides.effort"},
		"permission mode": {over(claudepool.AgentConfig{PermissionMode: "yolo"}), "overrides.permission_mode"},
		"bypass":          {over(claudepool.AgentConfig{PermissionMode: claude.PermissionBypass}), "overrides.permission_mode"},
		"schema":          {over(claudepool.AgentConfig{JSONSchema: []byte(`"no"`)}), "overrides.json_schema"},
		"MCP server":      {over(claudepool.AgentConfig{MCPServers: map[string]claude.MCPServer{"a": []byte("1")}}), "overrides.mcp_servers.a"},
		"folder":          {over(claudepool.AgentConfig{AddDirs: []string{"/", "/nowhere/at/all"}}), "overrides.add_dirs[1]"},
		"max turns":       {over(claudepool.AgentConfig{MaxTurns: -1}), "overrides.max_turns"},
		"negative cap":    {claudepool.Task{Prompt: "x", Overrides: claudepool.TaskOverrides{MaxCost: -1}}, "overrides.max_budget_usd"},
		"crash policy":    {claudepool.Task{Prompt: "x", OnCrash: "pray"}, "on_crash"},
		"keep session":    {claudepool.Task{Prompt: "x", KeepSession: claudepool.MaxKeepSession + 1}, "keep_session"},
		"tag":             {claudepool.Task{Prompt: "x", Tags: []string{"good", ""}}, "tags[1]"},
		"session twice":   {claudepool.Task{Prompt: "x", Session: claudepool.Session{Task: "a", ID: "b"}}, "session"},
		"image":           {claudepool.Task{Prompt: "x", Images: []claude.Image{{}}}, "images[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := p.Submit(t.Context(), tc.task)
			var bad *claudepool.InvalidError
			if !errors.As(err, &bad) || bad.Field != tc.field {
				t.Errorf("Submit = %v, want an InvalidError of the field %s", err, tc.field)
			}
		})
	}
	t.Run("unknown slot", func(t *testing.T) {
		if _, err := p.Submit(t.Context(), claudepool.Task{Prompt: "x", Slot: "slot-9"}); !errors.Is(err, claudepool.ErrUnknownSlot) {
			t.Errorf("Submit = %v, want ErrUnknownSlot", err)
		}
	})
	t.Run("more than the budget", func(t *testing.T) {
		_, err := p.Submit(t.Context(), claudepool.Task{Prompt: "x", Overrides: claudepool.TaskOverrides{MaxCost: claudepool.USD(2)}})
		var broke *claudepool.BudgetExhausted
		if !errors.As(err, &broke) || broke.Scope != claudepool.ScopePool {
			t.Errorf("Submit = %v, want BudgetExhausted of the pool", err)
		}
	})
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}})
	first := submit(t, p, claudepool.Task{Prompt: "a", IdempotencyKey: "k"})
	wait(t, p, first)
	if again := submit(t, p, claudepool.Task{Prompt: "a", IdempotencyKey: "k"}); again != first {
		t.Errorf("the same key gave %s, want %s again", again, first)
	}
	if other := submit(t, p, claudepool.Task{Prompt: "a", IdempotencyKey: "k", Owner: "somebody"}); other == first {
		t.Error("another owner's key gave the same task")
	}
	if _, err := p.Submit(t.Context(), claudepool.Task{Prompt: "b", IdempotencyKey: "k"}); !errors.Is(err, claudepool.ErrKeyReused) {
		t.Errorf("the same key with another prompt = %v, want ErrKeyReused", err)
	}
}

func TestAfterCloseEverythingFails(t *testing.T) {
	t.Parallel()
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}})
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"Submit":               func() error { _, err := p.Submit(ctx, claudepool.Task{Prompt: "x"}); return err },
		"Run":                  func() error { _, err := p.Run(ctx, claudepool.Task{Prompt: "x"}); return err },
		"FanOut":               func() error { _, err := p.FanOut(ctx, prompts(1, "%d"), claudepool.FanOutOptions{}); return err },
		"Wait":                 func() error { _, err := p.Wait(ctx, "task-x"); return err },
		"Cancel":               func() error { _, err := p.Cancel(ctx, "task-x"); return err },
		"Status":               func() error { _, err := p.Status(ctx); return err },
		"ScaleUp":              func() error { _, err := p.ScaleUp(ctx, 1); return err },
		"Claim":                func() error { _, _, err := p.Claim(ctx, "slot-0"); return err },
		"SetContext":           func() error { return p.SetContext(ctx, "k", "v") },
		"SetBudget":            func() error { return p.SetBudget(1) },
		"Drain":                func() error { _, err := p.Drain(ctx); return err },
		"Explain":              func() error { _, err := p.Explain(ctx, "task-x"); return err },
		"ConfigureSlot":        func() error { _, err := p.ConfigureSlot(ctx, "slot-0", claudepool.SlotUpdate{}); return err },
		"CheckAndRestartSlots": func() error { _, err := p.CheckAndRestartSlots(ctx); return err },
	} {
		if err := call(); !errors.Is(err, claudepool.ErrClosed) {
			t.Errorf("%s after Close = %v, want ErrClosed", name, err)
		}
	}
	if err := p.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}
