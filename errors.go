package claudepool

import (
	"errors"
	"fmt"
)

// Errors that callers can test for with [errors.Is].
var (
	// ErrClosed: the pool is closed, or drains and takes no new work.
	ErrClosed = errors.New("pool is closed")
	// ErrUnknownTask: no task has that id.
	ErrUnknownTask = errors.New("unknown task")
	// ErrUnknownSlot: no slot has that id or name.
	ErrUnknownSlot = errors.New("unknown slot")
	// ErrUnknownKey: the run context has no such key.
	ErrUnknownKey = errors.New("unknown key")
	// ErrNotRunnable: no pending task can be claimed now.
	ErrNotRunnable = errors.New("no runnable task")
	// ErrFenced: the caller no longer holds the claim.
	ErrFenced = errors.New("claim was lost")
	// ErrConflict: the record is not in the state, or at the version, that the caller expected.
	ErrConflict = errors.New("record has changed")
	// ErrDuplicate: a record with that id exists already.
	ErrDuplicate = errors.New("record exists already")
	// ErrKeyReused: the idempotency key belongs to a task with another prompt.
	ErrKeyReused = errors.New("idempotency key was used for another prompt")
	// ErrNotInReview: the task is not in a state in which its result can be
	// approved or rejected.
	ErrNotInReview = errors.New("no result waits for a review")
	// ErrMailboxFull: as many messages as may ([MaxMessages]) wait at the address.
	ErrMailboxFull = errors.New("mailbox is full")
	// ErrSlotBusy: the slot runs a task already.
	ErrSlotBusy = errors.New("slot is busy")
)

// InvalidError says which value of a request or a configuration cannot be used.
type InvalidError struct {
	Field  string // as the caller knows it, such as "prompt" or "overrides.effort"
	Reason string
}

func (e *InvalidError) Error() string { return e.Field + " " + e.Reason }

func invalidField(field, format string, args ...any) error {
	return &InvalidError{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// Scopes of [BudgetExhausted], beside the ids of allowances.
const (
	ScopePool = "pool" // the pool's budget
	ScopeTask = "task" // the task's own cap
)

// BudgetExhausted says that money does not suffice.
type BudgetExhausted struct {
	Scope                          string // "pool", the id of an allowance, or "task" for the task's own cap
	Spent, Reserved, Limit, Needed Microdollars
	// Assumed is the part of Spent that nobody has seen; see [Attempt].
	Assumed Microdollars
}

func (e *BudgetExhausted) Error() string {
	assumed := ""
	if e.Assumed > 0 {
		assumed = fmt.Sprintf(" (%v of it assumed, for attempts that were cut off before they told what they cost)", e.Assumed)
	}
	return fmt.Sprintf("budget of the %s does not suffice: %v spent%s and %v reserved of %v, %v needed; raise the budget or lower the task's cap",
		e.Scope, e.Spent, assumed, e.Reserved, e.Limit, e.Needed)
}

// TaskError says that a task has not completed. The result is complete all the same.
type TaskError struct {
	Result TaskResult
}

func (e *TaskError) Error() string {
	msg := ""
	if f := e.Result.Failure; f != nil && f.Message != "" {
		msg = ": " + f.Message
	}
	return fmt.Sprintf("task %s %s (%s)%s", e.Result.TaskID, e.Result.State, e.Result.Outcome, msg)
}
