package claudepool

import (
	"fmt"
	"time"
)

// ClaimStatus is what a store knows of one claim of a task beside its record.
type ClaimStatus struct {
	Known    bool // the task has had a claim with that fence
	Open     bool // what it reserved is still held
	Recorded bool // its attempt is recorded
	Last     bool // no later claim has been made
}

// TransitionEffect says what a [Transition] has done to a task, for the store to
// do the same to what it keeps beside the record.
type TransitionEffect struct {
	// Moved says that the state is another.
	Moved bool
	// Attempt is to be recorded, or nil. Its cost is in the record already; it
	// is to be entered in the ledger and in the task's allowance.
	Attempt *Attempt
	// Released says that what the claim with the transition's fence has
	// reserved, if that is still held, is to be released.
	Released bool
	// Freed says that the record's claim has ended, and with it the hold on its
	// lane and tags.
	Freed bool
}

// Changed reports whether the record is another than before.
func (e TransitionEffect) Changed() bool { return e.Moved || e.Attempt != nil }

// Apply does the transition to r, which is the task as stored, and says what
// follows from it; see [Transition] for the rules. It is here so that every
// [PoolStore] can share them. With an error, which is to be returned after the
// effect has been stored, an attempt may be recorded all the same. Status is
// asked for claims by their fence; an error of its own comes back without effect.
// What r refers to is replaced, never changed.
func (t Transition) Apply(r *TaskRecord, status func(fence int64) (ClaimStatus, error)) (TransitionEffect, error) {
	claim, err := status(t.Fence)
	if err != nil {
		return TransitionEffect{}, err
	}
	if t.Attempt != nil && !claim.Known {
		return TransitionEffect{}, fmt.Errorf("task %s has had no claim with fence %d: %w", t.Task, t.Fence, ErrFenced)
	}
	// Whether what the record's claim reserved is held, once this is through.
	held := ClaimStatus{}
	switch {
	case r.Claim == nil:
	case r.Claim.Fence == t.Fence:
		held = claim
	default:
		if held, err = status(r.Claim.Fence); err != nil {
			return TransitionEffect{}, err
		}
	}
	moves, refused := t.check(r)
	done := TransitionEffect{Moved: moves}
	if settles := t.Attempt != nil && !claim.Recorded; !moves && !settles {
		return done, refused
	}
	owned := moves && r.State == StateRunning && t.Fence == r.Fence
	if t.Attempt != nil && !claim.Recorded {
		done.Attempt, done.Released = t.settle(r, claim, !owned), true
	}
	if owned && t.To != StateCancelled {
		done.Released = true // given back unused, unless it was just settled
	}
	switch {
	case moves:
		t.apply(r)
	case r.Result != nil:
		result := new(*r.Result)
		if done.Attempt != nil && claim.Last && result.Work == nil {
			result.Work = cloneWork(done.Attempt.Work) // the task was cancelled before that was saved
		}
		r.setResult(result)
	}
	open := held.Open && !(done.Released && r.Claim.Fence == t.Fence)
	if r.Claim != nil && r.State != StateRunning && !open {
		r.Claim, done.Freed = nil, true
	}
	r.Version++
	return done, refused
}

// settle makes the attempt of a claim as it is to be recorded, and enters its
// cost in r.
func (t Transition) settle(r *TaskRecord, claim ClaimStatus, late bool) *Attempt {
	a := t.Attempt.clone()
	a.TaskID, a.Fence, a.Late = t.Task, t.Fence, late
	a.Cost = max(a.Cost, 0)
	a.Assumed = min(max(a.Assumed, 0), a.Cost)
	if a.Ended.IsZero() {
		a.Ended = t.At
	}
	r.Cost = AddCost(r.Cost, a.Cost)
	r.Estimated = r.Estimated || a.Estimated
	r.Assumed = AddCost(r.Assumed, a.Assumed)
	if claim.Last && a.SessionID != "" {
		r.SessionID = a.SessionID
	}
	return &a
}

// check reports whether the transition moves r. It does not, without an error,
// when r is to be cancelled and has ended.
func (tr Transition) check(r *TaskRecord) (bool, error) {
	switch {
	case tr.To == StateCancelled && r.State.Terminal():
		return false, nil
	case r.State != tr.From:
		return false, fmt.Errorf("task %s is %s, not %s: %w", r.ID, r.State, tr.From, ErrConflict)
	case tr.To == StateRunning || !tr.From.CanBecome(tr.To):
		return false, fmt.Errorf("task %s is %s and cannot become %s: %w", r.ID, r.State, tr.To, ErrConflict)
	case tr.From == StateRunning && tr.To != StateCancelled && tr.Fence != r.Fence:
		return false, fmt.Errorf("task %s has fence %d, not %d: %w", r.ID, r.Fence, tr.Fence, ErrFenced)
	}
	return true, nil
}

// givesBack reports whether the transition returns a claim unused.
func (tr Transition) givesBack(from TaskState) bool {
	return from == StateRunning && tr.To == StatePending && tr.Attempt == nil
}

// apply makes r what it is after the transition, its claim and money aside.
func (tr Transition) apply(r *TaskRecord) {
	if r.State == StateRunning || tr.To.Terminal() && r.Ended.IsZero() {
		r.Ended = tr.At
	}
	if tr.givesBack(r.State) {
		if r.Attempts--; r.Attempts == 0 {
			r.First, r.Started, r.Ended = time.Time{}, time.Time{}, time.Time{}
		}
	}
	r.State = tr.To
	if tr.Outcome != "" {
		r.Outcome = tr.Outcome
	}
	if tr.To == StateCancelled {
		r.Fence++
	}
	if tr.To == StatePending {
		r.NotBefore, r.ResumeSession = tr.NotBefore, tr.ResumeSession
		if tr.CountRetry {
			r.Retries++
		}
		if tr.CountCrash {
			r.Crashes++
		}
		if tr.CountRejection {
			r.Rejections++
			r.Feedback = tr.Feedback
		}
		r.Result = nil
		return
	}
	switch {
	case tr.Result != nil:
		r.setResult(tr.Result.clone())
	case r.Result != nil:
		r.setResult(new(*r.Result))
	default:
		r.setResult(&TaskResult{SlotID: r.SlotID, SessionID: r.SessionID})
	}
}

// setResult makes result, which nothing else refers to, that of r, and has it
// say the same as the record.
func (r *TaskRecord) setResult(result *TaskResult) {
	result.TaskID, result.State, result.Outcome = r.ID, r.State, r.Outcome
	result.Success = r.Outcome == OutcomeOK
	result.Cost, result.Estimated, result.Attempts = r.Cost, r.Estimated, r.Attempts
	for _, step := range result.Steps {
		result.Cost = AddCost(result.Cost, step.Cost)
	}
	r.Result = result
}

// Created returns what [PoolStore.CreateTask] stores for r. It is here, like
// [Transition.Apply], so that every store can share it.
func (r TaskRecord) Created() (*TaskRecord, error) {
	if r.ID == "" {
		return nil, invalidField("id", "must not be empty")
	}
	rec := &TaskRecord{
		ID: r.ID, Task: r.Task.clone(), Chain: r.Chain.clone(), LaunchKey: r.LaunchKey, Lane: r.Lane,
		State: StatePending, Version: 1,
		Submitted: r.Submitted, NotBefore: r.NotBefore, ResumeSession: r.ResumeSession,
	}
	if rec.NotBefore.Before(rec.Task.NotBefore) {
		rec.NotBefore = rec.Task.NotBefore
	}
	return rec, nil
}

// Begin makes r what it is after the claim c, which has reserved that much.
func (r *TaskRecord) Begin(c ClaimRequest, reserved Microdollars) {
	r.State = StateRunning
	r.Version++
	r.Fence++
	r.Attempts++
	r.Started, r.Ended = c.Now, time.Time{}
	if r.First.IsZero() {
		r.First = c.Now
	}
	r.SlotID = c.SlotID
	r.Claim = &TaskClaim{Holder: c.Holder, SlotID: c.SlotID, Fence: r.Fence, Lease: c.Now.Add(c.Lease), Reserved: reserved}
}

// Extend makes r what it is after its claim was extended; see
// [PoolStore.Extend].
func (r *TaskRecord) Extend(ref ClaimRef, lease time.Time, cost Microdollars) error {
	if r.State != StateRunning || r.Fence != ref.Fence {
		return fmt.Errorf("task %s is %s with fence %d, not %d: %w", ref.Task, r.State, r.Fence, ref.Fence, ErrFenced)
	}
	r.Version++
	r.Claim = new(*r.Claim)
	r.Claim.Lease, r.Claim.LastCost = lease, max(cost, 0)
	r.Claim.Asked = r.Claim.Asked || ref.Asked
	if ref.SlotID != "" {
		r.Claim.SlotID, r.SlotID = ref.SlotID, ref.SlotID
	}
	if ref.SessionID != "" {
		r.Claim.SessionID = ref.SessionID
	}
	return nil
}
