//go:build unix

package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
)

// actBadly brings the place into a state that is hard to take over.
func (a *agent) actBadly(ctx context.Context) error {
	switch a.IntN(11) {
	case 0:
		return a.all(ctx, "unfinished merge", func() { a.conflict(ctx, "merge", "-q") })
	case 1:
		return a.all(ctx, "unfinished rebase", func() { a.conflict(ctx, "rebase", "-q") })
	case 2:
		return a.all(ctx, "unfinished cherry-pick", func() { a.conflict(ctx, "cherry-pick") })
	case 3:
		return a.all(ctx, "nested repository", func() { a.nest(ctx) })
	case 4:
		return a.all(ctx, "lock", func() {
			dir := a.output(ctx, "rev-parse", "--absolute-git-dir")
			name := []string{"index.lock", "HEAD.lock"}[a.IntN(2)]
			if dir != "" {
				os.WriteFile(filepath.Join(dir, name), nil, 0o644)
			}
		})
	case 5:
		return a.all(ctx, "hidden change", func() {
			p := a.there()
			how := []string{"--assume-unchanged", "--skip-worktree"}[a.IntN(2)]
			a.git(ctx, "update-index", how, "--", p)
			a.write(p)
		})
	case 6:
		return a.all(ctx, "worktree in the worktree", func() {
			a.git(ctx, "worktree", "add", "-q", "-b", a.branch(), a.full(".claude/worktrees/inner"))
			a.write(".claude/worktrees/inner/inner")
		})
	case 7:
		return a.all(ctx, "bisect", func() { a.git(ctx, "bisect", "start", "HEAD", "HEAD~2") })
	case 8:
		return a.all(ctx, "settings", func() { a.set(ctx) })
	case 9:
		return a.all(ctx, "fresh start", func() {
			if a.chance(50) { // rarely enough
				return
			}
			if os.RemoveAll(a.full(".git")); a.clone { // with all that was only there
				a.refs, a.stashes = nil, nil
			}
			a.git(ctx, "init", "-q")
			if a.chance(60) {
				a.git(ctx, "add", "-A")
				a.commit(ctx)
			}
		})
	default:
		return a.all(ctx, "intent to add", func() { a.git(ctx, "add", "-N", "."); a.write(a.path()) })
	}
}

// set changes how git works in a clone. The settings of a worktree are the person's.
func (a *agent) set(ctx context.Context) {
	if fi, err := os.Lstat(a.full(".git")); !a.clone || err != nil || !fi.IsDir() {
		return
	}
	switch a.IntN(5) {
	case 0:
		a.git(ctx, "config", "user.name", "Somebody")
	case 1:
		os.WriteFile(a.full(".git/info/exclude"), []byte("*.txt\nnew\n"), 0o644)
	case 2:
		os.WriteFile(a.full(".git/info/attributes"), []byte("*.txt filter=empty\n"), 0o644)
		a.git(ctx, "config", "filter.empty.clean", "true")
	case 3:
		os.MkdirAll(a.full(".git/hooks"), 0o755)
		os.WriteFile(a.full(".git/hooks/pre-commit"), []byte("#!/bin/sh\nexit 1\n"), 0o755)
	case 4:
		a.git(ctx, "config", "core.fileMode", "false")
	}
}

// conflict has git stop in the middle of something.
func (a *agent) conflict(ctx context.Context, args ...string) {
	back := a.output(ctx, "symbolic-ref", "-q", "--short", "HEAD")
	if back == "" {
		back = a.branch()
		a.git(ctx, "switch", "-q", "-c", back)
	}
	a.write("a.txt")
	a.git(ctx, "add", "-A")
	if a.commit(ctx) != nil {
		return
	}
	other := a.branch()
	if a.git(ctx, "switch", "-q", "-c", other, "HEAD~1") != nil {
		return
	}
	a.write("a.txt")
	a.write("dir/c.txt")
	a.git(ctx, "add", "-A")
	a.commit(ctx)
	a.git(ctx, "switch", "-q", back)
	a.git(ctx, append(args, other)...)
	switch a.IntN(3) {
	case 0:
		a.write("a.txt") // as if to solve it
	case 1:
		a.write("a.txt")
		a.git(ctx, "add", "a.txt")
	}
}

// nest makes a repository inside, or works in the one that is there.
func (a *agent) nest(ctx context.Context) {
	dir := "nested"
	if a.chance(30) {
		dir = "dir/nested too"
	}
	if _, err := os.Lstat(a.full(dir + "/.git")); err != nil {
		if os.MkdirAll(a.full(dir), 0o755) != nil || a.gitIn(ctx, dir, "init", "-q") != nil {
			return
		}
	}
	a.write(dir + "/one")
	if a.chance(70) {
		a.gitIn(ctx, dir, "add", "-A")
		a.gitIn(ctx, dir, "commit", "-q", "-m", "nested")
	}
	for _, f := range strings.Fields("one two three") {
		if a.chance(50) {
			a.write(dir + "/" + f)
		}
	}
	if a.chance(30) {
		a.gitIn(ctx, dir, "add", "-A")
	}
	if a.chance(20) {
		a.gitIn(ctx, dir, "stash", "-q")
	}
}
