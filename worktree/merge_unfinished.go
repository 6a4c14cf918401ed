package worktree

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

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
