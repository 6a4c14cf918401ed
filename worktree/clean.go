package worktree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/claudepool/claudepool/internal/filelock"
)

// CleanOptions say what is to be cleaned up.
type CleanOptions struct {
	// DryRun finds out what would be removed, and removes nothing.
	DryRun bool
	// Unused spares places that work began or ended in, and branches of work that
	// began or was committed to, a shorter time ago.
	Unused time.Duration
	// Spare, if set, reports whether the branch of a work is to stay.
	Spare func(work string) bool
}

// Clean removes places that nobody has, what merges have left whose programs were
// killed, branches of work that is merged or has
// come to nothing, and recovery refs past their time. What a place has, and what
// no other ref of a branch has, is put on recovery refs first; what cannot be kept
// is not removed. It goes on after an error, and returns all of them with what was
// removed.
func (m *Manager) Clean(ctx context.Context, o CleanOptions) ([]Removal, error) {
	// Branches first, as they are while the places are there.
	branches, open, err := m.branches(ctx)
	if err != nil {
		return nil, err
	}
	recoveries, err := m.Recoveries(ctx)
	if err != nil {
		return nil, err
	}
	var all []Removal
	var errs []error
	for _, kind := range []Kind{Worktree, Clone} {
		numbers, err := m.numbers(kind)
		errs = append(errs, err)
		for _, n := range numbers {
			r, err := m.cleanPlace(ctx, placeName(kind, n), kind, o)
			if errors.Is(err, filelock.ErrLocked) || errors.Is(err, fs.ErrNotExist) {
				continue
			}
			errs = append(errs, err)
			if r != nil {
				all = append(all, *r)
			}
		}
	}
	removed, err := m.cleanRooms(ctx, o)
	all, errs = append(all, removed...), append(errs, err)
	removed, err = m.cleanBranches(ctx, branches, open, o)
	all, errs = append(all, removed...), append(errs, err)
	removed, err = m.cleanRecoveries(ctx, recoveries, o)
	return append(all, removed...), errors.Join(append(errs, err)...)
}

// cleanPlace removes a place if nobody has it.
func (m *Manager) cleanPlace(ctx context.Context, name string, kind Kind, o CleanOptions) (_ *Removal, err error) {
	used := func(p *Place) bool { return time.Since(p.mark.Used) < o.Unused }
	p, lock, err := m.lockToEnd(ctx, name, kind, func(p *Place) bool { return o.DryRun || used(p) })
	if errors.Is(err, ErrNotOurs) {
		m.log.InfoContext(ctx, "not removed", "error", err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	if used(p) {
		return nil, nil
	}
	r := &Removal{Path: p.root, Why: "nobody has it"}
	if w := p.mark.Work; w != nil {
		r.Why = "nobody has it any more, and " + w.ID + " was left open in it"
	}
	if p.mark.Removing {
		r.Why = "it was made or removed in part only"
		if o.DryRun {
			return r, nil
		}
		return r, p.remove()
	}
	s := p.newSalvage()
	if s.k.dry = o.DryRun; o.DryRun {
		err = s.foresee(ctx)
	} else {
		_, err = p.endWith(ctx, s)
	}
	if err := errors.Join(append(s.broken, err)...); err != nil {
		return nil, fmt.Errorf("%s is not removed: %w", p.root, err)
	}
	r.Recovery = s.k.refs
	if o.DryRun {
		return r, nil
	}
	return r, p.remove()
}

// remove removes a place whose content has been kept. Its mark goes last, so that
// what is left when the program is killed is still known to be ours.
func (p *Place) remove() error {
	if !within(p.m.home, p.root) || p.root == p.m.home {
		return fmt.Errorf("%w: %s", ErrNotOurs, p.root)
	}
	if _, err := readMark(p.gitDir, p.root); err != nil {
		return err
	}
	p.mark.Removing = true
	if err := p.writeMark(); err != nil {
		return err
	}
	if err := removeBut(p.root, ".git"); err != nil {
		return err
	}
	if err := removeBut(p.gitDir, markName); err != nil {
		return err
	}
	if p.kind == Worktree {
		if err := removeAll(p.root); err != nil {
			return err
		}
		return removeAll(p.gitDir)
	}
	return removeAll(p.root)
}

// removeBut removes all that is in a folder, but for one name.
func removeBut(dir, name string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == name {
			continue
		}
		if err := removeAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// cleanRooms brings merges to their end whose programs were killed, and removes
// what they have left.
func (m *Manager) cleanRooms(ctx context.Context, o CleanOptions) ([]Removal, error) {
	parent := roomsOf(m.home)
	rooms, err := os.ReadDir(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := m.merger().combiner(ctx)
	if err != nil {
		return nil, err
	}
	var all []Removal
	var errs []error
	for _, e := range rooms {
		removed, err := c.cleanRoom(ctx, filepath.Join(parent, e.Name()), o)
		all, errs = append(all, removed...), append(errs, err)
	}
	return all, errors.Join(errs...)
}

func (c combiner) cleanRoom(ctx context.Context, dir string, o CleanOptions) (all []Removal, err error) {
	lock, err := filelock.Try(filepath.Join(dir, lockName))
	if errors.Is(err, filelock.ErrLocked) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	room := &mergeRoom{dir: dir, lock: lock}
	defer func() { err = errors.Join(err, room.leave()) }()
	left, err := room.left()
	if err != nil {
		return nil, err
	}
	for _, path := range left {
		all = append(all, Removal{Path: path, Why: "a merge whose program was killed has left it"})
	}
	if o.DryRun {
		return all, nil
	}
	if err := errors.Join(c.settle(ctx, room), c.sweep(room)); err != nil {
		return nil, err
	}
	return all, nil
}

// workBranch is a branch of work.
type workBranch struct {
	ref, tip string
	used     time.Time
}

// branches lists the branches of work that are checked out nowhere, and those that
// are open in a place.
func (m *Manager) branches(ctx context.Context) (all []workBranch, open map[string]bool, err error) {
	lines, err := m.repo.Lines(ctx, "for-each-ref", "--format=%(refname) %(objectname) %(committerdate:unix) %(worktreepath)", strings.TrimSuffix(branchPrefix, "/"))
	if err != nil {
		return nil, nil, err
	}
	for _, line := range lines {
		part := strings.SplitN(line, " ", 4)
		if len(part) != 4 {
			return nil, nil, fmt.Errorf("git for-each-ref says %q", line)
		}
		if part[3] != "" {
			continue
		}
		sec, err := strconv.ParseInt(part[2], 10, 64)
		if err != nil {
			return nil, nil, fmt.Errorf("git for-each-ref says %q", line)
		}
		all = append(all, workBranch{part[0], part[1], time.Unix(sec, 0)})
	}
	open, err = m.openBranches()
	return all, open, err
}

// openBranches returns the branches of work that has begun in a place and not ended.
func (m *Manager) openBranches() (map[string]bool, error) {
	open := make(map[string]bool)
	for _, kind := range []Kind{Worktree, Clone} {
		numbers, err := m.numbers(kind)
		if err != nil {
			return nil, err
		}
		for _, n := range numbers {
			if p, err := m.find(placeName(kind, n), kind); err == nil && p.mark.Work != nil {
				open[p.mark.Work.Branch] = true
			}
		}
	}
	return open, nil
}

// cleanBranches removes branches whose work is done.
func (m *Manager) cleanBranches(ctx context.Context, branches []workBranch, open map[string]bool, o CleanOptions) ([]Removal, error) {
	began, err := m.began(ctx)
	if err != nil {
		return nil, err
	}
	name, err := m.target(ctx)
	if err != nil || name == "" {
		return nil, err
	}
	target, err := m.commit(ctx, "refs/heads/"+name)
	if errors.Is(err, ErrUnknown) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := newCombiner(ctx, m.plain())
	if err != nil {
		return nil, err
	}
	var all []Removal
	var errs []error
	for _, b := range branches {
		id := strings.TrimPrefix(b.ref, branchPrefix)
		if at := began[id]; at.After(b.used) {
			b.used = at
		}
		if open[b.ref] || time.Since(b.used) < o.Unused || o.Spare != nil && o.Spare(id) {
			continue
		}
		how, err := m.merged(ctx, b.tip, target)
		gone := false
		if err == nil && how != "" {
			gone, err = c.nobodys(ctx, b)
		}
		if gone {
			k := m.newKeeper("", id)
			k.dry = o.DryRun
			if err = m.keepTip(ctx, k, b.ref, b.tip, target, "commits of a branch that was merged in another form"); err == nil && !o.DryRun {
				// In a clone nothing is checked out that would tell of work begun meanwhile.
				var now map[string]bool
				if now, err = m.openBranches(); err == nil && now[b.ref] {
					continue
				}
				if err == nil {
					gone, err = c.deleteBranch(ctx, b, id)
				}
			}
			if err == nil && gone {
				all = append(all, Removal{Branch: strings.TrimPrefix(b.ref, "refs/heads/"), Why: fmt.Sprintf(how, name), Recovery: k.refs})
			}
		}
		errs = append(errs, err)
	}
	return all, errors.Join(errs...)
}

// nobodys reports whether a branch is still where it was when it was looked at, and
// no worktree has it or will come back to it.
func (c combiner) nobodys(ctx context.Context, b workBranch) (bool, error) {
	tip, err := c.commit(ctx, b.ref)
	if errors.Is(err, ErrUnknown) {
		return false, nil
	}
	if err != nil || tip != b.tip {
		return false, err
	}
	holders, err := c.holders(ctx, b.ref)
	return len(holders) == 0, err
}

// deleteBranch deletes a branch, unless somebody has begun to use it, or has moved
// or deleted it, since it was looked at.
func (c combiner) deleteBranch(ctx context.Context, b workBranch, id string) (bool, error) {
	if ok, err := c.nobodys(ctx, b); err != nil || !ok {
		return false, err
	}
	commands := []string{"delete " + b.ref + " " + b.tip}
	if _, err := c.repo.Run(ctx, "rev-parse", "--verify", "--quiet", workPrefix+id); err == nil {
		commands = append(commands, "delete "+workPrefix+id)
	}
	err := updateRefs(ctx, c.repo, commands...)
	if err == nil {
		return true, nil
	}
	if ok, sameErr := c.nobodys(ctx, b); sameErr == nil && !ok && ctx.Err() == nil {
		return false, nil
	}
	return false, err
}

// began tells when each work has begun.
func (m *Manager) began(ctx context.Context) (map[string]time.Time, error) {
	lines, err := m.repo.Lines(ctx, "for-each-ref", "--format=%(taggerdate:unix) %(refname)", strings.TrimSuffix(workPrefix, "/"))
	if err != nil {
		return nil, err
	}
	all := make(map[string]time.Time)
	for _, line := range lines {
		at, ref, _ := strings.Cut(line, " ")
		if sec, err := strconv.ParseInt(at, 10, 64); err == nil {
			all[strings.TrimPrefix(ref, workPrefix)] = time.Unix(sec, 0)
		}
	}
	return all, nil
}

// cleanRecoveries removes recovery refs past their time.
func (m *Manager) cleanRecoveries(ctx context.Context, recoveries []Recovery, o CleanOptions) ([]Removal, error) {
	var all []Removal
	var commands []string
	for _, r := range slices.Backward(recoveries) {
		if r.Expires.IsZero() || time.Now().Before(r.Expires) {
			continue
		}
		all = append(all, Removal{Ref: r.Ref, Why: "kept since " + r.Made.Format(time.DateOnly) + ": " + r.What})
		commands = append(commands, "delete "+r.Ref)
	}
	if o.DryRun {
		return all, nil
	}
	if err := updateRefs(ctx, m.repo, commands...); err != nil {
		return nil, err
	}
	return all, nil
}
