package claudetest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool/claudetest"
)

const session = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"

// sessions is a story over several processes that share a folder.
func sessions(t *testing.T, launch func(args ...string) *client) []string {
	var out []string
	life := func(args []string, talk func(*client)) {
		c := launch(append(bypassFlags(), args...)...)
		talk(c)
		c.stdin.Close()
		c.exit()
		for _, line := range story(c) {
			if strings.HasPrefix(line, "result") || strings.HasPrefix(line, "control_response") {
				out = append(out, line)
			}
		}
	}
	life([]string{"--session-id", session}, func(c *client) {
		_, r := c.turn(id1, "[[reply:one]]")
		out = append(out, "session "+r.str("session_id"))
	})
	life([]string{"--resume", session}, func(c *client) {
		_, r := c.turn(id2, "[[reply:two]]")
		out = append(out, "session "+r.str("session_id"))
	})
	life([]string{"--resume", session, "--fork-session"}, func(c *client) {
		_, r := c.turn(id3, "[[history]]")
		out = append(out, fmt.Sprint("same session: ", r.str("session_id") == session))
	})
	life([]string{"--resume", session, "--system-prompt", "another"}, func(c *client) { c.turn(id4, "[[history]]") })
	life([]string{"--no-session-persistence"}, func(c *client) { c.turn(id1, "[[history]]") })
	return out
}

func TestStandInKeepsSessionsLikeCLI(t *testing.T) {
	t.Parallel()
	cli := claudetest.CLI(t)
	version := versionOf(t, cli)
	env := []string{"CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS=1", "IS_SANDBOX=1"}
	iso := claudetest.Isolate(t, claudetest.NewAPI(t, nil))
	real := sessions(t, func(args ...string) *client { return start(t, cli, append(iso.Environ(), env...), iso.Dir, args...) })
	p := newPlace(t, claudetest.StandInConfig{Version: version})
	imitation := sessions(t, func(args ...string) *client { return start(t, self(t), append(p.environ(), env...), p.dir, args...) })
	if d := cmp.Diff(real, imitation); d != "" {
		t.Errorf("the CLI (-) and the stand-in (+) differ:\n%s", d)
	}
}

func TestStandInIsClaimedLikeCLI(t *testing.T) {
	t.Parallel()
	cli := claudetest.CLI(t)
	version := versionOf(t, cli)
	real, imitation := pair(t, cli, version, nil, append(bypassFlags(), "--await-claim")...)
	work := t.TempDir()
	for _, c := range []*client{real, imitation} {
		c.ask("initialize", nil)
		c.ask("set_model", message{"model": "claude-haiku-4-5"})
		c.ask("claim_session", message{"cwd": "/nonexistent"})
		c.ask("claim_session", message{"cwd": work, "env": message{"FOO": "x"}})
		claim := c.ask("claim_session", message{"cwd": work, "permission_mode": "dontAsk", "append_system_prompt": "APPENDED"})
		if claim.obj("response").str("status") != "ok" {
			t.Errorf("claim %v", claim)
		}
		c.turn(id1, "[[bash:pwd]]")
		c.turn(id2, "[[write:x:y]][[reply:denied]]")
		c.ask("claim_session", message{"cwd": work})
	}
	// The title of a session and the like come at moments of their own.
	tidy := func(c *client) (out []string) {
		for _, line := range story(c) {
			if !strings.HasPrefix(line, "system/session_title_changed") {
				out = append(out, strings.ReplaceAll(line, work, "$WORK"))
			}
		}
		return out
	}
	if d := cmp.Diff(tidy(real), tidy(imitation)); d != "" {
		t.Errorf("the CLI (-) and the stand-in (+) differ:\n%s", d)
	}
}

func TestStandInWritesNoSessionWhenToldSo(t *testing.T) {
	t.Parallel()
	p := newPlace(t, claudetest.StandInConfig{})
	c := start(t, self(t), p.environ(), p.dir, append(bypass[:len(bypass):len(bypass)], "--no-session-persistence")...)
	c.turn(id1, "x")
	files, err := filepath.Glob(filepath.Join(p.config, "projects", "*", "*"))
	if err != nil || len(files) != 0 {
		t.Errorf("%v, %v", files, err)
	}
}

func TestStandInSaysWhatIsWrongWithASession(t *testing.T) {
	t.Parallel()
	p := newPlace(t, claudetest.StandInConfig{})
	dir := filepath.Join(p.config, "projects", "x")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, session+".jsonl"), []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := start(t, self(t), p.environ(), p.dir, "--resume", session)
	if code := c.exit(); code != 1 || !strings.Contains(c.stderr.String(), session) {
		t.Errorf("exit code %d, stderr %q", code, c.stderr.String())
	}
}
