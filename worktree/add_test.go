//go:build unix

package worktree_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/claudepool/claudepool/worktree"
)

// TestWorktreesAppearWhole looks at what git would see at any moment while
// worktrees are made, and so also when their program is killed.
func TestWorktreesAppearWhole(t *testing.T) {
	t.Parallel()
	repo, home := newRepo(t), filepath.Join(realTemp(t), "home")
	head := sh(t, repo, "git rev-parse HEAD")
	m := open(t, worktree.Options{Repo: repo, Home: home})
	var done atomic.Bool
	var watch sync.WaitGroup
	watch.Go(func() {
		all := filepath.Join(repo, ".git", "worktrees")
		for !done.Load() {
			entries, _ := os.ReadDir(all)
			for _, e := range entries {
				for name, want := range map[string]string{"HEAD": head, "commondir": "../..", "claudepool.json": "{"} {
					text, err := os.ReadFile(filepath.Join(all, e.Name(), name))
					if err != nil || !strings.HasPrefix(string(text), want) {
						t.Errorf("%s of %s is %q: %v", name, e.Name(), text, err)
						return
					}
				}
			}
		}
	})
	for range 4 {
		acquire(t, m, worktree.Worktree)
	}
	done.Store(true)
	watch.Wait()
	sh(t, repo, "git worktree list && git fsck --strict && test ! -e .git/claudepool-new-*")
}

// TestManyMakePlacesAtOnce has places made and work published at once, by several
// programs as it were.
func TestManyMakePlacesAtOnce(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"files", "tables"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			repo, home := newRepo(t), filepath.Join(realTemp(t), "home")
			if format == "tables" { // only git itself can make a worktree there
				sh(t, repo, "mkdir .git/reftable")
			}
			var all sync.WaitGroup
			for i := range 4 {
				m := open(t, worktree.Options{Repo: repo, Home: home})
				for _, kind := range []worktree.Kind{worktree.Worktree, worktree.Clone} {
					all.Go(func() {
						p, err := m.Acquire(t.Context(), kind)
						if err != nil {
							t.Error(err)
							return
						}
						if err := p.Begin(t.Context(), worktree.Work{ID: fmt.Sprint(kind, i)}); err != nil {
							t.Error(err)
							return
						}
						if err := os.WriteFile(filepath.Join(p.Root(), "new"), []byte("n\n"), 0o600); err != nil {
							t.Error(err)
						}
						if err := p.Release(t.Context()); err != nil {
							t.Error(err)
						}
					})
				}
			}
			all.Wait()
		})
	}
}

func TestWorktreeThatWasBeingMadeIsForgotten(t *testing.T) {
	t.Parallel()
	repo, home := newRepo(t), filepath.Join(realTemp(t), "home")
	m := open(t, worktree.Options{Repo: repo, Home: home})
	p := acquire(t, m, worktree.Worktree)
	gitDir := sh(t, p.Root(), "git rev-parse --absolute-git-dir")
	release(t, p)
	// As it is before the folder of the place is there.
	sh(t, repo, "rm -r "+gitDir+"/index "+p.Root())
	write(t, filepath.Join(gitDir, "locked"), "claudepool is making it\n")
	sh(t, repo, "mkdir .git/claudepool-new-x; cp "+gitDir+"/gitdir .git/claudepool-new-x; git worktree prune; git worktree list")
	again := acquire(t, m, worktree.Worktree)
	if again.Root() != p.Root() {
		t.Errorf("made %s; want %s again", again.Root(), p.Root())
	}
	if got := sh(t, repo, "git worktree list | wc -l; ls .git | grep claudepool-new || true"); strings.TrimSpace(got) != "2" {
		t.Errorf("there are %s", got)
	}
}

// TestWorktreeHasItsPersonsOwnSettings: as those of "git worktree add" do.
func TestWorktreeHasItsPersonsOwnSettings(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	sh(t, repo, "git config extensions.worktreeConfig true; git config --worktree user.name Own; git config --worktree core.worktree ..")
	p := acquire(t, open(t, worktree.Options{Repo: repo}), worktree.Worktree)
	if got := sh(t, p.Root(), "git config user.name; git rev-parse --show-toplevel"); got != "Own\n"+p.Root() {
		t.Errorf("its own settings are %q", got)
	}
}
