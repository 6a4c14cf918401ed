package claudepool_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/worktree"
)

func TestATaskBeginsWithTheWorkItNames(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		from  func(t *testing.T, p *claudepool.Pool, a, b claudepool.TaskID) []claudepool.TaskID // nil means of none
		merge string
		want  string
	}{
		"one": {func(_ *testing.T, _ *claudepool.Pool, a, _ claudepool.TaskID) []claudepool.TaskID {
			return []claudepool.TaskID{a}
		}, "", "a list.txt x"},
		"several": {func(_ *testing.T, _ *claudepool.Pool, a, b claudepool.TaskID) []claudepool.TaskID {
			return []claudepool.TaskID{a, b}
		}, "", "a b list.txt x"},
		"a branch": {nil, "other", "list.txt other x"},
		"one and a branch": {func(_ *testing.T, _ *claudepool.Pool, a, _ claudepool.TaskID) []claudepool.TaskID {
			return []claudepool.TaskID{a}
		}, "other", "a list.txt other x"},
		"several and a branch": {func(_ *testing.T, _ *claudepool.Pool, a, b claudepool.TaskID) []claudepool.TaskID {
			return []claudepool.TaskID{a, b}
		}, "other", "a b list.txt other x"},
		"one that never began": {func(t *testing.T, p *claudepool.Pool, a, _ claudepool.TaskID) []claudepool.TaskID {
			id := submit(t, p, claudepool.Task{Prompt: "add never", From: []claudepool.TaskID{a}, NotBefore: time.Now().Add(time.Hour)})
			if _, err := p.Cancel(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			return []claudepool.TaskID{id}
		}, "", "a list.txt x"},
		"a chain": {func(t *testing.T, p *claudepool.Pool, _, _ claudepool.TaskID) []claudepool.TaskID {
			r, err := p.ExecuteChain(t.Context(), claudepool.Chain{Steps: []claudepool.ChainStep{
				{Name: "c", Action: claudepool.StepAction{Prompt: "add c"}},
				{Name: "d", Action: claudepool.StepAction{Prompt: "add d"}},
			}}, claudepool.ChainOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return []claudepool.TaskID{r.TaskID}
		}, "", "c d list.txt x"},
		"one whose branch was cleaned up": {func(t *testing.T, p *claudepool.Pool, a, _ claudepool.TaskID) []claudepool.TaskID {
			if m, err := p.MergeTask(t.Context(), a, worktree.MergeRequest{}); err != nil || !m.Merged {
				t.Fatalf("MergeTask = %+v, %v", m, err)
			}
			gone, err := p.CleanPlaces(t.Context(), worktree.CleanOptions{})
			if err != nil || len(gone) == 0 {
				t.Fatalf("CleanPlaces = %+v, %v", gone, err)
			}
			return []claudepool.TaskID{a}
		}, "", "a list.txt x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := repository(t)
			for _, branch := range []string{"base", "target", "other"} {
				git(t, repo, "branch", branch)
			}
			git(t, repo, "checkout", "-q", "other")
			write(t, repo, "other", "other\n")
			git(t, repo, "add", ".")
			git(t, repo, "commit", "-q", "-m", "other")
			git(t, repo, "checkout", "-q", "main")
			p := isolated(t, repo, claudepool.PoolConfig{Worktrees: worktree.Options{Base: "base", Target: "target"}})
			a, b := submit(t, p, claudepool.Task{Prompt: "add a"}), submit(t, p, claudepool.Task{Prompt: "add b"})
			wait(t, p, a)
			wait(t, p, b)
			task := claudepool.Task{Prompt: "add x", Merge: c.merge}
			if c.from != nil {
				task.From = c.from(t, p, a, b)
			}
			r := wait(t, p, submit(t, p, task))
			if r.Work == nil {
				t.Fatalf("ended %s: %+v", r.Outcome, r.Failure)
			}
			if diff := cmp.Diff(strings.Fields(c.want), files(t, repo, r.Work.Branch)); diff != "" {
				t.Errorf("files of the branch (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheRecoveryOfAConflictOfNeedsIsRefused(t *testing.T) {
	t.Parallel()
	repo := repository(t)
	p := isolated(t, repo, claudepool.PoolConfig{Slots: 2})
	r, err := p.ExecuteChain(t.Context(), claudepool.Chain{Steps: []claudepool.ChainStep{
		{Name: "a", Action: claudepool.StepAction{Prompt: "sub five 5\nadd a"}},
		{Name: "b", Action: claudepool.StepAction{Prompt: "sub five V\nadd b"}},
		{
			Name: "c", Needs: []string{"a", "b"}, Action: claudepool.StepAction{Prompt: "add c"},
			OnFailure: claudepool.StepFailurePolicy{RecoveryPrompt: "add recovered"},
		},
	}}, claudepool.ChainOptions{})
	if err == nil || r.Steps[2].Outcome != claudepool.OutcomeConflict || !strings.Contains(r.Steps[2].Reason, "recovery: ") || !strings.Contains(r.Steps[2].Reason, "list.txt") {
		t.Errorf("ExecuteChain = %+v, %v; want the recovery of c to fail as conflict too, for it would begin without the work of a and b", r.Steps, err)
	}
}

func TestATaskWaitsForTheWorkItBeginsWith(t *testing.T) {
	t.Parallel()
	repo := repository(t)
	b := newBlocker()
	turn := func(ctx context.Context, a *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
		if strings.HasPrefix(p.Text, "block") {
			write(t, a.opts.Dir, "a", "a\n")
			return b.turn(ctx, a, p, emit)
		}
		return editor(ctx, a, p, emit)
	}
	p := isolated(t, repo, claudepool.PoolConfig{Slots: 2, Launcher: &fakeLauncher{turn: turn}})
	first := submit(t, p, claudepool.Task{Prompt: "block"})
	<-b.begun
	next := submit(t, p, claudepool.Task{Prompt: "add b", From: []claudepool.TaskID{first}})
	if e, err := p.Explain(t.Context(), next); err != nil || !strings.Contains(e.Reason, string(first)) {
		t.Errorf("Explain = %+v, %v; want it to name task %s", e, err, first)
	}
	// It must not run meanwhile: another slot is idle.
	wait(t, p, submit(t, p, claudepool.Task{Prompt: "add c"}))
	close(b.release)
	r := wait(t, p, next)
	if r.Work == nil {
		t.Fatalf("ended %s: %+v", r.Outcome, r.Failure)
	}
	if diff := cmp.Diff([]string{"a", "b", "list.txt"}, files(t, repo, r.Work.Branch)); diff != "" {
		t.Errorf("files of the branch (-want +got):\n%s", diff)
	}
}

func TestWorkThatCannotBeFoundIsRefused(t *testing.T) {
	t.Parallel()
	repo := repository(t)
	p := isolated(t, repo, claudepool.PoolConfig{})
	plain := submit(t, p, claudepool.Task{Prompt: "echo", Isolation: claudepool.IsolationNone})
	wait(t, p, plain)
	for name, c := range map[string]struct {
		task  claudepool.Task
		field string
	}{
		"no id":             {claudepool.Task{From: []claudepool.TaskID{""}}, "from[0]"},
		"a path":            {claudepool.Task{From: []claudepool.TaskID{"../x"}}, "from[0]"},
		"unknown":           {claudepool.Task{From: []claudepool.TaskID{"task-nope"}}, "from[0]"},
		"not isolated":      {claudepool.Task{From: []claudepool.TaskID{plain}}, "from[0]"},
		"no branch":         {claudepool.Task{Merge: "nope"}, "merge"},
		"a commit":          {claudepool.Task{Merge: "main~0"}, "merge"},
		"a pattern":         {claudepool.Task{Merge: "mai*"}, "merge"},
		"what looks a flag": {claudepool.Task{Merge: "-main"}, "merge"},
	} {
		t.Run(name, func(t *testing.T) {
			c.task.Prompt = "add x"
			_, err := p.Submit(t.Context(), c.task)
			if bad, isBad := errors.AsType[*claudepool.InvalidError](err); !isBad || bad.Field != c.field {
				t.Errorf("Submit = %v, want an InvalidError about %s", err, c.field)
			}
		})
	}
}

func TestP6ARejectionContinuesItsBranch(t *testing.T) {
	t.Parallel()
	for name, slots := range map[string]int{"same slot": 1, "another slot": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := repository(t)
			b := newBlocker()
			turn := func(ctx context.Context, a *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
				switch {
				case p.Text == "block":
					return b.turn(ctx, a, p, emit)
				case strings.Contains(p.Text, "add b"):
					p.Text = "add b"
				}
				return editor(ctx, a, p, emit)
			}
			p := isolated(t, repo, claudepool.PoolConfig{Slots: slots, Launcher: &fakeLauncher{turn: turn}})
			id := submit(t, p, reviewed("add a"))
			first := inReview(t, p, id)
			if slots > 1 {
				submit(t, p, claudepool.Task{Prompt: "block", Slot: first.SlotID})
				<-b.begun
				defer close(b.release)
			}
			// It is merged and cleaned up meanwhile: the branch stays, for there may be more.
			if m, err := p.MergeTask(t.Context(), id, worktree.MergeRequest{CheckedOut: worktree.FastForward}); err != nil || !m.Merged {
				t.Fatalf("MergeTask = %+v, %v", m, err)
			}
			if gone, err := p.CleanPlaces(t.Context(), worktree.CleanOptions{}); err != nil || len(gone) > 0 {
				t.Errorf("CleanPlaces = %+v, %v; want the branch to stay while its task waits for a review", gone, err)
			}
			reject(t, p, id, "add b")
			r := inReview(t, p, id)
			if slots > 1 && r.SlotID == first.SlotID {
				t.Errorf("both attempts ran on %s", r.SlotID)
			}
			if diff := cmp.Diff([]string{"a", "b", "list.txt"}, files(t, repo, r.Result.Work.Branch)); diff != "" {
				t.Errorf("files of the branch (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBuildRefusesPlacesThatCannotBe(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit func(c *claudepool.PoolConfig)
		want string
	}{
		"a slot with a folder of its own": {func(c *claudepool.PoolConfig) {
			c.Isolation, c.SlotConfigs = claudepool.IsolationWorktree, []claudepool.SlotConfig{{WorkDir: c.WorkDir}}
		}, "slot_configs[0].work_dir"},
		"leftover":       {func(c *claudepool.PoolConfig) { c.Worktrees.Leftover = "x" }, "Leftover"},
		"a path to copy": {func(c *claudepool.PoolConfig) { c.Worktrees.Copy = []string{"/etc"} }, "Copy"},
		"no set-up":      {func(c *claudepool.PoolConfig) { c.Worktrees.Setup = []string{""} }, "Setup"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := claudepool.PoolConfig{WorkDir: repository(t), Launcher: &fakeLauncher{turn: editor}, Worktrees: worktree.Options{Home: t.TempDir()}}
			c.edit(&cfg)
			p, err := claudepool.NewPoolBuilder().Config(cfg).Build(t.Context())
			if err == nil {
				p.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Build = %v, want an error about %s", err, c.want)
			}
		})
	}
}

func TestASlotWithAFolderOfItsOwnTakesNoIsolatedTask(t *testing.T) {
	t.Parallel()
	p := build(t, claudepool.PoolConfig{
		WorkDir: repository(t), Launcher: &fakeLauncher{turn: editor}, Worktrees: worktree.Options{Home: t.TempDir()},
		SlotConfigs: []claudepool.SlotConfig{{WorkDir: repository(t)}},
	})
	_, err := p.Submit(t.Context(), claudepool.Task{Prompt: "add x", Isolation: claudepool.IsolationClone})
	if bad, isBad := errors.AsType[*claudepool.InvalidError](err); !isBad || bad.Field != "isolation" {
		t.Errorf("Submit = %v, want an InvalidError about isolation", err)
	}
}

func TestP6WorkOutlivesHowItsTaskEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		task claudepool.Task
		end  func(p *claudepool.Pool, id claudepool.TaskID) error // nil: it ends by itself
		want claudepool.Outcome
	}{
		"failure": {claudepool.Task{Prompt: "add mine\nfail"}, nil, claudepool.OutcomeAgentError},
		"timeout": {claudepool.Task{Prompt: "block", Overrides: claudepool.TaskOverrides{Timeout: 200 * time.Millisecond}}, nil, claudepool.OutcomeTimeout},
		"cancel": {claudepool.Task{Prompt: "block"}, func(p *claudepool.Pool, id claudepool.TaskID) error {
			_, err := p.Cancel(t.Context(), id)
			return err
		}, claudepool.OutcomeCancelled},
		"scale down": {claudepool.Task{Prompt: "add mine", Slot: "slot-1"}, func(p *claudepool.Pool, id claudepool.TaskID) error {
			if _, err := p.Wait(t.Context(), id); err != nil {
				return err
			}
			_, err := p.ScaleDown(t.Context(), 1)
			return err
		}, claudepool.OutcomeOK},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := repository(t)
			b := newBlocker()
			turn := func(ctx context.Context, a *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
				if p.Text != "block" {
					return editor(ctx, a, p, emit)
				}
				write(t, a.opts.Dir, "mine", "mine\n")
				return b.turn(ctx, a, p, emit)
			}
			p := isolated(t, repo, claudepool.PoolConfig{Slots: 2, Launcher: &fakeLauncher{turn: turn}, Retry: claudepool.RetryPolicy{Max: -1}})
			id := submit(t, p, c.task)
			if c.end != nil {
				if c.task.Prompt == "block" {
					<-b.begun
				}
				if err := c.end(p, id); err != nil {
					t.Fatal(err)
				}
			}
			if r := wait(t, p, id); r.Outcome != c.want {
				t.Errorf("ended %s, want %s: %+v", r.Outcome, c.want, r.Failure)
			}
			if err := p.Close(); err != nil { // a cancelled one is saved after its end
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"list.txt", "mine"}, files(t, repo, "claude-pool/"+string(id))); diff != "" {
				t.Errorf("files of the branch (-want +got):\n%s", diff)
			}
		})
	}
}

func TestP6ARetryBeginsAgainAndTheOldBranchIsKept(t *testing.T) {
	t.Parallel()
	repo := repository(t)
	failed := false
	turn := func(ctx context.Context, a *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
		if !failed {
			failed = true
			return editor(ctx, a, claude.Prompt{Text: "add before\nfail"}, emit)
		}
		return editor(ctx, a, claude.Prompt{Text: "add after"}, emit)
	}
	p := isolated(t, repo, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: turn}, Retry: claudepool.RetryPolicy{Max: 1, First: time.Millisecond}})
	r := wait(t, p, submit(t, p, claudepool.Task{Prompt: "x"}))
	if r.Work == nil || r.Attempts != 2 {
		t.Fatalf("ended %s after %d attempts: %+v", r.Outcome, r.Attempts, r.Failure)
	}
	if diff := cmp.Diff([]string{"after", "list.txt"}, files(t, repo, r.Work.Branch)); diff != "" {
		t.Errorf("files of the branch (-want +got):\n%s", diff)
	}
	kept, err := p.Recoveries(t.Context())
	if err != nil || len(kept) != 1 {
		t.Fatalf("Recoveries = %+v, %v; want one", kept, err)
	}
	if diff := cmp.Diff([]string{"before", "list.txt"}, files(t, repo, kept[0].Ref)); diff != "" {
		t.Errorf("files of %s (-want +got):\n%s", kept[0].Ref, diff)
	}
}

func TestP6ASessionGoesOnWithItsWork(t *testing.T) {
	t.Parallel()
	for name, keep := range map[string]time.Duration{"from its transcript": 0, "in a process that was kept": time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := repository(t)
			l := &fakeLauncher{turn: func(ctx context.Context, a *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
				if strings.Contains(p.Text, "add c") {
					p.Text = "add c"
				}
				return editor(ctx, a, p, emit)
			}}
			p := isolated(t, repo, claudepool.PoolConfig{Launcher: l})
			a := wait(t, p, submit(t, p, claudepool.Task{Prompt: "add a", KeepSession: keep}))
			task := reviewed("add b")
			task.Session.Task = a.TaskID
			id := submit(t, p, task)
			b := inReview(t, p, id).Result
			if b.SessionID != a.SessionID || keep > 0 && b.Output != a.Output {
				t.Errorf("worked in session %s in %s, want %s in %s", b.SessionID, b.Output, a.SessionID, a.Output)
			}
			if diff := cmp.Diff([]string{"a", "b", "list.txt"}, files(t, repo, b.Work.Branch)); diff != "" {
				t.Errorf("files of the branch (-want +got):\n%s", diff)
			}
			// Its own branch is gone: what is left is that of the session before.
			git(t, repo, "update-ref", "-d", "refs/heads/"+b.Work.Branch)
			reject(t, p, id, "add c")
			if diff := cmp.Diff([]string{"a", "c", "list.txt"}, files(t, repo, inReview(t, p, id).Result.Work.Branch)); diff != "" {
				t.Errorf("files of the branch after it was removed (-want +got):\n%s", diff)
			}
		})
	}
}
