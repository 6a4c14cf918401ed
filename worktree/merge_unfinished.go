package worktree

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/claudepool/claudepool/internal/git"
)

// unfinishedMove is what a merge's room says while files of a checkout are moved.
// By it another program goes on when the one that did so was killed.
type unfinishedMove struct {
	Ref      string `json:"ref"`
	Before   string `json:"before"`
	After    string `json:"after"`
	Checkout string `json:"checkout"`
	Reason   string `json:"reason"`
}

// moveName is the name of its file.
const moveName = "move.json"

func (r *mergeRoom) moveFile() string { return filepath.Join(r.dir, moveName) }

// settle brings a move to its end that was cut short, as its program was killed. If
// git has moved index and files, the branch follows; if not, the files go back to
// what they were. What people have done since then stays.
func (c combiner) settle(ctx context.Context, room *mergeRoom) error {
	text, err := readIfThere(room.moveFile())
	if err != nil || text == nil {
		return err
	}
	var u unfinishedMove
	if err := json.Unmarshal(text, &u); err != nil {
		return fmt.Errorf("%s: %w", room.moveFile(), err)
	}
	c.temp = room.dir
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), moveTime)
	defer cancel()
	moved, err := c.settleIn(ctx, u)
	if err != nil {
		return fmt.Errorf("bring a merge that was cut short to its end in %s: %w", u.Checkout, err)
	}
	c.log.WarnContext(ctx, "brought a merge that was cut short to its end", "branch", u.Ref, "path", u.Checkout, "merged", moved)
	return os.Remove(room.moveFile())
}

func (c combiner) settleIn(ctx context.Context, u unfinishedMove) (moved bool, err error) {
	switch now, err := c.commit(ctx, u.Ref); {
	case errors.Is(err, ErrUnknown):
		return false, nil
	case err != nil:
		return false, err
	case now != u.Before:
		return now == u.After, nil
	}
	if _, err := os.Stat(u.Checkout); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	p, err := c.checkoutAt(ctx, u.Checkout)
	if err != nil {
		return false, err
	}
	has, err := p.has(ctx, u.Ref)
	if err != nil || !has {
		return false, err
	}
	if err := p.idle(ctx); err != nil {
		return false, err
	}
	if err := p.undo(ctx, u.Before, u.After); err != nil {
		return false, err
	}
	arrived, err := p.arrived(ctx, u.Before, u.After)
	if err != nil || !arrived {
		return false, err
	}
	change, err := p.lock(ctx, u)
	if err != nil {
		return false, err
	}
	defer change.abort()
	return true, change.commit()
}

// has reports whether the checkout is on a branch.
func (p checkedOut) has(ctx context.Context, ref string) (bool, error) {
	now, err := p.repo.Run(ctx, "symbolic-ref", "--quiet", "HEAD")
	if git.ExitCode(err) == 1 {
		return false, nil
	}
	return now == ref, err
}

// arrived reports whether the index has all that differs between two commits as
// the second has it.
func (p checkedOut) arrived(ctx context.Context, from, to string) (bool, error) {
	changes, err := p.changes(ctx, from, to)
	if err != nil {
		return false, err
	}
	unlike, err := p.repo.Fields(ctx, "diff-index", "--cached", "-z", "--name-only", "--no-renames", to)
	return err == nil && !slices.ContainsFunc(changes, func(c change) bool { return slices.Contains(unlike, c.path) }), err
}

// errHalfMoved says that files of a checkout are neither as before a merge nor as
// after it.
var errHalfMoved = errors.New("files are left half moved")

func halfMoved(dir string, err error) error {
	return fmt.Errorf("%w in %s, which the next merge will mend if it can: %w", errHalfMoved, dir, err)
}

// undo brings back the files of one commit that git, on its way to another, has
// removed, or has written as that other has them. Its index is still as it was.
func (p checkedOut) undo(ctx context.Context, from, to string) error {
	changes, err := p.changes(ctx, from, to)
	if err != nil {
		return err
	}
	tracked, err := p.tracked(ctx)
	if err != nil {
		return err
	}
	now, err := p.unlike(ctx, p.repo)
	if err != nil {
		return err
	}
	then, err := p.unlikeNew(ctx, changes)
	if err != nil {
		return err
	}
	var back []string
	for _, c := range changes {
		written := c.new != absent && then[c.path] == ""
		switch {
		case c.old != absent && (now[c.path] == "D" || now[c.path] != "" && written):
			back = append(back, c.path)
		case c.old == absent && written && !tracked[c.path]:
			p.remove(c.path)
		}
	}
	if len(back) == 0 || p.checkout(ctx, back...) == nil {
		return nil
	}
	// A filter that fails ends git: the others each by itself.
	var errs []error
	for _, name := range back {
		errs = append(errs, p.checkout(ctx, name))
	}
	return errors.Join(errs...)
}

// checkout writes files as the index has them.
func (p checkedOut) checkout(ctx context.Context, names ...string) error {
	list := strings.NewReader(strings.Join(names, "\x00") + "\x00")
	_, err := p.repo.Input(list).Run(ctx, "checkout-index", "-f", "-z", "--stdin")
	return err
}

// remove removes a file, and the folders that are empty then. What is there again
// another time, or not any more, is of no concern.
func (p checkedOut) remove(name string) {
	for ; name != "."; name = path.Dir(name) {
		if os.Remove(filepath.Join(p.dir, filepath.FromSlash(name))) != nil {
			return
		}
	}
}

// unlike tells of the files that are not as an index has them how they differ: "D"
// of one that is not there.
func (p checkedOut) unlike(ctx context.Context, r git.Repo) (map[string]string, error) {
	fields, err := r.Fields(ctx, "diff", "-z", "--name-status", "--no-renames", "--no-ext-diff", "--ignore-submodules=all")
	all := make(map[string]string)
	for pair := range slices.Chunk(fields, 2) {
		all[pair[len(pair)-1]] = pair[0]
	}
	return all, err
}

// unlikeNew is unlike for the paths of changes, as they are after those.
func (p checkedOut) unlikeNew(ctx context.Context, changes []change) (_ map[string]string, err error) {
	dir, err := os.MkdirTemp(p.temp, "index-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var list strings.Builder
	for _, c := range changes {
		if c.new != absent {
			fmt.Fprintf(&list, "%s %s\t%s\x00", c.new, c.id, c.path)
		}
	}
	r := p.repo.With("GIT_INDEX_FILE=" + filepath.Join(dir, "index"))
	if _, err := r.Input(strings.NewReader(list.String())).Run(ctx, "update-index", "-z", "--index-info"); err != nil {
		return nil, err
	}
	return p.unlike(ctx, r)
}
