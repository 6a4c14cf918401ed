package worktree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// unlock removes the locks that a git which was killed has left in the git folder
// of the place. Nobody has them: the place is ours, and what worked in it has ended.
func (p *Place) unlock(ctx context.Context) error {
	if err := unlock(p.gitDir); err != nil || p.mark.Work == nil {
		return err
	}
	return waitForLock(ctx, filepath.Join(p.m.names.common, filepath.FromSlash(p.mark.Work.Branch))+".lock")
}

// unlock removes the locks of a git folder that is in a place, as a whole.
func unlock(gitDir string) error {
	return filepath.WalkDir(gitDir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.IsDir() && filepath.Dir(path) == gitDir && (d.Name() == "objects" || d.Name() == "hooks" || d.Name() == "modules"):
			return fs.SkipDir
		case !d.IsDir() && strings.HasSuffix(path, ".lock"):
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove the lock of a git that was killed: %w", err)
			}
		}
		return nil
	})
}

// waitForLock waits until a lock in the person's repository is gone, where a git of
// theirs may have it, and removes it when it has been there for longer than git
// takes to change a branch.
func waitForLock(ctx context.Context, path string) error {
	const longest, pause = 3 * time.Second, 20 * time.Millisecond
	for {
		fi, err := os.Lstat(path)
		if err == nil && time.Since(fi.ModTime()) > longest {
			err = os.Remove(path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}
