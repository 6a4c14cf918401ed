//go:build unix

package worktree

import (
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

// TestFolderOfWorktreesGoesAway has worktrees made while the folder of all of them
// is removed as soon as it is empty, as git does.
func TestFolderOfWorktreesGoesAway(t *testing.T) {
	t.Parallel()
	b := bench(t)
	c, err := newCombiner(t.Context(), b.repo)
	if err != nil {
		t.Fatal(err)
	}
	room, err := enterRoom(t.Context(), b.merger.home, "refs/heads/main")
	if err != nil {
		t.Fatal(err)
	}
	defer room.leave()
	var done atomic.Bool
	var removing sync.WaitGroup
	removing.Go(func() {
		for !done.Load() {
			os.Remove(filepath.Join(c.repo.Dir(), "worktrees"))
		}
	})
	for range 5 {
		if _, err := c.scratch(t.Context(), room, b.tip("main")); err != nil {
			t.Error(err)
		}
		if err := c.sweep(room); err != nil {
			t.Error(err)
		}
	}
	done.Store(true)
	removing.Wait()
}
