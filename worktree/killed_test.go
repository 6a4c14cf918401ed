//go:build unix

package worktree_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/claudepool/claudepool/worktree"
)

// A repository inside that is half removed is none that git can read.
func TestKilledWhileARepositoryInsideIsRemoved(t *testing.T) {
	t.Parallel()
	kinds(t, func(t *testing.T, kind worktree.Kind) {
		repo, home := newRepo(t), filepath.Join(realTemp(t), "home")
		owner, root := startRole(t, "work", repo, home, string(kind), "first")
		// Whatever the order of files is, some of the many are removed after HEAD.
		many := `mkdir $1; (cd $1; seq 1 4000 | xargs touch); `
		sh(t, root, `mkdir -p n/.git; cd n/.git; set -- a; `+many+`git init -q ..; set -- b; `+many+`echo d >../d`)
		kill(t, owner)

		adopter, _ := startRole(t, "adopt", repo, home, string(kind))
		for end := time.Now().Add(time.Minute); ; {
			if _, err := os.Lstat(filepath.Join(root, "n", ".git", "HEAD")); errors.Is(err, fs.ErrNotExist) {
				break
			}
			if time.Now().After(end) {
				t.Fatal("the repository is still there")
			}
		}
		kill(t, adopter)

		m := open(t, worktree.Options{Repo: repo, Home: home})
		p := acquire(t, m, kind)
		if p.Root() != root {
			t.Fatalf("got %s; want %s", p.Root(), root)
		}
		begin(t, p, worktree.Work{ID: "next"})
		if _, err := os.Lstat(filepath.Join(root, "n")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the next work begins with the rest of it: %v", err)
		}
		wantKept(t, repo, "d")
		if got := sh(t, root, `ls "$(git rev-parse --git-dir)"`+` | grep claudepool- || true`); got != "" {
			t.Errorf("the git folder still has %s", got)
		}
	})
}

func TestCleanPassesLocksOfAKilledGit(t *testing.T) {
	t.Parallel()
	kinds(t, func(t *testing.T, kind worktree.Kind) {
		repo, home := newRepo(t), filepath.Join(realTemp(t), "home")
		owner, root := startRole(t, "work", repo, home, string(kind), "first")
		sh(t, root, `git update-index --assume-unchanged file; echo hidden >file; touch "$(git rev-parse --git-dir)/index.lock"`)
		kill(t, owner)
		m := open(t, worktree.Options{Repo: repo, Home: home})
		for _, o := range []worktree.CleanOptions{{DryRun: true}, {}} {
			if removed := clean(t, m, o); len(removed) != 1 || removed[0].Path != root {
				t.Errorf("%+v: removed %+v; want %s", o, removed, root)
			}
		}
		wantKept(t, repo, "hidden")
	})
}
