//go:build unix

package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/bench/fault/internal/check"
	"github.com/claudepool/claudepool/claude"
)

// work makes tasks and chains by a seed.
type work struct {
	*rand.Rand
	round int
	next  int
	real  bool // the agents are real CLIs, which have no faults of their own
}

// mark names the next task.
func (w *work) mark() string {
	w.next++
	return fmt.Sprintf("r%d.%d", w.round, w.next)
}

// one returns one of several.
func one[T any](w *work, of ...T) T { return of[w.IntN(len(of))] }

// chance is true n times in a hundred.
func (w *work) chance(n int) bool { return w.IntN(100) < n }

// answers is a prompt that is answered, after some time.
func (w *work) answers(mark string) string {
	reply := fmt.Sprintf("[[reply:%s]]", check.Answer(mark))
	wait := w.IntN(150)
	if w.real && w.chance(70) {
		return w.takesLong(mark)
	}
	switch n := w.IntN(100); {
	case n < 35:
		return reply
	case n < 70:
		return fmt.Sprintf("[[sleep:%dms]]%s", wait, reply)
	case n < 85: // a process of its own, and two requests
		return fmt.Sprintf("[[bash:sleep 0.%02d; echo %s]]", wait/3%100, check.Answer(mark))
	case w.real:
		return reply
	case n < 92: // a process that leaves the group of its tree
		return "[[fault:escape:1h]]" + reply
	case n < 96:
		return "[[fault:hold-stdout:1h]]" + reply
	}
	return fmt.Sprintf("[[usage:3000,500]][[sleep:%dms]]%s", 2*wait, reply)
}

// takesLong is a prompt that a real CLI needs so long for that it is killed at it
// more often than not: while the model thinks, or while a command runs, with
// requests that are answered already or none.
func (w *work) takesLong(mark string) string {
	var does strings.Builder
	for range w.IntN(4) {
		fmt.Fprintf(&does, "[[bash:sleep 0.%d; echo a step]]", 1+w.IntN(9))
		if w.chance(50) {
			fmt.Fprintf(&does, "[[sleep:%dms]]", 100+w.IntN(700))
		}
	}
	if does.Len() == 0 {
		fmt.Fprintf(&does, "[[sleep:%dms]]", 500+w.IntN(2000))
	}
	return fmt.Sprintf("%s[[reply:%s]]", &does, check.Answer(mark))
}

// task returns a random task. Others are known to be there.
func (w *work) task(others []claudepool.TaskID) claudepool.Task {
	mark := w.mark()
	may, does := "ok", w.answers(mark)
	t := claudepool.Task{
		Priority: w.IntN(5) - 2,
		Retry:    claudepool.RetryPolicy{Max: 1 + w.IntN(2), First: 5 * time.Millisecond, Most: 20 * time.Millisecond},
		OnCrash:  one(w, "", "", claudepool.CrashResume, claudepool.CrashRerun, claudepool.CrashFail),
	}
	if w.real && w.chance(80) {
		t.OnCrash = "" // resume: what only the real CLI can show
	}
	switch n := w.IntN(100); {
	case n < 4:
		may, does = "invalid", "[[status:404]]"
	case n < 8:
		may, does = "ok,api_error", "[[status:500]]" // a retry goes on, and is answered
	case n < 11 && !w.real:
		may, does = "crashed", one(w, "[[fault:crash]]", "[[fault:exit:3]]", "[[fault:half-line]]")
	case n < 14 && !w.real:
		does = "[[fault:crash-after]]" + does
	case n < 18:
		t.Overrides.MaxCost, may = 6000, "ok,budget"
		does = "[[usage:2000,200]]" + does
	case n < 22: // costs a process of its own
		t.Overrides.AppendPrompt = "Be brief."
	case n < 26:
		t.QueueTimeout = time.Duration(20+w.IntN(200)) * time.Millisecond
	case n < 30:
		t.NotBefore = time.Now().Add(time.Duration(w.IntN(200)) * time.Millisecond)
	case n < 36:
		t.Tags = []string{"one"}
	case n < 46:
		t.Review = &claudepool.ReviewPolicy{MaxRejections: 1 + w.IntN(3)}
	case n < 56 && len(others) > 0: // fails when that one has never begun
		t.Session = claudepool.Session{Task: one(w, others...), Fork: w.chance(30)}
		may = "ok,invalid"
	case n < 60 && w.real: // enough, unless what is charged for lost attempts uses it up
		t.Overrides.MaxCost, may = 50_000, "ok,budget"
	}
	if w.chance(25) {
		t.IdempotencyKey = "key-" + mark
	}
	t.Prompt = fmt.Sprintf("<<%s>> may:%s %s", mark, may, does)
	return t
}

// chain returns a random chain.
func (w *work) chain() claudepool.Chain {
	mark := w.mark()
	step := func(name string, needs ...string) claudepool.ChainStep {
		m := mark + "/" + name
		return claudepool.ChainStep{Name: name, Needs: needs, Action: claudepool.StepAction{
			Prompt: fmt.Sprintf("<<%s>> may:ok %s", m, w.answers(m)),
		}}
	}
	fails := func(s claudepool.ChainStep) claudepool.ChainStep {
		s.Action.Prompt = fmt.Sprintf("<<%s/%s>> may:invalid [[status:404]]", mark, s.Name)
		return s
	}
	var c claudepool.Chain
	switch w.IntN(6) {
	case 0, 1: // a pipeline
		c.Steps = []claudepool.ChainStep{step("a"), step("b"), step("c")}
		c.Steps[1].Action.Prompt += " after {previous_output}"
		c.Steps[2].Action.Prompt += " after {steps.a.output} and {previous_output}"
		c.OneSession = w.real || w.chance(50)
	case 2: // a graph
		c.Steps = []claudepool.ChainStep{step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c")}
	case 3: // a list
		c.Steps = []claudepool.ChainStep{step("a"), step("b"), step("c")}
		c.Steps[1].Action.Prompt = fmt.Sprintf("<<%s/b.{index}>> may:ok [[reply:done %s/b.{index}]] {item}", mark, mark)
		c.Steps[1].ForEach = "list"
		c.Arguments = map[string]string{"list": "[1, 2, 3]"}
	case 4: // a step that fails, and what follows all the same
		c.Steps = []claudepool.ChainStep{step("a"), fails(step("b")), step("c")}
		if w.chance(50) {
			c.Steps[1].OnFailure.Continue = true
		} else {
			c.Steps[1].OnFailure.RecoveryPrompt = fmt.Sprintf("<<%s/b!>> may:ok [[reply:done %s/b!]]", mark, mark)
		}
	case 5: // one that fails for good
		c.Steps = []claudepool.ChainStep{step("a"), fails(step("b")), step("c"), step("d", "a")}
		c.Steps[2].Needs = []string{"b"}
		c.Steps[1].Needs = []string{"a"}
	}
	if w.chance(20) {
		c.MaxCost = 1_000_000
	}
	return c
}

// agent is how the slots of a host are configured.
func agent() claudepool.AgentConfig {
	return claudepool.AgentConfig{Model: "claude-sonnet-5", PermissionMode: claude.PermissionDontAsk, AllowedTools: []string{"Bash"}}
}
