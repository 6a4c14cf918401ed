//go:build unix

package claudepool_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/claudetest"
)

// TestRealP1AKilledProgramLosesNothing kills a program with six slow tasks and a
// chain. The next one on its file finishes all, asks for no recorded step again,
// and no process of the first is left.
func TestRealP1AKilledProgramLosesNothing(t *testing.T) {
	cli := claudetest.CLI(t)
	var slow atomic.Bool
	slow.Store(true)
	api := claudetest.NewAPI(t, func(r *claudetest.Request) claudetest.Reply {
		switch {
		case strings.Contains(r.Prompt, "first step"):
			return claudetest.Text("one")
		case slow.Load():
			return claudetest.Hang()
		}
		return claudetest.Text("done")
	})
	iso := claudetest.Isolate(t, api)
	c := newHost(t)
	c.Path, c.Env, c.Config, c.Slots = cli, maps.Clone(iso.Env), "", 3
	mark := filepath.Base(t.TempDir()) + t.Name()
	c.Env["CLAUDEPOOL_TEST_MARK"] = mark
	for i := range 6 {
		c.Tasks = append(c.Tasks, claudepool.Task{Prompt: fmt.Sprintf("slow task %d", i)})
	}
	c.Chain = &claudepool.Chain{Steps: []claudepool.ChainStep{prompt("a", "the first step"), prompt("b", "the second step after {previous_output}")}}
	c.Ended, c.Running = 1, 3
	host, was := c.start(t)
	kill(host)

	slow.Store(false)
	c.Env = iso.Env
	p := c.succeed(t, c.openStore(t), -1)
	if left := processesWith(t, mark); len(left) > 0 {
		t.Errorf("processes %v of the dead program live on", left)
	}
	for _, r := range was.Tasks {
		if res := wait(t, p, r.ID); res.Outcome != claudepool.OutcomeOK {
			t.Errorf("%s ended %s (%+v)", r.ID, res.Outcome, res.Failure)
		}
	}
	if r, err := p.WaitChain(t.Context(), was.Chain); err != nil || r.Output != "done" {
		t.Errorf("WaitChain = %+v, %v", r, err)
	}
	first := 0
	for _, r := range api.Requests() {
		if strings.Contains(r.Prompt, "the first step") {
			first++
		}
	}
	if first != 1 {
		t.Errorf("the model was asked for the first step %d times, want once", first)
	}
}

// TestRealP5AKilledAttemptIsChargedWhatItHasTold kills a program while the second
// request of a task is under way: the first is all that the task has cost, and its
// cap is not used up by what nobody knows.
func TestRealP5AKilledAttemptIsChargedWhatItHasTold(t *testing.T) {
	cli := claudetest.CLI(t)
	var slow atomic.Bool
	slow.Store(true)
	api := claudetest.NewAPI(t, func(r *claudetest.Request) claudetest.Reply {
		switch {
		case !slow.Load():
			return claudetest.Text("done")
		case r.Round == 0:
			return claudetest.ToolUse("Bash", map[string]any{"command": "true", "description": "do nothing"}).Usage(claudetest.Usage{Input: 1000, Output: 100})
		}
		return claudetest.Hang()
	})
	iso := claudetest.Isolate(t, api)
	c := newHost(t)
	c.Path, c.Env, c.Config, c.Slots = cli, iso.Env, "", 1
	c.Tasks = []claudepool.Task{{Prompt: "work", Overrides: claudepool.TaskOverrides{
		AgentConfig: claudepool.AgentConfig{Model: "claude-sonnet-5", PermissionMode: claude.PermissionDontAsk, AllowedTools: []string{"Bash"}}, MaxCost: claudepool.USD(0.01),
	}}}
	c.Running, c.Paid = 1, 1
	host, was := c.start(t)
	kill(host)

	slow.Store(false)
	p := c.succeed(t, c.openStore(t), 0)
	id := was.Tasks[0].ID
	if res := wait(t, p, id); res.Outcome != claudepool.OutcomeOK || !res.Estimated {
		t.Errorf("ended %s (%+v), estimated %v; want ok, estimated", res.Outcome, res.Failure, res.Estimated)
	}
	attempts, err := p.Attempts(t.Context(), id)
	if err != nil || len(attempts) != 2 {
		t.Fatalf("Attempts = %+v, %v; want two", attempts, err)
	}
	const first = 1000*2 + 100*10 // tokens at the list price, in microdollars
	if a := attempts[0]; a.Outcome != claudepool.OutcomeLost || a.Cost != first || !a.Estimated || a.Assumed != 0 {
		t.Errorf("the killed attempt is %+v, want lost, at the %v of its first request", a, claudepool.Microdollars(first))
	}
	if a := attempts[1]; a.Cost == 0 || a.Cost >= first || a.Estimated {
		t.Errorf("the attempt after it is %+v, want what its one request has cost", a)
	}
}
