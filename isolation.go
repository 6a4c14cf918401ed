package claudepool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
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

	life context.Context // until close
	end  context.CancelCauseFunc
}

func newTrees(o worktree.Options) *trees {
	t := &trees{opts: o, turn: make(chan struct{}, 1)}
	t.life, t.end = context.WithCancelCause(context.Background())
	return t
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
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(t.life, func() { cancel(context.Cause(t.life)) })()
	m, err := worktree.Open(ctx, t.opts)
	if err != nil {
		return nil, err
	}
	t.m = m
	return m, nil
}

// close gives up what is left, when nobody else uses it any more.
func (t *trees) close() error {
	t.end(ErrClosed)
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
	for i, sc := range p.cfg.SlotConfigs {
		if sc.WorkDir != "" {
			return invalidField("isolation", "is %s, and cannot be had in a pool with a slot that has a working directory of its own (slot_configs[%d].work_dir): its tasks would not work there", t.Isolation, i)
		}
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
	if setup, ok := errors.AsType[*worktree.SetupError](e.err); ok {
		return fmt.Sprintf("its place could not be set up (Worktrees.Setup, --worktree-setup): %v", setup)
	}
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

// mistrust has the slot's places looked through before they are used again:
// somebody may have written there between two tasks.
func (s *slot) mistrust() {
	for _, p := range s.places {
		p.Untidy()
	}
}

// leavePlaces gives the slot's places up, for others. They stay as they are.
func (s *slot) leavePlaces() {
	ctx, cancel := s.p.saving()
	defer cancel()
	for kind, p := range s.places {
		if err := p.Release(ctx); err != nil {
			s.p.log.Error("place was not given up in good order; what is in it stays", "slot", s.id, "place", p.Root(), "err", err)
		}
		delete(s.places, kind)
	}
}

// leave gives the slot's place of that kind up as it is, and ends the process that
// works there: the slot gets another.
func (s *slot) leave(kind Isolation) {
	if _, suffix := splitKey(s.key); suffix == kind.keySuffix() {
		s.discard()
	}
	p := s.places[kind]
	if p == nil {
		return
	}
	delete(s.places, kind)
	if err := p.Leave(); err != nil {
		s.p.log.Error("place could not be given up", "slot", s.id, "place", p.Root(), "err", err)
	}
}

// Bounds of how long it may take to save what was written in a place, and how long
// that holds the end of the pool up.
const (
	saveTimeout = 5 * time.Minute
	saveGrace   = 3 * time.Second
)

// saving returns the context of saving work.
func (p *Pool) saving() (context.Context, context.CancelFunc) {
	ctx, cancel := p.outlive(saveGrace)
	ctx, stop := context.WithTimeout(ctx, saveTimeout)
	return ctx, func() { stop(); cancel() }
}

// unsavedError says that what a task has written is not all on its branch.
type unsavedError struct {
	task  TaskID
	place string
	err   error
}

func (e *unsavedError) Error() string {
	where := "look for it in " + e.place
	if _, err := os.Lstat(e.place); errors.Is(err, fs.ErrNotExist) {
		where = "its place, " + e.place + ", is gone"
	}
	return fmt.Sprintf("what it has written could not be saved to the branch claude-pool/%s; %s: %v", e.task, where, e.err)
}
func (e *unsavedError) Unwrap() error { return e.err }

// beginWork makes the slot's place ready for the attempt, if the task is to have
// one, and says where that is.
func (a *attempt) beginWork() error {
	kind := a.rec.Task.Isolation
	if !kind.apart() {
		return nil
	}
	a.alive(&phasePlace)
	a.s.makeWay(a.ctx, &a.rec) // or it would write there until it is
	m, err := a.p.trees.open(a.ctx)
	var w worktree.Work
	if err == nil {
		w, err = a.work(m)
	}
	if err == nil {
		a.place, err = a.s.begin(a.ctx, kind, w)
	}
	failure := &placeError{err}
	switch {
	case err == nil:
		a.s.tellPlace(nil)
		if a.s.placeless {
			a.s.placeless = false
			a.p.gate.slotUp(a.s)
		}
		return nil
	case a.ctx.Err() != nil:
		return context.Cause(a.ctx)
	case errors.Is(err, worktree.ErrInUse):
		return &notBegunError{why: failure, until: time.Now().Add(inUsePause)}
	case ofTask(err):
		return failure
	}
	a.s.placeless = true
	a.s.tellPlace(err)
	return &notBegunError{why: failure, slot: failure, until: a.rec.NotBefore}
}

// begin begins work in the slot's place. A place that cannot be used is given up
// for another; a command that fails is run again, as a process is started again.
func (s *slot) begin(ctx context.Context, kind Isolation, w worktree.Work) (*worktree.Place, error) {
	for try, places := 1, 1; ; {
		place, err := s.place(ctx, kind)
		if err == nil {
			err = place.Begin(ctx, w)
		}
		var setup *worktree.SetupError
		switch {
		case err == nil:
			return place, nil
		case ctx.Err() != nil:
			return nil, err
		case errors.As(err, &setup) && try < launchTries:
			s.p.log.Warn("set-up command is run again", "slot", s.id, "work", w.ID, "err", err)
			select {
			case <-time.After(backoff(s.p.cfg.Restart.First, s.p.cfg.Restart.Most, try)):
			case <-ctx.Done():
				return nil, err
			}
			try++
		case ofTask(err):
			return nil, err
		default:
			s.leave(kind)
			if places == 2 {
				return nil, err
			}
			s.p.log.Warn("place cannot be used, and is given up for another", "slot", s.id, "work", w.ID, "err", err)
			places++
		}
	}
}

// ofTask reports whether the place is not to blame that work does not begin there:
// it would not begin in another either.
func ofTask(err error) bool {
	var invalid *worktree.InvalidError
	var setup *worktree.SetupError
	return errors.Is(err, worktree.ErrConflict) || errors.Is(err, worktree.ErrUnknown) || errors.Is(err, worktree.ErrInUse) ||
		errors.Is(err, worktree.ErrNoRepository) || errors.Is(err, worktree.ErrNoCommit) || errors.As(err, &invalid) || errors.As(err, &setup)
}

// tellPlace notes why the slot has no place for isolated tasks, for who looks at it.
func (s *slot) tellPlace(err error) {
	why := ""
	if err != nil {
		why = fmt.Sprintf("has no place for isolated tasks: %v", err)
	}
	s.mu.Lock()
	s.noPlace = why
	s.mu.Unlock()
}

// inUsePause is how long a task waits whose branch somebody has checked out.
const inUsePause = 5 * time.Second

// notBegunError says that a task could not begin, for a reason that is not its
// own: it goes back to the queue, as if it had not been tried.
type notBegunError struct {
	why   error
	slot  error // why the slot can begin no other either, if so
	until time.Time
}

func (e *notBegunError) Error() string { return e.why.Error() }
func (e *notBegunError) Unwrap() error { return e.why }

// notBegun gives a task back, and remembers why for those who ask.
func (p *Pool) notBegun(ctx context.Context, r TaskRecord, e *notBegunError) {
	p.mu.Lock()
	if len(p.whyBack) >= maxWentOn {
		clear(p.whyBack) // of tasks that others have run, or that were cancelled
	}
	p.whyBack[r.ID] = e.Error()
	p.mu.Unlock()
	p.giveBack(ctx, r, e.until)
	p.sched.kick()
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
	works, err := a.p.worksBefore(a.ctx, m, &r.Task)
	if err != nil {
		return w, err
	}
	if len(works) == 1 {
		w.Base = works[0]
	}
	if len(works) > 1 || len(works) == 1 && r.Task.Merge == "" {
		w.Base, err = m.Combine(a.ctx, works)
	}
	if err == nil && r.Task.Merge != "" {
		w.Base, err = m.Mix(a.ctx, w.Base, r.Task.Merge)
	}
	if errors.Is(err, worktree.ErrUnknown) {
		err = fmt.Errorf("what it is to begin with is gone: %w", err)
	}
	return w, err
}

// worksBefore returns the work that a task begins with, as [worktree.Manager.Combine]
// takes it.
func (p *Pool) worksBefore(ctx context.Context, m *worktree.Manager, t *Task) ([]string, error) {
	from := t.From
	if id := t.Session.Task; id != "" {
		from = []TaskID{id}
	}
	var all []string
	for _, id := range from {
		works, err := p.worksOf(ctx, m, id)
		if err != nil {
			return nil, err
		}
		for _, w := range works {
			if !slices.Contains(all, w) {
				all = append(all, w)
			}
		}
	}
	return all, nil
}

// worksOf returns the work of a task: its branch or, where that is gone, the commit
// that it ended with; of one that never began, what it was to begin with.
func (p *Pool) worksOf(ctx context.Context, m *worktree.Manager, id TaskID) ([]string, error) {
	r, err := p.store.Task(ctx, id)
	unknown := errors.Is(err, ErrUnknownTask)
	if err != nil && !unknown {
		return nil, err
	}
	if r.Chain != nil {
		last, err := p.lastSteps(ctx, r)
		if err != nil {
			return nil, err
		}
		return p.worksBefore(ctx, m, &Task{From: last})
	}
	begun, err := m.Has(ctx, string(id))
	switch {
	case err != nil:
		return nil, err
	case begun, unknown:
		return []string{string(id)}, nil
	case r.Result != nil && r.Result.Work != nil:
		return []string{r.Result.Work.Head}, nil
	}
	return p.worksBefore(ctx, m, &r.Task)
}

// endWork saves what was written in the attempt's place, and says what that is.
// The agent is at rest.
func (a *attempt) endWork() (*worktree.Result, error) {
	ctx, cancel := a.p.saving()
	defer cancel()
	r, err := a.place.End(ctx)
	if a.s.held != "" {
		a.place.Untidy() // it cannot be known what the process still does
	}
	if err != nil {
		a.s.leave(a.rec.Task.Isolation) // who takes it next tries again
		return nil, &unsavedError{a.rec.ID, a.place.Root(), err}
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
