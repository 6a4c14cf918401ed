package claudepool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/claudepool/claudepool/worktree"
)

// Isolation says what of the file system a task shares with others.
type Isolation string

// The isolations. Of what a worktree and a clone share with the repository see
// [worktree.Kind].
const (
	// IsolationNone shares the slot's working directory.
	IsolationNone Isolation = "none"
	// IsolationWorktree is a linked worktree of the repository, on a branch of the
	// task's own.
	IsolationWorktree Isolation = "worktree"
	// IsolationClone is a clone of it, with refs and a stash of its own too.
	IsolationClone Isolation = "clone"
)

// Isolations lists every isolation.
func Isolations() []Isolation {
	return []Isolation{IsolationNone, IsolationWorktree, IsolationClone}
}

// apart reports whether a task has a place of its own.
func (i Isolation) apart() bool { return i != "" && i != IsolationNone }

// keySuffix tells the launch keys of processes that work in a place from those of
// others. Where it is does not matter: each slot has its own, and keeps it.
func (i Isolation) keySuffix() string {
	if !i.apart() {
		return ""
	}
	return "+" + string(i)
}

// splitKey takes a launch key apart: what was asked for, and its [Isolation.keySuffix].
func splitKey(key string) (base, suffix string) {
	if i := strings.IndexByte(key, '+'); i >= 0 {
		return key[:i], key[i:]
	}
	return key, ""
}

// trees opens the repository of isolated work when there is some.
type trees struct {
	opts worktree.Options

	turn chan struct{} // full while the repository is looked at
	m    *worktree.Manager
}

// open returns the manager of the places.
func (t *trees) open(ctx context.Context) (*worktree.Manager, error) {
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if t.m != nil {
		return t.m, nil
	}
	m, err := worktree.Open(ctx, t.opts)
	if err != nil {
		return nil, err
	}
	t.m = m
	return m, nil
}

// close gives up what is left, when nobody else uses it any more.
func (t *trees) close() error {
	t.turn <- struct{}{}
	defer func() { <-t.turn }()
	if t.m == nil {
		return nil
	}
	return t.m.Close()
}

// checkIsolation refuses a task that cannot have the place it asks for.
func (p *Pool) checkIsolation(ctx context.Context, t *Task) error {
	if t.Isolation == "" {
		t.Isolation = p.cfg.Isolation
	}
	if !t.Isolation.apart() {
		return nil
	}
	if t.WorkDir != "" {
		return invalidField("working_dir", "cannot be given to a task with isolation %s, which works in a place of its own", t.Isolation)
	}
	_, err := p.trees.open(ctx)
	switch {
	case errors.Is(err, worktree.ErrNoRepository), errors.Is(err, worktree.ErrNoCommit):
		return invalidField("isolation", "is %s, and that cannot be had: %v", t.Isolation, err)
	case err != nil:
		return fmt.Errorf("isolation %s: %w", t.Isolation, err)
	}
	return nil
}

// placeError says that a task has no place to work in.
type placeError struct{ err error }

func (e *placeError) Error() string {
	return fmt.Sprintf("it has no place to work in, and does not work elsewhere: %v", e.err)
}
func (e *placeError) Unwrap() error { return e.err }

// place returns the slot's place of that kind, which it keeps.
func (s *slot) place(ctx context.Context, kind Isolation) (*worktree.Place, error) {
	if p := s.places[kind]; p != nil {
		return p, nil
	}
	m, err := s.p.trees.open(ctx)
	if err != nil {
		return nil, err
	}
	p, err := m.Acquire(ctx, worktree.Kind(kind))
	if err != nil {
		return nil, err
	}
	if s.places == nil {
		s.places = map[Isolation]*worktree.Place{}
	}
	s.places[kind] = p
	return p, nil
}

// leavePlaces gives the slot's places up, for others. They stay as they are.
func (s *slot) leavePlaces() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.p.ctx), endWork)
	defer cancel()
	for kind, p := range s.places {
		if err := p.Release(ctx); err != nil {
			s.p.log.Error("place was not given up in good order; what is in it stays", "slot", s.id, "place", p.Root(), "err", err)
		}
		delete(s.places, kind)
	}
}

// endWork bounds how long what was written in a place may take to be saved.
const endWork = 5 * time.Minute

// beginWork makes the slot's place ready for the attempt, if the task is to have
// one, and says where that is.
func (a *attempt) beginWork() error {
	kind := a.rec.Task.Isolation
	if !kind.apart() {
		return nil
	}
	m, err := a.p.trees.open(a.ctx)
	if err != nil {
		return &placeError{err}
	}
	place, err := a.s.place(a.ctx, kind)
	if err != nil {
		return &placeError{err}
	}
	w, err := a.work(m)
	if err == nil {
		err = place.Begin(a.ctx, w)
	}
	if err != nil {
		return cmp.Or(context.Cause(a.ctx), error(&placeError{err}))
	}
	a.place = place
	return nil
}

// work says what the attempt's branch begins with. An attempt that goes on with
// an earlier one of its task, and a task that goes on with the session of another,
// go on with the branch of that too.
func (a *attempt) work(m *worktree.Manager) (worktree.Work, error) {
	r := &a.rec
	w := worktree.Work{ID: string(r.ID)}
	if r.ResumeSession != "" || r.Feedback != "" {
		begun, err := m.Has(a.ctx, w.ID)
		if begun {
			w.From = w.ID
		}
		if begun || err != nil {
			return w, err
		}
	}
	from := r.Task.From
	if id := r.Task.Session.Task; id != "" {
		from = []TaskID{id}
	}
	var works []string
	for _, id := range from {
		known, err := m.Has(a.ctx, string(id))
		if err != nil {
			return w, err
		}
		if !known {
			continue
		}
		if _, err := a.p.ended(a.ctx, id); err != nil && !errors.Is(err, ErrUnknownTask) {
			return w, err
		}
		works = append(works, string(id))
	}
	var err error
	switch {
	case len(works) == 1 && r.Task.Merge != "":
		w.Base, err = m.Mix(a.ctx, works[0], r.Task.Merge)
	case len(works) > 0:
		w.Base, err = m.Combine(a.ctx, works)
	}
	return w, err
}

// endWork saves what was written in the attempt's place, and says what that is.
// Nothing of the agent may still run, unless its process is to be used again.
func (a *attempt) endWork() (*worktree.Result, error) {
	if a.place == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.ctx), endWork)
	defer cancel()
	r, err := a.place.End(ctx)
	a.place = nil
	if err != nil {
		return nil, err
	}
	if t := &a.rec.Task; t.Merge != "" || len(t.From) > 0 || t.Session.Task != "" { // it may have begun with conflicts
		m, err := a.p.trees.open(ctx)
		if err == nil {
			a.marked, err = m.Marked(ctx, r.Head)
		}
		if err != nil {
			a.p.log.Warn("whether conflicts are left is not known; a merge looks again", "task", a.rec.ID, "err", err)
		}
	}
	return &r, nil
}
