package worktree

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/claudepool/claudepool/internal/filelock"
)

// Places lists the places of the repository. It changes nothing, and looks only
// into those that nobody has.
func (m *Manager) Places(ctx context.Context) ([]PlaceInfo, error) {
	var all []PlaceInfo
	for _, kind := range []Kind{Worktree, Clone} {
		numbers, err := m.numbers(kind)
		if err != nil {
			return nil, err
		}
		for _, n := range numbers {
			info, err := m.info(ctx, placeName(kind, n), kind)
			if errors.Is(err, fs.ErrNotExist) {
				continue // removed meanwhile
			}
			if err != nil {
				return nil, err
			}
			all = append(all, info)
		}
	}
	return all, nil
}

func (m *Manager) info(ctx context.Context, name string, kind Kind) (PlaceInfo, error) {
	info := PlaceInfo{Name: name, Kind: kind, Path: filepath.Join(m.home, name)}
	has, err := m.taken(ctx, name)
	if err != nil {
		return info, err
	}
	if has {
		info.PID = filelock.Holder(m.lockPath(name))
	}
	p, err := m.find(name, kind)
	if err != nil && !errors.Is(err, ErrNotOurs) {
		return info, err
	}
	work := false
	if err == nil {
		info.Made, info.Used = p.mark.Made, p.mark.Used
		if w := p.mark.Work; w != nil {
			work = true
			info.Work, info.Branch = w.ID, strings.TrimPrefix(w.Branch, "refs/heads/")
		}
	}
	switch {
	case has && work:
		info.State = Busy
	case has:
		info.State = Ready
	case work:
		info.State = Stale
	default:
		info.State = Free
	}
	if err != nil {
		info.Trouble = err.Error() // also while it is being made
		return info, nil
	}
	if has || p.mark.Removing {
		return info, nil
	}
	s := p.newSalvage()
	s.k.dry = true
	err = s.foresee(ctx)
	if ctx.Err() != nil {
		return info, context.Cause(ctx)
	}
	info.Holds = append(s.committed, s.k.whats...)
	if err := errors.Join(append(s.broken, err)...); err != nil {
		info.Trouble = err.Error()
	}
	return info, nil
}

// tellStale tells of work that nobody is at any more.
func (m *Manager) tellStale(ctx context.Context) error {
	for _, kind := range []Kind{Worktree, Clone} {
		numbers, err := m.numbers(kind)
		if err != nil {
			return err
		}
		for _, n := range numbers {
			p, err := m.find(placeName(kind, n), kind)
			if err != nil || p.mark.Work == nil {
				continue // it is told of when it is to be used
			}
			has, err := m.taken(ctx, p.name)
			if err != nil {
				return err
			}
			if !has {
				m.log.WarnContext(ctx, "work was left open by a program that has ended; it is saved when its place is used or cleaned", "place", p.root, "work", p.mark.Work.ID, "since", p.mark.Used)
			}
		}
	}
	return nil
}

// taken reports whether a living program has a place.
func (m *Manager) taken(ctx context.Context, name string) (bool, error) {
	lock, err := m.tryLock(ctx, name)
	if errors.Is(err, filelock.ErrLocked) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, lock.Unlock()
}

// foresee finds out what would be kept if the place were cleaned. It changes nothing.
func (s *salvage) foresee(ctx context.Context) error {
	c := s.p.checkout()
	c.passive, c.repo = true, c.repo.With("GIT_OPTIONAL_LOCKS=0")
	v, err := c.look(ctx)
	if err != nil {
		return err
	}
	from := s.p.source()
	from.checkout = c
	if _, err := s.inner(ctx, from, v); err != nil {
		return err
	}
	if !v.clean() {
		if s.p.canCommit(v) {
			s.committed = append(s.committed, s.p.whatFiles(v))
			if err := s.index(ctx, from, v); err != nil {
				return err
			}
		} else if err := s.files(ctx, from, v, s.p.whatFiles(v)); err != nil {
			return err
		}
	}
	return s.history(ctx, from, v)
}
