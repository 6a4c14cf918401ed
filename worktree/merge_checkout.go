package worktree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/claudepool/claudepool/internal/git"
)

// listZ is the version of git that lists worktrees so that a name may have a line
// feed. Older ones list such a one in pieces, each of which counts for nothing but
// its branch.
var listZ = git.Version{Major: 2, Minor: 36}

// holder is a worktree that has a branch.
type holder struct {
	path   string
	during string // what is going on there, for which its HEAD is elsewhere: "rebase", "bisect"
}

// holders returns the worktrees in which a branch is checked out, or will be when
// what is going on there ends.
func (c combiner) holders(ctx context.Context, ref string) ([]holder, error) {
	args, end := []string{"worktree", "list", "--porcelain"}, "\n"
	if !c.version.Less(listZ) {
		args, end = append(args, "-z"), "\x00"
	}
	out, err := c.repo.Bytes(ctx, args...)
	if err != nil {
		return nil, err
	}
	var all []holder
	main := true
	for record := range strings.SplitSeq(string(out), end+end) {
		var path string
		detached := false
		for line := range strings.SplitSeq(record, end) {
			key, value, _ := strings.Cut(line, " ")
			switch key {
			case "worktree":
				if path = value; main && c.top != "" {
					path = c.top // git guesses it from the git folder, which may be elsewhere
				}
			case "branch":
				if value == ref {
					all = append(all, holder{path: path})
				}
			case "detached":
				detached = true
			}
		}
		if detached {
			if during := unfinishedWith(c.gitFolder(path, main), ref); during != "" {
				all = append(all, holder{path, during})
			}
		}
		main = false
	}
	return all, nil
}

// gitFolder returns the git folder of a worktree; of one that cannot be looked at
// it is none.
func (c combiner) gitFolder(path string, main bool) string {
	if main {
		return c.repo.Dir()
	}
	text, err := os.ReadFile(filepath.Join(path, ".git"))
	if err != nil {
		return ""
	}
	dir := strings.TrimSpace(strings.TrimPrefix(string(text), "gitdir: "))
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(path, dir)
	}
	return dir
}

// unfinishedWith says what is going on in a worktree that will come back to a
// branch, or move it, at its end.
func unfinishedWith(gitDir, ref string) string {
	if gitDir == "" {
		return ""
	}
	for _, state := range []struct{ file, what string }{
		{"rebase-merge/head-name", "rebase"},
		{"rebase-apply/head-name", "rebase"},
		{"rebase-merge/update-refs", "rebase"},
		{"BISECT_START", "bisect"},
	} {
		text, err := os.ReadFile(filepath.Join(gitDir, state.file))
		if err != nil {
			continue
		}
		lines := strings.Split(string(text), "\n")
		if slices.Contains(lines, ref) || slices.Contains(lines, strings.TrimPrefix(ref, branchRefs)) {
			return state.what
		}
	}
	return ""
}

// unfinished are the files and folders that git has while something is going on
// that an outsider must not move on.
var unfinished = []struct{ file, what string }{
	{"MERGE_HEAD", "merge"}, {"CHERRY_PICK_HEAD", "cherry-pick"}, {"REVERT_HEAD", "revert"},
	{"rebase-merge", "rebase"}, {"rebase-apply", "rebase"}, {"sequencer", "cherry-pick"}, {"index.lock", "git command"},
}

// destination finds out where the target can be moved: in no checkout (empty), or
// in the one that has it and can go with it.
func (c combiner) destination(ctx context.Context, ref, before, after string, req MergeRequest) (string, error) {
	all, err := c.holders(ctx, ref)
	if err != nil || len(all) == 0 {
		return "", err
	}
	for _, h := range all {
		if h.during != "" {
			return "", fmt.Errorf("%w: a %s of it is going on in %s: end that first", ErrCheckedOut, h.during, h.path)
		}
	}
	if req.CheckedOut == Refuse {
		return "", fmt.Errorf("%w in %s: switch that to another branch, or have it moved forward (%q)", ErrCheckedOut, all[0].path, FastForward)
	}
	if len(all) > 1 {
		return "", fmt.Errorf("%w in %s and in %s: only one could be moved", ErrCheckedOut, all[0].path, all[1].path)
	}
	p, err := c.checkoutAt(ctx, all[0].path)
	if err != nil {
		return "", err
	}
	if err := p.idle(ctx); err != nil {
		return "", err
	}
	return p.dir, p.rehearse(ctx, before, after)
}

// checkedOut is the checkout of a target.
type checkedOut struct {
	repo        git.Repo
	dir, gitDir string
	temp        string // for files of ours
}

// checkoutAt looks at the worktree at a path.
func (c combiner) checkoutAt(ctx context.Context, path string) (checkedOut, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return checkedOut{}, fmt.Errorf("%w in %s, which is not there: bring it back, or forget it with git worktree prune", ErrCheckedOut, path)
	}
	r := c.plain.In(path)
	p := checkedOut{temp: c.temp}
	var err error
	p.dir, err = r.Run(ctx, "rev-parse", "--show-toplevel")
	if git.ExitCode(err) > 0 {
		return p, fmt.Errorf("%w in a folder that git does not tell, as its git folder %s is apart from it: switch it to another branch: %w", ErrCheckedOut, path, err)
	}
	if err != nil {
		return p, fmt.Errorf("look at the checkout: %w", err)
	}
	p.dir = filepath.FromSlash(p.dir)
	p.repo = r.In(p.dir).Apart()
	if p.gitDir, err = p.repo.Run(ctx, "rev-parse", "--absolute-git-dir"); err != nil {
		return p, fmt.Errorf("look at the checkout: %w", err)
	}
	return p, nil
}

// idle refuses a checkout in which something is going on, or an agent may work.
func (p checkedOut) idle(ctx context.Context) error {
	if _, err := os.Lstat(filepath.Join(p.gitDir, markName)); err == nil {
		return fmt.Errorf("%w in %s, a place for agents to work: wait until the work there has ended", ErrCheckedOut, p.dir)
	}
	for _, u := range unfinished {
		file := filepath.Join(p.gitDir, u.file)
		if _, err := os.Lstat(file); err == nil {
			return fmt.Errorf("%w in %s, where a %s is going on: end that first (there is %s)", ErrCheckedOut, p.dir, u.what, file)
		}
	}
	out, err := p.repo.Bytes(ctx, "ls-files", "-z", "--unmerged")
	if err != nil {
		return err
	}
	if len(out) > 0 {
		return fmt.Errorf("%w in %s, where files have conflicts: resolve them first", ErrCheckedOut, p.dir)
	}
	return nil
}

// rehearse finds out whether the files could go from one commit to another, with
// a copy of the index.
func (p checkedOut) rehearse(ctx context.Context, from, to string) (err error) {
	dir, err := os.MkdirTemp(p.temp, "index-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	index, err := p.repo.Run(ctx, "rev-parse", "--git-path", "index")
	if err != nil {
		return err
	}
	if !filepath.IsAbs(index) {
		index = filepath.Join(p.dir, index)
	}
	copied := filepath.Join(dir, "index")
	if err := copyIndex(index, copied); err != nil {
		return err
	}
	r := p.repo.With("GIT_INDEX_FILE=" + copied)
	if _, err := r.Succeeds(ctx, "update-index", "-q", "--refresh"); err != nil {
		return err
	}
	if err := p.free(ctx, from, to); err != nil {
		return err
	}
	_, refused := r.Run(ctx, "read-tree", "-m", "-u", "-n", from, to)
	if git.ExitCode(refused) <= 0 {
		return refused
	}
	names, err := p.changed(ctx, from, to)
	switch {
	case err != nil:
		return errors.Join(refused, err)
	case len(names) == 0: // hidden from git by the person
		return fmt.Errorf("%w in %s: %w", ErrInTheWay, p.dir, refused)
	}
	return p.inTheWay(names)
}

// copyIndex copies an index, if there is one. The time of it too: by that git knows
// which files may have been changed in the moment in which it was written.
func copyIndex(from, to string) error {
	text, err := readIfThere(from)
	if err != nil || text == nil {
		return err
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to, text, 0o600); err != nil {
		return err
	}
	return os.Chtimes(to, time.Time{}, info.ModTime())
}

// forward moves index and files from one commit to another, after a rehearsal. What
// git cannot finish is undone.
func (p checkedOut) forward(ctx context.Context, from, to string) error {
	// Files of the same text but another time are not changed.
	if _, err := p.repo.Succeeds(ctx, "update-index", "-q", "--refresh"); err != nil {
		return err
	}
	if err := p.free(ctx, from, to); err != nil {
		return err
	}
	_, err := p.repo.Run(ctx, "read-tree", "-m", "-u", from, to)
	if err == nil {
		return nil
	}
	// A filter has failed, or the disk is full.
	if undoErr := p.undo(ctx, from, to); undoErr != nil {
		return fmt.Errorf("%w: %w", err, halfMoved(p.dir, undoErr))
	}
	return err
}
