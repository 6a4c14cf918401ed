package claudepool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// scheduler gives runnable tasks to idle slots.
//
// A slot joins the idle set when it is ready, and belongs to whoever takes it
// out: the scheduler with a task for it, or the slot itself, to recycle or stop.
type scheduler struct {
	p    *Pool
	wake chan struct{} // holds one token while there may be something to do

	mu     sync.Mutex
	paused bool
	closed bool
	idle   idleSet
}

func newScheduler(p *Pool) *scheduler {
	return &scheduler{p: p, wake: make(chan struct{}, 1)}
}

// idleSet holds the slots that are ready for a task, the longest idle first.
type idleSet []idleSlot

type idleSlot struct {
	*slot
	key     string // launch key of the slot's process
	session string // that the process holds for a follow-up, or empty
}

func (i *idleSet) add(s idleSlot) { *i = append(*i, s) }

// remove takes s out and returns it as it was there, or false.
func (i *idleSet) remove(s *slot) (idleSlot, bool) {
	at := slices.IndexFunc(*i, func(e idleSlot) bool { return e.slot == s })
	if at < 0 {
		return idleSlot{}, false
	}
	e := (*i)[at]
	*i = slices.Delete(*i, at, at+1)
	return e, true
}

// accepts reports whether a slot answers to a pin.
func (i idleSet) accepts(name, role string) bool {
	return slices.ContainsFunc(i, func(e idleSlot) bool { return e.answersTo(name, role) })
}

// key returns the launch key that all processes have but those that are
// somebody's, or nothing when they differ.
func (i idleSet) key() string {
	key := ""
	for _, e := range i {
		switch {
		case e.session != "":
		case key == "":
			key = e.key
		case key != e.key:
			return ""
		}
	}
	return key
}

// choose returns the slot that suits a task best: the one that holds its
// session, the last used of those whose process fits, the longest idle one, and
// at last one that holds somebody's session. Nil means that none may run it.
func (i idleSet) choose(r *TaskRecord) *slot {
	pinned := r.Task.Slot != "" || r.Task.Role != ""
	session := continued(r)
	var free, held *slot
	for _, e := range slices.Backward(i) {
		switch {
		case pinned && !e.answersTo(r.Task.Slot, r.Task.Role):
		case e.session != "" && e.session == session:
			return e.slot
		case e.session != "":
			held = e.slot
		case session == "" && e.key == r.LaunchKey:
			return e.slot // the last used is the warmest
		default:
			free = e.slot
		}
	}
	return cmp.Or(free, held)
}

// continued returns the session that a task goes on in, if it is known.
func continued(r *TaskRecord) string {
	if r.ResumeSession != "" {
		return r.ResumeSession
	}
	if r.Task.Session.Fork {
		return ""
	}
	return r.Task.Session.ID
}

// assignment is a claimed task on its way to a slot.
type assignment struct {
	rec TaskRecord
	err error // why the task cannot run, if that is known already
}

// kick makes the scheduler look for work. It never waits.
func (s *scheduler) kick() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// offer puts a slot into the idle set. key is the launch key of its process,
// session the session that it holds for a follow-up, if any.
func (s *scheduler) offer(sl *slot, key, session string) {
	s.mu.Lock()
	s.idle.add(idleSlot{sl, key, session})
	s.mu.Unlock()
	s.kick()
}

// take takes a slot out of the idle set. False means that it has been given a
// task, or will be in no time.
func (s *scheduler) take(sl *slot) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.idle.remove(sl)
	return ok
}

// setPaused reports whether that changed anything.
func (s *scheduler) setPaused(v bool) bool {
	s.mu.Lock()
	changed := s.paused != v
	s.paused = v
	s.mu.Unlock()
	s.kick()
	return changed
}

func (s *scheduler) isPaused() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.paused
}

// close stops dispatch for good.
func (s *scheduler) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
}

func (s *scheduler) idleCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.idle)
}

// loop dispatches whenever something may have changed.
func (s *scheduler) loop() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		next := s.dispatch(s.p.ctx)
		var due <-chan time.Time
		if !next.IsZero() {
			timer.Reset(time.Until(next))
			due = timer.C
		}
		select {
		case <-s.wake:
		case <-due:
		case <-s.p.ctx.Done():
			return
		}
	}
}

// dispatch gives out tasks until there is nothing more to give. It returns when
// to look again; zero means at the next kick.
func (s *scheduler) dispatch(ctx context.Context) time.Time {
	if h := s.p.gate.hopeless(); h != nil {
		s.p.gate.tell(h)
		s.p.failPending(ctx, h)
		return time.Time{}
	}
	for ctx.Err() == nil {
		if until, closed := s.p.gate.closed(time.Now()); closed {
			return until
		}
		req, ok := s.request(time.Now())
		if !ok {
			return time.Time{}
		}
		r, err := s.p.store.Claim(ctx, req)
		var none *NotRunnable
		switch {
		case errors.As(err, &none):
			if none.Budget != nil && s.p.unaffordable(ctx, none) {
				continue
			}
			return none.NextAt
		case err != nil:
			if ctx.Err() == nil {
				s.p.log.Error("store gives no work; trying again", "err", err)
			}
			return time.Now().Add(time.Second)
		}
		s.assign(ctx, r)
	}
	return time.Time{}
}

// request asks for a task that one of the idle slots may run.
func (s *scheduler) request(now time.Time) (ClaimRequest, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.idle) == 0 || s.paused || s.closed {
		return ClaimRequest{}, false
	}
	req := s.p.claimRequest(now, len(s.idle))
	req.Accepts, req.Prefers = s.accepts, s.idle.key()
	return req, true
}

// accepts reports whether an idle slot answers to a pin.
func (s *scheduler) accepts(name, role string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.idle.accepts(name, role)
}

// assign hands a claimed task to the slot that suits it best. If the slots that
// could have run it have gone meanwhile, it waits again.
func (s *scheduler) assign(ctx context.Context, r TaskRecord) {
	ready, err := s.p.resolveSession(ctx, &r)
	if !ready {
		s.p.giveBack(ctx, r, time.Now().Add(sessionWait))
		return
	}
	s.mu.Lock()
	sl := s.idle.choose(&r)
	if sl != nil {
		s.idle.remove(sl)
	}
	s.mu.Unlock()
	if sl == nil {
		s.p.giveBack(ctx, r, r.NotBefore)
		return
	}
	sl.assigned <- assignment{r, err}
}

// claimRequest is what every claim of this pool has in common.
func (p *Pool) claimRequest(now time.Time, share int) ClaimRequest {
	return ClaimRequest{
		Holder: p.holder(), Now: now, Lease: leaseTime, TagLimits: p.cfg.TagLimits,
		Budget: BudgetTerms{
			Limit: Microdollars(p.limit.Load()), Since: p.windowStart(now),
			DefaultCap: p.cfg.DefaultCap, Share: share,
		},
	}
}

// giveBack returns a task that was claimed and cannot be started.
func (p *Pool) giveBack(ctx context.Context, r TaskRecord, until time.Time) {
	_, err := p.store.Transition(ctx, Transition{
		Task: r.ID, From: StateRunning, Fence: r.Fence, To: StatePending, At: time.Now(), NotBefore: until,
		ResumeSession: r.ResumeSession,
		Attempt:       &Attempt{TaskID: r.ID, Fence: r.Fence, Holder: p.holder(), Message: "no slot was free any more", Started: time.Now(), Ended: time.Now()},
	})
	if err != nil && !errors.Is(err, ErrFenced) && ctx.Err() == nil {
		p.log.Error("task could not go back to the queue; it will when its lease ends", "task", r.ID, "err", err)
	}
}

// failPending fails all waiting tasks, because no slot can run any.
func (p *Pool) failPending(ctx context.Context, h *Hold) {
	for r, err := range p.store.Tasks(ctx, TaskFilter{States: []TaskState{StatePending}}) {
		if err == nil {
			_, err = p.store.Transition(ctx, Transition{
				Task: r.ID, From: StatePending, To: StateFailed, At: time.Now(), Outcome: h.Class, Result: p.endedEarly(r, h.Class, h.Reason),
			})
		}
		if err != nil && !errors.Is(err, ErrConflict) {
			if ctx.Err() == nil {
				p.log.Error("waiting task could not be failed", "task", r.ID, "err", err)
			}
			return
		}
	}
}

// Claim dispatches the best runnable task to one slot now, whatever process the
// slot has. It reports the task, and whether there was one. A slot that has a
// task already is [ErrSlotBusy].
func (p *Pool) Claim(ctx context.Context, slotID string) (TaskID, bool, error) {
	if err := p.open(); err != nil {
		return "", false, err
	}
	sl, err := p.slot(slotID)
	if err != nil {
		return "", false, err
	}
	s := p.sched
	s.mu.Lock()
	was, ok := s.idle.remove(sl)
	s.mu.Unlock()
	if !ok {
		return "", false, fmt.Errorf("slot %s: %w", slotID, ErrSlotBusy)
	}
	req := p.claimRequest(time.Now(), 1)
	req.Accepts = sl.answersTo
	r, err := p.store.Claim(ctx, req)
	if err != nil {
		s.offer(sl, was.key, was.session)
		sl.poke()
		if errors.Is(err, ErrNotRunnable) {
			return "", false, nil
		}
		return "", false, err
	}
	ready, err := p.resolveSession(ctx, &r)
	if !ready {
		p.giveBack(ctx, r, time.Now().Add(sessionWait))
		s.offer(sl, was.key, was.session)
		sl.poke()
		return "", false, nil
	}
	sl.assigned <- assignment{r, err}
	return r.ID, true, nil
}
