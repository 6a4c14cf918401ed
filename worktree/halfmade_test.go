//go:build unix

package worktree_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claudepool/claudepool/worktree"
)

// halfMade leaves the git folder of a worktree as a "git worktree add" does that
// is killed at some moment.
func halfMade(t *testing.T, repo, name, root, head, commondir, log string) string {
	t.Helper()
	dir := filepath.Join(repo, ".git", "worktrees", name)
	write(t, filepath.Join(dir, "locked"), "initializing")
	write(t, filepath.Join(dir, "gitdir"), filepath.Join(root, ".git")+"\n")
	write(t, filepath.Join(dir, "HEAD"), head)
	write(t, filepath.Join(dir, "commondir"), commondir)
	if log != "" {
		write(t, filepath.Join(dir, "logs", "HEAD"), log)
	}
	return dir
}

const zeroHEAD = "0000000000000000000000000000000000000000\n"

func TestHalfMadeWorktreesAreRemoved(t *testing.T) {
	t.Parallel()
	for name, left := range map[string][3]string{
		"HEAD is zero":               {zeroHEAD, "../..\n"},
		"commondir is empty":         {zeroHEAD, ""},
		"HEAD is zero, and logged":   {zeroHEAD, "../..\n", "0 1 where it was to go\n"},
		"HEAD and commondir are not": {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo, home := newRepo(t), filepath.Join(realTemp(t), "home")
			m := open(t, worktree.Options{Repo: repo, Home: home})
			p := acquire(t, m, worktree.Clone)
			begin(t, p, worktree.Work{ID: "first"})
			write(t, filepath.Join(p.Root(), "new"), "n\n")
			places := filepath.Dir(p.Root())

			// One that a program of ours left, while another still has its places.
			ours := halfMade(t, repo, "worktree-7", filepath.Join(places, "worktree-7"), left[0], left[1], left[2])
			inMerge := halfMade(t, repo, "claude-pool-check", filepath.Join(places, "merge", "0123", "scratch-1", "claude-pool-check"), left[0], left[1], left[2])
			if err := os.MkdirAll(filepath.Join(places, "merge", "0123"), 0o700); err != nil {
				t.Fatal(err)
			}
			other := open(t, worktree.Options{Repo: repo, Home: home})
			for _, dir := range []string{ours, inMerge} {
				if _, err := os.Lstat(dir); !os.IsNotExist(err) {
					t.Errorf("%s is still there after Open: %v", dir, err)
				}
			}

			ours = halfMade(t, repo, "worktree-7", filepath.Join(places, "worktree-7"), left[0], left[1], left[2])
			release(t, acquire(t, other, worktree.Worktree))
			if _, err := os.Lstat(ours); !os.IsNotExist(err) {
				t.Errorf("it is still there after Acquire: %v", err)
			}

			// One that an agent left in a place: it is there as long as that is in use.
			inner := halfMade(t, repo, "inner", filepath.Join(p.Root(), "wt", "inner"), left[0], left[1], left[2])
			write(t, filepath.Join(p.Root(), "wt", "inner", "file"), "inner\n")
			if left[1] != "" { // with that nobody can do anything until the place is free
				release(t, acquire(t, open(t, worktree.Options{Repo: repo, Home: home}), worktree.Worktree))
			}
			if _, err := os.Lstat(inner); err != nil {
				t.Errorf("a worktree that may be in the making was removed: %v", err)
			}
			end(t, p)
			wantKept(t, repo, "n", "inner")
			sh(t, repo, "git worktree list && git fsck && git branch -f x HEAD")
		})
	}
}

func TestWorktreesOfOthersAreNotRepaired(t *testing.T) {
	t.Parallel()
	repo, home := newRepo(t), filepath.Join(realTemp(t), "home")
	m := open(t, worktree.Options{Repo: repo, Home: home})
	p := acquire(t, m, worktree.Worktree)
	// Somebody else's, and one whose files somebody may have worked on.
	theirs := halfMade(t, repo, "theirs", filepath.Join(realTemp(t), "theirs"), zeroHEAD, "../..\n", "")
	used := halfMade(t, repo, "used", filepath.Join(filepath.Dir(p.Root()), "worktree-8"), zeroHEAD, "../..\n", "")
	write(t, filepath.Join(used, "index"), "")
	whole := halfMade(t, repo, "whole", filepath.Join(filepath.Dir(p.Root()), "worktree-9"), sh(t, repo, "git rev-parse HEAD")+"\n", "../..\n", "")
	release(t, acquire(t, open(t, worktree.Options{Repo: repo, Home: home}), worktree.Worktree))
	for _, dir := range []string{theirs, used, whole} {
		if text, err := os.ReadFile(filepath.Join(dir, "locked")); err != nil || strings.TrimSpace(string(text)) != "initializing" {
			t.Errorf("%s was touched: %q, %v", dir, text, err)
		}
	}
}
