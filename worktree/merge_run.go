package worktree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/claudepool/claudepool/internal/git"
)

// merger brings work to its target.
type merger struct {
	repo git.Repo // in any folder of the repository
	home string   // our folder for this repository
	top  string   // of the repository's main checkout, if that is known
	log  *slog.Logger
}

// merger returns one for the repository of a manager.
func (m *Manager) merger() merger {
	one := merger{repo: m.plain(), home: m.home, log: m.log}
	if m.names.gitDir == m.names.common {
		one.top = m.names.top
	}
	return one
}

// mergeTries is how often a merge is made anew because its target has moved.
const mergeTries = 5

// errMovedOn says that the target has moved since it was looked at.
var errMovedOn = errors.New("target has moved on")

// merge does what a request says, with its Branch and Target given. Until the
// target moves, ctx ends it and nothing has happened; the move itself is short and
// is carried through.
func (m merger) merge(ctx context.Context, req MergeRequest) (MergeResult, error) {
	req.Strategy = cmp.Or(req.Strategy, Merge)
	req.CheckedOut = cmp.Or(req.CheckedOut, Refuse)
	req.CheckTimeout = cmp.Or(req.CheckTimeout, 10*time.Minute)
	res := MergeResult{Branch: req.Branch, Target: req.Target, Strategy: req.Strategy, DryRun: req.DryRun}
	if err := req.validate(); err != nil {
		return res, fmt.Errorf("merge: %w", err)
	}
	if err := m.run(ctx, req, &res); err != nil {
		if _, ok := errors.AsType[*ConflictError](err); ok {
			return res, err // says it all
		}
		return res, fmt.Errorf("merge %s into %s: %w", req.Branch, req.Target, err)
	}
	return res, nil
}

func (r MergeRequest) validate() error {
	switch {
	case r.Branch == "":
		return errors.New("no branch to merge")
	case r.Target == "":
		return errors.New("no target to merge into")
	case r.Branch == r.Target:
		return fmt.Errorf("%s cannot be merged into itself", r.Branch)
	case !slices.Contains(Strategies(), r.Strategy):
		return fmt.Errorf("unknown strategy %q: it must be one of %q", r.Strategy, Strategies())
	case r.CheckedOut != Refuse && r.CheckedOut != FastForward:
		return fmt.Errorf("unknown way %q with a target that is checked out: it must be %q or %q", r.CheckedOut, Refuse, FastForward)
	case r.CheckTimeout < 0:
		return fmt.Errorf("time for the check is %v: it must not be negative", r.CheckTimeout)
	case len(r.Check) > 0 && r.Check[0] == "":
		return errors.New("the check has an empty name of a program")
	}
	return nil
}

func (m merger) combiner(ctx context.Context) (combiner, error) {
	c, err := newCombiner(ctx, m.repo)
	c.top, c.log = m.top, m.log
	return c, err
}

// run is merge with the defaults filled in.
func (m merger) run(ctx context.Context, req MergeRequest, res *MergeResult) error {
	c, err := m.combiner(ctx)
	if err != nil {
		return err
	}
	ref, err := c.target(ctx, req.Target)
	if err != nil {
		return err
	}
	work, err := c.work(ctx, req)
	if err != nil {
		return err
	}
	room, err := enterRoom(ctx, m.home, ref)
	if err != nil {
		return err
	}
	defer func() {
		// What is left is removed by the next one, and the merge may have happened.
		if err := errors.Join(c.sweep(room), room.leave()); err != nil {
			m.log.WarnContext(ctx, "a merge has left something behind", "in", room.dir, "error", err)
		}
	}()
	if err := c.settle(ctx, room); err != nil {
		return err
	}
	if err := c.sweep(room); err != nil {
		return fmt.Errorf("remove what a merge that was killed has left: %w", err)
	}
	c.temp = room.dir
	for range mergeTries {
		err := c.attempt(ctx, room, req, ref, work, res)
		if !errors.Is(err, errMovedOn) {
			return err
		}
	}
	return fmt.Errorf("%w, %d times while the work was merged and checked; it is as others have left it", ErrMoved, mergeTries)
}

// attempt merges once, from where the branches are now.
func (c combiner) attempt(ctx context.Context, room *mergeRoom, req MergeRequest, ref, work string, res *MergeResult) error {
	m := merging{combiner: c, req: req}
	var err error
	if m.before, err = c.commit(ctx, ref); err != nil {
		return err
	}
	if m.head, err = c.commit(ctx, work); err != nil {
		return err
	}
	res.Before, res.After = m.before, m.before
	p, err := m.plan(ctx)
	if err != nil {
		return err
	}
	if res.Conflicts = p.conflicts; len(p.conflicts) > 0 {
		return &ConflictError{Branch: req.Branch, Target: req.Target, Files: p.conflicts}
	}
	if p.already {
		res.Already = true
		return nil
	}
	if err := c.count(ctx, m.before, p.after, res); err != nil {
		return err
	}
	// Before a check that may take long.
	if _, err := c.destination(ctx, ref, m.before, p.after, req); err != nil {
		return c.orMoved(ctx, ref, m.before, err)
	}
	if len(req.Check) > 0 {
		if res.CheckOutput, err = c.check(ctx, room, p.after, req); err != nil {
			return err
		}
	}
	if req.DryRun {
		res.After = p.after
		return nil
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	place, err := c.move(ctx, room, ref, m.before, p.after, req)
	if err != nil {
		return err
	}
	res.After, res.Merged, res.MovedCheckout = p.after, true, place
	return nil
}

// count tells how much changes.
func (c combiner) count(ctx context.Context, from, to string, res *MergeResult) error {
	list, err := c.repo.Fields(ctx, "diff-tree", "-r", "-z", "--numstat", "--no-renames", "--no-ext-diff", from, to)
	if err != nil {
		return err
	}
	res.Files, res.Insertions, res.Deletions = len(list), 0, 0
	for _, line := range list {
		words := strings.SplitN(line, "\t", 3)
		if len(words) != 3 {
			return fmt.Errorf("git counts changes as %q", line)
		}
		// Of a binary file there is no number.
		added, _ := strconv.Atoi(words[0])
		removed, _ := strconv.Atoi(words[1])
		res.Insertions += added
		res.Deletions += removed
	}
	return nil
}
