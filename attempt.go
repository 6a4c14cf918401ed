package claudepool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/worktree"
)

// Leases: a holder extends its claim at a third of the time, and ends its turn
// when it could not for two thirds, so that nobody takes over a live one.
const (
	leaseTime   = 30 * time.Second
	leaseExtend = leaseTime / 3
	leaseGiveUp = 2 * leaseTime / 3
	leaseRetry  = time.Second // after an extension that failed
)

// costPoll is how often the agent is asked in mid-turn for what it has cost. It
// is also asked whenever the model has finished a request.
const costPoll = 2 * time.Second

// Why an attempt is ended from outside: causes of its context.
var (
	errCancelled = errors.New("task was cancelled")
	errTimeout   = errors.New("ran longer than its timeout")
	errStalled   = errors.New("fell silent")
	errOverspent = errors.New("reached its cap")
	errLostClaim = errors.New("claim was lost")
	errHandBack  = errors.New("pool shuts down")
	errRefused   = errors.New("credential was refused")
)

// attempt is one execution of a task on a slot.
type attempt struct {
	s   *slot
	p   *Pool
	rec TaskRecord
	// broken is why the task cannot run, if that was known before.
	broken error

	ctx    context.Context
	cancel context.CancelCauseFunc

	started time.Time
	limits  attemptLimits
	agent   atomic.Pointer[Agent]
	look    chan struct{} // holds one token while the cost should be looked at
	named   chan struct{} // gets one token when the session is known

	// What happened so far, for the watch beside the turn.
	life    atomic.Int64 // time of the last sign of life
	phase   atomic.Pointer[string]
	cost    atomic.Int64 // last figure seen
	session atomic.Pointer[string]
	model   atomic.Pointer[string]
	base    Microdollars // what the session had cost before the turn
	prompt  bool         // the prompt was sent
	heard   atomic.Bool  // the model has begun to answer it
	partial *tail        // the end of the answer, for the step of a chain
	given   []string     // messages that are in it

	usable bool // the slot's process can be used again
	rested bool // it has forgotten the task, holds its session, or has ended

	place   *worktree.Place  // of an isolated task, once its work has begun
	moved   bool             // the conversation may have been in another
	written *worktree.Result // what came of that
	unsaved *unsavedError    // why not all of it was saved, if so
	marked  []string         // files with conflicts that it was to resolve
}

// attemptLimits are the bounds of one attempt.
type attemptLimits struct {
	timeout, stall time.Duration
	cap            Microdollars // what it may cost; 0 means no bound
}

// Phases of an attempt, as they are named when it stalls.
var (
	phasePlace   = "preparing its place"
	phaseStart   = "start-up"
	phaseWaiting = "waiting for the model"
	phaseAnswer  = "answering"
	phaseTool    = "inside a tool"
	phaseAsked   = "waiting for permission"
)

func newAttempt(s *slot, t assignment) *attempt {
	r := &t.rec
	a := &attempt{s: s, p: s.p, rec: t.rec, broken: t.err, started: time.Now(), look: make(chan struct{}, 1), named: make(chan struct{}, 1)}
	a.ctx, a.cancel = context.WithCancelCause(s.p.ctx)
	a.limits = attemptLimits{
		timeout: cmp.Or(r.Task.Overrides.Timeout, s.p.cfg.Timeout),
		stall:   cmp.Or(r.Task.StallTimeout, s.p.cfg.StallTimeout),
	}
	if r.Claim != nil {
		a.limits.cap = r.Claim.Reserved
	}
	if r.Task.Parent != "" && chainOf(r.ID) == r.Task.Parent {
		a.partial = &tail{}
	}
	a.alive(&phaseStart)
	return a
}

// track makes an attempt known to those who may want to end it.
func (p *Pool) track(a *attempt) {
	p.mu.Lock()
	p.running[a.rec.ID] = a
	delete(p.whyBack, a.rec.ID)
	p.mu.Unlock()
}

func (p *Pool) untrack(a *attempt) {
	p.mu.Lock()
	if p.running[a.rec.ID] == a {
		delete(p.running, a.rec.ID)
	}
	p.mu.Unlock()
}

// alive notes a sign of life.
func (a *attempt) alive(phase *string) {
	a.life.Store(time.Now().UnixNano())
	a.phase.Store(phase)
}

// quiet returns when the agent will have been silent for too long. While its place
// is made ready, which has a bound of its own, there is no agent.
func (a *attempt) quiet() time.Time {
	if a.phase.Load() == &phasePlace {
		return always
	}
	return time.Unix(0, a.life.Load()).Add(a.limits.stall)
}

// run executes the attempt and settles it, or gives the task back if it did not
// begin. It reports whether the slot's process died by itself, and why the slot
// cannot begin any, if so.
func (a *attempt) run() (crashed bool, down error) {
	during := func(watch func(stop <-chan struct{}), do func()) {
		var watching sync.WaitGroup
		stop := make(chan struct{})
		watching.Go(func() { watch(stop) })
		do()
		close(stop)
		watching.Wait()
	}
	from, res, err := fromWarm, claude.Result{}, error(nil)
	during(a.watch, func() { from, res, err = a.execute() })
	alive := a.s.agent != nil && !isDone(a.s.agent)
	crashed = err != nil && a.prompt && a.ctx.Err() == nil
	a.usable = alive && (err == nil || !a.prompt || a.ctx.Err() != nil && errors.Is(err, context.Cause(a.ctx)))
	if a.place != nil {
		during(a.keep, func() {
			if saved := a.saveWork(); err == nil && !res.IsError {
				err = saved
			}
		})
	}
	if back, ok := errors.AsType[*notBegunError](err); ok {
		a.p.log.Warn("task goes back to the queue: it could not begin", "task", a.rec.ID, "slot", a.s.id, "err", err)
		a.p.notBegun(a.ctx, a.rec, back)
		a.cancel(nil)
		return false, back.slot
	}
	if a.usable && a.s.agent != nil {
		session := a.s.held
		if !a.rested {
			session = a.s.holdAfter(&a.rec)
		}
		// Before anybody knows that the task has ended, and sends the next.
		a.p.sched.expect(a.s, a.s.key, session)
	}
	a.settle(from, res, err)
	a.cancel(nil)
	return crashed, nil
}

// saveWork brings the process to rest, or it would write on, and saves its work.
func (a *attempt) saveWork() error {
	err := a.rest()
	if err != nil {
		err = &unsavedError{a.rec.ID, a.place.Root(), err}
	} else {
		a.written, err = a.endWork()
	}
	if errors.As(err, &a.unsaved) {
		a.p.log.Error("work could not be saved; it stays where it is", "task", a.rec.ID, "slot", a.s.id, "err", err)
	}
	return err
}

// rest brings the slot's process to rest. It does so once: before the work is
// saved, or when all else is done.
func (a *attempt) rest() error {
	if a.rested {
		return nil
	}
	a.rested = true
	return a.s.rest(&a.rec, a.usable)
}

// execute gets a process and runs the turn.
func (a *attempt) execute() (source, claude.Result, error) {
	if err := cmp.Or(a.broken, a.claimed()); err != nil {
		return fromWarm, claude.Result{}, err
	}
	if err := a.beginWork(); err != nil {
		return fromWarm, claude.Result{}, err
	}
	a.alive(&phaseStart)
	from, err := a.s.acquire(a.ctx, &a.rec)
	if noSession(err) && a.rec.ResumeSession != "" {
		// The conversation that an interrupted attempt left is gone: start again.
		a.rec.ResumeSession = ""
		from, err = a.s.acquire(a.ctx, &a.rec)
	}
	if err != nil {
		return from, claude.Result{}, err
	}
	agent := a.s.agent
	a.moved = a.place != nil && from != fromWarm && cmp.Or(a.rec.ResumeSession, a.rec.Task.Session.ID) != ""
	prompt, err := a.compose()
	if err != nil {
		return from, claude.Result{}, err
	}
	if continued(&a.rec) != "" {
		// A continued session goes on from what it has cost already.
		base, err := agent.Cost(a.ctx)
		if err != nil {
			return from, claude.Result{}, err
		}
		a.base = base
	}
	if a.ctx.Err() != nil {
		return from, claude.Result{}, context.Cause(a.ctx)
	}
	if err := a.ask(); err != nil {
		return from, claude.Result{}, err
	}
	a.agent.Store(&agent)
	a.s.beginTranscript(&a.rec)
	defer a.s.endTranscript()
	a.alive(&phaseWaiting)
	a.prompt = true
	res, err := agent.Turn(a.ctx, prompt, a.observe)
	if errors.Is(err, claude.ErrInvalidPrompt) {
		a.prompt = false // nothing was sent: the process is as it was, and nothing was spent
	}
	return from, res, err
}

// ask returns when it is stored for good that the claim still holds and that the
// agent is about to be asked: from then on the attempt may spend money. A store
// that fails is told again until the attempt ends.
func (a *attempt) ask() error {
	ref := ClaimRef{Task: a.rec.ID, Fence: a.rec.Fence, SlotID: a.s.id, Asked: true}
	for try := 1; ; try++ {
		err := a.p.store.Extend(a.ctx, ref, time.Now().Add(leaseTime), 0)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, ErrFenced):
			a.cancel(a.p.whyFenced(a.ctx, a.rec.ID))
			return context.Cause(a.ctx)
		case errors.Is(err, ErrClosed):
			return err
		}
		select {
		case <-time.After(backoff(50*time.Millisecond, 2*time.Second, try)):
		case <-a.ctx.Done():
			return context.Cause(a.ctx)
		}
	}
}

// claimed notices a cancellation that came before the attempt was known.
func (a *attempt) claimed() error {
	r, err := a.p.store.Task(a.ctx, a.rec.ID)
	switch {
	case err != nil:
		return nil // it shows again, and counts, when the lease is extended
	case r.State == StateCancelled:
		a.cancel(errCancelled)
	case r.State != StateRunning || r.Fence != a.rec.Fence:
		a.cancel(errLostClaim)
	default:
		return nil
	}
	return context.Cause(a.ctx)
}

// whyFenced tells a cancelled task from one that somebody else runs now.
func (p *Pool) whyFenced(ctx context.Context, id TaskID) error {
	if r, err := p.store.Task(ctx, id); err == nil && r.State == StateCancelled {
		return errCancelled
	}
	return errLostClaim
}

// observe takes note of what the agent does.
func (a *attempt) observe(e claude.Event) {
	switch e.(type) {
	case claude.TextDelta, claude.ThinkingDelta, claude.ToolUse:
		a.heard.Store(true)
	}
	switch e := e.(type) {
	case claude.Started:
		if a.session.Swap(&e.SessionID) == nil {
			if a.rec.ownsSession() {
				a.p.pruner.begins((*a.agent.Load()).Info(), e.SessionID)
			}
			if a.p.durable { // else nobody could take over
				token(a.named)
			}
		}
		a.model.Store(&e.Model)
		a.p.sessions.note(e.SessionID, a.rec.Lane)
		a.alive(&phaseWaiting)
	case claude.Requesting, claude.Compacted, claude.Fallback:
		a.alive(&phaseWaiting)
	case claude.ToolUse:
		a.alive(&phaseTool)
		a.checkCost()
	case claude.ToolResult:
		a.alive(&phaseWaiting)
		a.checkCost()
	case claude.Asked:
		a.alive(&phaseAsked)
	case claude.ToolProgress, claude.Answered:
		a.alive(&phaseTool)
	case claude.RateLimit:
		a.alive(&phaseWaiting)
		a.p.events.publish(Event{Kind: EventRateLimit, TaskID: a.rec.ID, SlotID: a.s.id, Message: e.Status + " " + e.Kind, Until: e.ResetsAt})
	case claude.Retry:
		a.alive(&phaseWaiting)
		if e.Status == 401 {
			a.cancel(errRefused) // it would be tried for three minutes more
		}
	case claude.TextDelta:
		a.alive(&phaseAnswer)
		if a.partial != nil && e.ParentToolUseID == "" {
			a.partial.add(e.Text)
			a.p.chains.watchers.wake(a.rec.Task.Parent)
		}
	default:
		a.alive(&phaseAnswer)
	}
	if a.p.events.wantsAgents() {
		a.p.events.publish(Event{Kind: EventAgent, TaskID: a.rec.ID, SlotID: a.s.id, Agent: e})
	}
}

func (a *attempt) checkCost() {
	select {
	case a.look <- struct{}{}:
	default:
	}
}

// watch keeps the claim and the bounds of a turn, until stop is closed.
func (a *attempt) watch(stop <-chan struct{}) {
	now := time.Now()
	extended, extend := now, now.Add(leaseExtend)
	deadline, poll := now.Add(a.limits.timeout), now.Add(costPoll)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		quiet := a.quiet()
		next := earliest(extend, deadline, quiet)
		next = earliest(next, poll)
		timer.Reset(max(time.Until(next), time.Millisecond))
		select {
		case <-stop:
			return
		case <-a.ctx.Done():
			a.keep(stop)
			return
		case <-a.look:
			poll = time.Now()
		case <-a.named:
			extend = time.Now() // the claim is to say where the attempt runs
		case <-timer.C:
		}
		now = time.Now()
		switch {
		case !now.Before(deadline):
			a.cancel(errTimeout)
		case !now.Before(a.quiet()):
			a.cancel(fmt.Errorf("%w for %v while %s", errStalled, a.limits.stall, *a.phase.Load()))
		}
		if !now.Before(poll) {
			if a.spend() && a.p.durable { // else nobody could take over
				extend = now // the claim is to say what the attempt has cost
			}
			poll = time.Now().Add(costPoll)
		}
		if !now.Before(extend) {
			extend = now.Add(leaseRetry)
			switch err := a.extend(a.ctx); {
			case err == nil:
				extended, extend = now, now.Add(leaseExtend)
			case errors.Is(err, ErrFenced):
				a.cancel(a.p.whyFenced(a.ctx, a.rec.ID))
			case now.Sub(extended) >= leaseGiveUp:
				a.cancel(fmt.Errorf("%w: it could not be extended: %w", errLostClaim, err))
			}
		}
	}
}

// keep keeps only the claim, until stop is closed: nobody may take the task over
// while its turn comes to an end, and its work is saved.
func (a *attempt) keep(stop <-chan struct{}) {
	pause := leaseRetry
	for {
		select {
		case <-stop:
			return
		case <-time.After(pause):
		}
		switch err := a.extend(context.WithoutCancel(a.ctx)); {
		case err == nil:
			pause = leaseExtend
		case errors.Is(err, ErrFenced), errors.Is(err, ErrClosed):
			<-stop
			return
		default:
			pause = leaseRetry
		}
	}
}

func (a *attempt) extend(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaseExtend/2)
	defer cancel()
	ref := ClaimRef{Task: a.rec.ID, Fence: a.rec.Fence, SlotID: a.s.id, SessionID: a.sessionID(claude.Result{})}
	return a.p.store.Extend(ctx, ref, time.Now().Add(leaseTime), Microdollars(a.cost.Load()))
}

// spend asks the agent what it has cost, and ends the turn at the cap. It reports
// whether the figure is another than before.
func (a *attempt) spend() (news bool) {
	agent := a.agent.Load()
	if agent == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(a.ctx, costPoll)
	defer cancel()
	cost, err := (*agent).Cost(ctx)
	if err != nil {
		return false // asked again in a moment; what the turn cost is settled at its end
	}
	cost -= a.base
	news = a.cost.Swap(int64(cost)) != int64(cost)
	// At the cap to the cent an answer may be the last; anything else would
	// be followed by another request.
	if cap := a.limits.cap; cap > 0 && (cost > cap || cost == cap && a.phase.Load() != &phaseAnswer) {
		a.cancel(fmt.Errorf("%w of %v", errOverspent, cap))
	}
	return news
}

func earliest(t time.Time, more ...time.Time) time.Time {
	for _, m := range more {
		if m.Before(t) {
			t = m
		}
	}
	return t
}
