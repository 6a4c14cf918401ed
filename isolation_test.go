package claudepool_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/worktree"
)

// git runs git in a folder and returns what it prints.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_SYSTEM="+os.DevNull)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// repository makes one with some lines in a file.
func repository(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git: ", err)
	}
	dir := t.TempDir()
	git(t, dir, "init", "-q", "-b", "main")
	git(t, dir, "config", "user.name", "Person")
	git(t, dir, "config", "user.email", "person@example.com")
	write(t, dir, "list.txt", "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\n")
	git(t, dir, "add", ".")
	git(t, dir, "commit", "-q", "-m", "begin")
	return dir
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// editor is an agent that does what a prompt says: "sub OLD NEW" replaces a line
// of list.txt in its folder, "add NAME" writes a file, "resolve" takes both sides of
// conflicts, and "die" ends its process.
func editor(_ context.Context, a *fakeAgent, p claude.Prompt, _ func(claude.Event)) (claude.Result, error) {
	dir := a.opts.Dir
	file := filepath.Join(dir, "list.txt")
	text := p.Text
	if strings.Contains(text, "Resolve each conflict") {
		text = "resolve"
	}
	for _, line := range strings.Split(text, "\n") {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		old, err := os.ReadFile(file)
		if err != nil {
			return claude.Result{}, err
		}
		switch words[0] {
		case "sub":
			err = os.WriteFile(file, []byte(strings.Replace(string(old), words[1]+"\n", words[2]+"\n", 1)), 0o644)
		case "add":
			err = os.WriteFile(filepath.Join(dir, words[1]), []byte(words[1]+"\n"), 0o644)
		case "resolve":
			var kept []string
			for _, l := range strings.SplitAfter(string(old), "\n") {
				if !strings.HasPrefix(l, "<<<<<<<") && !strings.HasPrefix(l, "=======") && !strings.HasPrefix(l, ">>>>>>>") {
					kept = append(kept, l)
				}
			}
			err = os.WriteFile(file, []byte(strings.Join(kept, "")), 0o644)
		case "die":
			return claude.Result{}, errDied
		case "fail":
			return claude.Result{Subtype: "error_during_execution", IsError: true}, nil
		}
		if err != nil {
			return claude.Result{}, err
		}
	}
	return ok(dir, 10), nil
}

// slowSave makes a hook that holds every commit up. It returns what says whether
// one waits, and lets all go on.
func slowSave(t *testing.T, repo string, c *claudepool.PoolConfig) (waits func() bool, release func()) {
	t.Helper()
	dir := t.TempDir()
	begun, done := filepath.Join(dir, "begun"), filepath.Join(dir, "done")
	hook := fmt.Sprintf("#!/bin/sh\ntouch '%s'\nn=0\nwhile [ ! -e '%s' ] && [ $n -lt 600 ]; do sleep 0.05; n=$((n+1)); done\n", begun, done)
	hooks := filepath.Join(repo, ".git", "hooks")
	if err := errors.Join(os.MkdirAll(hooks, 0o755), os.WriteFile(filepath.Join(hooks, "pre-commit"), []byte(hook), 0o755)); err != nil {
		t.Fatal(err)
	}
	c.Worktrees.Hooks = true
	release = func() { write(t, dir, "done", "") }
	t.Cleanup(release)
	return func() bool { _, err := os.Stat(begun); return err == nil }, release
}

// until waits for something to become true.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 1000 {
		if is() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("not in time: ", what)
}

func isolated(t *testing.T, repo string, c claudepool.PoolConfig) *claudepool.Pool {
	t.Helper()
	if c.Launcher == nil {
		c.Launcher = &fakeLauncher{turn: editor}
	}
	c.WorkDir = repo
	c.Isolation = claudepool.IsolationWorktree
	if c.Worktrees.Home == "" {
		c.Worktrees.Home = filepath.Join(t.TempDir(), "home")
	}
	return build(t, c)
}

func TestP6WorkInIsolationComesBack(t *testing.T) {
	t.Parallel()
	for _, kind := range []claudepool.Isolation{claudepool.IsolationWorktree, claudepool.IsolationClone} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			repo := repository(t)
			l := &fakeLauncher{turn: editor}
			p := isolated(t, repo, claudepool.PoolConfig{Slots: 2, Launcher: l})
			tasks := make([]claudepool.Task, 6)
			for i := range tasks {
				tasks[i] = claudepool.Task{Prompt: fmt.Sprintf("add file-%d", i), Isolation: kind}
			}
			out, err := p.FanOut(t.Context(), tasks, claudepool.FanOutOptions{})
			if err != nil || out.Census.OK != 6 {
				t.Fatalf("FanOut = %+v, %v", out, err)
			}
			if n := len(l.agents()); n > 4 {
				t.Errorf("%d processes were started for six tasks over two slots: a slot's place keeps its process warm", n)
			}
			for i, r := range out.Results {
				if r.Work == nil || r.Work.Branch != "claude-pool/"+string(r.TaskID) || r.Work.Files != 1 || r.Work.Total != 1 {
					t.Fatalf("result %d has the work %+v", i, r.Work)
				}
				if strings.HasPrefix(r.Output, repo) {
					t.Errorf("task %d worked in %s, in the person's checkout", i, r.Output)
				}
				m, err := p.MergeTask(t.Context(), r.TaskID, worktree.MergeRequest{CheckedOut: worktree.FastForward})
				if err != nil || !m.Merged {
					t.Fatalf("MergeTask %d = %+v, %v", i, m, err)
				}
			}
			if got := git(t, repo, "status", "--porcelain"); got != "" {
				t.Errorf("the person's checkout has %q", got)
			}
			if got := strings.Fields(git(t, repo, "ls-files")); len(got) != 7 {
				t.Errorf("main has %q, want all six files", got)
			}
		})
	}
}

func TestAConflictGoesBackToItsSession(t *testing.T) {
	t.Parallel()
	repo := repository(t)
	p := isolated(t, repo, claudepool.PoolConfig{Slots: 2})
	first := submit(t, p, claudepool.Task{Prompt: "sub five 5"})
	second := submit(t, p, claudepool.Task{Prompt: "sub five V"})
	a, b := wait(t, p, first), wait(t, p, second)
	merge := worktree.MergeRequest{CheckedOut: worktree.FastForward}
	if _, err := p.MergeTask(t.Context(), first, merge); err != nil {
		t.Fatal(err)
	}
	_, err := p.MergeTask(t.Context(), second, merge)
	conflict, isConflict := errors.AsType[*worktree.ConflictError](err)
	if !isConflict || len(conflict.Files) != 1 || conflict.Files[0].Path != "list.txt" {
		t.Fatalf("MergeTask = %v, want a conflict in list.txt", err)
	}
	lazy, err := p.ResolveConflict(t.Context(), second, conflict, "")
	if err != nil {
		t.Fatal(err)
	}
	if r := wait(t, p, lazy); r.Outcome != claudepool.OutcomeOK || r.SessionID != b.SessionID {
		t.Errorf("the task that resolves ended %s (%+v) in session %s, want ok in %s", r.Outcome, r.Failure, r.SessionID, b.SessionID)
	}
	m, err := p.MergeTask(t.Context(), lazy, merge)
	if err != nil || !m.Merged {
		t.Fatalf("MergeTask after that = %+v, %v", m, err)
	}
	if text := git(t, repo, "show", "main:list.txt"); !strings.Contains(text, "5\n") || !strings.Contains(text, "V\n") || strings.Contains(text, "<<<<") {
		t.Errorf("list.txt is\n%s\nwant both sides", text)
	}
	_ = a
}

func TestConflictsThatAreLeftMarkedFailTheTask(t *testing.T) {
	t.Parallel()
	repo := repository(t)
	turn := func(ctx context.Context, a *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
		if strings.Contains(p.Text, "Resolve each conflict") {
			return ok("done, they say", 10), nil
		}
		return editor(ctx, a, p, emit)
	}
	p := isolated(t, repo, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: turn}})
	first, second := submit(t, p, claudepool.Task{Prompt: "sub five 5"}), submit(t, p, claudepool.Task{Prompt: "sub five V"})
	wait(t, p, first)
	wait(t, p, second)
	git(t, repo, "merge", "-q", "claude-pool/"+string(first))
	_, err := p.MergeTask(t.Context(), second, worktree.MergeRequest{DryRun: true})
	conflict, isConflict := errors.AsType[*worktree.ConflictError](err)
	if !isConflict {
		t.Fatalf("MergeTask = %v", err)
	}
	id, err := p.ResolveConflict(t.Context(), second, conflict, "")
	if err != nil {
		t.Fatal(err)
	}
	check := func(id claudepool.TaskID, want claudepool.Outcome) {
		t.Helper()
		if r := wait(t, p, id); r.Outcome != want {
			t.Errorf("ended %s, want %s: the marks are still there", r.Outcome, want)
		}
		_, err := p.MergeTask(t.Context(), id, worktree.MergeRequest{CheckedOut: worktree.FastForward})
		conflict, isConflict := errors.AsType[*worktree.ConflictError](err)
		if !isConflict || len(conflict.Files) != 1 || conflict.Files[0].Path != "list.txt" {
			t.Errorf("MergeTask = %v, want a conflict in list.txt", err)
		}
	}
	check(id, claudepool.OutcomeConflict)
	check(submit(t, p, claudepool.Task{Prompt: "add more", Session: claudepool.Session{Task: id}}), claudepool.OutcomeConflict)
	check(submit(t, p, claudepool.Task{Prompt: "fail", Session: claudepool.Session{Task: id}}), claudepool.OutcomeAgentError)
	again, err := p.ResolveConflict(t.Context(), id, conflict, "")
	if err != nil {
		t.Fatal(err)
	}
	check(again, claudepool.OutcomeConflict)
}

func TestTheBranchOfAnAttemptThatWasCutOffGoesOn(t *testing.T) {
	t.Parallel()
	repo := repository(t)
	died := false
	turn := func(ctx context.Context, a *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
		if !died {
			died = true
			return editor(ctx, a, claude.Prompt{Text: "add before\ndie"}, emit)
		}
		return editor(ctx, a, claude.Prompt{Text: "add after"}, emit)
	}
	p := isolated(t, repo, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: turn}})
	r := wait(t, p, submit(t, p, claudepool.Task{Prompt: "x"}))
	if r.Outcome != claudepool.OutcomeOK || r.Work == nil {
		t.Fatalf("ended %s with %+v", r.Outcome, r.Work)
	}
	got := strings.Fields(git(t, repo, "ls-tree", "-r", "--name-only", r.Work.Branch))
	if diff := cmp.Diff([]string{"after", "before", "list.txt"}, got); diff != "" {
		t.Errorf("files of the branch (-want +got):\n%s", diff)
	}
}

func TestAChainHandsItsWorkOn(t *testing.T) {
	t.Parallel()
	repo := repository(t)
	p := isolated(t, repo, claudepool.PoolConfig{Slots: 3})
	step := func(name, does string, needs ...string) claudepool.ChainStep {
		return claudepool.ChainStep{Name: name, Needs: needs, Action: claudepool.StepAction{Prompt: does}}
	}
	id, err := p.SubmitChain(t.Context(), claudepool.Chain{Isolation: claudepool.IsolationWorktree, Steps: []claudepool.ChainStep{
		step("a", "add a"), step("b", "add b", "a"), step("c", "add c", "a"), step("d", "add d", "b", "c"),
	}}, claudepool.ChainOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := p.WaitChain(t.Context(), id); err != nil {
		t.Fatalf("WaitChain = %+v, %v", r, err)
	}
	m, err := p.MergeTask(t.Context(), id, worktree.MergeRequest{CheckedOut: worktree.FastForward})
	if err != nil || !m.Merged {
		t.Fatalf("MergeTask = %+v, %v", m, err)
	}
	got := strings.Fields(git(t, repo, "ls-files"))
	if diff := cmp.Diff([]string{"a", "b", "c", "d", "list.txt"}, got); diff != "" {
		t.Errorf("files of main (-want +got):\n%s", diff)
	}
}

func TestAStepWhoseNeedsConflictFails(t *testing.T) {
	t.Parallel()
	repo := repository(t)
	p := isolated(t, repo, claudepool.PoolConfig{Slots: 2})
	id, err := p.SubmitChain(t.Context(), claudepool.Chain{Steps: []claudepool.ChainStep{
		{Name: "a", Action: claudepool.StepAction{Prompt: "sub five 5"}},
		{Name: "b", Action: claudepool.StepAction{Prompt: "sub five V"}},
		{Name: "c", Needs: []string{"a", "b"}, Action: claudepool.StepAction{Prompt: "add c"}},
	}}, claudepool.ChainOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.WaitChain(t.Context(), id)
	if err == nil || r.Steps[2].Outcome != claudepool.OutcomeConflict || !strings.Contains(r.Steps[2].Reason, "list.txt") {
		t.Errorf("WaitChain = %+v, %v; want step c to fail as conflict, naming list.txt", r.Steps, err)
	}
}

func TestIsolationThatCannotBeHadIsRefused(t *testing.T) {
	t.Parallel()
	for name, dir := range map[string]func(t *testing.T) string{
		"no repository": func(t *testing.T) string { return t.TempDir() },
		"no commit":     func(t *testing.T) string { d := t.TempDir(); git(t, d, "init", "-q"); return d },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repository(t) // skips without git
			l := &fakeLauncher{turn: editor}
			p := build(t, claudepool.PoolConfig{Launcher: l, WorkDir: dir(t), Worktrees: worktree.Options{Home: t.TempDir()}})
			_, err := p.Submit(t.Context(), claudepool.Task{Prompt: "add x", Isolation: claudepool.IsolationWorktree})
			bad, isBad := errors.AsType[*claudepool.InvalidError](err)
			if !isBad || bad.Field != "isolation" {
				t.Errorf("Submit = %v, want an InvalidError about isolation", err)
			}
		})
	}
}

func TestP6MergingAChainMovesNoBranchOfOthers(t *testing.T) {
	t.Parallel()
	repo := repository(t)
	p := isolated(t, repo, claudepool.PoolConfig{Slots: 2})
	step := func(name string, needs ...string) claudepool.ChainStep {
		return claudepool.ChainStep{Name: name, Needs: needs, Action: claudepool.StepAction{Prompt: "add " + name}}
	}
	id, err := p.SubmitChain(t.Context(), claudepool.Chain{Steps: []claudepool.ChainStep{step("a"), step("b", "a"), step("c", "a")}}, claudepool.ChainOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := p.WaitChain(t.Context(), id); err != nil {
		t.Fatalf("WaitChain = %+v, %v", r, err)
	}
	git(t, repo, "branch", "claude-pool/"+string(id)) // somebody's own
	before := git(t, repo, "for-each-ref", "--format=%(refname) %(objectname)")
	merge := worktree.MergeRequest{CheckedOut: worktree.FastForward, DryRun: true}
	if _, err := p.MergeTask(t.Context(), id, merge); err != nil {
		t.Fatal(err)
	}
	if got := git(t, repo, "for-each-ref", "--format=%(refname) %(objectname)"); got != before {
		t.Errorf("refs after a dry run (-want +got):\n%s", cmp.Diff(before, got))
	}
	merge.DryRun = false
	if m, err := p.MergeTask(t.Context(), id, merge); err != nil || !m.Merged {
		t.Fatalf("MergeTask = %+v, %v", m, err)
	}
	if diff := cmp.Diff([]string{"a", "b", "c", "list.txt"}, strings.Fields(git(t, repo, "ls-files"))); diff != "" {
		t.Errorf("files of main (-want +got):\n%s", diff)
	}
	if got := git(t, repo, "rev-list", "--count", "claude-pool/"+string(id)); got != "1" {
		t.Errorf("the branch that somebody else has made has %s commits now", got)
	}
}

func TestWorkThatMayStillChangeIsNotMerged(t *testing.T) {
	t.Parallel()
	repo := repository(t)
	begun, goOn := make(chan struct{}), make(chan struct{})
	turn := func(ctx context.Context, a *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
		if p.Text != "cancelled" {
			return editor(ctx, a, p, emit)
		}
		write(t, a.opts.Dir, "mine", "mine\n")
		close(begun)
		<-ctx.Done()
		<-goOn // until it is interrupted
		return claude.Result{Interrupted: true, Subtype: "error_during_execution", IsError: true}, context.Cause(ctx)
	}
	p := isolated(t, repo, claudepool.PoolConfig{Slots: 2, Launcher: &fakeLauncher{turn: turn}})
	id := submit(t, p, claudepool.Task{Prompt: "cancelled"})
	<-begun
	merge := worktree.MergeRequest{CheckedOut: worktree.FastForward}
	if _, err := p.MergeTask(t.Context(), id, merge); !errors.Is(err, claudepool.ErrStillWrites) {
		t.Errorf("MergeTask while it runs = %v", err)
	}
	if _, err := p.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if m, err := p.MergeTask(t.Context(), id, merge); !errors.Is(err, claudepool.ErrStillWrites) {
		t.Errorf("MergeTask at once = %+v, %v", m, err)
	}
	close(goOn)
	for {
		m, err := p.MergeTask(t.Context(), id, merge)
		if errors.Is(err, claudepool.ErrStillWrites) {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if err != nil || !m.Merged || git(t, repo, "show", "main:mine") != "mine" {
			t.Errorf("MergeTask when it is saved = %+v, %v", m, err)
		}
		break
	}
}

func TestResolveConflictRefuses(t *testing.T) {
	t.Parallel()
	repo := repository(t)
	b := newBlocker()
	turn := func(ctx context.Context, a *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
		if p.Text == "block" {
			return b.turn(ctx, a, p, emit)
		}
		return editor(ctx, a, p, emit)
	}
	p := isolated(t, repo, claudepool.PoolConfig{Slots: 3, Launcher: &fakeLauncher{turn: turn}})
	running := submit(t, p, claudepool.Task{Prompt: "block"})
	<-b.begun
	defer close(b.release)
	plain := submit(t, p, claudepool.Task{Prompt: "add x", Isolation: claudepool.IsolationNone})
	wait(t, p, plain)
	done := submit(t, p, claudepool.Task{Prompt: "sub five 5"})
	wait(t, p, done)
	chain, err := p.SubmitChain(t.Context(), claudepool.Chain{Steps: []claudepool.ChainStep{
		{Name: "a", Action: claudepool.StepAction{Prompt: "sub five V"}},
		{Name: "b", Needs: []string{"a"}, Action: claudepool.StepAction{Prompt: "add b"}},
		{Name: "c", Needs: []string{"a"}, Action: claudepool.StepAction{Prompt: "add c"}},
	}}, claudepool.ChainOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ends, err := p.WaitChain(t.Context(), chain)
	if err != nil {
		t.Fatal(err)
	}
	write(t, repo, "list.txt", "mine\n")
	git(t, repo, "commit", "-qam", "mine")
	conflict := &worktree.ConflictError{Target: "main", Files: []worktree.FileConflict{{Path: "list.txt"}}}
	for name, tt := range map[string]struct {
		id       claudepool.TaskID
		conflict *worktree.ConflictError
		want     string
	}{
		"no conflict":   {done, nil, "conflict must be"},
		"no target":     {done, &worktree.ConflictError{}, "conflict must be"},
		"no isolation":  {plain, conflict, claudepool.ErrNoWork.Error()},
		"running":       {running, conflict, claudepool.ErrStillWrites.Error()},
		"several steps": {chain, conflict, string(ends.Steps[2].TaskID)},
	} {
		if id, err := p.ResolveConflict(t.Context(), tt.id, tt.conflict, ""); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %q, %v; want an error with %q", name, id, err, tt.want)
		}
	}
	if _, err := p.MergeTask(t.Context(), chain, worktree.MergeRequest{DryRun: true}); !errors.Is(err, worktree.ErrConflict) || !strings.Contains(err.Error(), string(ends.Steps[2].TaskID)) {
		t.Errorf("MergeTask of the chain = %v, want a conflict, and the steps to join", err)
	}
	first, err := p.ResolveConflict(t.Context(), done, conflict, "key")
	if err != nil {
		t.Fatal(err)
	}
	conflict.Files = append(conflict.Files, worktree.FileConflict{Path: "another"})
	if again, err := p.ResolveConflict(t.Context(), done, conflict, "key"); again != first || err != nil {
		t.Errorf("with the same key and other files: %s, %v; want %s", again, err, first)
	}
	if _, err := p.ResolveConflict(t.Context(), plain, conflict, "key"); err == nil {
		t.Error("a key was taken for another task")
	}
}

func TestP6WhatAProcessWritesBetweenTasksIsNotTheNextTasks(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		hold  time.Duration
		late  func(a *fakeAgent) // when the first task has ended
		first bool               // it is the first task's, else on a recovery ref
	}{
		"until its reset":            {first: true},
		"while it holds its session": {hold: time.Minute, late: func(*fakeAgent) {}},
		"in a turn nobody asked for": {late: func(a *fakeAgent) { a.strays.Add(1) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := repository(t)
			l := &fakeLauncher{turn: editor}
			var once sync.Once
			late := func(a *fakeAgent) { once.Do(func() { write(t, a.opts.Dir, "late", "late\n") }) }
			if tc.late == nil {
				l.reset = late
			}
			p := isolated(t, repo, claudepool.PoolConfig{Launcher: l})
			a := wait(t, p, submit(t, p, claudepool.Task{Prompt: "add a", KeepSession: tc.hold}))
			if tc.late != nil {
				agent := l.agents()[0]
				tc.late(agent)
				late(agent)
			}
			b := wait(t, p, submit(t, p, claudepool.Task{Prompt: "add b"}))
			want := []string{"a", "list.txt"}
			if tc.first {
				want = []string{"a", "late", "list.txt"}
			}
			if diff := cmp.Diff(want, files(t, repo, a.Work.Branch)); diff != "" {
				t.Errorf("files of the first task (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{"b", "list.txt"}, files(t, repo, b.Work.Branch)); diff != "" {
				t.Errorf("files of the next task (-want +got):\n%s", diff)
			}
			kept, err := p.Recoveries(t.Context())
			if err != nil || len(kept) == 1 == tc.first {
				t.Errorf("Recoveries = %+v, %v", kept, err)
			}
		})
	}
}

// extending is a store that counts how often claims are extended.
type extending struct {
	claudepool.PoolStore
	times atomic.Int64
}

func (s *extending) Extend(ctx context.Context, ref claudepool.ClaimRef, lease time.Time, cost claudepool.Microdollars) error {
	s.times.Add(1)
	return s.PoolStore.Extend(ctx, ref, lease, cost)
}

func TestP3TheClaimHoldsWhileWorkIsSaved(t *testing.T) {
	t.Parallel()
	repo := repository(t)
	s := &extending{PoolStore: claudepool.NewMemoryStore()}
	c := claudepool.PoolConfig{Store: s, StallTimeout: time.Second}
	waits, release := slowSave(t, repo, &c)
	p := isolated(t, repo, c)
	id := submit(t, p, claudepool.Task{Prompt: "add a", Overrides: claudepool.TaskOverrides{Timeout: time.Second}})
	until(t, "the work is saved", waits)
	before := s.times.Load()
	time.Sleep(1500 * time.Millisecond) // longer than a turn may take, or be silent
	until(t, "the claim is extended", func() bool { return s.times.Load() > before })
	release()
	if r := wait(t, p, id); r.Outcome != claudepool.OutcomeOK || r.Work == nil || r.Attempts != 1 {
		t.Errorf("ended %s (%+v) with the work %+v after %d attempts, want ok after one", r.Outcome, r.Failure, r.Work, r.Attempts)
	}
}

func TestP8DrainDoesNotWaitForWorkToBeSaved(t *testing.T) {
	t.Parallel()
	repo := repository(t)
	store := durable{claudepool.NewMemoryStore()}
	t.Cleanup(func() { store.Close() })
	c := claudepool.PoolConfig{Store: store}
	c.Worktrees.Home = filepath.Join(t.TempDir(), "home")
	waits, release := slowSave(t, repo, &c)
	p := isolated(t, repo, c)
	id := submit(t, p, claudepool.Task{Prompt: "add a"})
	until(t, "the work is saved", waits)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	begin := time.Now()
	sum, err := p.Drain(ctx)
	if err != nil || sum.Requeued != 1 {
		t.Errorf("Drain = %+v, %v; want the task to be handed back", sum, err)
	}
	if d := time.Since(begin); d > 15*time.Second {
		t.Errorf("Drain took %v", d)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	release()
	c.Launcher = &fakeLauncher{turn: func(ctx context.Context, a *fakeAgent, _ claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
		return editor(ctx, a, claude.Prompt{Text: "add b"}, emit)
	}}
	r := wait(t, isolated(t, repo, c), id)
	if r.Outcome != claudepool.OutcomeOK {
		t.Fatalf("ended %s: %+v", r.Outcome, r.Failure)
	}
	if diff := cmp.Diff([]string{"a", "b", "list.txt"}, files(t, repo, r.Work.Branch)); diff != "" {
		t.Errorf("files of the branch (-want +got):\n%s", diff)
	}
}

func TestP8CloseDoesNotWaitForGit(t *testing.T) {
	repo := repository(t)
	p := build(t, claudepool.PoolConfig{WorkDir: repo, Launcher: &fakeLauncher{turn: editor}, Worktrees: worktree.Options{Home: t.TempDir()}})
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "git"), []byte("#!/bin/sh\ntouch "+bin+"/begun\nexec sleep 60\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	submitted := make(chan error, 1)
	go func() {
		_, err := p.Submit(context.WithoutCancel(t.Context()), claudepool.Task{Prompt: "x", Isolation: claudepool.IsolationWorktree})
		submitted <- err
	}()
	until(t, "git runs", func() bool { _, err := os.Stat(filepath.Join(bin, "begun")); return err == nil })
	begin := time.Now()
	if err := p.Close(); err != nil || time.Since(begin) > 15*time.Second {
		t.Errorf("Close = %v after %v", err, time.Since(begin))
	}
	if err := <-submitted; !errors.Is(err, claudepool.ErrClosed) {
		t.Errorf("Submit = %v, want ErrClosed", err)
	}
}

func TestP6WorkThatCannotBeSavedIsNamed(t *testing.T) {
	t.Parallel()
	wreck := func(t *testing.T, a *fakeAgent) {
		dir := git(t, a.opts.Dir, "rev-parse", "--absolute-git-dir")
		write(t, dir, "HEAD", "garbage\n")
		write(t, a.opts.Dir, "mine", "mine\n")
	}
	done, failed := ok("done", 10), claude.Result{Subtype: "error_during_execution", IsError: true}
	for name, tc := range map[string]struct {
		does  func(t *testing.T, repo string, a *fakeAgent)
		says  claude.Result
		class claudepool.Outcome
		want  string // in the message
		state worktree.State
	}{
		"place removed": {
			func(t *testing.T, repo string, a *fakeAgent) {
				git(t, repo, "worktree", "remove", "--force", a.opts.Dir)
			},
			done, claudepool.OutcomeCrashed, "is gone", "",
		},
		"place wrecked": {
			func(t *testing.T, repo string, a *fakeAgent) { wreck(t, a) },
			done, claudepool.OutcomeCrashed, "look for it in", worktree.Stale,
		},
		"place wrecked by an agent that failed": {
			func(t *testing.T, repo string, a *fakeAgent) { wreck(t, a) },
			failed, claudepool.OutcomeAgentError, "look for it in", worktree.Stale,
		},
		"process that does not end": {
			func(t *testing.T, repo string, a *fakeAgent) {
				a.noReset.Store(true)
				write(t, a.opts.Dir, "mine", "mine\n")
			},
			done, claudepool.OutcomeCrashed, "look for it in", worktree.Busy,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := repository(t)
			var turns atomic.Int64
			l := &fakeLauncher{turn: func(ctx context.Context, a *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
				if turns.Add(1) > 1 {
					return editor(ctx, a, p, emit)
				}
				tc.does(t, repo, a)
				return tc.says, nil
			}}
			l.close = func(a *fakeAgent) error {
				if a.noReset.Load() {
					return errors.New("it does not end")
				}
				return nil
			}
			p := isolated(t, repo, claudepool.PoolConfig{Launcher: l})
			r := wait(t, p, submit(t, p, claudepool.Task{Prompt: "x"}))
			if r.Outcome != tc.class || r.Attempts != 1 || r.Output != tc.says.Text {
				t.Errorf("ended %s after %d attempts with %q: %+v", r.Outcome, r.Attempts, r.Output, r.Failure)
			}
			contains(t, "message", r.Failure.Message, tc.want)
			contains(t, "message", r.Failure.Message, "worktree-1")
			contains(t, "message", r.Failure.Message, "claude-pool/"+string(r.TaskID))
			next := wait(t, p, submit(t, p, claudepool.Task{Prompt: "add b"}))
			if next.Outcome != claudepool.OutcomeOK {
				t.Fatalf("the next task ended %s: %+v", next.Outcome, next.Failure)
			}
			if diff := cmp.Diff([]string{"b", "list.txt"}, files(t, repo, next.Work.Branch)); diff != "" {
				t.Errorf("files of the next task (-want +got):\n%s", diff)
			}
			places, err := p.Places(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range places {
				if o.Name == "worktree-1" && tc.state != "" && (o.State != tc.state || o.Work != string(r.TaskID)) {
					t.Errorf("the place is %+v, want %s with the work open", o, tc.state)
				}
			}
		})
	}
}

func TestABrokenPlaceIsGivenUpForAnother(t *testing.T) {
	t.Parallel()
	for name, breaks := range map[string]func(t *testing.T, repo, place string){
		"folder removed": func(t *testing.T, _, place string) {
			if err := os.RemoveAll(place); err != nil {
				t.Fatal(err)
			}
		},
		"worktree removed": func(t *testing.T, repo, place string) { git(t, repo, "worktree", "remove", "--force", place) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := repository(t)
			p := isolated(t, repo, claudepool.PoolConfig{})
			breaks(t, repo, wait(t, p, submit(t, p, claudepool.Task{Prompt: "add a"})).Output)
			for range 2 {
				r := wait(t, p, submit(t, p, claudepool.Task{Prompt: "add b"}))
				if r.Outcome != claudepool.OutcomeOK || r.Attempts != 1 {
					t.Fatalf("ended %s after %d attempts: %+v", r.Outcome, r.Attempts, r.Failure)
				}
				if diff := cmp.Diff([]string{"b", "list.txt"}, files(t, repo, r.Work.Branch)); diff != "" {
					t.Errorf("files (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestP8WithoutAnyPlaceTasksFailAndASlotTriesAgain(t *testing.T) {
	t.Parallel()
	repo := repository(t)
	c := claudepool.PoolConfig{Restart: claudepool.RestartPolicy{First: 10 * time.Millisecond, Most: 50 * time.Millisecond, Cooldown: 200 * time.Millisecond}}
	c.Worktrees.Home = filepath.Join(t.TempDir(), "home")
	p := isolated(t, repo, c)
	wait(t, p, submit(t, p, claudepool.Task{Prompt: "add a"}))
	away := c.Worktrees.Home + "-away"
	if err := errors.Join(os.Rename(c.Worktrees.Home, away), os.WriteFile(c.Worktrees.Home, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	r := wait(t, p, submit(t, p, claudepool.Task{Prompt: "add b"}))
	if r.Outcome != claudepool.OutcomeLaunch {
		t.Errorf("ended %s (%+v), want launch", r.Outcome, r.Failure)
	}
	contains(t, "message", r.Failure.Message, "no place to work in")
	s, err := p.Status(t.Context())
	if err != nil || s.Slots[0].Detail == "" {
		t.Errorf("Status = %+v, %v; want it to say what is wrong with the slot", s, err)
	}
	if err := errors.Join(os.Remove(c.Worktrees.Home), os.Rename(away, c.Worktrees.Home)); err != nil {
		t.Fatal(err)
	}
	until(t, "tasks run again", func() bool {
		return wait(t, p, submit(t, p, claudepool.Task{Prompt: "add c"})).Outcome == claudepool.OutcomeOK
	})
}

func TestATaskWaitsForItsBranch(t *testing.T) {
	t.Parallel()
	repo := repository(t)
	p := isolated(t, repo, claudepool.PoolConfig{})
	id := submit(t, p, claudepool.Task{Prompt: "add a", Review: &claudepool.ReviewPolicy{}})
	reviewed := func(s claudepool.TaskState) bool { return s == claudepool.StatePendingReview || s.Terminal() }
	if _, err := p.WaitFor(t.Context(), id, reviewed); err != nil {
		t.Fatal(err)
	}
	git(t, repo, "checkout", "-q", "claude-pool/"+string(id))
	if _, err := p.RejectResult(t.Context(), id, "add b"); err != nil {
		t.Fatal(err)
	}
	until(t, "the task says what it waits for", func() bool {
		e, err := p.Explain(t.Context(), id)
		return err == nil && e.State == claudepool.StatePending && strings.Contains(e.Reason, "is checked out in "+repo)
	})
	git(t, repo, "checkout", "-q", "main")
	r, err := p.WaitFor(t.Context(), id, reviewed)
	if err != nil || r.State != claudepool.StatePendingReview || r.Attempts != 2 {
		t.Fatalf("the task is %s after %d attempts (%v), want it reviewed again after two", r.State, r.Attempts, err)
	}
	if diff := cmp.Diff([]string{"a", "b", "list.txt"}, files(t, repo, "claude-pool/"+string(id))); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestTheSetUpCommandOfAPlace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, tc := range map[string]struct {
		command string
		want    claudepool.Outcome
	}{
		"takes long":       {"sleep 1.5", claudepool.OutcomeOK},
		"fails at first":   {"echo >> %[1]s; [ $(wc -l < %[1]s) -ge 3 ]", claudepool.OutcomeOK},
		"fails every time": {"echo registry unreachable; exit 3", claudepool.OutcomeLaunch},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			command := tc.command
			if strings.Contains(command, "%") {
				command = fmt.Sprintf(command, filepath.Join(dir, "count"))
			}
			c := claudepool.PoolConfig{StallTimeout: time.Second, Restart: claudepool.RestartPolicy{First: 10 * time.Millisecond}}
			c.Worktrees.Setup = []string{"sh", "-c", command}
			p := isolated(t, repository(t), c)
			r := wait(t, p, submit(t, p, claudepool.Task{Prompt: "add a"}))
			if r.Outcome != tc.want || r.Attempts != 1 {
				t.Fatalf("ended %s after %d attempts (%+v), want %s after one", r.Outcome, r.Attempts, r.Failure, tc.want)
			}
			if r.Failure != nil {
				contains(t, "message", r.Failure.Message, "--worktree-setup")
				contains(t, "message", r.Failure.Message, "registry unreachable")
			}
		})
	}
}

func TestTheWorkOfACancelledTaskIsNamed(t *testing.T) {
	t.Parallel()
	repo := repository(t)
	begun := make(chan struct{})
	turn := func(ctx context.Context, a *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
		write(t, a.opts.Dir, "mine", "mine\n")
		close(begun)
		<-ctx.Done()
		return claude.Result{Interrupted: true, Subtype: "error_during_execution", IsError: true}, context.Cause(ctx)
	}
	p := isolated(t, repo, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: turn}})
	id := submit(t, p, claudepool.Task{Prompt: "x"})
	<-begun
	if _, err := p.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	until(t, "the result names the work", func() bool { return wait(t, p, id).Work != nil })
	r := wait(t, p, id)
	if r.State != claudepool.StateCancelled || r.Work.Branch != "claude-pool/"+string(id) || r.Work.Files != 1 {
		t.Errorf("the task is %s with the work %+v", r.State, r.Work)
	}
}

func TestASessionIsToldOfItsPlace(t *testing.T) {
	t.Parallel()
	l := &fakeLauncher{turn: editor}
	p := isolated(t, repository(t), claudepool.PoolConfig{Slots: 2, Launcher: l})
	var prompts []string
	session := claudepool.Session{}
	for _, slot := range []string{"slot-0", "slot-1", "slot-1"} {
		r := wait(t, p, submit(t, p, claudepool.Task{Prompt: "add a", Slot: slot, Session: session, KeepSession: time.Minute}))
		session.Task = r.TaskID
		for _, a := range l.agents() {
			if said := a.said(); a.opts.Dir == r.Output && len(said) > 0 {
				prompts = append(prompts, strings.ReplaceAll(said[len(said)-1], r.Output, "HERE"))
			}
		}
	}
	if len(prompts) != 3 || prompts[0] != "add a" || !strings.Contains(prompts[1], "directory is now HERE.") || prompts[2] != "add a" {
		t.Errorf("the agents were asked %q, want the second to be told where it is", prompts)
	}
}
