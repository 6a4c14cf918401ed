package worktree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// unlock removes the locks that a git which was killed has left in the git folder
// of the place. Nobody has them: the place is ours, and what worked in it has ended.
func (p *Place) unlock() error {
	var branch error
	if w := p.mark.Work; w != nil { // in the person's repository, of its own branch only
		branch = removeRefLocks(filepath.Join(p.m.names.common, filepath.FromSlash(w.Branch)) + ".lock")
	}
	if p.kind == Clone {
		return errors.Join(branch, unlock(p.gitDir))
	}
	return errors.Join(branch, removeLocks(p.gitDir, ownLocks), removeRefLocks(filepath.Join(p.gitDir, "refs")))
}

// ownLocks are those of a single working tree, and allLocks those of a repository.
var (
	ownLocks = []string{"index.lock", "HEAD.lock", "ORIG_HEAD.lock"}
	allLocks = append([]string{"config.lock", "packed-refs.lock", "shallow.lock"}, ownLocks...)
)

// unlock removes the locks of a git folder that is in a place, as a whole.
func unlock(gitDir string) error {
	return errors.Join(removeLocks(gitDir, allLocks), removeRefLocks(filepath.Join(gitDir, "refs")))
}

func removeLocks(gitDir string, names []string) error {
	for _, name := range names {
		if err := os.Remove(filepath.Join(gitDir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the lock of a git that was killed: %w", err)
		}
	}
	return nil
}

func removeRefLocks(refs string) error {
	return filepath.WalkDir(refs, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case !d.IsDir() && strings.HasSuffix(path, ".lock"):
			return os.Remove(path)
		}
		return nil
	})
}
