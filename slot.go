package claudepool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/worktree"
)

// SlotState is where a slot stands.
type SlotState string

// The states of a slot.
const (
	SlotStarting   SlotState = "starting"   // its process is being started, or waits for room to start
	SlotIdle       SlotState = "idle"       // ready for a task
	SlotBusy       SlotState = "busy"       // runs a task
	SlotResetting  SlotState = "resetting"  // forgets the last task
	SlotRestarting SlotState = "restarting" // its process failed; it pauses before the next start
	SlotErrored    SlotState = "errored"    // its process failed too often; it is left alone for a while
	SlotDraining   SlotState = "draining"   // finishes its task, then stops
	SlotStopped    SlotState = "stopped"
)

// SlotStates lists every state of a slot.
func SlotStates() []SlotState {
	return []SlotState{SlotStarting, SlotIdle, SlotBusy, SlotResetting, SlotRestarting, SlotErrored, SlotDraining, SlotStopped}
}

// slot is a place for one agent process. Its goroutine, run, is the only one
// that touches the process; the fields below mu are for everybody.
type slot struct {
	p      *Pool
	id     string
	cfg    SlotConfig
	own    claude.Options // how its process is started when no task wants otherwise
	ownKey string         // launch key of own
	// assigned gets at most one task, from whoever took the slot out of the
	// idle set.
	assigned chan assignment
	poked    chan struct{} // holds one token while there is something to look at
	done     chan struct{} // closed when run has ended

	// Owned by run.
	agent Agent
	key   string // launch key of the agent
	// launched is the launch key without what belongs to a conversation.
	launched string
	resumed  string    // session that the agent was started to continue
	born     time.Time // of the agent
	served   int       // tasks of the agent
	held     string    // session that the agent still holds for a follow-up
	until    time.Time // end of that hold
	// Turns that nobody asked for: what they have cost, as far as it was
	// charged, and how many there were when the conversation was last known to
	// be clean.
	stray      Microdollars
	strayTurns int
	// failures are the times of the last failures, for the circuit.
	failures []time.Time
	places   map[Isolation]*worktree.Place // for isolated tasks
	// placeless says that the last isolated task could not begin in any place.
	placeless bool

	lines transcriptWriter

	mu       sync.Mutex
	status   SlotStatus
	live     Agent // the agent, for who looks at it from outside
	stopping bool
	recycle  string // why the process is to be replaced
	noPlace  string // why isolated tasks cannot begin, as far as is known
	unhold   bool   // the session that is held has gone on elsewhere
	version  int64  // of the slot's record

	recording chan struct{} // full while the record is being written
}

// addSlot makes a slot and starts it, unless the pool has begun to end.
func (p *Pool) addSlot(cfg SlotConfig) {
	p.mu.Lock()
	if p.phase != phaseOpen {
		p.mu.Unlock()
		return
	}
	s := &slot{
		p: p, id: fmt.Sprintf("slot-%d", p.next), cfg: cfg,
		assigned: make(chan assignment, 1), poked: make(chan struct{}, 1), done: make(chan struct{}),
		recording: make(chan struct{}, 1),
	}
	was := p.inherited[s.id]
	s.status = SlotStatus{
		ID: s.id, Name: cmp.Or(cfg.Name, was.Name), Role: cmp.Or(cfg.Role, was.Role), Description: cmp.Or(cfg.Description, was.Description),
		State: SlotStarting, Since: time.Now(),
	}
	s.own = s.configure(nil)
	s.ownKey = s.own.LaunchKey()
	p.next++
	p.slots = append(p.slots, s)
	p.work.Go(s.run) // before Close can wait for it
	p.mu.Unlock()
}

// slot returns the slot with that id or name.
func (p *Pool) slot(name string) (*slot, error) {
	p.mu.Lock()
	slots := slices.Clone(p.slots)
	p.mu.Unlock()
	for _, s := range slots {
		if s.id == name {
			return s, nil
		}
	}
	for _, s := range slots {
		if st := s.snapshot(); st.Name != "" && st.Name == name {
			return s, nil
		}
	}
	return nil, fmt.Errorf("%w %q; ask for the slots to see which there are", ErrUnknownSlot, name)
}

// answersTo reports whether the slot may run a task that is pinned so.
func (s *slot) answersTo(name, role string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return (name == "" || name == s.id || name == s.status.Name) && (role == "" || role == s.status.Role)
}

// run is the life of the slot.
func (s *slot) run() {
	defer close(s.done)
	ctx := s.p.ctx
	s.p.gate.slotStarting(s)
	s.tellStore()
	for s.prepare(ctx) {
		s.await(ctx)
	}
	s.set(SlotStopped, "")
	s.discard()
	s.leavePlaces()
	s.p.removeSlot(s)
}

// prepare makes the slot ready for a task. It returns false when the slot is to stop.
func (s *slot) prepare(ctx context.Context) bool {
	for !s.wantsStop(ctx) {
		if why := s.recycleReason(); why != "" && s.agent != nil {
			s.p.log.Debug("process is replaced", "slot", s.id, "why", why)
			s.discard()
		}
		if s.agent != nil {
			return true
		}
		s.set(SlotStarting, "")
		o, key := s.home(ctx)
		err := s.launch(ctx, o, key)
		if err == nil {
			return true
		}
		if ctx.Err() == nil {
			s.failed(ctx, err)
		}
	}
	return false
}

// await offers the slot and does what comes: a task, the death of the process,
// the end of a hold, or the wish to stop or recycle.
func (s *slot) await(ctx context.Context) {
	s.set(SlotIdle, "")
	s.p.sched.offer(s, s.key, s.held)
	var expired <-chan time.Time
	if s.held != "" {
		t := time.NewTimer(time.Until(s.until))
		defer t.Stop()
		expired = t.C
	}
	for {
		select {
		case t := <-s.assigned:
			s.serve(ctx, t)
			return
		case <-s.poked:
			if !s.wantsStop(ctx) && s.recycleReason() == "" && !s.takeUnhold() {
				continue
			}
		case <-s.agent.Done():
		case <-expired:
		case <-ctx.Done():
		}
		break
	}
	if t, ok := s.withdraw(); ok {
		s.serve(ctx, t)
		return
	}
	switch {
	case s.wantsStop(ctx):
	case isDone(s.agent):
		s.discard()
		s.crashed(ctx)
	case s.held != "":
		s.reset(ctx)
	}
}

// withdraw takes the slot out of the idle set, or returns the task that was
// quicker.
func (s *slot) withdraw() (assignment, bool) {
	for {
		if s.p.sched.take(s) {
			return assignment{}, false
		}
		select {
		case t := <-s.assigned:
			return t, true
		case <-s.poked: // whoever had taken the slot may have put it back
		}
	}
}

// serve runs one attempt of a task and makes the slot clean again.
func (s *slot) serve(ctx context.Context, t assignment) {
	r := &t.rec
	s.mu.Lock()
	s.status.TaskID = r.ID
	s.status.Tasks++
	s.mu.Unlock()
	s.set(SlotBusy, "")
	a := newAttempt(s, t)
	s.p.track(a)
	crashed, down := a.run()
	s.p.untrack(a)
	s.mu.Lock()
	s.status.TaskID = ""
	s.mu.Unlock()
	a.rest()
	switch {
	case crashed:
		s.crashed(ctx)
	case down != nil:
		s.failed(ctx, down)
		s.p.gate.slotAgain(s)
	}
}

// rest brings the process to rest when an attempt of r has ended: it forgets the
// task, holds its session for a follow-up, or ends. With an error it may still be
// at work.
func (s *slot) rest(r *TaskRecord, usable bool) error {
	if s.agent == nil {
		return nil
	}
	s.served++
	s.chargeStray()
	switch session := s.holdAfter(r); {
	case !usable, s.wantsStop(s.p.ctx), s.p.cfg.Reuse == ReuseNever, !s.p.ability.Warm, s.worn():
		return s.discard()
	case session != "":
		s.held, s.until = session, time.Now().Add(r.Task.KeepSession)
		_, s.strayTurns = s.unsolicited()
		return nil
	}
	return s.reset(s.p.ctx)
}

// holdAfter returns the session that the process is to hold once the task has
// ended, or nothing.
func (s *slot) holdAfter(r *TaskRecord) string {
	if r.Task.KeepSession <= 0 {
		return ""
	}
	return s.agent.Info().SessionID
}

// resetTimeout bounds a reset: it takes some tens of milliseconds.
const resetTimeout = 15 * time.Second

// reset makes the process forget the last task, or ends it.
func (s *slot) reset(ctx context.Context) error {
	s.held = ""
	s.set(SlotResetting, "")
	_, s.strayTurns = s.unsolicited() // one during the reset may already be in the new conversation
	ctx, cancel := context.WithTimeout(ctx, resetTimeout)
	defer cancel()
	if err := s.agent.Reset(ctx, s.options(nil).Settings); err != nil {
		if s.p.ctx.Err() == nil {
			s.p.log.Warn("process is replaced: its reset was not proven", "slot", s.id, "err", err)
			s.p.meter.resetFailed()
		}
		return s.discard()
	}
	s.noteSession(s.agent)
	return nil
}

// noteSession notes the session that the process has come to, which the CLI
// keeps even if no task has run in it.
func (s *slot) noteSession(a Agent) {
	if info := a.Info(); info.SessionID != s.resumed {
		s.p.pruner.begins(info, info.SessionID)
	}
}

// worn reports whether the process has lived long enough.
func (s *slot) worn() bool {
	c := &s.p.cfg
	if s.served >= c.MaxTasks || time.Since(s.born) > c.MaxAge {
		return true
	}
	return s.memory() > c.MaxMemory
}

// memory returns the resident bytes of the process, 0 when unknown.
func (s *slot) memory() int64 {
	s.mu.Lock()
	a, ok := s.live.(interface{ RSS() (int64, error) })
	s.mu.Unlock()
	if !ok {
		return 0
	}
	n, err := a.RSS()
	if err != nil {
		return 0 // a process that has just ended, or a system that does not tell
	}
	return n
}

// adopt makes a the slot's process.
func (s *slot) adopt(a Agent, o claude.Options, key string) {
	s.agent, s.key, s.born, s.served, s.held = a, key, time.Now(), 0, ""
	if s.resumed = o.Resume; o.Fork {
		s.resumed = ""
	}
	o.SystemPrompt, o.AppendSystemPrompt, o.Resume, o.Fork = "", "", "", false
	_, suffix := splitKey(key)
	if suffix != "" {
		o.Dir = s.own.Dir // its place stands for it
	}
	s.launched = o.LaunchKey() + suffix
	s.stray, s.strayTurns = 0, 0
	s.mu.Lock()
	s.live = a
	s.recycle = ""
	s.mu.Unlock()
	s.p.pruner.uses(a.Info())
	if s.placeless {
		s.p.gate.slotAgain(s)
	} else {
		s.p.gate.slotUp(s)
	}
	if s.p.durable {
		s.tellStore() // before it is asked anything: whoever takes over has to find it
	}
}

// closeTimeout bounds the end of a process, which takes at most three steps of
// [claude.DefaultGrace] each.
const closeTimeout = 20 * time.Second

// discard ends the process and everything it started. If that cannot be done, its
// place is not used again as long as the pool lives.
func (s *slot) discard() error {
	a := s.agent
	if a == nil {
		return nil
	}
	s.chargeStray()
	if s.disturbed() {
		s.mistrust()
	}
	s.p.sched.unexpect(s)
	_, suffix := splitKey(s.key)
	s.agent, s.key, s.held = nil, "", ""
	s.mu.Lock()
	s.live = nil
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.p.ctx), closeTimeout)
	defer cancel()
	err := a.Close(ctx)
	if err != nil {
		s.p.log.Error("process could not be ended; look for what it left", "slot", s.id, "pid", a.Info().PID, "err", err)
		maps.DeleteFunc(s.places, func(kind Isolation, _ *worktree.Place) bool { return kind.keySuffix() == suffix })
	}
	s.noteSession(a) // a reset may have been cut off
	return err
}

// unsolicited returns what turns that nobody asked for have cost in the life of
// the process, and how many there were.
func (s *slot) unsolicited() (cost Microdollars, turns int) {
	a, ok := s.agent.(interface {
		Unsolicited() (cost Microdollars, turns int)
	})
	if !ok {
		return 0, 0
	}
	return a.Unsolicited()
}

// disturbed reports whether the process has run such a turn since it was ready:
// it is in the conversation that a task would have.
func (s *slot) disturbed() bool {
	_, turns := s.unsolicited()
	return turns != s.strayTurns
}

// chargeStray charges what the process has spent on turns that nobody asked for.
// No task is to blame, but the money is gone.
func (s *slot) chargeStray() {
	cost, turns := s.unsolicited()
	if cost <= s.stray {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.p.ctx), 5*time.Second)
	defer cancel()
	why := fmt.Sprintf("%d turns nobody asked for in the process of %s", turns, s.id)
	if err := s.p.store.Charge(ctx, time.Now(), cost-s.stray, why); err != nil {
		s.p.log.Error("cost could not be charged", "slot", s.id, "cost", cost-s.stray, "err", err)
		return
	}
	s.p.log.Warn("process ran turns that nobody asked for", "slot", s.id, "turns", turns, "cost", cost-s.stray)
	s.stray = cost
}

// crashed notes the death of an idle process. The first one in a while is
// replaced at once.
func (s *slot) crashed(ctx context.Context) {
	s.p.log.Warn("process ended by itself", "slot", s.id)
	if s.countFailure(); len(s.failures) > 1 {
		s.pause(ctx, errors.New("its process ended by itself"))
	}
}

// failed notes that the slot could get no process, or no place for its task, and
// waits before the next try.
func (s *slot) failed(ctx context.Context, err error) {
	s.p.log.Warn("slot could not be made ready", "slot", s.id, "err", err)
	s.p.gate.slotDown(s, err)
	s.countFailure()
	s.pause(ctx, err)
}

// countFailure counts a failure of the process within the circuit's window.
func (s *slot) countFailure() {
	now := time.Now()
	s.failures = append(s.failures, now)
	s.failures = slices.DeleteFunc(s.failures, func(t time.Time) bool { return now.Sub(t) > s.p.cfg.Restart.Window })
	s.mu.Lock()
	s.status.Restarts++
	s.mu.Unlock()
	s.p.meter.restarted()
}

// pause waits before the next start: longer from failure to failure, and for
// the cool-down once there were too many in the window.
func (s *slot) pause(ctx context.Context, why error) {
	c := s.p.cfg.Restart
	d, state := backoff(c.First, c.Most, len(s.failures)), SlotRestarting
	if len(s.failures) >= c.Failures {
		d, state = c.Cooldown, SlotErrored
		s.failures = s.failures[:0]
	}
	s.set(state, why.Error())
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.poked:
	case <-ctx.Done():
	}
}

// poke makes the slot look at what is wanted of it.
func (s *slot) poke() {
	select {
	case s.poked <- struct{}{}:
	default:
	}
}

// stop makes the slot stop after its task.
func (s *slot) stop() {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	s.poke()
}

func (s *slot) wantsStop(ctx context.Context) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping || ctx.Err() != nil
}

// dropHold makes the slot forget the session that it holds.
func (s *slot) dropHold() {
	s.mu.Lock()
	s.unhold = true
	s.mu.Unlock()
	s.poke()
}

func (s *slot) takeUnhold() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.unhold
	s.unhold = false
	return was
}

// replace makes the slot replace its process when it is idle.
func (s *slot) replace(why string) {
	s.mu.Lock()
	s.recycle = why
	s.mu.Unlock()
	s.poke()
}

func (s *slot) recycleReason() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.recycle
}

// set notes the slot's state and tells of it.
func (s *slot) set(state SlotState, detail string) {
	s.mu.Lock()
	if state != SlotStopped && s.stopping {
		state = SlotDraining
	}
	changed := s.status.State != state
	if changed {
		s.status.Since = time.Now()
	}
	s.status.State, s.status.Detail = state, detail
	task := s.status.TaskID
	s.mu.Unlock()
	if changed {
		s.p.events.publish(Event{Kind: EventSlot, SlotID: s.id, SlotState: state, TaskID: task, Message: detail})
	}
}

// snapshot returns how the slot stands.
func (s *slot) snapshot() SlotStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.status
	st.Detail = cmp.Or(st.Detail, s.noPlace)
	if s.live != nil {
		info := s.live.Info()
		st.PID, st.SessionID = info.PID, info.SessionID
	}
	return st
}

// tellStore records the slot: at the start, with each new process, and when it
// is news to others whether it can run anything. That it is busy can be seen
// from its task's claim.
func (s *slot) tellStore() {
	ctx, cancel := context.WithTimeout(s.p.ctx, storeTimeout)
	defer cancel()
	if err := s.record(ctx); err != nil && s.p.ctx.Err() == nil {
		s.p.log.Warn("slot could not be recorded; other pools do not see how it is", "slot", s.id, "err", err)
	}
}

// record writes the slot's record as the slot is now.
func (s *slot) record(ctx context.Context) error {
	select {
	case s.recording <- struct{}{}:
		defer func() { <-s.recording }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	st := s.snapshot()
	if s.p.gate.hopeless() != nil {
		st.State = SlotErrored // nor will the others of this pool run anything
	}
	s.mu.Lock()
	version := s.version
	s.mu.Unlock()
	r, err := s.p.store.PutSlot(ctx, SlotRecord{
		Instance: s.p.instance, ID: s.id, Name: st.Name, Role: st.Role, Description: st.Description,
		State: st.State, PID: st.PID, Version: version, Updated: time.Now(),
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.version = r.Version
	s.mu.Unlock()
	return nil
}

// renamed reports whether the slot is called otherwise than its configuration says.
func (s *slot) renamed() bool {
	st := s.snapshot()
	return st.Name != s.cfg.Name || st.Role != s.cfg.Role || st.Description != s.cfg.Description
}

// removeSlot forgets a slot that has stopped. When the whole pool ends, names
// that somebody has given stay for the next one.
func (p *Pool) removeSlot(s *slot) {
	p.mu.Lock()
	p.slots = slices.DeleteFunc(p.slots, func(o *slot) bool { return o == s })
	p.mu.Unlock()
	p.gate.slotGone(s)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), storeTimeout)
	defer cancel()
	var err error
	if p.durable && p.open() != nil && s.renamed() {
		err = s.record(ctx)
	} else {
		err = p.store.DeleteSlot(ctx, p.instance, s.id)
	}
	if err != nil {
		p.log.Warn("record of a stopped slot could not be changed", "slot", s.id, "err", err)
	}
}

func isDone(a Agent) bool {
	select {
	case <-a.Done():
		return true
	default:
		return false
	}
}
