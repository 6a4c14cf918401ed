package worktree

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/claudepool/claudepool/internal/filelock"
)

// clearHalfMade removes git folders of worktrees in our home that a "git worktree
// add" has begun to make when it was killed. As long as one is there, much of git
// fails in the whole repository, also in the person's own checkout. So it runs no
// git. Nothing was ever checked out in them; what is at the worktree's path stays.
//
// A place that is held is left alone, for somebody may be making one there right
// now, unless it is mine: the name of a place that the caller holds, in which
// nothing runs any more.
func (m *Manager) clearHalfMade(ctx context.Context, mine string) error {
	var errs []error
	for _, parent := range []string{m.names.common, filepath.Join(m.names.common, "worktrees")} {
		entries, err := os.ReadDir(parent)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		for _, e := range entries {
			if parent == m.names.common && !strings.HasPrefix(e.Name(), newPrefix) {
				continue
			}
			dir := filepath.Join(parent, e.Name())
			if in, ok := m.inHome(dir); ok && m.halfMade(dir, in) {
				errs = append(errs, m.clearOne(ctx, dir, in, mine))
			}
		}
	}
	return errors.Join(append(errs, m.clearClones(ctx))...)
}

// clearClones removes clones that were being made when the program was killed.
func (m *Manager) clearClones(ctx context.Context) error {
	entries, err := os.ReadDir(m.home)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), newPrefix)
		if _, _, known := parseName(name); !ok || !known {
			continue
		}
		lock, err := m.tryLock(ctx, name)
		if errors.Is(err, filelock.ErrLocked) {
			continue
		}
		if err == nil {
			err = errors.Join(removeAll(filepath.Join(m.home, e.Name())), lock.Unlock())
		}
		if err != nil {
			return err
		}
		m.log.WarnContext(ctx, "removed a clone that was half made", "place", name)
	}
	return nil
}

func (m *Manager) clearOne(ctx context.Context, dir string, in []string, mine string) (err error) {
	if in[0] != mine {
		lock, err := m.tryLockOf(ctx, in)
		if errors.Is(err, filelock.ErrLocked) {
			return nil
		}
		if lock == nil || err != nil {
			return err
		}
		defer func() { err = errors.Join(err, lock.Unlock()) }()
		if !m.halfMade(dir, in) { // it was finished before the lock was ours
			return nil
		}
	}
	m.log.WarnContext(ctx, "removed the git folder of a worktree that was half made", "path", dir, "in", strings.Join(in, "/"))
	return removeAll(dir)
}

// inHome returns the path of a worktree below our home, in its elements. It is
// false for those that are elsewhere: these are for their owners to repair.
func (m *Manager) inHome(gitDir string) ([]string, bool) {
	text, err := os.ReadFile(filepath.Join(gitDir, "gitdir"))
	link := filepath.FromSlash(strings.TrimSpace(string(text)))
	if err != nil || link == "" {
		return nil, false
	}
	if !filepath.IsAbs(link) {
		link = filepath.Join(gitDir, link)
	}
	rel, err := filepath.Rel(m.home, filepath.Dir(link))
	if err != nil || rel == "." || !filepath.IsLocal(rel) {
		return nil, false
	}
	return strings.Split(rel, string(filepath.Separator)), true
}

// halfMade reports whether the git folder of a worktree cannot be used and never
// was: where something has been checked out there is an index.
func (m *Manager) halfMade(gitDir string, in []string) bool {
	if strings.HasPrefix(filepath.Base(gitDir), newPrefix) {
		return true
	}
	if text, err := os.ReadFile(filepath.Join(gitDir, "locked")); err == nil && string(text) == beingMade {
		_, err := os.Lstat(filepath.Join(m.home, filepath.Join(in...)))
		return errors.Is(err, fs.ErrNotExist) // or it is known by its mark
	}
	if neverMade(gitDir) {
		return true
	}
	for _, used := range []string{"index", "logs"} {
		if _, err := os.Lstat(filepath.Join(gitDir, used)); !errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	for _, needed := range []string{"HEAD", "commondir"} {
		text, err := readIfThere(filepath.Join(gitDir, needed))
		if err == nil && len(bytes.TrimSpace(text)) == 0 {
			return true
		}
	}
	return false
}

// neverMade reports whether HEAD of a worktree has never been anywhere, though its
// log may say where it was to go.
func neverMade(gitDir string) bool {
	if _, err := os.Lstat(filepath.Join(gitDir, "index")); !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	head, err := os.ReadFile(filepath.Join(gitDir, "HEAD"))
	text := strings.TrimSpace(string(head))
	return err == nil && text != "" && strings.Trim(text, "0") == ""
}

// tryLockOf takes the lock that whoever makes a worktree at a path in our home
// has. There is none for what is not known to be ours.
func (m *Manager) tryLockOf(ctx context.Context, in []string) (*filelock.Lock, error) {
	switch _, _, ok := parseName(in[0]); {
	case ok:
		return m.tryLock(ctx, in[0])
	case in[0] == "merge" && len(in) > 2:
		return filelock.Try(filepath.Join(m.home, in[0], in[1], "lock"))
	}
	return nil, nil
}
