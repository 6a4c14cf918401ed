//go:build unix

package claudepool_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/claudetest"
	"github.com/claudepool/claudepool/worktree"
)

// TestRealP6FourTasksEditOneFile lets four agents edit the same file side by side,
// kills the program in the middle, and merges the work of all: one conflict goes
// back to the session that has written it.
func TestRealP6FourTasksEditOneFile(t *testing.T) {
	cli := claudetest.CLI(t)
	repo := repository(t)
	var slow atomic.Bool
	slow.Store(true)
	bash := func(command string) claudetest.Reply {
		return claudetest.ToolUse("Bash", map[string]any{"command": command, "description": "edit"})
	}
	edits := []string{"s/^two$/2/", "s/^five$/5/", "s/^eight$/8/", "s/^five$/V/"}
	api := claudetest.NewAPI(t, func(r *claudetest.Request) claudetest.Reply {
		asked := strings.Join(r.Prompts, "\n")
		switch {
		case r.Round > 0 && slow.Load():
			return claudetest.Hang()
		case r.Round > 0:
			return claudetest.Text("done")
		case strings.Contains(r.Prompt, "Resolve each conflict"):
			return bash(`sed -i -e '/^<<<<<<<\|^=======\|^>>>>>>>/d' list.txt`)
		}
		for i, edit := range edits {
			if strings.Contains(asked, fmt.Sprintf("edit number %d", i)) {
				return bash(fmt.Sprintf("sed -i -e '%s' list.txt", edit))
			}
		}
		return claudetest.Text("what?")
	})
	iso := claudetest.Isolate(t, api)
	c := newHost(t)
	c.Path, c.Env, c.Config, c.Dir, c.Slots = cli, iso.Env, "", repo, 4
	for i := range edits {
		c.Tasks = append(c.Tasks, claudepool.Task{
			Prompt: fmt.Sprintf("edit number %d", i), Isolation: claudepool.IsolationWorktree,
			Overrides: claudepool.TaskOverrides{AgentConfig: claudepool.AgentConfig{PermissionMode: claude.PermissionDontAsk, AllowedTools: []string{"Bash"}}},
		})
	}
	c.Running, c.Paid = 4, 4
	host, was := c.start(t)
	kill(host)

	slow.Store(false)
	s := c.openStore(t)
	p := c.succeed(t, s, 0)
	ids := make([]claudepool.TaskID, len(edits))
	for _, r := range was.Tasks {
		var n int
		if _, err := fmt.Sscanf(r.Task.Prompt, "edit number %d", &n); err != nil {
			t.Fatal(err)
		}
		ids[n] = r.ID
	}
	for i, id := range ids {
		if r := wait(t, p, id); r.Outcome != claudepool.OutcomeOK || r.Work == nil || r.Work.Files != 1 {
			t.Fatalf("task %d ended %s (%+v) with the work %+v; want its edit", i, r.Outcome, r.Failure, r.Work)
		}
	}
	merge := worktree.MergeRequest{CheckedOut: worktree.FastForward}
	for i, id := range ids[:3] {
		if m, err := p.MergeTask(t.Context(), id, merge); err != nil || !m.Merged {
			t.Fatalf("MergeTask %d = %+v, %v", i, m, err)
		}
	}
	_, err := p.MergeTask(t.Context(), ids[3], merge)
	conflict, isConflict := errors.AsType[*worktree.ConflictError](err)
	if !isConflict {
		t.Fatalf("MergeTask of the fourth = %v, want a conflict", err)
	}
	resolved, err := p.ResolveConflict(t.Context(), ids[3], conflict, "")
	if err != nil {
		t.Fatal(err)
	}
	before, after := record(t, s, ids[3]), wait(t, p, resolved)
	if after.Outcome != claudepool.OutcomeOK || after.SessionID != before.SessionID {
		t.Fatalf("resolving ended %s (%+v) in session %s, want ok in %s", after.Outcome, after.Failure, after.SessionID, before.SessionID)
	}
	if m, err := p.MergeTask(t.Context(), resolved, merge); err != nil || !m.Merged {
		t.Fatalf("MergeTask of the resolved one = %+v, %v", m, err)
	}
	text := git(t, repo, "show", "main:list.txt")
	for _, want := range []string{"\n2\n", "\n5\n", "\n8\n", "\nV\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("list.txt is\n%s\nand lacks %q", text, want)
		}
	}
	if got := git(t, repo, "status", "--porcelain"); got != "" || strings.Contains(text, "<<<<") {
		t.Errorf("the checkout has %q, and list.txt is\n%s", got, text)
	}
}
