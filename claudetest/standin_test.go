package claudetest_test

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool/claudetest"
)

// The ids of prompts. The CLI takes only UUIDs for interrupts that are aimed.
const (
	id1 = "11111111-1111-4111-8111-111111111111"
	id2 = "22222222-2222-4222-8222-222222222222"
	id3 = "33333333-3333-4333-8333-333333333333"
	id4 = "44444444-4444-4444-8444-444444444444"
)

// place is where a process under test lives: its environment without the rest
// of the person's.
type place struct {
	dir, config string
	env         map[string]string
}

func newPlace(t *testing.T, c claudetest.StandInConfig) place {
	t.Helper()
	env, err := c.Environ()
	if err != nil {
		t.Fatal(err)
	}
	p := place{dir: t.TempDir(), config: t.TempDir(), env: env}
	maps.Copy(p.env, map[string]string{"PATH": os.Getenv("PATH"), "HOME": p.config, "CLAUDE_CONFIG_DIR": p.config, "ANTHROPIC_API_KEY": claudetest.FakeKey,
		"CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS": "1", "IS_SANDBOX": "1"})
	return p
}

func (p place) environ() []string {
	var out []string
	for k, v := range p.env {
		out = append(out, k+"="+v)
	}
	return out
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// standIn starts a stand-in with faults.
func standIn(t *testing.T, faults []claudetest.Fault, args ...string) *client {
	t.Helper()
	p := newPlace(t, claudetest.StandInConfig{Faults: faults})
	return start(t, self(t), p.environ(), p.dir, args...)
}

var bypass = []string{"--model", "claude-sonnet-5", "--permission-mode", "bypassPermissions", "--allow-dangerously-skip-permissions"}

func TestStandInTurn(t *testing.T) {
	t.Parallel()
	c := standIn(t, nil, bypass...)
	if got := c.ask("initialize", nil).obj("response").str("claude_code_version"); got != claudetest.StandInVersion {
		t.Errorf("version %q, want %q", got, claudetest.StandInVersion)
	}
	seen, r := c.turn(id1, "[[bash:echo hi]][[reply:done]]")
	var kinds []string
	for _, m := range seen {
		kinds = append(kinds, m.kind())
	}
	want := []string{"system/session_state_changed:running", "command_lifecycle/queued", "command_lifecycle/started", "system/init", "assistant", "user", "assistant",
		"result/success", "command_lifecycle/completed", "system/session_state_changed:idle"}
	if d := cmp.Diff(want, kinds); d != "" {
		t.Error(d)
	}
	if r.str("result") != "done" || r.num("num_turns") != 2 || r.num("total_cost_usd") != 0.0006 {
		t.Errorf("result %v", r)
	}
	_, r = c.turn(id2, "[[reply:more]]")
	if got := r.obj("model_usage_since_last_result").obj("claude-sonnet-5").num("inputTokens"); got != 100 || r.obj("modelUsage").obj("claude-sonnet-5").num("inputTokens") != 300 {
		t.Errorf("%v tokens since the last result, of %v", got, r["modelUsage"])
	}
	c.send(message{"type": "control_request", "request_id": "x", "request": message{"subtype": "end_session"}})
	if code := c.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestStandInForgetsAtClear(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		faults []claudetest.Fault
		want   string
	}{
		{"sound", nil, "[[history]]"},
		{"stale", []claudetest.Fault{claudetest.FaultStaleSession}, "the secret\n[[history]]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := standIn(t, tt.faults, bypass...)
			_, before := c.turn(id1, "the secret")
			c.turn(id2, "/clear")
			_, after := c.turn(id3, "[[history]]")
			if got := after.str("result"); got != tt.want {
				t.Errorf("history %q, want %q", got, tt.want)
			}
			if same := before.str("session_id") == after.str("session_id"); same != (tt.faults != nil) {
				t.Errorf("same session: %v", same)
			}
		})
	}
}

func TestStandInJobOutlivesClear(t *testing.T) {
	t.Parallel()
	c := standIn(t, nil, bypass...)
	c.turn(id1, "[[background:while [ ! -e $DIR/end ]; do sleep 0.01; done]]")
	c.turn(id2, "/clear")
	if err := os.WriteFile(filepath.Join(c.cmd.Dir, "end"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	seen := c.until(isResult)
	r := seen[len(seen)-1]
	if r.obj("origin").str("kind") != "task-notification" || r["user_message_uuid"] != nil {
		t.Errorf("result %v", r)
	}
	c.until(is("system/session_state_changed:idle"))

	c.turn(id3, "[[background:tail -f /dev/null]]")
	task := ""
	for _, m := range c.all {
		if m.kind() == "system/task_started" {
			task = m.str("task_id")
		}
	}
	c.ask("stop_task", message{"task_id": task})
	c.until(func(m message) bool {
		return m.kind() == "system/background_tasks_changed" && len(list(m["tasks"])) == 0
	})
}

func TestStandInMergesWhatWaits(t *testing.T) {
	t.Parallel()
	c := standIn(t, nil, bypass...)
	c.prompt(id1, "[[bash:while [ ! -e $DIR/end ]; do sleep 0.01; done]][[reply:first]]")
	c.until(is("assistant"))
	c.prompt(id2, "a")
	c.prompt(id2, "a") // sent twice: dropped
	c.prompt(id3, "b [[history]]")
	c.ask("get_usage", nil) // all three are in the queue
	if err := os.WriteFile(filepath.Join(c.cmd.Dir, "end"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	seen := c.until(is("system/session_state_changed:idle"))
	var got []any
	for _, m := range seen {
		if isResult(m) {
			got = append(got, m["user_message_uuids"])
		}
	}
	if d := cmp.Diff([]any{[]any{id1}, []any{id2, id3}}, got); d != "" {
		t.Error(d)
	}
}

func TestStandInPutsPrefixBeforePrompts(t *testing.T) {
	t.Parallel()
	p := newPlace(t, claudetest.StandInConfig{Prefix: "[[usage:5000,0]]"})
	c := start(t, self(t), p.environ(), p.dir, bypass...)
	if _, r := c.turn(id1, "[[reply:x]]"); r.num("total_cost_usd") != 0.01 {
		t.Error(r["total_cost_usd"])
	}
}

func TestStandInTellsOfRateLimits(t *testing.T) {
	t.Parallel()
	p := newPlace(t, claudetest.StandInConfig{})
	p.env["ANTHROPIC_API_KEY"] = ""
	c := start(t, self(t), p.environ(), p.dir, bypass...)
	seen, r := c.turn(id1, "[[limit:1h]]")
	var resets float64
	for _, m := range seen {
		if m.str("type") == "rate_limit_event" {
			resets = m.obj("rate_limit_info").num("resetsAt")
		}
	}
	if wait := time.Until(time.Unix(int64(resets), 0)); wait < 50*time.Minute || wait > time.Hour {
		t.Errorf("resets in %v", wait)
	}
	if r["is_error"] != true || r.num("api_error_status") != 429 {
		t.Errorf("result %v", r)
	}
}

func TestStandInMakesUpStructuredOutput(t *testing.T) {
	t.Parallel()
	c := standIn(t, nil, append(bypass[:len(bypass):len(bypass)], "--json-schema", `{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}`)...)
	if _, r := c.turn(id1, "count the files"); r.obj("structured_output").num("n") != 1 {
		t.Errorf("result %v", r)
	}
}

func TestStandInAnswersAPlainPrompt(t *testing.T) {
	t.Parallel()
	p := newPlace(t, claudetest.StandInConfig{Pace: time.Millisecond})
	c := start(t, self(t), p.environ(), p.dir, append(bypass[:len(bypass):len(bypass)], "--include-partial-messages")...)
	seen, r := c.turn(id1, "fix the typo in README")
	deltas := ""
	n := 0
	for _, m := range seen {
		if d := m.obj("event").obj("delta"); d.str("text") != "" {
			deltas += d.str("text")
			n++
		}
	}
	if deltas != r.str("result") || n < 5 || !strings.Contains(deltas, "fix the typo in README") {
		t.Errorf("%d deltas %q, result %q", n, deltas, r.str("result"))
	}
	_, again := c.turn(id2, "fix the typo in README")
	if again.str("result") != r.str("result") || again.num("total_cost_usd") != 2*r.num("total_cost_usd") {
		t.Errorf("%q for %v", again.str("result"), again.num("total_cost_usd"))
	}
}

func TestStandInFromTheCommandLine(t *testing.T) {
	t.Parallel()
	p := newPlace(t, claudetest.StandInConfig{Version: "2.1.299"})
	run := func(stdin string, args ...string) (string, int) {
		cmd := exec.CommandContext(t.Context(), self(t), args...)
		cmd.Env, cmd.Dir, cmd.Stdin = p.environ(), p.dir, strings.NewReader(stdin)
		out, err := cmd.Output()
		if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out)), cmd.ProcessState.ExitCode()
	}
	for _, tt := range []struct {
		stdin string
		args  []string
		want  string
		code  int
	}{
		{"", []string{"--version"}, "2.1.299 (Claude Code)", 0},
		{"", []string{"-p", "[[reply:x]]"}, "x", 0},
		{"[[reply:from stdin]]", []string{"-p"}, "from stdin", 0},
		{"", []string{"-p"}, "", 1},
		{"", []string{"-p", "[[status:400]]"}, "API Error: 400 Bad Request", 1},
	} {
		if out, code := run(tt.stdin, tt.args...); out != tt.want || code != tt.code {
			t.Errorf("%v: %q %d, want %q %d", tt.args, out, code, tt.want, tt.code)
		}
	}
	out, _ := run("", "-p", "--output-format", "json", "[[reply:x]]")
	var m message
	if err := json.Unmarshal([]byte(out), &m); err != nil || m.str("result") != "x" || m.num("total_cost_usd") == 0 {
		t.Errorf("%q %v", out, err)
	}
}

func TestStandInRefusesABadEnvironment(t *testing.T) {
	t.Parallel()
	for _, kv := range []string{claudetest.EnvStandInFaults + "=nonsense", claudetest.EnvStandInPace + "=soon"} {
		p := newPlace(t, claudetest.StandInConfig{})
		c := start(t, self(t), append(p.environ(), kv), p.dir)
		name, _, _ := strings.Cut(kv, "=")
		if code := c.exit(); code != 1 || !strings.Contains(c.stderr.String(), name) {
			t.Errorf("%s: exit code %d, stderr %q", kv, code, c.stderr.String())
		}
	}
}

func TestFaultsAreChecked(t *testing.T) {
	t.Parallel()
	for _, f := range []claudetest.Fault{"nonsense", "crash:now", "exit", "exit:x", "leak:0", "slow-start:soon", "fail-starts:2", "fail-starts:x:y"} {
		if _, err := claudetest.ParseFault(string(f)); err == nil {
			t.Errorf("%s is no fault", f)
		}
	}
	if _, err := (claudetest.StandInConfig{Faults: []claudetest.Fault{"nonsense"}}).Environ(); err == nil {
		t.Error("an unknown fault was accepted")
	}
	o, err := claudetest.StandInOptions(claudetest.StandInConfig{Version: "2.0.1", Faults: []claudetest.Fault{claudetest.FaultCrash, claudetest.FaultExit.With("3")}})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff("crash,exit:3", o.Env[claudetest.EnvStandInFaults]); d != "" || o.Env[claudetest.EnvStandInVersion] != "2.0.1" {
		t.Error(d)
	}
}
