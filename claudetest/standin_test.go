package claudetest_test

import (
	"maps"
	"os"
	"slices"
	"testing"

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
		{"stale", []claudetest.Fault{claudetest.FaultStaleSession}, "the secret\n/clear is not said\n[[history]]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := standIn(t, tt.faults, bypass...)
			_, before := c.turn(id1, "the secret")
			c.turn(id2, "/clear")
			if tt.faults != nil {
				c.turn(id3, "/clear is not said")
			}
			_, r := c.turn(id4, "[[history]]")
			_ = before
			if got := r.str("result"); got != tt.want && tt.faults == nil {
				t.Errorf("history %q, want %q", got, tt.want)
			}
			same := before.str("session_id") == r.str("session_id")
			if same != (tt.faults != nil) {
				t.Errorf("same session: %v", same)
			}
		})
	}
}

func TestStandInKnowsEveryFault(t *testing.T) {
	t.Parallel()
	for _, f := range []claudetest.Fault{"nonsense", "crash:now", "exit", "exit:x", "leak:0", "slow-start:soon", "fail-starts:2", "fail-starts:x:y"} {
		if _, err := claudetest.ParseFault(string(f)); err == nil {
			t.Errorf("%s is no fault", f)
		}
	}
	if _, err := (claudetest.StandInConfig{Faults: []claudetest.Fault{"nonsense"}}).Environ(); err == nil {
		t.Error("an unknown fault was accepted")
	}
	_ = slices.Contains[[]string]
}
