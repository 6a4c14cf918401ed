package claudetest_test

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool/claudetest"
)

// outcome is how a process ended.
type outcome struct {
	Code    int
	Said    bool // something on stderr
	Results string
}

// endings are ways to end a process.
var endings = []struct {
	name string
	args []string
	end  func(*client)
}{
	{"no input", bypassFlags(), func(c *client) { c.stdin.Close() }},
	{"end of input after a turn", bypassFlags(), func(c *client) { c.turn(id1, "[[reply:x]]"); c.stdin.Close() }},
	{"end of input after an error", bypassFlags(), func(c *client) { c.turn(id1, "[[status:400]]"); c.stdin.Close() }},
	{"end of input in a turn", bypassFlags(), func(c *client) { c.prompt(id1, "[[sleep:300ms]][[reply:x]]"); c.stdin.Close() }},
	{"end_session", bypassFlags(), func(c *client) { c.turn(id1, "[[reply:x]]"); c.ask("end_session", nil) }},
	{"end_session in a tool", bypassFlags(), func(c *client) {
		c.prompt(id1, "[[bash:touch $DIR/started; tail -f /dev/null]]")
		c.waitForFile("started")
		c.ask("end_session", nil)
	}},
	{"SIGTERM", bypassFlags(), func(c *client) { c.ask("initialize", nil); c.cmd.Process.Signal(syscall.SIGTERM) }},
	{"SIGHUP", bypassFlags(), func(c *client) { c.ask("initialize", nil); c.cmd.Process.Signal(syscall.SIGHUP) }},
	{"SIGINT in a tool", bypassFlags(), func(c *client) {
		c.prompt(id1, "[[bash:touch $DIR/started; tail -f /dev/null]]")
		c.waitForFile("started")
		c.cmd.Process.Signal(syscall.SIGINT)
	}},
	{"no JSON", bypassFlags(), func(c *client) { c.sendRaw("{nonsense\n") }},
	{"no role", bypassFlags(), func(c *client) { c.sendRaw(`{"type":"user","message":{"role":"assistant","content":"x"}}` + "\n") }},
	{"no request", bypassFlags(), func(c *client) { c.sendRaw(`{"type":"control_request","request_id":"1"}` + "\n") }},
	{"things to ignore", bypassFlags(), func(c *client) {
		c.sendRaw("\n[1]\n{}\n" + `{"type":"keep_alive"}` + "\n" + `{"type":"control_response","response":{"subtype":"success","request_id":"unknown"}}` + "\n")
		c.turn(id1, "[[reply:x]]")
		c.stdin.Close()
	}},
	{"unknown flag", []string{"--nonsense"}, func(c *client) {}},
	{"unknown mode", []string{"--permission-mode", "nonsense"}, func(c *client) {}},
	{"session id that is none", []string{"--session-id", "nonsense"}, func(c *client) {}},
	{"unknown session", []string{"--resume", id4}, func(c *client) {}},
	{"missing settings", []string{"--settings", "/nonexistent.json"}, func(c *client) {}},
}

func TestStandInEndsLikeCLI(t *testing.T) {
	t.Parallel()
	cli := claudetest.CLI(t)
	version := versionOf(t, cli)
	for _, e := range endings {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			real, imitation := pair(t, cli, version, nil, e.args...)
			got := map[string]outcome{}
			for name, c := range map[string]*client{"cli": real, "stand-in": imitation} {
				e.end(c)
				for {
					if _, err := c.next(); err != nil {
						break
					}
				}
				code := c.exit()
				var subtypes []string
				for _, m := range c.all {
					if isResult(m) {
						subtypes = append(subtypes, m.kind())
					}
				}
				got[name] = outcome{code, c.stderr.String() != "", strings.Join(subtypes, " ")}
			}
			if c := got["cli"]; e.name == "SIGINT in a tool" && c.Results == "" {
				// On a busy machine the CLI is gone before it has written its result.
				c.Results = got["stand-in"].Results
				got["cli"] = c
			}
			if d := cmp.Diff(got["cli"], got["stand-in"]); d != "" {
				t.Errorf("the CLI (-) and the stand-in (+) differ:\n%s\nstderr of the CLI: %s\nof the stand-in: %s", d, real.stderr.String(), imitation.stderr.String())
			}
		})
	}
}

// pair starts the CLI and a stand-in in like places.
func pair(t *testing.T, cli, version string, env []string, args ...string) (real, imitation *client) {
	t.Helper()
	env = append(env, "CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS=1", "IS_SANDBOX=1", "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS=1")
	iso := claudetest.Isolate(t, claudetest.NewAPI(t, nil))
	p := newPlace(t, claudetest.StandInConfig{Version: version})
	return start(t, cli, append(iso.Environ(), env...), iso.Dir, args...), start(t, self(t), append(p.environ(), env...), p.dir, args...)
}

// versionOf asks a CLI for its version. The stand-in imitates one version only.
func versionOf(t *testing.T, cli string) string {
	t.Helper()
	out, err := exec.Command(cli, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	version, _, _ := strings.Cut(string(out), " ")
	if version != claudetest.StandInVersion {
		t.Skipf("the stand-in imitates %s, not %s", claudetest.StandInVersion, version)
	}
	return version
}
