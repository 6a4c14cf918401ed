//go:build unix

package claudepool_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claudetest"
	"github.com/claudepool/claudepool/worktree"
)

// bash has an agent run a command.
func bash(command string) claudetest.Reply {
	return claudetest.ToolUse("Bash", map[string]any{"command": command, "description": "edit"})
}

// TestRealP6FourTasksEditOneFile lets four agents edit the same file side by side,
// kills the program in the middle, and merges the work of all: one conflict goes
// back to the session that has written it.
func TestRealP6FourTasksEditOneFile(t *testing.T) {
	cli := claudetest.CLI(t)
	repo := repository(t)
	var slow atomic.Bool
	slow.Store(true)
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
			Overrides: claudepool.TaskOverrides{AgentConfig: runsCommands},
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

// commands is a prompt to run some, as long as they succeed.
func commands(lines ...string) string {
	return "[[bash:set -e\n" + strings.Join(lines, "\n") + "]]"
}

// editPrompt is a prompt to edit list.txt, and to leave that to be committed.
func editPrompt(expression string) string { return commands("sed -i -e '" + expression + "' list.txt") }

// TestRealP6AWarmCloneGivesAllBack has two tasks use git in one clone as they like,
// one after the other in the same process. What the first has done comes back, the
// second finds nothing of it, and the person's checkout stays as it was.
func TestRealP6AWarmCloneGivesAllBack(t *testing.T) {
	repo := repository(t)
	write(t, repo, "list.txt", "being edited\n")
	write(t, repo, "mine.txt", "not committed\n")
	checkout := func() string {
		return git(t, repo, "status", "--porcelain", "--branch") + git(t, repo, "diff", "main")
	}
	before := checkout()
	p, _ := realPool(t, claudetest.Directives, claudepool.PoolConfig{WorkDir: repo, Isolation: claudepool.IsolationClone, Agent: runsCommands, Spares: -1})
	run := func(lines ...string) (r claudepool.TaskResult, pid int) {
		t.Helper()
		r, err := p.Run(t.Context(), claudepool.Task{Prompt: commands(lines...)})
		if err != nil || r.Work == nil || r.Work.Branch != "claude-pool/"+string(r.TaskID) {
			t.Fatalf("Run = %+v, %v; want a branch", r, err)
		}
		slots, err := p.FindSlots(t.Context(), claudepool.SlotFilter{})
		if err != nil || len(slots) != 1 {
			t.Fatalf("FindSlots = %+v, %v", slots, err)
		}
		return r, slots[0].PID
	}
	first, pid := run(
		"sed -i -e 's/^two$/2/' list.txt", "git commit -qam two",
		"git switch -qc aside", "echo aside >aside.txt", "git add .", "git commit -qm aside", "git switch -q -",
		"sed -i -e 's/^nine$/9/' list.txt", "git stash -q", "git tag mark", "git config claudepool.test left",
		"echo loose >loose.txt",
	)
	second, again := run(
		"git log --all --format=%s", "git for-each-ref --format='%(refname)'", "git stash list", "git config claudepool.test || true", "ls", "cat list.txt",
		"sed -i -e 's/^five$/5/' list.txt", "git commit -qam five",
	)
	if m := p.Metrics(); again != pid || m.Warm != 2 {
		t.Errorf("the tasks ran in the processes %d and %d, %d of them in a warm one; want one for both", pid, again, m.Warm)
	}
	want := "begin\nrefs/heads/" + second.Work.Branch + "\nlist.txt\n" + git(t, repo, "show", "main:list.txt")
	if diff := cmp.Diff(want, strings.TrimSpace(second.Output)); diff != "" {
		t.Errorf("the second task found (-want +got):\n%s", diff)
	}
	if w := first.Work; w.Total != 2 || w.Files != 2 || w.Leftover != w.Head || len(w.Recovery) != 2 {
		t.Fatalf("the first has the work %+v, want its commit, what it left, and two recovery refs", w)
	}
	if w := second.Work; w.Total != 1 || w.Commits[0].Subject != "five" || w.Leftover != "" || len(w.Recovery) != 0 {
		t.Errorf("the second has the work %+v, want its commit alone", w)
	}
	for _, c := range []struct{ file, in, want string }{
		{first.Work.Branch, "list.txt", "2"}, {first.Work.Branch, "loose.txt", "loose"}, {second.Work.Branch, "list.txt", "5"},
		{first.Work.Recovery[0], "aside.txt", "aside"}, {first.Work.Recovery[1], "list.txt", "9"},
	} {
		if text := git(t, repo, "show", c.file+":"+c.in); !slices.Contains(strings.Fields(text), c.want) {
			t.Errorf("%s of %s is\n%s\nand lacks %q", c.in, c.file, text, c.want)
		}
	}
	refs := strings.Fields(git(t, repo, "for-each-ref", "--format=%(refname)", "refs/heads", "refs/tags", "refs/stash"))
	if diff := cmp.Diff([]string{"refs/heads/" + first.Work.Branch, "refs/heads/" + second.Work.Branch, "refs/heads/main"}, refs); diff != "" {
		t.Errorf("refs of the repository (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, checkout()); diff != "" {
		t.Errorf("the person's checkout has changed (-want +got):\n%s", diff)
	}
}

// TestRealAStepBeginsWithTheWorkOfThoseItNeeds has two steps go on with the work of a
// first, side by side, and a last one with that of both, if it can be merged.
func TestRealAStepBeginsWithTheWorkOfThoseItNeeds(t *testing.T) {
	for _, c := range []struct {
		name, edit string
		conflicts  bool
	}{{"merged", "s/^eight$/8/", false}, {"in conflict", "s/^five$/V/", true}} {
		t.Run(c.name, func(t *testing.T) {
			repo := repository(t)
			p, api := realPool(t, claudetest.Directives, claudepool.PoolConfig{Slots: 2, WorkDir: repo, Isolation: claudepool.IsolationWorktree, Agent: runsCommands})
			step := func(name, does string, needs ...string) claudepool.ChainStep {
				s := prompt(name, does)
				s.Needs = needs
				return s
			}
			last := commands("cat list.txt", "echo last >last.txt")
			id, err := p.SubmitChain(t.Context(), claudepool.Chain{Steps: []claudepool.ChainStep{
				step("a", editPrompt("s/^two$/2/")), step("b", editPrompt("s/^five$/5/"), "a"), step("c", editPrompt(c.edit), "a"), step("d", last, "b", "c"),
			}}, claudepool.ChainOptions{})
			if err != nil {
				t.Fatal(err)
			}
			r, err := p.WaitChain(t.Context(), id)
			d := r.Steps[3]
			if c.conflicts {
				if err == nil || d.State != claudepool.StepFailed || d.Outcome != claudepool.OutcomeConflict || !strings.Contains(d.Reason, "list.txt") {
					t.Errorf("step d is %s, %s (%s); want it failed as conflict, naming list.txt", d.State, d.Outcome, d.Reason)
				}
				if slices.ContainsFunc(api.Requests(), func(q *claudetest.Request) bool { return q.Prompt == last }) {
					t.Error("the model was asked for step d")
				}
				return
			}
			const want = "one\n2\nthree\nfour\n5\nsix\nseven\n8\nnine"
			if err != nil || strings.TrimSpace(d.Output) != want {
				t.Fatalf("WaitChain = %v; step d began with\n%s\nwant\n%s", err, d.Output, want)
			}
			m, err := p.MergeTask(t.Context(), id, worktree.MergeRequest{CheckedOut: worktree.FastForward})
			if err != nil || !m.Merged || m.Files != 2 {
				t.Fatalf("MergeTask = %+v, %v", m, err)
			}
			if got := git(t, repo, "show", "main:list.txt", "main:last.txt"); got != want+"\nlast" {
				t.Errorf("main has\n%s", got)
			}
		})
	}
}

// TestRealP6ADrainHandsOnWhatIsWritten drains a pool while a command of its task
// writes files, of which nothing is committed. The next pool on the store goes on in
// the same session, and has all of them.
func TestRealP6ADrainHandsOnWhatIsWritten(t *testing.T) {
	for _, kind := range []claudepool.Isolation{claudepool.IsolationWorktree, claudepool.IsolationClone} {
		t.Run(string(kind), func(t *testing.T) {
			cli := claudetest.CLI(t)
			repo := repository(t)
			iso := claudetest.Isolate(t, claudetest.NewAPI(t, claudetest.Match(claudetest.When("Continue from where you left off",
				bash("test -s beats.txt && sed -i -e 's/^five$/5/' list.txt"), claudetest.Text("went on"),
			))))
			c := newHost(t)
			c.Path, c.Env, c.Config, c.Dir, c.Slots = cli, iso.Env, "", repo, 1
			s := c.openStore(t)
			p := c.succeed(t, s, 0)
			seen := filepath.Join(t.TempDir(), "seen") // beats are written here only when they are in the place
			id := submit(t, p, claudepool.Task{
				Prompt: commands("echo staged >staged.txt", "git add .", "sed -i -e 's/^two$/2/' list.txt",
					"while :; do echo beat >>beats.txt; echo beat >>"+seen+"; sleep 0.02; done"),
				Isolation: kind, Overrides: claudepool.TaskOverrides{AgentConfig: runsCommands},
			})
			beats := func() int {
				text, err := os.ReadFile(seen)
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Fatal(err)
				}
				return strings.Count(string(text), "beat")
			}
			for end := time.Now().Add(5 * time.Minute); beats() == 0; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("the command does not run")
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			if sum, err := p.Drain(ctx); err != nil || sum.Requeued != 1 || sum.Pending != 1 {
				t.Fatalf("Drain = %+v, %v; want the task back in the queue", sum, err)
			}
			if err := errors.Join(p.Close(), s.Close()); err != nil {
				t.Fatal(err)
			}

			s = c.openStore(t)
			p = c.succeed(t, s, 0)
			r := wait(t, p, id)
			attempts, err := p.Attempts(t.Context(), id)
			if err != nil || len(attempts) != 2 || attempts[0].SessionID == "" || attempts[0].SessionID != attempts[1].SessionID {
				t.Fatalf("Attempts = %+v, %v; want two in one session", attempts, err)
			}
			if now := record(t, s, id); r.Outcome != claudepool.OutcomeOK || now.Crashes != 0 || now.Retries != 0 || r.Output != "went on" {
				t.Errorf("ended %s (%+v) with %q after %d crashes and %d retries; want ok, in a turn that goes on", r.Outcome, r.Failure, r.Output, now.Crashes, now.Retries)
			}
			if r.Work == nil || r.Work.Files != 3 {
				t.Fatalf("the work is %+v, want three files", r.Work)
			}
			text := git(t, repo, "show", r.Work.Branch+":list.txt", r.Work.Branch+":staged.txt", r.Work.Branch+":beats.txt")
			if n := strings.Count(text, "beat"); n < beats() || !strings.HasPrefix(text, "one\n2\nthree\nfour\n5\n") || !strings.Contains(text, "staged") {
				t.Errorf("the branch has %d beats, of %d or one more; its files are\n%s", n, beats(), text)
			}
			if got := git(t, repo, "status", "--porcelain"); got != "" {
				t.Errorf("the checkout has %q", got)
			}
		})
	}
}
