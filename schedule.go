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
	// soon holds the slots that are about to be reset or to hold a session: to
	// wait for one takes milliseconds, to start another process half a second.
	soon map[*slot]comingSlot

	// wentOn names the slot in which a session was last taken up again, so that
	// a hold on it that another slot offers late is known to be out of date.
	wentOn map[string]*slot

	parked []assignment  // owned by loop: tasks that wait for one of soon, one each
	leave  time.Time     // owned by loop: until when no task is failed, because others may run it
	done   chan struct{} // closed when loop has ended
}

// comingSlot is a slot that will be idle in a moment.
type comingSlot struct {
	key      string // launch key of its process
	session  string // that it will hold for a follow-up, or empty
	promised bool   // a parked task waits for it
}

func newScheduler(p *Pool) *scheduler {
	return &scheduler{p: p, wake: make(chan struct{}, 1), idle: idleSet{keys: map[string]int{}}, soon: map[*slot]comingSlot{}, wentOn: map[string]*slot{}, done: make(chan struct{})}
}

// idleSet holds the slots that are ready for a task, the longest idle first.
type idleSet struct {
	slots []idleSlot
	keys  map[string]int // slots by key, without those that hold a session
}

type idleSlot struct {
	*slot
	key     string // launch key of the slot's process
	session string // that the process holds for a follow-up, or empty
}

// suits reports whether the slot's process can serve the task as it is: it
// holds the session that the task continues, or fits a new conversation.
func (s idleSlot) suits(r *TaskRecord) bool {
	if session := continued(r); session != "" {
		return s.session == session
	}
	return s.fits(r)
}

// fits reports whether the slot's process can serve a new conversation of the
// task. A plain task takes any slot's own options.
func (s idleSlot) fits(r *TaskRecord) bool {
	key, suffix := splitKey(r.LaunchKey)
	if key == s.p.key {
		key = s.ownKey
	}
	return s.session == "" && s.key == key+suffix
}

func (i *idleSet) add(s idleSlot) {
	i.slots = append(i.slots, s)
	if s.session == "" {
		i.keys[s.key]++
	}
}

// remove takes s out and returns it as it was there, or false.
func (i *idleSet) remove(s *slot) (idleSlot, bool) {
	at := slices.IndexFunc(i.slots, func(e idleSlot) bool { return e.slot == s })
	if at < 0 {
		return idleSlot{}, false
	}
	e := i.slots[at]
	i.slots = slices.Delete(i.slots, at, at+1)
	if e.session == "" {
		if i.keys[e.key]--; i.keys[e.key] == 0 {
			delete(i.keys, e.key)
		}
	}
	return e, true
}

// key returns the launch key of all processes that are nobody's, or nothing
// when they differ.
func (i *idleSet) key() string {
	if len(i.keys) == 1 {
		for key := range i.keys {
			return key
		}
	}
	return ""
}

// accepts reports whether a slot answers to a pin.
func (i *idleSet) accepts(name, role string) bool {
	return slices.ContainsFunc(i.slots, func(e idleSlot) bool { return e.answersTo(name, role) })
}

// choose returns the slot that suits a task best: the one that holds its
// session, the last used of those whose process fits, the longest idle one, and
// at last one that holds somebody's session. False means that none may run it.
func (i *idleSet) choose(r *TaskRecord) (idleSlot, bool) {
	pinned := r.Task.Slot != "" || r.Task.Role != ""
	session := continued(r)
	var free, held idleSlot
	for _, e := range slices.Backward(i.slots) {
		switch {
		case pinned && !e.answersTo(r.Task.Slot, r.Task.Role):
		case e.session != "" && e.session == session:
			return e, true
		case e.session != "":
			held = e
		case session == "" && e.fits(r):
			return e, true // the last used is the warmest
		default:
			free = e
		}
	}
	best := cmp.Or(free, held)
	return best, best.slot != nil
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
	delete(s.soon, sl)
	owner := s.wentOn[session]
	stale := session != "" && owner != nil && owner != sl
	if stale {
		session = staleHold + session
	}
	s.idle.add(idleSlot{sl, key, session})
	s.mu.Unlock()
	if stale {
		sl.dropHold()
	}
	s.kick()
}

// staleHold marks the session of a hold that nobody can come back to.
const staleHold = "gone on elsewhere: "

// maxWentOn bounds how many sessions the scheduler remembers the slot of.
const maxWentOn = 4096

// expect says that a slot will be offered in a moment, with this launch key and
// session.
func (s *scheduler) expect(sl *slot, key, session string) {
	s.mu.Lock()
	s.soon[sl] = comingSlot{key: key, session: session}
	s.mu.Unlock()
}

// unexpect says that it will not, or without its process.
func (s *scheduler) unexpect(sl *slot) {
	s.mu.Lock()
	_, ok := s.soon[sl]
	delete(s.soon, sl)
	s.mu.Unlock()
	if ok {
		s.kick()
	}
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

func (s *scheduler) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// letGo takes the hold on a session from every other slot than by: the
// conversation goes on there, and what the others hold is out of date.
func (s *scheduler) letGo(session string, by *slot) {
	s.mu.Lock()
	if len(s.wentOn) >= maxWentOn {
		clear(s.wentOn)
	}
	s.wentOn[session] = by
	var others []*slot
	for i := range s.idle.slots {
		if e := &s.idle.slots[i]; e.session == session && e.slot != by {
			e.session = staleHold + session
			others = append(others, e.slot)
		}
	}
	s.mu.Unlock()
	for _, o := range others {
		o.dropHold()
	}
}

// loop dispatches whenever something may have changed.
func (s *scheduler) loop() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	defer close(s.done)
	defer s.unpark()
	for {
		s.placeParked()
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
	if s.isClosed() {
		return time.Time{} // what waits stays for the next pool, or is cancelled by the drain
	}
	if h := s.p.gate.hopeless(); h != nil {
		return s.giveUp(ctx, h)
	}
	s.leave = time.Time{}
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
	if len(s.idle.slots) == 0 || s.paused || s.closed {
		return ClaimRequest{}, false
	}
	req := s.p.claimRequest(now, max(len(s.idle.slots), s.p.freeSlots()))
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
	again, err := s.p.resolve(ctx, &r)
	if !again.IsZero() {
		s.p.giveBack(ctx, r, again)
		return
	}
	s.place(ctx, assignment{r, err})
}

// place gives a task to a slot, or parks it for one that will fit in a moment.
func (s *scheduler) place(ctx context.Context, t assignment) {
	s.mu.Lock()
	best, found := s.idle.choose(&t.rec)
	wait := !(found && best.suits(&t.rec)) && s.promise(&t.rec)
	if found && !wait {
		s.idle.remove(best.slot)
	}
	s.mu.Unlock()
	switch {
	case wait:
		s.parked = append(s.parked, t)
	case !found:
		s.p.giveBack(ctx, t.rec, t.rec.NotBefore)
	default:
		best.assigned <- t
	}
}

// promise finds a slot that will be idle in a moment, fits the task, and is
// nobody's yet. The caller holds mu.
func (s *scheduler) promise(r *TaskRecord) bool {
	for sl, c := range s.soon {
		if !c.promised && (idleSlot{sl, c.key, c.session}).suits(r) && sl.answersTo(r.Task.Slot, r.Task.Role) {
			c.promised = true
			s.soon[sl] = c
			return true
		}
	}
	return false
}

// placeParked looks again at the tasks that wait for a slot.
func (s *scheduler) placeParked() {
	again := s.parked
	s.parked = nil
	s.mu.Lock()
	for sl, c := range s.soon {
		c.promised = false
		s.soon[sl] = c
	}
	s.mu.Unlock()
	for _, t := range again {
		s.place(s.p.ctx, t)
	}
}

// unpark returns the parked tasks to the queue when the pool ends.
func (s *scheduler) unpark() {
	for _, t := range s.parked {
		s.p.giveBack(s.p.ctx, t.rec, t.rec.NotBefore)
	}
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

// giveBack returns a task that was claimed and cannot be started, also when ctx
// has ended.
func (p *Pool) giveBack(ctx context.Context, r TaskRecord, until time.Time) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	_, err := p.store.Transition(ctx, Transition{
		Task: r.ID, From: StateRunning, Fence: r.Fence, To: StatePending, At: time.Now(), NotBefore: until,
		ResumeSession: r.ResumeSession,
	})
	if err != nil && !errors.Is(err, ErrFenced) && !errors.Is(err, ErrConflict) {
		p.log.Error("task could not go back to the queue; it will when its lease ends", "task", r.ID, "err", err)
	}
}

// storeTimeout bounds a step of the store that must be made though its caller
// has gone.
const storeTimeout = 5 * time.Second

// giveUp deals with the waiting tasks when no slot of this pool can run any. It
// returns when to look again.
func (s *scheduler) giveUp(ctx context.Context, h *Hold) time.Time {
	if time.Now().Before(s.leave) {
		return s.leave // however many tasks others begin and end meanwhile
	}
	others, err := s.p.ableSlots(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.p.log.Error("waiting tasks cannot be failed: other pools might run them; trying again", "err", err)
		}
		return time.Now().Add(time.Second)
	}
	s.p.gate.tell(h, len(others) > 0)
	next := s.p.failPending(ctx, h, others)
	if len(others) > 0 {
		s.leave = time.Now().Add(lookElsewhere)
		next = earliest(s.leave, cmp.Or(next, s.leave))
	}
	return next
}

// lookElsewhere is how often a pool that can run nothing looks whether the
// others still can.
const lookElsewhere = 5 * time.Second

// failPending fails the tasks that could run now, because no slot can run any,
// save those that one of the others can. It returns when to look again.
func (p *Pool) failPending(ctx context.Context, h *Hold, others []SlotRecord) time.Time {
	now := time.Now()
	var next time.Time
	for r, err := range p.store.Tasks(ctx, TaskFilter{States: []TaskState{StatePending}}) {
		if err == nil && r.NotBefore.After(now) {
			if next.IsZero() || r.NotBefore.Before(next) {
				next = r.NotBefore
			}
			continue
		}
		if err == nil && !anyRuns(others, &r) {
			_, err = p.store.Transition(ctx, Transition{
				Task: r.ID, From: StatePending, To: StateFailed, At: time.Now(), Outcome: h.Class, Result: p.endedEarly(r, h.Class, h.Reason),
			})
		}
		if err != nil && !errors.Is(err, ErrConflict) {
			if ctx.Err() == nil {
				p.log.Error("waiting task could not be failed; trying again", "task", r.ID, "err", err)
			}
			return now.Add(time.Second)
		}
	}
	return next
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
	again, err := p.resolve(context.WithoutCancel(ctx), &r) // the claim is made, whoever has gone
	if !again.IsZero() {
		p.giveBack(ctx, r, again)
		s.offer(sl, was.key, was.session)
		sl.poke()
		return "", false, nil
	}
	sl.assigned <- assignment{r, err}
	return r.ID, true, nil
}
