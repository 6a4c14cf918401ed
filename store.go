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
	// CreateTask stores a new pending task. Of r it takes ID, which must not be
	// empty ([*InvalidError]), Task, Chain, LaunchKey, Lane, Submitted,
	// ResumeSession and NotBefore (that of the task, if it is later); the rest
	// is the store's. If the owner has used the idempotency key before, it
	// returns that task as it is now and created is false, whatever the id; if
	// that asked for something else ([TaskRecord.SameRequest]) it fails with
	// [ErrKeyReused]. An id in use is [ErrDuplicate].
	CreateTask(ctx context.Context, r TaskRecord) (stored TaskRecord, created bool, err error)
	// Task returns a task, or [ErrUnknownTask].
	Task(ctx context.Context, id TaskID) (TaskRecord, error)
	// Tasks lists tasks, newest first (that is, by falling id, compared byte by
	// byte), as they were when the iteration began. An error ends the iteration.
	// Ids need not be created in rising order: a step's id begins with that of
	// its chain, and so comes right after it.
	Tasks(ctx context.Context, f TaskFilter) iter.Seq2[TaskRecord, error]
	// Count counts tasks by state; states without tasks may be missing. It is
	// quick however many there are.
	Count(ctx context.Context) (map[TaskState]int, error)

	// Claim gives the best runnable task to the holder: the highest priority,
	// then the smallest id, also among tasks that have run before. Runnable is
	// a pending task whose NotBefore is not after r.Now, whose pin r.Accepts,
	// whose lane is free and none of whose tags is at its limit. Claim sets the state to running,
	// raises the fencing number and reserves money, in one step. It returns
	// [*NotRunnable] when there is no such task, and also when the best one
	// needs more money than is left: then none of lower rank is taken in its
	// place, so that cheap tasks cannot starve a dear one.
	//
	// Chains are claimed by themselves, with Chains set: they hold no slot, no
	// money and none of their tags, for their steps are tasks that do. All else
	// is as with tasks: rank, NotBefore, lane, lease and fence.
	Claim(ctx context.Context, r ClaimRequest) (TaskRecord, error)
	// Extend moves the lease, to an earlier time too, and notes the cost of the
	// attempt seen so far, and what else ref has to say. It fails with
	// [ErrFenced] when the claim was lost or has ended; a lease that has run out
	// alone does not lose it.
	Extend(ctx context.Context, ref ClaimRef, lease time.Time, cost Microdollars) error
	// Transition moves a task to another state. See [Transition].
	Transition(ctx context.Context, t Transition) (TaskRecord, error)
	// Attempts lists the recorded attempts of a task by fence, which is the
	// order in which they began.
	Attempts(ctx context.Context, id TaskID) ([]Attempt, error)

	// Ledger returns the sums of money. It is quick however many entries there are.
	Ledger(ctx context.Context, q LedgerQuery) (Ledger, error)
	// Charge adds cost that belongs to no attempt, such as that of a turn
	// nobody asked for. A negative cost counts as zero, here and elsewhere.
	// The sums stop at the largest amount instead of overflowing.
	Charge(ctx context.Context, at time.Time, cost Microdollars, why string) error

	// PutSlot stores a slot if the stored version is r.Version (0: it must be
	// new), and returns it with its new version, one higher; else [ErrConflict].
	PutSlot(ctx context.Context, r SlotRecord) (SlotRecord, error)
	// DeleteSlot forgets a slot. An unknown one is no error.
	DeleteSlot(ctx context.Context, instance, id string) error
	// Slots lists the slots of all instances by instance and id.
	Slots(ctx context.Context) ([]SlotRecord, error)

	// PutInstance stores a pool that uses the store, in the place of what was
	// stored under its ID; an empty ID is an [*InvalidError]. DeleteInstance
	// forgets it and all its slots; an unknown one is no error. Instances lists
	// them by ID.
	PutInstance(ctx context.Context, r InstanceRecord) error
	DeleteInstance(ctx context.Context, id string) error
	Instances(ctx context.Context) ([]InstanceRecord, error)

	// SetContext sets a key of the run context; DeleteContext removes it
	// ([ErrUnknownKey]); Context returns all of it.
	SetContext(ctx context.Context, key, value string) error
	DeleteContext(ctx context.Context, key string) error
	Context(ctx context.Context) (map[string]string, error)

	// SendMessage stores a message as it is. An ID that another one has, whatever
	// its address, is [ErrDuplicate], until that one is taken; an empty ID or To
	// is an [*InvalidError]. When [MaxMessages] wait at the address it fails with
	// [ErrMailboxFull]. Messages lists those to an address by ID and leaves them.
	// TakeMessages removes those with the given IDs, all when ids is nil, and
	// returns what it removed, by ID; what is not there is no error. Of several
	// who take a message at once one gets it.
	SendMessage(ctx context.Context, m Message) error
	Messages(ctx context.Context, to string) ([]Message, error)
	TakeMessages(ctx context.Context, to string, ids []string) ([]Message, error)

	// Watch returns a channel that gets every change of a task's state from
	// now on, creation included, in order, until ctx ends or the store is
	// closed; then the channel is closed. A reader that is too slow loses
	// changes and gets one with Lost set in their place; when it gets that one
	// it must look for itself, and then finds them all. The store never waits
	// for a reader.
	Watch(ctx context.Context) (<-chan Change, error)

	// Close releases what the store holds. All later calls fail with
	// [ErrClosed], Close included; listings that have begun may go on.
	Close() error
}

// Syncer is a [PoolStore] that lets its caller go on before the disk has taken
// what need not survive the end of the machine yet: claims, leases, slots, and
// transitions with an Attempt, whose [Change] it tells when they do. All else
// survives when the call returns, and all that was done before: so does an Extend
// with Asked set, after which an attempt may spend money. Sync returns when all
// that was done before it survives. A pool calls it before it says that a task
// has ended.
type Syncer interface {
	Sync(ctx context.Context) error
}

// Change tells of a task's new state. With Lost set it tells of no task in
// particular.
type Change struct {
	TaskID  TaskID
	State   TaskState
	Outcome Outcome // with a terminal state
	SlotID  string  // of the last attempt
	Chain   bool    // the task is a chain
	Lost    bool
}

// ClaimRequest asks for work.
type ClaimRequest struct {
	Holder string
	// Chains asks for a chain instead of a task for a slot. Accepts, Prefers,
	// TagLimits and Budget have no bearing on it, nor has what the chain is
	// pinned to.
	Chains bool
	SlotID string // noted in the claim; may be empty and named by Extend's caller later
	Now    time.Time
	Lease  time.Duration
	// Accepts tells whether a task pinned to a slot, a role or both can be
	// taken; what it is not pinned to is empty. It must always give the same
	// answer and not use the store. Nil takes only tasks that are not pinned.
	Accepts func(slot, role string) bool
	// Prefers names a launch key whose tasks may be taken before others of
	// the same priority, if the money suffices for either. Each runnable task
	// that would have come first is passed over by it, at most [MaxPassed]
	// times in its life. Empty means none.
	Prefers string
	// TagLimits bounds how many tasks with a tag have a claim at once. Tags
	// that are not in it have no limit; zero or less lets none run.
	TagLimits map[string]int
	Budget    BudgetTerms
}

// MaxPassed is how often a task may be passed over for the sake of a warm process.
const MaxPassed = 8

// BudgetTerms say how much money a claim reserves.
//
// A task draws on up to two budgets: that of Limit, and its [Allowance]. What
// is left of one is its limit less what was spent and what is reserved, or
// zero. A task's cap is its own ([TaskOverrides].MaxCost), else DefaultCap; it
// covers all attempts.
//
// A task with a cap needs the cap less what its attempts are known to have cost,
// [Attempt].Assumed aside, which is not counted as spent of an allowance either. Without
// one it needs an equal share, for Share claims, of what is left, but at least
// [MinShare] or what is left if that is less; of two budgets the smaller
// amount counts. What is left of an allowance is shared among no more claims
// than pending tasks have it. That is reserved. A task with neither a cap nor a budget
// needs nothing, and nothing is reserved for it.
//
// When a need is more than is left, the claim fails with a [*BudgetExhausted]
// in [NotRunnable], and no task of lower rank is taken: dear tasks do not
// starve. Only when the need is more than is left of an allowance, and others
// of it have something reserved, tasks outside that allowance are taken before. So it does when nothing is left of a cap, or of a budget
// for a task without a cap; Needed is [MinShare] then. Its Scope is the first
// to fail of [ScopeTask] (the cap is used up; no waiting helps), the id of the
// allowance, and [ScopePool].
type BudgetTerms struct {
	// Limit is the budget. Zero means that there is none.
	Limit Microdollars
	// Since is the start of the window: attempts that ended then or later
	// count. The zero value means everything. It has no bearing on allowances.
	Since time.Time
	// DefaultCap is the cap of tasks that have none. Zero means that there is none.
	DefaultCap Microdollars
	// Share is among how many claims what is left is shared. Less than one means one.
	Share int
}

// MinShare is the least that a share of the budget may be: one cent.
const MinShare Microdollars = 10_000

// NotRunnable says why [PoolStore.Claim] found nothing. It is [ErrNotRunnable].
type NotRunnable struct {
	// NextAt is when to ask again even if nothing happens until then: before
	// it no task becomes runnable, or better than the one that Budget refuses,
	// by the passing of time. Zero means never. A store may name too early a
	// time, such as that of a task that waits for its slot too or, when a task
	// is asked for, of a chain, but none that is not after the claim's Now.
	NextAt time.Time
	// Budget is set when the best task needs more money than is left (see
	// [BudgetTerms]). Task is that task.
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
	// SlotID and SessionID, when set with Extend, replace the claim's.
	SlotID    string
	SessionID string
	// Asked, when set with Extend, is noted in the claim for good: its agent is
	// about to be asked.
	Asked bool
}

// Transition moves a task from one state to another.
//
// It fails with [ErrConflict] when the task is not in state From, when From
// cannot become To, and when To is running, which only a claim can bring about;
// else with [ErrFenced] when From is running, To is not cancelled and Fence is
// not the current fencing number. With both errors the record comes back as it
// stands.
//
// If Attempt is set, the attempt of the claim with that Fence is recorded, its
// reservation released and its cost entered, in the task, the ledger and the
// allowance, in the same step and whether or not the rest succeeds: also after
// the task has ended, when it changes the costs of the record and its result
// and no state. For each (task, fence) the first attempt counts and all others
// are ignored. It is late unless the transition itself succeeds by right of the
// current fence. A Fence that no claim of the task has had fails with
// [ErrFenced] and records nothing.
//
// To leave running without an Attempt, other than by cancelling, gives the
// claim back unused: its reservation is released. Back to pending it does not
// count as an attempt either, nor as the first start.
//
// A transition to cancelled raises the fencing number, so that the holder
// notices. Its reservation and the record's Claim, with its lane and tags, stay
// until the attempt is recorded; no [Change] tells of that. If the holder is
// dead, whoever finds that out must record it. To cancel a task that has ended
// already is no error and changes no state: the record is returned, whatever
// From is. The Work of its last attempt, saved after that, goes into its result.
type Transition struct {
	Task  TaskID
	From  TaskState
	Fence int64
	To    TaskState
	At    time.Time

	// Attempt is what the claim came to. The store sets its TaskID, Fence and
	// Late, and Ended to At if it is zero.
	Attempt *Attempt
	// Outcome is noted in the record. Empty leaves the one before.
	Outcome Outcome
	// Result is kept with terminal and pending_review states. Nil leaves the
	// one that was to be reviewed, else makes an empty one. Whatever the
	// record says as well is set from there: TaskID, State, Outcome, Success,
	// Cost, Estimated and Attempts. What the Steps have cost, Items aside, is
	// added to Cost, also when that changes later; it is not entered in the
	// ledger, for steps are paid for as tasks of their own.
	Result *TaskResult
	// For To pending, and ignored otherwise: when and in which session to go
	// on, and which counters this raises.
	NotBefore      time.Time
	ResumeSession  string
	CountRetry     bool
	CountCrash     bool
	CountRejection bool
	// Feedback, with CountRejection, replaces the record's, which stays
	// otherwise.
	Feedback string
}

// LedgerQuery selects what is summed up.
type LedgerQuery struct {
	Since time.Time // what was spent then or later; zero means everything
}

// Ledger is the sum of money.
type Ledger struct {
	Spent Microdollars
	// Assumed is the part of Spent that nobody has seen; see [Attempt].
	Assumed Microdollars
	// Reserved is what claims hold, whatever the window.
	Reserved Microdollars
	// Attempts counts the recorded attempts.
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
	PID         int // of its process, as last recorded; 0 when it has had none
	Version     int64
	Updated     time.Time
}

// InstanceRecord is a pool that uses the store, and the program that it is in.
type InstanceRecord struct {
	// ID is the pool's, as in [TaskClaim].Holder and [SlotRecord].Instance.
	ID string
	// Machine and PID say where the program runs. Process tells it from all
	// others, in words of the pool's own; empty means that nothing is known.
	Machine string
	PID     int
	Process string
	Started time.Time
	// Seen is when the pool last said that it is there.
	Seen time.Time
}

// volatile reports whether what s holds ends with the program: it says so by
// a method Volatile, or there is none and the pool will make a [MemoryStore].
func volatile(s PoolStore) bool {
	v, ok := s.(interface{ Volatile() bool })
	return s == nil || ok && v.Volatile()
}
