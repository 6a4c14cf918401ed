package claudepool

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// maxRunningChains bounds how many chains a pool runs at once. They hold no
// slot, but each keeps a claim alive. What is submitted later waits, whatever
// its priority.
const maxRunningChains = 256

// chains runs the chains that this pool has claimed, and tells who watches one
// that something about it has changed.
type chains struct {
	p    *Pool
	wake chan struct{} // holds one token while there may be a chain to claim
	work sync.WaitGroup
	done chan struct{} // closed when loop and all runs have ended

	watchers *waiters // of what changes about a chain, its steps' answers included

	mu   sync.Mutex
	runs map[TaskID]*chainRun
}

func newChains(p *Pool) *chains {
	return &chains{p: p, wake: make(chan struct{}, 1), done: make(chan struct{}), runs: map[TaskID]*chainRun{}, watchers: newWaiters()}
}

// chainOf returns the chain whose step the task runs, or the task itself.
func chainOf(id TaskID) TaskID {
	chain, _, _ := strings.Cut(string(id), ".")
	return TaskID(chain)
}

// stepID is the id of the task with a key of a chain. It sorts directly after
// its chain, so that the steps of a chain come before what was submitted later.
func stepID(chain TaskID, key string) TaskID { return chain + "." + TaskID(key) }

// kick makes loop look for chains. It never waits.
func (c *chains) kick() { token(c.wake) }

// token puts a token into a channel that holds at most one.
func token(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// changed tells of a change of a task to whom it may concern.
func (c *chains) changed(id TaskID) {
	chain := chainOf(id)
	c.mu.Lock()
	run := c.runs[chain]
	c.mu.Unlock()
	if run != nil {
		run.note(id)
	}
	c.watchers.wake(chain)
}

// changedAll tells that any task may have changed.
func (c *chains) changedAll() {
	c.mu.Lock()
	for _, run := range c.runs {
		run.noteAll()
	}
	c.mu.Unlock()
	c.watchers.wakeAll()
	c.kick()
}

// running returns the chains that run here.
func (c *chains) running() []TaskID {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ids []TaskID
	for id := range c.runs {
		ids = append(ids, id)
	}
	return ids
}

func (c *chains) has(id TaskID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.runs[id] != nil
}

// loop claims chains and runs them, until the pool ends.
func (c *chains) loop() {
	defer close(c.done)
	defer c.work.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-c.wake:
		case <-timer.C:
		case <-c.p.ctx.Done():
			return
		}
		if next := c.claim(c.p.ctx); !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

// claim takes what chains there are. It returns when to look again; zero means
// at the next kick.
func (c *chains) claim(ctx context.Context) time.Time {
	for ctx.Err() == nil && !c.p.sched.isClosed() && len(c.running()) < maxRunningChains {
		now := time.Now()
		r, err := c.p.store.Claim(ctx, ClaimRequest{Holder: c.p.holder(), Chains: true, Now: now, Lease: leaseTime})
		var none *NotRunnable
		switch {
		case errors.As(err, &none):
			return none.NextAt
		case err != nil:
			if ctx.Err() == nil {
				c.p.log.Error("store gives no chains; trying again", "err", err)
			}
			return now.Add(time.Second)
		}
		c.start(r)
	}
	return time.Time{}
}

// start runs a claimed chain.
func (c *chains) start(r TaskRecord) {
	run := &chainRun{
		p: c.p, id: r.ID, rec: r, fence: r.Fence, wake: make(chan struct{}, 1), known: map[TaskID]TaskRecord{}, refused: map[string]error{},
		memo: newChainMemo(), all: true, // a cancellation since the claim went unnoticed
	}
	c.mu.Lock()
	c.runs[r.ID] = run
	c.mu.Unlock()
	c.work.Go(func() {
		defer c.kick() // there is room for another
		defer func() {
			c.mu.Lock()
			delete(c.runs, r.ID)
			c.mu.Unlock()
		}()
		run.run(c.p.ctx)
	})
}

// chainRun is a claimed chain. What it remembers of the tasks of its steps only
// saves reading them again: the store has the truth.
type chainRun struct {
	p     *Pool
	id    TaskID
	rec   TaskRecord // as it was at the last look
	fence int64
	plan  *chainPlan
	wake  chan struct{}

	from    []TaskID // the chains that this one resumes
	known   map[TaskID]TaskRecord
	refused map[string]error // tasks that could not be submitted, by key
	memo    *chainMemo
	broken  error // why the store could not be read

	mu    sync.Mutex
	dirty []TaskID
	self  bool // the chain itself is among them
	all   bool // everything may have changed
}

func (r *chainRun) note(id TaskID) {
	r.mu.Lock()
	r.dirty = append(r.dirty, id)
	r.self = r.self || id == r.id
	r.mu.Unlock()
	token(r.wake)
}

// unsure reports whether the chain itself may have changed since the last look.
func (r *chainRun) unsure() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.self || r.all
}

func (r *chainRun) noteAll() {
	r.mu.Lock()
	r.all = true
	r.mu.Unlock()
	token(r.wake)
}

// run takes the chain to its end, or gives it back when the pool ends.
func (r *chainRun) run(ctx context.Context) {
	var err error
	if r.plan, err = r.rec.Chain.plan(); err != nil {
		r.fail(err)
		return
	}
	timer := time.NewTimer(leaseExtend)
	defer timer.Stop()
	extended := time.Now()
	for {
		again, over := r.advance(ctx)
		if over {
			return
		}
		var retry <-chan time.Time
		if again {
			retry = time.After(leaseRetry)
		}
		select {
		case <-r.wake:
		case <-retry:
		case <-timer.C:
			timer.Reset(leaseExtend)
			switch err := r.extend(ctx); {
			case err == nil:
				extended = time.Now()
			case errors.Is(err, ErrFenced):
				r.noteAll() // cancelled, or somebody else's
			case time.Since(extended) >= leaseGiveUp:
				r.p.log.Warn("chain is let go: its claim could not be extended", "task", r.rec.ID, "err", err)
				return
			default:
				timer.Reset(leaseRetry)
			}
		case <-ctx.Done():
			r.leave(ctx)
			return
		}
	}
}

// maxResumed bounds how many chains one can go on with, through one another.
const maxResumed = 100

// resumedFrom lists the earlier chains that c goes on with, the latest first.
// Those that the store has forgotten have nothing to give.
func (p *Pool) resumedFrom(ctx context.Context, c *Chain) ([]TaskID, error) {
	var from []TaskID
	for id := c.Resume; id != "" && len(from) < maxResumed; {
		r, err := p.store.Task(ctx, id)
		if errors.Is(err, ErrUnknownTask) || err == nil && r.Chain == nil {
			break
		}
		if err != nil {
			return nil, err
		}
		from = append(from, id)
		id = r.Chain.Resume
	}
	return from, nil
}

// look reads how the chain stands.
func (r *chainRun) look(ctx context.Context) *chainLook {
	r.mu.Lock()
	dirty, self, all := r.dirty, r.self, r.all
	r.dirty, r.self, r.all = nil, false, false
	r.mu.Unlock()
	for id, rec := range r.known {
		if all && !rec.State.Terminal() {
			delete(r.known, id)
		}
	}
	for _, id := range dirty {
		if rec, ok := r.known[id]; ok && !rec.State.Terminal() {
			delete(r.known, id)
		}
	}
	r.broken = nil
	if r.from == nil && r.rec.Chain.Resume != "" {
		r.from, r.broken = r.p.resumedFrom(ctx, r.rec.Chain)
	}
	if self || all {
		if rec, err := r.p.store.Task(ctx, r.rec.ID); err == nil {
			r.rec = rec
		} else {
			r.broken = err
		}
	}
	l := &chainLook{plan: r.plan, rec: &r.rec, from: r.from, refused: r.refused, memo: r.memo, find: r.p.finder(ctx, r.known, &r.broken)}
	l.look()
	if r.broken != nil {
		r.memo = newChainMemo() // it may be wrong
		r.mu.Lock()
		r.all = true
		r.mu.Unlock()
	}
	return l
}

// finder returns a function that finds tasks, in known or in the store. What is
// found is kept in known, and the error of a store that cannot be read in broken.
func (p *Pool) finder(ctx context.Context, known map[TaskID]TaskRecord, broken *error) func(TaskID) (TaskRecord, bool) {
	return func(id TaskID) (TaskRecord, bool) {
		if rec, ok := known[id]; ok {
			return rec, true
		}
		rec, err := p.store.Task(ctx, id)
		switch {
		case errors.Is(err, ErrUnknownTask):
			return TaskRecord{}, false
		case err != nil:
			*broken = fmt.Errorf("read step %s: %w", id, err)
			return TaskRecord{}, false
		}
		known[id] = rec
		return rec, true
	}
}

// advance does what can be done now: it submits what is ready, or ends the
// chain. It reports whether to try again soon, and whether the run is over.
func (r *chainRun) advance(ctx context.Context) (again, over bool) {
	for {
		l := r.look(ctx)
		switch {
		case r.broken != nil:
			if ctx.Err() == nil {
				r.p.log.Warn("chain cannot go on yet: the store cannot be read", "task", r.rec.ID, "err", r.broken)
			}
			return true, false
		case r.rec.State == StateCancelled:
			r.cancelled(ctx, l)
			return false, true
		case r.rec.State != StateRunning || r.rec.Fence != r.fence:
			r.p.log.Warn("chain is let go: its claim was lost", "task", r.rec.ID)
			return false, true
		case l.over():
			r.finish(l)
			return false, true
		case r.p.sched.isClosed():
			if len(l.live) == 0 {
				r.leave(ctx)
				return false, true
			}
			return false, false // what runs may finish
		case l.failed >= 0:
			r.p.cancelPending(ctx, l.live)
			return false, false
		case len(l.ready) == 0:
			return false, false
		}
		for _, t := range l.ready {
			if r.unsure() || r.p.sched.isClosed() {
				break // look again, before more is started
			}
			if err := r.submit(ctx, t); err != nil {
				if ctx.Err() == nil {
					r.p.log.Warn("step cannot be submitted yet", "task", r.rec.ID, "step", t.key, "err", err)
				}
				return true, false
			}
		}
	}
}

// submit stores the task of a step. That it is there already is no error: it
// was submitted before a restart. A task that can never be is remembered as
// refused; any other error may pass.
func (r *chainRun) submit(ctx context.Context, t stepTask) error {
	id := stepID(r.rec.ID, t.key)
	rec, err := r.p.newRecord(ctx, id, t.task)
	if err == nil {
		rec, _, err = r.p.store.CreateTask(ctx, rec)
	}
	_, invalid := errors.AsType[*InvalidError](err)
	switch {
	case err == nil:
		r.known[id] = rec
	case invalid, errors.Is(err, ErrUnknownSlot), errors.Is(err, ErrUnknownTask):
		r.refused[t.key] = err
	case !errors.Is(err, ErrDuplicate):
		return err
	}
	return nil
}

func (r *chainRun) extend(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaseExtend/2)
	defer cancel()
	return r.p.store.Extend(ctx, ClaimRef{Task: r.rec.ID, Fence: r.fence}, time.Now().Add(leaseTime), 0)
}

// finish records what the chain came to.
func (r *chainRun) finish(l *chainLook) {
	outcome, res := l.end()
	r.settle(outcome, res)
}

// fail ends a chain that cannot run at all.
func (r *chainRun) fail(err error) {
	r.settle(OutcomeInvalid, &TaskResult{Failure: &Failure{Class: OutcomeInvalid, Message: err.Error()}})
}

// settle ends the chain.
func (r *chainRun) settle(outcome Outcome, res *TaskResult) {
	now := time.Now()
	res.Queued, res.Ran, res.Total = Duration(r.rec.First.Sub(r.rec.Submitted)), Duration(now.Sub(r.rec.Started)), Duration(now.Sub(r.rec.Submitted))
	r.write(Transition{To: outcome.State(), Outcome: outcome, Attempt: r.attempt(outcome), Result: res})
}

// cancelled ends what runs of a chain that somebody cancelled, and the claim.
func (r *chainRun) cancelled(ctx context.Context, l *chainLook) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseTime)
	defer cancel()
	r.p.cancelAll(ctx, l.live)
	r.write(Transition{To: StateCancelled, Outcome: OutcomeCancelled, Attempt: r.attempt(OutcomeCancelled)})
}

// leave ends the run because the pool does: a chain whose steps have all ended
// is finished; else it goes back to the queue, or is cancelled with a store
// that ends with the program.
func (r *chainRun) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	r.noteAll() // news of the last changes may be on its way
	l := r.look(ctx)
	switch {
	case r.rec.State == StateCancelled:
		r.cancelled(ctx, l)
	case r.rec.State != StateRunning || r.rec.Fence != r.fence:
	case r.broken == nil && l.over():
		r.finish(l)
	case r.p.durable && l.begun():
		r.write(Transition{To: StatePending, Attempt: r.attempt(OutcomeLost)})
	case r.p.durable:
		r.write(Transition{To: StatePending}) // unused
	default:
		res := r.p.endedEarly(r.rec, OutcomeCancelled, errNoLater)
		res.Steps = l.steps
		r.write(Transition{To: StateCancelled, Outcome: OutcomeCancelled, Attempt: r.attempt(OutcomeCancelled), Result: res})
	}
}

// errNoLater is why tasks are cancelled by the drain of a pool whose store ends
// with the program.
const errNoLater = "the pool was shut down, and its store does not outlive it"

// attempt is the record of the run. The money is that of the steps' own.
func (r *chainRun) attempt(outcome Outcome) *Attempt {
	return &Attempt{Holder: r.p.holder(), Outcome: outcome, Started: r.rec.Started, Ended: time.Now()}
}

// write stores a transition of the chain.
func (r *chainRun) write(t Transition) {
	t.Task, t.From, t.Fence, t.At = r.rec.ID, StateRunning, r.fence, time.Now()
	stored, err := r.p.write(t)
	switch {
	case errors.Is(err, ErrFenced), errors.Is(err, ErrConflict):
		r.p.log.Debug("end of a chain changes nothing", "task", r.rec.ID, "state", stored.State)
	case err != nil:
		r.p.log.Error("end of a chain was not stored before the pool closed; it is taken up again by the next", "task", r.rec.ID, "err", err)
	default:
		r.p.log.Info("chain ended", "task", r.rec.ID, "state", stored.State, "outcome", stored.Outcome)
	}
}

// cancelPending cancels the tasks that have not been started.
func (p *Pool) cancelPending(ctx context.Context, ids []TaskID) {
	for _, id := range ids {
		r, err := p.store.Task(ctx, id)
		if err != nil || r.State != StatePending {
			continue // it is running, has ended, or is looked at again
		}
		_, err = p.store.Transition(ctx, Transition{
			Task: id, From: StatePending, To: StateCancelled, At: time.Now(), Outcome: OutcomeCancelled,
			Result: p.endedEarly(r, OutcomeCancelled, "another step of its chain had failed"),
		})
		if err != nil && !errors.Is(err, ErrConflict) && ctx.Err() == nil {
			p.log.Warn("waiting step of a failed chain could not be cancelled; it runs in vain", "task", id, "err", err)
		}
	}
}
