//go:build unix

package worktree_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/claudepool/claudepool/worktree"
)

// TestPlaceThatIsALink has a place, or its git folder, lead to the repository of
// the person: nothing of theirs is touched.
func TestPlaceThatIsALink(t *testing.T) {
	for _, test := range []struct {
		name   string
		kind   worktree.Kind
		script string // $repo is the person's
		ends   bool
	}{
		{"git folder of a clone", worktree.Clone, `rm -rf .git; ln -s "$repo/.git" .git`, false},
		{"git file in a clone", worktree.Clone, `rm -rf .git; echo "gitdir: $repo/.git" >.git`, false},
		{"commondir of a clone", worktree.Clone, `echo "$repo/.git" >.git/commondir`, true},
		{"root of a clone", worktree.Clone, `mv "$PWD" "$PWD.x"; ln -s "$repo" "$PWD"`, false},
		{"root of a worktree", worktree.Worktree, `mv "$PWD" "$PWD.x"; ln -s "$repo" "$PWD"`, false},
		{"commondir of a worktree", worktree.Worktree, `git init -q ../other; d=$(git rev-parse --git-dir); echo "$(cd ../other && pwd)/.git" >"$d/commondir"`, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			repo := newRepo(t)
			sh(t, repo, "git branch a; git tag t; touch .git/MERGE_MSG")
			write(t, filepath.Join(repo, "mine"), "mine\n")
			write(t, filepath.Join(repo, "file"), "edited by the person\n")
			m := open(t, worktree.Options{Repo: repo})
			p := acquire(t, m, test.kind)
			begin(t, p, worktree.Work{ID: "w"})
			write(t, filepath.Join(p.Root(), "new"), "new\n")
			refs := func() string {
				return sh(t, repo, "git for-each-ref refs/heads/main refs/heads/a refs/tags; cat .git/HEAD")
			}
			prints, before := fingerprint(t, repo), refs()
			sh(t, p.Root(), "repo='"+repo+"'\n"+test.script)
			_, err := p.End(t.Context())
			if test.ends {
				if err != nil {
					t.Error(err)
				}
				wantKept(t, repo, "new")
			} else {
				if !errors.Is(err, worktree.ErrNotOurs) {
					t.Errorf("End: %v", err)
				}
				if err := p.Begin(t.Context(), worktree.Work{ID: "v"}); !errors.Is(err, worktree.ErrNotOurs) {
					t.Errorf("Begin: %v", err)
				}
			}
			if now := fingerprint(t, repo); !maps.Equal(prints, now) {
				t.Errorf("the person's checkout was %v, is %v", prints, now)
			}
			if now := refs(); now != before {
				t.Errorf("the person's refs were\n%s\nare\n%s", before, now)
			}
			if _, err := os.Stat(filepath.Join(repo, "mine")); err != nil {
				t.Error(err)
			}
		})
	}
}
