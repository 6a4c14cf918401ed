package worktree

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// removeAll removes a folder with all that is in it, also where folders were made
// read-only, as Go does with its module cache.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	filepath.WalkDir(dir, func(p string, d fs.DirEntry, _ error) error {
		if d != nil && d.IsDir() {
			os.Chmod(p, 0o700) // the removal tells what did not help
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// gonePrefix begins the names, in the git folder of a place, of what is to go.
const gonePrefix = "claudepool-gone-"

// discard removes something from a checkout at one go: half a repository, left by
// a program that was killed, would be taken for one that is broken.
func (c checkout) discard(full string) error {
	dir, err := os.MkdirTemp(c.tmp, gonePrefix)
	if err != nil {
		return err
	}
	if err := os.Rename(full, filepath.Join(dir, filepath.Base(full))); err != nil {
		err = removeAll(full) // on another disk, or open on Windows
		return errors.Join(err, os.Remove(dir))
	}
	return removeAll(dir)
}

// empty removes all of a checkout but its folder: such is a gitlink whose repository
// is not there.
func (c checkout) empty() error {
	if err := c.discard(c.root); err != nil {
		return err
	}
	return os.Mkdir(c.root, 0o755)
}

// finishRemoval removes what a program that was killed has left in the git folder.
func (p *Place) finishRemoval() error {
	entries, err := os.ReadDir(p.gitDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), gonePrefix) || strings.HasPrefix(e.Name(), snapshotPrefix) {
			if err := removeAll(filepath.Join(p.gitDir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeEmpty removes dir and the folders above it, up to top, as long as they are
// empty.
func removeEmpty(top, dir string) error {
	for dir != top && within(top, dir) {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if len(entries) > 0 {
			return nil
		}
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		dir = filepath.Dir(dir)
	}
	return nil
}

// openFolders lets files be removed from all folders, also those that were made
// read-only.
func (c checkout) openFolders() error {
	return filepath.WalkDir(c.root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if p != c.root && d.Name() == ".git" {
			return fs.SkipDir
		}
		fi, err := d.Info()
		if err != nil || fi.Mode()&0o200 != 0 {
			return err
		}
		return os.Chmod(p, fi.Mode().Perm()|0o200)
	})
}

// restore makes a checkout clean, at the commit of HEAD, or at another when that
// has none. All that v has must be on refs before.
func (c checkout) restore(ctx context.Context, v view, other string) error {
	err := c.restoreOnce(ctx, v, other)
	if err == nil || !errors.Is(err, fs.ErrPermission) && !strings.Contains(err.Error(), "Permission denied") {
		return err
	}
	if err := c.openFolders(); err != nil {
		return err
	}
	return c.restoreOnce(ctx, v, other)
}

func (c checkout) restoreOnce(ctx context.Context, v view, other string) error {
	if err := c.dropStates(v.states); err != nil {
		return err
	}
	tracked := false
	for _, e := range v.entries {
		switch {
		case e.nested():
		case e.untracked():
			full := filepath.Join(c.root, filepath.FromSlash(e.path))
			if err := os.Remove(full); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if err := removeEmpty(c.root, filepath.Dir(full)); err != nil {
				return err
			}
		default:
			tracked = true
		}
	}
	if v.head == "" { // on a branch without commits
		_, err := c.repo.Run(ctx, "checkout", "--quiet", "--force", "--detach", other, "--")
		return err
	}
	if v.ref != "" { // who has moved the branch meanwhile is not to find it moved back
		if err := updateRefs(ctx, c.repo, "update HEAD "+v.head); err != nil {
			return err
		}
	}
	if tracked || len(v.states) > 0 {
		if _, err := c.repo.Run(ctx, "reset", "--quiet", "--hard", v.head); err != nil {
			return err
		}
	}
	return nil
}
