package claudepool

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/claudepool/claudepool/claude"
)

// settle records what an attempt came to, and decides what becomes of the task.
func (a *attempt) settle(from source, res claude.Result, err error) {
	p := a.p
	now := time.Now()
	var cause error
	if err != nil && a.ctx.Err() != nil {
		cause = context.Cause(a.ctx)
	}
	wanted := a.rec.Task.Overrides.JSONSchema
	if wanted == nil {
		wanted = a.s.own.JSONSchema
	}
	v := judge(res, err, cause, wanted)
	if v.outcome.State() == StateCompleted && len(a.marked) > 0 {
		v = verdict{outcome: OutcomeConflict, message: "conflicts are still marked in " + strings.Join(a.marked, ", ")}
	}
	if a.unsaved != nil {
		v.final = true // whatever comes next would begin without it
		if text := a.unsaved.Error(); !strings.Contains(v.message, text) {
			v.message += "; " + text
		}
	}
	v.elsewhere = v.outcome == OutcomeAuth && a.othersRun()
	at := a.record(v, res, err, now)
	t := a.decide(v, res, at, now)
	// Whoever learns of the end may ask for the sums next, so they come first.
	p.meter.attempt(&a.rec, at, from, a.prompt, t, res.FirstToken)
	a.s.mu.Lock()
	switch from {
	case fromWarm:
		a.s.status.Warm++
	case fromSpare:
		a.s.status.Claimed++
	case fromSpawn:
		a.s.status.Spawned++
	}
	a.s.mu.Unlock()
	stored, terr := p.write(t)
	p.sched.kick() // the money that was reserved is free
	if terr == nil || stored.State == StateCancelled {
		a.acknowledge(v.outcome, stored.State)
	}
	switch {
	case errors.Is(terr, ErrFenced), errors.Is(terr, ErrConflict):
		p.log.Debug("late result changes nothing; its cost counts", "task", a.rec.ID, "slot", a.s.id, "outcome", v.outcome)
	case terr != nil:
		p.log.Error("outcome of an attempt was not stored before the pool closed; the task is taken up again by the next",
			"task", a.rec.ID, "slot", a.s.id, "outcome", v.outcome, "err", terr)
	default:
		p.log.LogAttrs(a.ctx, slog.LevelInfo, "attempt ended", slog.String("task", string(a.rec.ID)), slog.String("slot", a.s.id),
			slog.String("outcome", string(v.outcome)), slog.String("state", string(stored.State)), slog.Int64("cost_microdollars", int64(at.Cost)))
	}
	p.gate.ended(v.outcome, v.message, resetTime(res))
	a.tellSpend(at)
}

// tellSpend publishes what the attempt has cost, if anybody listens.
func (a *attempt) tellSpend(at *Attempt) {
	if !a.p.events.hasReaders() {
		return
	}
	e := Event{Kind: EventSpend, TaskID: at.TaskID, SlotID: at.SlotID, Outcome: at.Outcome, Cost: at.Cost}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.ctx), time.Second)
	defer cancel()
	if l, err := a.p.ledger(ctx); err == nil {
		e.Spent = l.Spent
	}
	a.p.events.publish(e)
}

// record is the attempt as the ledger and the history keep it.
func (a *attempt) record(v verdict, res claude.Result, err error, now time.Time) *Attempt {
	at := &Attempt{
		TaskID: a.rec.ID, Fence: a.rec.Fence, SlotID: a.s.id, Holder: a.p.holder(), Outcome: v.outcome, Message: v.message,
		Cost: res.Cost, Models: res.Models, SessionID: a.sessionID(res), Work: a.written, Started: a.started, Ended: now,
	}
	if v.outcome == OutcomeCancelled || v.outcome == OutcomeLost {
		at.Output = res.Text // the task has no place for it any more
	}
	if err != nil && a.prompt && res.Subtype == "" {
		// The process ended before it told what the turn has cost.
		var reserved Microdollars
		if a.rec.Claim != nil {
			reserved = a.rec.Claim.Reserved
		}
		at.chargeUnknown(max(res.Cost, Microdollars(a.cost.Load())), reserved)
	}
	return at
}

// chargeUnknown enters the cost of an attempt that was cut off while its agent
// worked: nobody can know it any more. It is the last figure that the agent told,
// which lags behind by the model request under way, and if it told none what was
// reserved.
func (at *Attempt) chargeUnknown(seen, reserved Microdollars) {
	at.Cost, at.Estimated = seen, true
	if seen == 0 {
		at.Cost, at.Assumed = reserved, reserved
	}
}

func (a *attempt) sessionID(res claude.Result) string {
	if res.SessionID != "" {
		return res.SessionID
	}
	if s := a.session.Load(); s != nil {
		return *s
	}
	return ""
}

// othersRun reports whether another pool on the store can run the task.
func (a *attempt) othersRun() bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.ctx), storeTimeout)
	defer cancel()
	others, err := a.p.ableSlots(ctx)
	if err != nil {
		a.p.log.Warn("whether another pool can run the task is not known", "task", a.rec.ID, "err", err)
	}
	return err == nil && anyRuns(others, &a.rec)
}

// decide says which state the task goes to.
func (a *attempt) decide(v verdict, res claude.Result, at *Attempt, now time.Time) Transition {
	r := &a.rec
	t := Transition{Task: r.ID, From: StateRunning, Fence: r.Fence, To: StatePending, At: now, Attempt: at, Outcome: v.outcome}
	retry := r.Task.Retry.or(a.p.cfg.Retry)
	resumable := cmp.Or(at.SessionID, r.ResumeSession)
	if !a.prompt || v.spoilt {
		resumable = r.ResumeSession // this attempt has added nothing that is wanted
	}
	switch o := v.outcome; {
	case v.handBack:
		if a.p.durable {
			t.ResumeSession = resumable
			return t
		}
		t.To, t.Outcome = StateCancelled, OutcomeCancelled
		v.outcome, v.message = OutcomeCancelled, errNoLater+strings.TrimPrefix(v.message, shutDown)
	case v.final:
		t.To = o.State()
	case o.machinery() && r.Task.OnCrash != CrashFail && r.Crashes < MaxCrashes:
		t.CountCrash = true
		if r.Task.OnCrash != CrashRerun {
			t.ResumeSession = resumable
		}
		return t
	case o == OutcomeRateLimited && resetTime(res).After(now):
		// Not the task's fault: it is parked, and goes on where it is.
		t.NotBefore, t.ResumeSession = resetTime(res), resumable
		return t
	case (o.Retryable() || v.elsewhere) && r.Retries < retry.Max:
		t.CountRetry, t.NotBefore = true, now.Add(retry.pause(r.Retries+1))
		if o.continues() {
			t.ResumeSession = resumable
		}
		return t
	case o.State() == StateCompleted && r.Task.Review != nil:
		t.To = StatePendingReview
	default:
		t.To = o.State()
	}
	t.Result = a.result(t.To, v, res, at, now)
	return t
}

// result is what the caller gets.
func (a *attempt) result(state TaskState, v verdict, res claude.Result, at *Attempt, now time.Time) *TaskResult {
	r := &a.rec
	first := r.First
	if first.IsZero() {
		first = a.started
	}
	out := &TaskResult{
		TaskID: r.ID, State: state, Outcome: v.outcome, Success: v.outcome == OutcomeOK,
		Output: res.Text, Structured: res.Structured, Denials: res.Denials,
		Models: res.Models, Turns: res.Turns, SlotID: a.s.id, SessionID: at.SessionID, Work: a.written,
		Queued: Duration(first.Sub(r.Submitted)), Ran: Duration(now.Sub(a.started)),
		FirstToken: Duration(res.FirstToken), Total: Duration(now.Sub(r.Submitted)),
	}
	if m := a.model.Load(); m != nil {
		out.Model = *m
	}
	if v.outcome.State() == StateCompleted {
		return out
	}
	out.Failure = &Failure{Class: v.outcome, Message: v.message, RetryAt: resetTime(res)}
	if v.failure != nil {
		out.Failure.ExitCode, out.Failure.Stderr, out.Failure.Command = v.failure.ExitCode, v.failure.Stderr, v.failure.Command
	}
	return out
}

// write stores the end of something that has been paid for, however long that
// takes: a store that fails is asked again as long as the pool lives, and for
// storeTimeout after that. Meanwhile whoever waits for it takes on nothing else.
func (p *Pool) write(t Transition) (TaskRecord, error) {
	ctx, cancel := p.outlive(storeTimeout)
	defer cancel()
	for try := 1; ; try++ {
		r, err := p.store.Transition(ctx, t)
		switch {
		case err == nil, errors.Is(err, ErrFenced), errors.Is(err, ErrConflict), errors.Is(err, ErrClosed), errors.Is(err, ErrUnknownTask):
			if try > 1 {
				p.log.Info("store answers again about the end of a task", "task", t.Task, "tries", try)
			}
			return r, err
		case try == 1:
			p.log.Error("end of a task cannot be stored; trying until it can, or the pool closes", "task", t.Task, "to", t.To, "err", err)
		}
		select {
		case <-time.After(backoff(50*time.Millisecond, 2*time.Second, try)):
		case <-ctx.Done():
			return r, err
		}
	}
}

// outlive returns a context that ends that long after the pool's.
func (p *Pool) outlive(d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(p.ctx))
	ended := make(chan struct{})
	stop := context.AfterFunc(p.ctx, func() {
		defer close(ended)
		select {
		case <-time.After(d):
			cancel(context.DeadlineExceeded)
		case <-ctx.Done():
		}
	})
	return ctx, func() { // none of that is left when it returns
		if cancel(nil); !stop() {
			<-ended
		}
	}
}
