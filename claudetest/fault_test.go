package claudetest_test

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool/claudetest"
)

// results counts the results in seen and names the prompts they are for.
func results(seen []message) (ids []string) {
	for _, m := range seen {
		if isResult(m) {
			id := m.str("user_message_uuid")
			if id != "" && id != id1 && id != id2 {
				id = "foreign"
			}
			ids = append(ids, id)
		}
	}
	return ids
}

func kindsOf(seen []message) string {
	var out []string
	for _, m := range seen {
		out = append(out, m.kind())
	}
	return strings.Join(out, " ")
}

// Each fault in a prompt does what it says, and only then.
func TestFaultsOfATurn(t *testing.T) {
	t.Parallel()
	idle := is("system/session_state_changed:idle")
	// rest reads what is left until the process is gone.
	rest := func(c *client) (seen []message, err error) {
		for {
			m, err := c.next()
			if err != nil {
				return seen, err
			}
			seen = append(seen, m)
		}
	}
	for _, tt := range []struct {
		fault claudetest.Fault
		check func(t *testing.T, c *client)
	}{
		{claudetest.FaultCrash, func(t *testing.T, c *client) {
			seen, err := rest(c)
			if !errors.Is(err, errEnd) || len(results(seen)) != 0 || c.exit() != -1 {
				t.Errorf("%v, %s, %v", err, kindsOf(seen), c.cmd.ProcessState)
			}
		}},
		{claudetest.FaultExit.With("3"), func(t *testing.T, c *client) {
			seen, _ := rest(c)
			if len(results(seen)) != 0 || c.exit() != 3 {
				t.Errorf("%s, %v", kindsOf(seen), c.cmd.ProcessState)
			}
		}},
		{claudetest.FaultCrashAfter, func(t *testing.T, c *client) {
			seen, _ := rest(c)
			if !cmp.Equal(results(seen), []string{id1}) || strings.Contains(kindsOf(seen), "idle") || c.exit() != -1 {
				t.Errorf("%s, %v", kindsOf(seen), c.cmd.ProcessState)
			}
		}},
		{claudetest.FaultGarbage, func(t *testing.T, c *client) {
			if _, err := rest(c); err == nil || !strings.Contains(err.Error(), "this is no JSON") {
				t.Error(err)
			}
			c.until(isResult)
		}},
		{claudetest.FaultHalfLine, func(t *testing.T, c *client) {
			if _, err := rest(c); !errors.As(err, new(*json.SyntaxError)) {
				t.Error(err)
			}
			if _, err := c.next(); !errors.Is(err, errEnd) {
				t.Error(err)
			}
		}},
		{claudetest.FaultLongLine.With("1000000"), func(t *testing.T, c *client) {
			seen := c.until(is("system/notification"))
			if line := seen[len(seen)-1].str("text"); len(line) < 999_000 || len(line) > 1_000_000 {
				t.Errorf("%d bytes", len(line))
			}
			c.until(idle)
		}},
		{claudetest.FaultNoIdle, func(t *testing.T, c *client) {
			c.until(is("command_lifecycle/completed"))
			c.ask("get_usage", nil) // whatever comes after the turn comes before this answer
			if n := strings.Count(strings.Join(c.kinds(), " "), ":idle"); n != 0 {
				t.Errorf("%d times idle", n)
			}
		}},
		{claudetest.FaultIdleFirst, func(t *testing.T, c *client) {
			if seen := c.until(isResult); !strings.Contains(kindsOf(seen), "idle") {
				t.Error(kindsOf(seen))
			}
		}},
		{claudetest.FaultResultFirst, func(t *testing.T, c *client) {
			seen := c.until(isResult)
			if strings.Contains(kindsOf(seen), "system/init") {
				t.Error(kindsOf(seen))
			}
			if more := c.until(idle); len(results(more)) != 0 || !strings.Contains(kindsOf(more), "system/init") {
				t.Error(kindsOf(more))
			}
		}},
		{claudetest.FaultForeignResult, func(t *testing.T, c *client) {
			if d := cmp.Diff([]string{"foreign", id1}, results(c.until(idle))); d != "" {
				t.Error(d)
			}
		}},
		{claudetest.FaultDuplicateResult, func(t *testing.T, c *client) {
			if d := cmp.Diff([]string{id1, id1}, results(c.until(idle))); d != "" {
				t.Error(d)
			}
		}},
		{claudetest.FaultDeny.With("Bash"), func(t *testing.T, c *client) {
			seen := c.until(idle)
			r := seen[len(seen)-3]
			if len(list(r["permission_denials"])) != 1 || r.num("num_turns") != 3 {
				t.Errorf("%v", r)
			}
		}},
		{claudetest.FaultFreeze, func(t *testing.T, c *client) {
			c.until(is("assistant"))
			if err := c.cmd.Process.Signal(syscall.Signal(0)); err != nil {
				t.Error(err)
			}
			c.cmd.Process.Kill()
			if seen, _ := rest(c); len(results(seen)) != 0 {
				t.Error(kindsOf(seen))
			}
		}},
	} {
		t.Run(string(tt.fault), func(t *testing.T) {
			t.Parallel()
			c := standIn(t, nil, bypass...)
			text := "[[fault:" + string(tt.fault) + "]]"
			if strings.HasPrefix(string(tt.fault), string(claudetest.FaultDeny)) {
				text += "[[bash:echo x]][[write:$DIR/f:x]]"
			}
			c.prompt(id1, text)
			tt.check(t, c)
		})
	}
}

// Faults in the environment hold for the whole life.
func TestFaultsOfAProcess(t *testing.T) {
	t.Parallel()
	counter := filepath.Join(t.TempDir(), "starts")
	for _, tt := range []struct {
		fault claudetest.Fault
		check func(t *testing.T, again func() *client)
	}{
		{claudetest.FaultFailStarts.With("2:" + counter), func(t *testing.T, again func() *client) {
			for range 2 {
				if code := again().exit(); code != 1 {
					t.Errorf("exit code %d", code)
				}
			}
			again().turn(id1, "works")
		}},
		{claudetest.FaultSlowStart.With("10ms"), func(t *testing.T, again func() *client) { again().turn(id1, "works") }},
		{claudetest.FaultHangInit, func(t *testing.T, again func() *client) {
			c := again()
			c.send(message{"type": "control_request", "request_id": "init", "request": message{"subtype": "initialize"}})
			c.ask("get_usage", nil)
			for _, m := range c.all {
				if m.obj("response").str("request_id") == "init" {
					t.Errorf("an answer: %v", m)
				}
			}
		}},
		{claudetest.FaultLoggedOut, func(t *testing.T, again func() *client) {
			c := again()
			account := c.ask("initialize", nil).obj("response").obj("account")
			if _, ok := account["apiKeySource"]; ok || account.str("tokenSource") != "none" {
				t.Errorf("account %v", account)
			}
			if _, r := c.turn(id1, "hi"); r["is_error"] != true || !strings.HasPrefix(r.str("result"), "Not logged in") || r["api_error_status"] != nil {
				t.Errorf("result %v", r)
			}
		}},
		{claudetest.FaultUnsolicited, func(t *testing.T, again func() *client) {
			c := again()
			c.turn(id1, "/clear")
			seen := c.until(is("system/session_state_changed:idle"))
			if d := cmp.Diff([]string{""}, results(seen)); d != "" {
				t.Error(d)
			}
		}},
		{claudetest.FaultDeaf, func(t *testing.T, again func() *client) {
			c := again()
			if r := c.ask("set_model", message{"model": "claude-haiku-4-5"}); r.str("subtype") != "success" {
				t.Error(r)
			}
			c.ask("set_permission_mode", message{"mode": "plan"})
			c.ask("apply_flag_settings", message{"settings": message{"permissions": message{"allow": []string{"Read"}}}})
			seen, r := c.turn(id1, "[[model]]")
			if r.str("result") != "claude-sonnet-5" || !strings.Contains(mode(seen), "bypassPermissions") {
				t.Errorf("model %s, mode %s", r.str("result"), mode(seen))
			}
			if rules := c.ask("list_permission_rules", nil).obj("response").obj("state")["rules"]; len(list(rules)) != 0 {
				t.Errorf("rules %v", rules)
			}
		}},
		{claudetest.FaultIgnoreTerm, func(t *testing.T, again func() *client) {
			c := again()
			c.ask("end_session", nil)
			if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			c.turn(id1, "still here")
			c.stdin.Close()
		}},
		{claudetest.FaultLeak.With("40"), func(t *testing.T, again func() *client) {
			c := again()
			c.turn(id1, "once")
			before := rss(t, c.cmd.Process.Pid)
			c.turn(id2, "twice")
			if after := rss(t, c.cmd.Process.Pid); after < before+30<<20 {
				t.Errorf("from %d to %d bytes", before, after)
			}
		}},
	} {
		name, _, _ := strings.Cut(string(tt.fault), ":")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.check(t, func() *client { return standIn(t, []claudetest.Fault{tt.fault}, bypass...) })
		})
	}
}

func mode(seen []message) string {
	for _, m := range seen {
		if m.kind() == "system/init" {
			return m.str("permissionMode")
		}
	}
	return ""
}
