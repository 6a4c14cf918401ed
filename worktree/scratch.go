package worktree

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// scratch checks a commit out in a merge's room, and tells where. It is for
// [combiner.sweep] to remove it, also when this has failed.
func (c combiner) scratch(ctx context.Context, room *mergeRoom, commit string) (string, error) {
	parent, err := os.MkdirTemp(room.dir, "scratch-")
	if err != nil {
		return "", err
	}
	// git calls a worktree what its folder is called.
	dir := filepath.Join(parent, "claude-pool-check")
	if onlyGitAdds(c.repo.Dir()) {
		home := filepath.Dir(filepath.Dir(room.dir))
		if _, err := gitAddsWorktree(ctx, c.repo, home, dir, commit); err != nil {
			return "", err
		}
	} else if _, err := addWorktree(c.repo.Dir(), dir, commit, ""); err != nil {
		return "", err
	}
	// The person's checkout may have some of the files only.
	_, err = c.plain.In(dir).Config("core.sparseCheckout", "false").Run(ctx, "checkout", "--quiet", "--force", "--detach", commit, "--")
	return dir, err
}

// sweep removes all that is in a merge's room, but for a move to be settled. A merge does so at its end, and at
// its beginning for one whose program was killed. Nothing there is worth keeping:
// it is made of commits that are on the branches of the merge, and of what a check
// writes while it runs.
func (c combiner) sweep(room *mergeRoom) error {
	left, err := room.left()
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range left {
		errs = append(errs, removeAll(path))
	}
	return errors.Join(append(errs, c.forget(room))...)
}

// left lists what is in the room that a merge removes at its end.
func (r *mergeRoom) left() ([]string, error) {
	entries, err := os.ReadDir(r.dir)
	var all []string
	for _, e := range entries {
		if e.Name() != lockName && e.Name() != moveName {
			all = append(all, filepath.Join(r.dir, e.Name()))
		}
	}
	return all, err
}

// forget removes what git knows of worktrees that were in the room. "git worktree
// prune" would do so for other people's too, whose folder may be on a disk that is
// not there at the moment.
func (c combiner) forget(room *mergeRoom) error {
	parent := filepath.Join(c.repo.Dir(), "worktrees")
	all, err := os.ReadDir(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range all {
		text, err := os.ReadFile(filepath.Join(parent, e.Name(), "gitdir"))
		if err != nil {
			continue // removed meanwhile, by whom it belongs to
		}
		dir := filepath.FromSlash(strings.TrimSpace(string(text)))
		if rel, err := filepath.Rel(room.dir, dir); err == nil && filepath.IsLocal(rel) {
			errs = append(errs, os.RemoveAll(filepath.Join(parent, e.Name())))
		}
	}
	return errors.Join(errs...)
}
