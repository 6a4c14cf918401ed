//go:build unix

package claudepool_test

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/claudetest"
)

// realPool builds a pool of real CLIs that talk to a scripted API, in a folder of
// its own unless c says otherwise.
func realPool(t *testing.T, script claudetest.Script, c claudepool.PoolConfig) (*claudepool.Pool, *claudetest.API) {
	t.Helper()
	cli := claudetest.CLI(t)
	api := claudetest.NewAPI(t, script)
	iso := claudetest.Isolate(t, api)
	c.ClaudePath, c.Env, c.WorkDir = cli, iso.Env, cmp.Or(c.WorkDir, iso.Dir)
	return build(t, c), api
}

// runsCommands configures agents that may run commands, and are not asked about it.
var runsCommands = claudepool.AgentConfig{PermissionMode: claude.PermissionDontAsk, AllowedTools: []string{"Bash"}}

func TestRealFanOutOfSixOverThreeSlotsInOrder(t *testing.T) {
	p, _ := realPool(t, claudetest.Echo, claudepool.PoolConfig{Slots: 3})
	out, err := p.FanOut(t.Context(), prompts(6, "real task %d"), claudepool.FanOutOptions{})
	if err != nil {
		t.Fatalf("FanOut: %v", err)
	}
	for i, r := range out.Results {
		if want := fmt.Sprintf("real task %d", i); r.Output != want || !r.Success || r.Cost == 0 {
			t.Errorf("result %d = %q (%s, %v), want %q, ok and a cost", i, r.Output, r.Outcome, r.Cost, want)
		}
	}
	if out.Census.OK != 6 {
		t.Errorf("census = %+v, want 6 ok", out.Census)
	}
}

func TestRealCancelLeavesTheSlotUsable(t *testing.T) {
	p, api := realPool(t, claudetest.Match(claudetest.When("for ever", claudetest.Words(100_000, 20*time.Millisecond))), claudepool.PoolConfig{})
	id := submit(t, p, claudepool.Task{Prompt: "talk for ever"})
	for e := range p.Events(t.Context(), claudepool.EventFilter{Kinds: []claudepool.EventKind{claudepool.EventAgent}}) {
		if _, answers := e.Agent.(claude.TextDelta); answers {
			break
		}
	}
	begin := time.Now()
	if state, err := p.Cancel(t.Context(), id); err != nil || state != claudepool.StateCancelled {
		t.Fatalf("Cancel = %s, %v", state, err)
	}
	r, err := p.Run(t.Context(), claudepool.Task{Prompt: "next"})
	if err != nil {
		t.Fatalf("Run after Cancel: %v", err)
	}
	t.Logf("the slot had its next answer %v after the cancellation", time.Since(begin).Round(time.Millisecond))
	if m := p.Metrics(); m.Warm != 2 {
		t.Errorf("Metrics.Warm = %d, want 2: the process was good after the interrupt", m.Warm)
	}
	if got := wait(t, p, id); got.Outcome != claudepool.OutcomeCancelled {
		t.Errorf("cancelled task ended %s", got.Outcome)
	}
	if at, err := p.Attempts(t.Context(), id); err != nil || len(at) != 1 || !at[0].Late || at[0].Output == "" {
		t.Errorf("Attempts = %+v, %v; want one late attempt, with what the model had said", at, err)
	}
	_, _ = r, api
}

func TestRealP9NothingIsLeftForTheNextTask(t *testing.T) {
	dir := t.TempDir()
	beat := filepath.Join(dir, "beat")
	// The first task leaves a job behind that neither the shell nor the CLI knows of.
	script := claudetest.Match(
		claudetest.When("secret", claudetest.ToolUse("Bash", map[string]any{
			"command": "setsid sh -c 'while :; do echo x >> " + beat + "; sleep 0.05; done' >/dev/null 2>&1 & echo started", "description": "leave a job",
		}), claudetest.Text("noted")),
	)
	p, api := realPool(t, script, claudepool.PoolConfig{Agent: runsCommands})
	r, err := p.Run(t.Context(), claudepool.Task{Prompt: "the secret is 4711"})
	if err != nil {
		t.Fatalf("Run: %v", err)
	}
	r2, err := p.Run(t.Context(), claudepool.Task{Prompt: "what did I say"})
	if err != nil {
		t.Fatalf("Run: %v", err)
	}
	if r.SessionID == r2.SessionID {
		t.Errorf("both tasks ran in the session %s", r.SessionID)
	}
	for _, req := range api.Requests() {
		if strings.Contains(req.Prompt, "what did I say") && strings.Contains(fmt.Sprint(req.Messages), "4711") {
			t.Error("the second task's request holds the first one's prompt")
		}
	}
	size := func() int64 {
		st, err := os.Stat(beat)
		if err != nil {
			return 0
		}
		return st.Size()
	}
	before := size()
	time.Sleep(300 * time.Millisecond) // time in which a job that lives would have written
	if after := size(); after != before {
		t.Errorf("the first task's job still runs: its file grew from %d to %d bytes", before, after)
	}
}

func TestRealKilledProcessIsReplacedAndItsTaskResumed(t *testing.T) {
	gate := make(chan struct{})
	script := func(r *claudetest.Request) claudetest.Reply {
		if strings.Contains(r.Prompt, "Continue from where you left off") {
			return claudetest.Text("finished after all")
		}
		if strings.Contains(r.Prompt, "slow") {
			if r.Round == 0 {
				return claudetest.ToolUse("Bash", map[string]any{"command": "echo half done", "description": "work"})
			}
			select {
			case <-gate:
			default:
				close(gate)
			}
			return claudetest.Hang()
		}
		return claudetest.Text("ok")
	}
	p, _ := realPool(t, script, claudepool.PoolConfig{Slots: 2})
	id := submit(t, p, claudepool.Task{Prompt: "slow work"})
	<-gate
	st, err := p.FindSlots(t.Context(), claudepool.SlotFilter{State: claudepool.SlotBusy})
	if err != nil || len(st) != 1 || st[0].PID == 0 {
		t.Fatalf("FindSlots(busy) = %+v, %v; want one with a pid", st, err)
	}
	if err := syscall.Kill(st[0].PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := p.Wait(ctx, id)
	if err != nil {
		t.Fatalf("Wait: %v", err)
	}
	if r.Output != "finished after all" || r.Attempts != 2 {
		t.Errorf("result = %q after %d attempts, want the resumed answer after 2", r.Output, r.Attempts)
	}
	rec, err := p.Task(t.Context(), id)
	if err != nil || rec.Crashes != 1 || rec.Retries != 0 {
		t.Errorf("crashes %d, retries %d (%v); want 1 and 0: a crash is no retry", rec.Crashes, rec.Retries, err)
	}
}

func TestRealP5SixteenTasksNeverOvershootOneBudget(t *testing.T) {
	// Each turn costs 1,000 input and 1,000 output tokens.
	script := func(r *claudetest.Request) claudetest.Reply {
		return claudetest.Text("paid").Usage(claudetest.Usage{Input: 1000, Output: 1000})
	}
	p, _ := realPool(t, script, claudepool.PoolConfig{Slots: 4, Agent: claudepool.AgentConfig{Model: "claude-sonnet-5"}})
	one, err := p.Run(t.Context(), claudepool.Task{Prompt: "what does one cost"})
	if err != nil {
		t.Fatal(err)
	}
	limit := one.Cost + 5*one.Cost + one.Cost/2 // room for five and a half more
	if err := p.SetBudget(limit); err != nil {
		t.Fatal(err)
	}
	tasks := prompts(16, "task %d")
	for i := range tasks {
		tasks[i].Overrides.MaxCost = one.Cost
	}
	out, err := p.FanOut(t.Context(), tasks, claudepool.FanOutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	st, err := p.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("one task costs %v; budget %v, spent %v, census %+v", one.Cost, limit, st.TotalSpend, out.Census)
	if st.TotalSpend > limit || st.Reserved != 0 {
		t.Errorf("spent %v of %v with %v still reserved", st.TotalSpend, limit, st.Reserved)
	}
	if out.Census.OK+out.Census.Failed[claudepool.OutcomeBudget] != 16 || out.Census.OK == 0 {
		t.Errorf("census = %+v, want every task ok or out of budget", out.Census)
	}
}

func TestRealPromptsOfAnySize(t *testing.T) {
	p, _ := realPool(t, func(*claudetest.Request) claudetest.Reply { return claudetest.Text("read it") }, claudepool.PoolConfig{})
	for _, tc := range []struct {
		size int
		want claudepool.Outcome
	}{{1 << 20, claudepool.OutcomeOK}, {20 << 20, claudepool.OutcomeInvalid}, {5, claudepool.OutcomeOK}} {
		r := wait(t, p, submit(t, p, claudepool.Task{Prompt: strings.Repeat("a", tc.size)}))
		if r.Outcome != tc.want {
			t.Errorf("%d bytes ended %s (%+v), want %s", tc.size, r.Outcome, r.Failure, tc.want)
		}
	}
}

func TestRealNotLoggedIn(t *testing.T) {
	cli := claudetest.CLI(t)
	iso := claudetest.Isolate(t, claudetest.NewAPI(t, claudetest.Echo))
	delete(iso.Env, "ANTHROPIC_API_KEY")
	t.Setenv("ANTHROPIC_API_KEY", "") // the sealed environment lets it through
	os.Unsetenv("ANTHROPIC_API_KEY")
	p := build(t, claudepool.PoolConfig{ClaudePath: cli, Env: iso.Env, WorkDir: iso.Dir})
	begin := time.Now()
	r := wait(t, p, submit(t, p, claudepool.Task{Prompt: "x"}))
	if r.Outcome != claudepool.OutcomeAuth {
		t.Errorf("ended %s (%+v), want auth", r.Outcome, r.Failure)
	}
	t.Logf("told after %v: %s", time.Since(begin).Round(time.Millisecond), r.Failure.Message)
}

func TestRealStructuredOutput(t *testing.T) {
	script := claudetest.Match(
		claudetest.When("give it", claudetest.ToolUse("StructuredOutput", map[string]any{"n": 7})),
	)
	p, _ := realPool(t, script, claudepool.PoolConfig{Retry: claudepool.RetryPolicy{Max: -1}})
	schema := claudepool.TaskOverrides{AgentConfig: claudepool.AgentConfig{JSONSchema: []byte(`{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}`)}}
	r, err := p.Run(t.Context(), claudepool.Task{Prompt: "give it", Overrides: schema})
	if err != nil || string(r.Structured) != `{"n":7}` {
		t.Errorf("structured output = %s, %v", r.Structured, err)
	}
	r = wait(t, p, submit(t, p, claudepool.Task{Prompt: "just talk", Overrides: schema}))
	if r.Outcome != claudepool.OutcomeSchema {
		t.Errorf("talk without output ended %s, want schema", r.Outcome)
	}
}

func TestRealSessionsContinue(t *testing.T) {
	script := func(r *claudetest.Request) claudetest.Reply { return claudetest.Text(strings.Join(r.Prompts, "|")) }
	p, _ := realPool(t, script, claudepool.PoolConfig{})
	first, err := p.Run(t.Context(), claudepool.Task{Prompt: "one"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Run(t.Context(), claudepool.Task{Prompt: "between"}); err != nil {
		t.Fatal(err)
	}
	again, err := p.Run(t.Context(), claudepool.Task{Prompt: "two", Session: claudepool.Session{Task: first.TaskID}, KeepSession: time.Minute})
	if err != nil || again.Output != "one|two" {
		t.Errorf("resumed: %q, %v; want one|two", again.Output, err)
	}
	kept, err := p.Run(t.Context(), claudepool.Task{Prompt: "three", Session: claudepool.Session{Task: again.TaskID}})
	if err != nil || kept.Output != "one|two|three" {
		t.Errorf("kept: %q, %v; want one|two|three", kept.Output, err)
	}
	gone := wait(t, p, submit(t, p, claudepool.Task{Prompt: "x", Session: claudepool.Session{ID: "11111111-2222-4333-8444-555555555555"}}))
	if gone.Outcome != claudepool.OutcomeInvalid {
		t.Errorf("a session that never was ended %s (%+v), want invalid", gone.Outcome, gone.Failure)
	}
}
