package claudepool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/claudepool/claudepool/internal/proctree"
)

// overdue remembers the claims of living holders that have run out, so that one
// is taken over only when its holder has had the time to extend it since: a
// lease also runs out when the clock is set, or the whole machine was asleep.
type overdue struct {
	mu    sync.Mutex
	seen  map[TaskID]sighting
	fresh map[TaskID]sighting // of the look under way
}

// sighting is when a claim was first seen to have run out.
type sighting struct {
	fence int64
	lease time.Time
	at    time.Time
}

// since notes that the claim of r has run out, and returns for how long it has
// been seen like that.
func (o *overdue) since(r *TaskRecord) time.Duration {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	s, known := o.seen[r.ID]
	if !known || s.fence != r.Claim.Fence || !s.lease.Equal(r.Claim.Lease) {
		s = sighting{r.Claim.Fence, r.Claim.Lease, now}
	}
	o.fresh[r.ID] = s
	return now.Sub(s.at)
}

// turn ends a look: what it has not met again is forgotten.
func (o *overdue) turn() {
	o.mu.Lock()
	o.seen, o.fresh = o.fresh, map[TaskID]sighting{}
	o.mu.Unlock()
}

// always is after the end of every lease.
var always = time.Date(9999, time.January, 1, 0, 0, 0, 0, time.UTC)

// recoverLost returns tasks to the queue whose holder is lost. Of tasks that were
// cancelled meanwhile only the money is settled.
//
// Nobody may run a task while the processes of another holder work on it. So
// the claims of a program that is dead are taken over at once, when its
// processes have been ended; those of one that lives and hangs when they have
// run out, and their processes have been ended; and those of others, about which
// nothing can be known here, when they have run out. It returns how many pools
// were found dead and are done with.
func (p *Pool) recoverLost(ctx context.Context) (dead int, err error) {
	defer p.chains.kick() // another pool on the store may have given one back
	defer p.overdue.turn()
	others, err := p.instances(ctx)
	if err != nil {
		return 0, err
	}
	now := time.Now()
	gone, err := p.endDead(ctx, others)
	errs := []error{err}
	until := now
	if len(gone) > 0 {
		until = always
	}
	for r, err := range p.store.Tasks(ctx, TaskFilter{LeaseBefore: until}) {
		if err != nil {
			return 0, errors.Join(append(errs, err)...)
		}
		if r.Claim == nil || p.runs(r.ID) || p.chains.has(r.ID) {
			continue // ours: its own watch sees to it
		}
		holder := r.Claim.Holder
		lost, err := gone[holder], error(nil)
		if !lost && r.Claim.Lease.Before(now) {
			lost, err = p.mayTake(ctx, others[holder], &r)
		}
		if lost && err == nil {
			err = p.takeUp(ctx, r, now)
		}
		if err != nil {
			errs = append(errs, err)
			delete(gone, holder) // it still has something
		}
	}
	for id := range gone {
		if err := p.retire(ctx, others[id].InstanceRecord); err != nil {
			errs = append(errs, fmt.Errorf("forget the dead pool %s: %w", id, err))
			continue
		}
		dead++
	}
	return dead, errors.Join(errs...)
}

// endDead ends what dead programs have left, and returns the pools in those of
// which nothing is left.
func (p *Pool) endDead(ctx context.Context, others map[string]*instance) (gone map[string]bool, err error) {
	gone = map[string]bool{}
	results := map[string]error{} // by program: it may have had several pools
	for id, o := range others {
		if o.life != proctree.Dead {
			continue
		}
		result, known := results[o.Process]
		if !known {
			result = p.endProcesses(ctx, o, 0)
			results[o.Process] = result
		}
		if result == nil {
			gone[id] = true
		}
	}
	for _, result := range results {
		err = errors.Join(err, result)
	}
	return gone, err
}

// endProcesses ends the tree with that leader of another pool's program, or all.
func (p *Pool) endProcesses(ctx context.Context, o *instance, leader int) error {
	ended, err := proctree.EndOf(ctx, o.Process, leader)
	if len(ended) > 0 {
		p.log.Warn("processes of a lost pool were ended", "pool", o.ID, "program", o.PID, "is", o.life.String(), "processes", len(ended))
	}
	if err != nil {
		return fmt.Errorf("tasks of the pool %s cannot be taken over yet: %w", o.ID, err)
	}
	return nil
}

// mayTake reports whether the claim of r, which has run out, can be taken over:
// o, the pool that has it, is not known to be dead.
func (p *Pool) mayTake(ctx context.Context, o *instance, r *TaskRecord) (bool, error) {
	switch {
	case o == nil || o.here || o.life == proctree.Unknown:
		return true, nil // a turn ends before its lease does, if its program runs at all
	case o.life == proctree.Dead: // and its processes are not
		return false, nil
	case p.overdue.since(r) < leaseExtend:
		return false, nil
	case r.Chain != nil: // has no process
		return true, nil
	}
	slots, err := p.store.Slots(ctx)
	if err != nil {
		return false, err
	}
	leader := 0
	at := slices.IndexFunc(slots, func(s SlotRecord) bool { return s.Instance == o.ID && s.ID == r.Claim.SlotID })
	if at >= 0 {
		leader = slots[at].PID
	}
	return true, p.endProcesses(ctx, o, leader)
}

func (p *Pool) runs(id TaskID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running[id] != nil
}

// takeUp takes over a claim, and what of it a cancelled chain has left.
func (p *Pool) takeUp(ctx context.Context, r TaskRecord, now time.Time) error {
	if r.Chain != nil && r.State == StateCancelled {
		// Its holder may have started a step just before it was lost.
		if err := p.cancelSteps(ctx, r); err != nil {
			return err
		}
	}
	err := p.takeOver(ctx, r, now)
	if errors.Is(err, ErrConflict) || errors.Is(err, ErrFenced) {
		return nil // it has ended, or somebody else was faster
	}
	return err
}

// takeOver ends the claim of a lost holder, and charges what is known of its
// attempt.
func (p *Pool) takeOver(ctx context.Context, r TaskRecord, now time.Time) error {
	at := &Attempt{
		TaskID: r.ID, Fence: r.Claim.Fence, SlotID: r.Claim.SlotID, Holder: r.Claim.Holder, Outcome: OutcomeLost,
		Message: "its holder was lost", SessionID: r.Claim.SessionID, Started: r.Started, Ended: now,
	}
	t := Transition{Task: r.ID, From: StateRunning, Fence: r.Claim.Fence, To: StatePending, At: now, Attempt: at, Outcome: OutcomeLost}
	switch {
	case r.Chain != nil: // its steps have counters and costs of their own
	case r.Claim.Holder == p.instance:
		// What this pool runs is not taken over by it: this has never begun.
		t.ResumeSession = r.ResumeSession
		if r.State == StateRunning {
			t.Attempt, t.Outcome = nil, ""
		}
	default:
		if r.Claim.Asked {
			at.chargeUnknown(r.Claim.LastCost, r.Claim.Reserved)
		} else {
			at.Message = "its holder was lost before the agent was asked"
		}
		p.afterLoss(&t, r)
	}
	_, err := p.store.Transition(ctx, t)
	if err == nil || errors.Is(err, ErrConflict) || errors.Is(err, ErrFenced) {
		p.sched.kick() // its money is free, and its lane and tags
		p.chains.kick()
	}
	if err == nil {
		p.log.Warn("task of a lost holder was taken over", "task", r.ID, "holder", r.Claim.Holder)
	}
	return err
}

// afterLoss says what becomes of a task whose attempt was lost with its host. If
// its agent had not been asked, nothing was done that could be done twice.
func (p *Pool) afterLoss(t *Transition, r TaskRecord) {
	if r.Crashes >= MaxCrashes || r.Task.OnCrash == CrashFail && r.Claim.Asked {
		t.To, t.Result = StateFailed, p.endedEarly(r, OutcomeLost, "the program that ran it was lost")
		return
	}
	t.CountCrash = true
	switch {
	case !r.Claim.Asked:
		t.ResumeSession = r.ResumeSession
	case r.Task.OnCrash != CrashRerun:
		t.ResumeSession = cmp.Or(r.Claim.SessionID, r.ResumeSession)
	}
}
