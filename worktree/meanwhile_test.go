//go:build unix

package worktree_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/claudepool/claudepool/worktree"
)

// onKept is a log that does something the first times that something was kept.
type onKept struct {
	slog.Handler
	times *atomic.Int32
	do    func()
}

func whenKept(times int32, do func()) *slog.Logger {
	h := onKept{slog.DiscardHandler, new(atomic.Int32), do}
	h.times.Store(times)
	return slog.New(h)
}

func (h onKept) Enabled(context.Context, slog.Level) bool { return true }

func (h onKept) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "kept on a recovery ref" && h.times.Add(-1) >= 0 {
		h.do()
	}
	return nil
}

func TestCleanPassesWhatIsUsedMeanwhile(t *testing.T) {
	t.Parallel()
	repo, elsewhere := newRepo(t), filepath.Join(realTemp(t), "elsewhere")
	log := whenKept(1, func() {
		sh(t, repo, `
git update-ref refs/heads/claude-pool/moved "$(git commit-tree -p main -m more main^{tree})"
git update-ref -d refs/heads/claude-pool/deleted
git for-each-ref --format='delete %(refname)' refs/claude-pool/work/begun 'refs/claude-pool/recovery/*/old*' | git update-ref --stdin
git worktree add -q `+elsewhere+` claude-pool/used`)
	})
	m := open(t, worktree.Options{Repo: repo, Log: log, Keep: time.Hour})
	p := acquire(t, m, worktree.Worktree)
	for _, id := range []string{"moved", "deleted", "used", "begun", "done"} {
		begin(t, p, worktree.Work{ID: id})
		end(t, p)
	}
	sh(t, repo, `git update-ref refs/claude-pool/recovery/20010101T000000.000000000Z/old main; git update-ref refs/claude-pool/recovery/20010101T000000.000000000Z/older main`)
	release(t, p)
	write(t, filepath.Join(p.Root(), "found"), "found\n")

	want := map[string]bool{"claude-pool/done": true, "claude-pool/begun": true}
	for _, r := range clean(t, m, worktree.CleanOptions{}) {
		if r.Branch != "" && !want[r.Branch] {
			t.Errorf("removed %+v, which is used, or was removed by others", r)
		}
		delete(want, r.Branch)
	}
	if len(want) > 0 {
		t.Errorf("not removed: %v", want)
	}
	if got := sh(t, repo, `git for-each-ref --format='%(refname:short)' refs/heads/claude-pool`); got != "claude-pool/moved\nclaude-pool/used" {
		t.Errorf("there are %q", got)
	}
	wantKept(t, repo, "found")
	if _, err := os.Lstat(p.Root()); !os.IsNotExist(err) {
		t.Errorf("the place is still there: %v", err)
	}
}

// Somebody moves a branch of the person's repository just when it is to be moved,
// or a place is to be cleaned that has it checked out.
func TestP6BranchThatMovesMeanwhileLosesNothing(t *testing.T) {
	t.Parallel()
	const more = `tree=$(printf '100644 blob %s\tx\n' $(echo "$1" | git hash-object -w --stdin) | git mktree); git update-ref $2 $(git commit-tree -p $2 -m more $tree); `
	add := func(text, branch string) string { return "set -- " + text + " " + branch + "; " + more }
	const work = "refs/heads/claude-pool/work"
	for name, test := range map[string]struct {
		kind      worktree.Kind
		script    string // in the place, of the first work
		before    string // in the repository
		meanwhile string
		again     bool   // another attempt is made
		check     string // in the repository
	}{
		"another attempt": {kind: worktree.Worktree, script: "echo n >n", meanwhile: add("theirs", work), again: true},
		"clone":           {kind: worktree.Clone, script: "echo n >n", before: add("before", work), meanwhile: add("theirs", work)},
		"person's branch": {kind: worktree.Worktree, script: "git checkout -q --detach; git commit -q --allow-empty -m lost; git checkout -q release; echo n >n", meanwhile: add("theirs", "refs/heads/release"), check: `test "$(git rev-list --count release)" = 3`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := newRepo(t)
			sh(t, repo, "git branch release")
			log := whenKept(2, func() { sh(t, repo, test.meanwhile) })
			p := acquire(t, open(t, worktree.Options{Repo: repo, Log: log}), test.kind)
			begin(t, p, worktree.Work{ID: "work"})
			sh(t, repo, test.before)
			sh(t, p.Root(), test.script)
			end(t, p)
			if test.again {
				begin(t, p, worktree.Work{ID: "work"})
			}
			wantKept(t, repo, "n", "theirs")
			if test.before != "" {
				wantKept(t, repo, "before")
			}
			sh(t, repo, test.check)
		})
	}
}

func TestP6WhatIsWrittenWhileWorkEndsIsKept(t *testing.T) {
	t.Parallel()
	kinds(t, func(t *testing.T, kind worktree.Kind) {
		repo := newRepo(t)
		var p *worktree.Place
		log := whenKept(1, func() {
			for _, name := range []string{"late", "file", "sub/two"} {
				write(t, filepath.Join(p.Root(), name), "late "+name+"\n")
			}
		})
		p = acquire(t, open(t, worktree.Options{Repo: repo, Leftover: worktree.Keep, Log: log}), kind)
		begin(t, p, worktree.Work{ID: "work"})
		write(t, filepath.Join(p.Root(), "file"), "early\n")
		end(t, p)
		wantKept(t, repo, "early", "late late", "late file", "late sub/two")
		if got := sh(t, p.Root(), "git status --porcelain"); got != "" {
			t.Errorf("the place is not clean: %s", got)
		}
	})
}
