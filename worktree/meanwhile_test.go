//go:build unix

package worktree_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/claudepool/claudepool/worktree"
)

// onKept is a log that does something once, when something was kept.
type onKept struct {
	slog.Handler
	once *sync.Once
	do   func()
}

func (h onKept) Enabled(context.Context, slog.Level) bool { return true }

func (h onKept) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "kept on a recovery ref" {
		h.once.Do(h.do)
	}
	return nil
}

func TestCleanPassesWhatIsUsedMeanwhile(t *testing.T) {
	t.Parallel()
	repo, elsewhere := newRepo(t), filepath.Join(realTemp(t), "elsewhere")
	meanwhile := onKept{slog.DiscardHandler, new(sync.Once), func() {
		sh(t, repo, `
git update-ref refs/heads/claude-pool/moved "$(git commit-tree -p main -m more main^{tree})"
git update-ref -d refs/heads/claude-pool/deleted
git for-each-ref --format='delete %(refname)' refs/claude-pool/work/begun 'refs/claude-pool/recovery/*/old*' | git update-ref --stdin
git worktree add -q `+elsewhere+` claude-pool/used`)
	}}
	m := open(t, worktree.Options{Repo: repo, Log: slog.New(meanwhile), Keep: time.Hour})
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
