package claudepool

import (
	"container/list"
	"context"
	"errors"
	"fmt"
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
	return &scheduler{p: p, wake: make(chan struct{}, 1), idle: newIdleSet()}
}

// idleSet holds the slots that are ready for a task, the longest idle first.
type idleSet struct {
	all   *list.List              // of *slot
	byKey map[string]*list.List   // by the launch key of the slot's process
	at    map[*slot]*list.Element // in all
	atKey map[*slot]*list.Element // in byKey
	held  map[string]*slot        // by the session that the slot's process holds
	holds map[*slot]string        // the same the other way round
	keys  map[*slot]string
}

func newIdleSet() idleSet {
	return idleSet{
		all: list.New(), byKey: map[string]*list.List{}, at: map[*slot]*list.Element{}, atKey: map[*slot]*list.Element{},
		held: map[string]*slot{}, holds: map[*slot]string{}, keys: map[*slot]string{},
	}
}

func (i *idleSet) add(s *slot, key, session string) {
	i.at[s] = i.all.PushBack(s)
	if session != "" {
		i.held[session], i.holds[s] = s, session
		return // its process is somebody's; the key is no reason to choose it
	}
	l := i.byKey[key]
	if l == nil {
		l = list.New()
		i.byKey[key] = l
	}
	i.keys[s], i.atKey[s] = key, l.PushBack(s)
}

// remove takes s out and reports whether it was there.
func (i *idleSet) remove(s *slot) bool {
	e, ok := i.at[s]
	if !ok {
		return false
	}
	i.all.Remove(e)
	delete(i.at, s)
	if session, ok := i.holds[s]; ok {
		delete(i.holds, s)
		delete(i.held, session)
		return true
	}
	key := i.keys[s]
	if l := i.byKey[key]; l.Len() == 1 {
		delete(i.byKey, key)
	} else {
		l.Remove(i.atKey[s])
	}
	delete(i.keys, s)
	delete(i.atKey, s)
	return true
}

// choose returns the slot that suits a task best: the one that holds its
// session, one whose process fits, the one with no process or the longest idle
// one, and at last one that holds somebody's session. Nil means that none may
// run it.
func (i *idleSet) choose(r *TaskRecord) *slot {
	pinned := r.Task.Slot != "" || r.Task.Role != ""
	fits := func(s *slot) bool { return !pinned || s.answersTo(r.Task.Slot, r.Task.Role) }
	if session := continued(r); session != "" {
		if s := i.held[session]; s != nil && fits(s) {
			return s
		}
	} else if l := i.byKey[r.LaunchKey]; l != nil {
		for e := l.Back(); e != nil; e = e.Prev() { // the last used is the warmest
			if s := e.Value.(*slot); fits(s) {
				return s
			}
		}
	}
	var last *slot
	for e := i.all.Front(); e != nil; e = e.Next() {
		s := e.Value.(*slot)
		if !fits(s) {
			continue
		}
		if _, holds := i.holds[s]; !holds {
			return s
		}
		if last == nil {
			last = s
		}
	}
	return last
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
	s.idle.add(sl, key, session)
	s.mu.Unlock()
	s.kick()
}

// take takes a slot out of the idle set. False means that it has been given a
// task, or will be in no time.
func (s *scheduler) take(sl *slot) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.idle.remove(sl)
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
	return s.idle.all.Len()
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
	idle := s.idle.all.Len()
	if idle == 0 || s.paused || s.closed {
		return ClaimRequest{}, false
	}
	req := s.p.claimRequest(now, idle)
	req.Accepts = s.accepts
	if len(s.idle.byKey) == 1 {
		for key := range s.idle.byKey {
			req.Prefers = key
		}
	}
	return req, true
}

// accepts reports whether an idle slot answers to a pin.
func (s *scheduler) accepts(name, role string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.idle.all.Front(); e != nil; e = e.Next() {
		if e.Value.(*slot).answersTo(name, role) {
			return true
		}
	}
	return false
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
	key, session := s.idle.keys[sl], s.idle.holds[sl]
	ok := s.idle.remove(sl)
	s.mu.Unlock()
	if !ok {
		return "", false, fmt.Errorf("slot %s: %w", slotID, ErrSlotBusy)
	}
	req := p.claimRequest(time.Now(), 1)
	req.Accepts = sl.answersTo
	r, err := p.store.Claim(ctx, req)
	if err != nil {
		s.offer(sl, key, session)
		sl.poke()
		if errors.Is(err, ErrNotRunnable) {
			return "", false, nil
		}
		return "", false, err
	}
	ready, err := p.resolveSession(ctx, &r)
	if !ready {
		p.giveBack(ctx, r, time.Now().Add(sessionWait))
		s.offer(sl, key, session)
		sl.poke()
		return "", false, nil
	}
	sl.assigned <- assignment{r, err}
	return r.ID, true, nil
}
