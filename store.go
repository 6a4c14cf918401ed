package claudepool

import (
	"context"
	"iter"
	"time"
)

// PoolStore is the only truth about tasks, slots, money and the run context.
//
// Every method is one atomic step, safe for concurrent use, and returns copies:
// neither side may change what it got from the other. Stores read no clock; the
// caller passes the time. A state only changes by a compare-and-set against the
// state machine ([TaskState.CanBecome]), whoever asks. A context that has ended
// before the step began makes it fail without effect.
//
// Package storetest holds the semantics as a test suite that any store can run.
type PoolStore interface {
	// CreateTask stores a new pending task. If the owner has used the
	// idempotency key before, it returns the record of then and created is
	// false; with another prompt it fails with [ErrKeyReused]. An id in use
	// is [ErrDuplicate].
	CreateTask(ctx context.Context, r TaskRecord) (stored TaskRecord, created bool, err error)
	// Task returns a task, or [ErrUnknownTask].
	Task(ctx context.Context, id TaskID) (TaskRecord, error)
	// Tasks lists tasks, newest first, as they were when the iteration began.
	Tasks(ctx context.Context, f TaskFilter) iter.Seq2[TaskRecord, error]
	// Count counts tasks by state. It is quick however many there are.
	Count(ctx context.Context) (map[TaskState]int, error)

	// Claim gives the best runnable task to the holder: the highest priority,
	// then the earliest id. It sets the state to running, raises the fencing
	// number, and reserves money, in one step. It returns [*NotRunnable] when
	// there is none.
	Claim(ctx context.Context, r ClaimRequest) (TaskRecord, error)
	// Extend moves the lease and notes the cost seen so far. It fails with
	// [ErrFenced] when the claim was lost.
	Extend(ctx context.Context, ref ClaimRef, lease time.Time, cost Microdollars) error
	// Transition moves a task to another state. See [Transition].
	Transition(ctx context.Context, t Transition) (TaskRecord, error)
	// Attempts lists the ended attempts of a task, in order.
	Attempts(ctx context.Context, id TaskID) ([]Attempt, error)

	// Ledger returns the sums of money. It is quick however many entries there are.
	Ledger(ctx context.Context, q LedgerQuery) (Ledger, error)
	// Charge adds cost that belongs to no attempt, such as that of a turn
	// nobody asked for.
	Charge(ctx context.Context, at time.Time, cost Microdollars, why string) error

	// PutSlot stores a slot if the stored version is r.Version (0: it must be
	// new), and returns it with its new version; else [ErrConflict].
	PutSlot(ctx context.Context, r SlotRecord) (SlotRecord, error)
	// DeleteSlot forgets a slot. An unknown one is no error.
	DeleteSlot(ctx context.Context, instance, id string) error
	// Slots lists the slots of all instances by instance and id.
	Slots(ctx context.Context) ([]SlotRecord, error)

	// SetContext sets a key of the run context; DeleteContext removes it
	// ([ErrUnknownKey]); Context returns all of it.
	SetContext(ctx context.Context, key, value string) error
	DeleteContext(ctx context.Context, key string) error
	Context(ctx context.Context) (map[string]string, error)

	// Watch returns a channel that gets every change of a task's state from
	// now on, in order, until ctx ends; then it is closed. A reader that is
	// too slow loses changes and gets one with Lost set instead; it must
	// then look for itself. The store never waits for a reader.
	Watch(ctx context.Context) (<-chan Change, error)

	// Close releases what the store holds. Later calls fail with [ErrClosed].
	Close() error
}

// Change tells of a task's new state.
type Change struct {
	TaskID TaskID
	State  TaskState
	Lost   bool
}

// ClaimRequest asks for work.
type ClaimRequest struct {
	Holder string
	SlotID string // noted in the claim; may be empty and named by Extend's caller later
	Now    time.Time
	Lease  time.Duration
	// Accepts tells whether a task pinned to a slot or a role can be taken.
	// Nil takes only those that are not pinned.
	Accepts func(slot, role string) bool
	// Prefers names a launch key whose tasks may be taken before others of
	// the same priority. A task is passed over at most [MaxPassed] times.
	Prefers string
	// TagLimits bounds how many tasks with a tag run at once.
	TagLimits map[string]int
	Budget    BudgetTerms
}

// MaxPassed is how often a task may be passed over for the sake of a warm process.
const MaxPassed = 8

// BudgetTerms say how much money a claim reserves.
//
// The reservation is the task's own cap less what its attempts have cost, else
// DefaultCap, else an equal share of what is left for Share claims but at least
// [MinShare], and never more than what is left. Nothing is reserved for a
// task without a cap when there is no limit and no allowance.
type BudgetTerms struct {
	// Limit is the budget. Zero means that there is none.
	Limit Microdollars
	// Since is the start of the window whose spending counts. The zero value
	// means everything.
	Since      time.Time
	DefaultCap Microdollars
	Share      int
}

// MinShare is the least that a share of the budget may be: one cent.
const MinShare Microdollars = 10_000

// NotRunnable says why [PoolStore.Claim] found nothing. It is [ErrNotRunnable].
type NotRunnable struct {
	// NextAt is when a waiting task becomes runnable by itself; zero for never.
	NextAt time.Time
	// Budget is set when the best task needs more money than is left. Task is that task.
	Budget *BudgetExhausted
	Task   TaskID
}

func (e *NotRunnable) Error() string { return ErrNotRunnable.Error() }

// Is makes errors.Is(err, ErrNotRunnable) true.
func (e *NotRunnable) Is(target error) bool { return target == ErrNotRunnable }

// ClaimRef names a claim.
type ClaimRef struct {
	Task  TaskID
	Fence int64
	// SlotID, when set with Extend, replaces the claim's.
	SlotID string
}

// Transition moves a task from one state to another.
//
// It fails with [ErrConflict] when the task is not in state From or when From
// cannot become To, and with [ErrFenced] when From is running, To is not
// cancelled and Fence is not the current fencing number.
//
// If Attempt is set, the attempt is recorded and its cost settled against the
// reservation in the same step: once for each (task, fence), whether or not
// the rest succeeds. After a failure it is recorded as late.
//
// A transition to cancelled raises the fencing number, so that the holder
// notices. Its reservation stays until the holder's attempt is recorded. To
// cancel a task that has ended already is no error: the record is returned as
// it is.
type Transition struct {
	Task  TaskID
	From  TaskState
	Fence int64
	To    TaskState
	At    time.Time

	Attempt *Attempt
	Outcome Outcome
	// Result is kept with terminal and pending_review states. The store sets
	// its cost and number of attempts.
	Result *TaskResult
	// For To pending: when and in which session to go on, and which counter
	// this raises.
	NotBefore     time.Time
	ResumeSession string
	CountRetry    bool
	CountCrash    bool
}

// LedgerQuery selects what is summed up.
type LedgerQuery struct {
	Since time.Time // start of the window; zero means everything
}

// Ledger is the sum of money.
type Ledger struct {
	Spent    Microdollars
	Reserved Microdollars
	// Attempts counts the settled entries.
	Attempts int
}

// SlotRecord is a slot as other programs see it.
type SlotRecord struct {
	Instance    string
	ID          string
	Name        string
	Role        string
	Description string
	State       SlotState
	PID         int
	Version     int64
	Updated     time.Time
}
