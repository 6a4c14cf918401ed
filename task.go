package claudepool

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/worktree"
)

// TaskID names a task. It is made by the pool and sorts by the time of submission.
type TaskID string

// Task is a prompt and what is to become of it. Only Prompt is needed.
type Task struct {
	// Prompt is what the agent is asked. It must be valid UTF-8 and not blank.
	// A prompt that starts with "/" is text, unless Commands is set.
	Prompt string `json:"prompt"`
	// Images follow the prompt.
	Images []claude.Image `json:"images,omitempty"`
	// Commands lets a prompt that starts with "/" be a command of the CLI.
	Commands bool `json:"commands,omitempty"`

	// Tags group tasks for listing, metrics and [PoolConfig.TagLimits].
	Tags []string `json:"tags,omitempty"`
	// Priority: the higher goes first; within one, first come first served.
	Priority int `json:"priority,omitempty"`
	// Overrides win over the slot's and the pool's configuration.
	Overrides TaskOverrides `json:"overrides,omitzero"`

	// Session says which conversation the task belongs to. The zero value
	// is a fresh one.
	Session Session `json:"session,omitzero"`
	// KeepSession holds the slot's process, with the conversation as the task
	// left it, for this long, so that a follow-up starts warm. Zero means that
	// the slot is reset at once; the session can be continued all the same. At
	// most [MaxKeepSession].
	KeepSession time.Duration `json:"keep_session,omitempty"`
	// Slot is the id or name of the only slot that may run the task; Role is
	// a role that the slot must have. Empty means any.
	Slot string `json:"slot,omitempty"`
	Role string `json:"role,omitempty"`

	// WorkDir is the working directory. Empty means the slot's.
	WorkDir string `json:"work_dir,omitempty"`
	// Env is added to the slot's environment. A value that differs from the
	// slot's own costs a process start.
	Env map[string]string `json:"env,omitempty"`
	// Isolation says what of the file system the task shares with others. Empty
	// means the pool's.
	Isolation Isolation `json:"isolation,omitempty"`
	// Merge is a branch that is merged into the task's own before its agent is
	// asked. Where that conflicts the files have both sides, with git's marks, for
	// the agent to resolve. It must exist. It is ignored without isolation.
	Merge string `json:"merge,omitempty"`
	// From names isolated tasks whose work the task begins with, merged if there is
	// that of several; of a chain it is that of its last steps. The task waits until
	// they have ended, however they do. One that never began stands for what it was
	// to begin with, and work that cannot be found fails the task. It is ignored
	// without isolation, and with Session.Task, whose work the task goes on with.
	From []TaskID `json:"from,omitempty"`

	// NotBefore is the earliest start. The zero value means now.
	NotBefore time.Time `json:"not_before,omitzero"`
	// QueueTimeout bounds the time until the task is first started. Zero means no bound.
	QueueTimeout time.Duration `json:"queue_timeout,omitempty"`
	// StallTimeout bounds the silence of a running agent. Zero means the pool's.
	StallTimeout time.Duration `json:"stall_timeout,omitempty"`
	// Retry says what happens after a failure. The zero value means the pool's.
	Retry RetryPolicy `json:"retry,omitzero"`
	// OnCrash says what happens when the process or the host of a running task
	// dies. The zero value is [CrashResume].
	OnCrash CrashPolicy `json:"on_crash,omitempty"`

	// IdempotencyKey names the task among those of its owner: whoever submits
	// again with it gets the first one's task, as long as the store has that,
	// and nothing else is looked at. What asks for something else
	// ([TaskRecord.SameRequest]) is [ErrKeyReused].
	IdempotencyKey string `json:"idempotency_key,omitempty"`
	// Owner is who asked. Empty means "go".
	Owner string `json:"owner,omitempty"`
	// Call is the skill or the workflow that the prompt came from, if any.
	// [Skill.Task] and [Pool.InvokeWorkflow] set it; it changes nothing about
	// what runs.
	Call *Call `json:"call,omitempty"`
	// Parent is the task on whose behalf this one runs, if any.
	Parent TaskID `json:"parent,omitempty"`
	// Allowance is a budget that this task shares with others, or nil.
	Allowance *Allowance `json:"allowance,omitempty"`
	// Review holds the completed task back until somebody approves the result;
	// see [Pool.ApproveResult]. Nil means that nobody is asked.
	Review *ReviewPolicy `json:"review,omitempty"`
}

// Call is the use of a skill or of a workflow by its name.
type Call struct {
	Skill     string            `json:"skill,omitempty"`
	Workflow  string            `json:"workflow,omitempty"`
	Arguments map[string]string `json:"arguments,omitempty"`
}

// ReviewPolicy says how the work of a task is reviewed.
type ReviewPolicy struct {
	// MaxRejections is the rejection with which the task has failed. Zero
	// means [DefaultMaxRejections].
	MaxRejections int `json:"max_rejections,omitempty"`
}

// DefaultMaxRejections is the default of [ReviewPolicy].
const DefaultMaxRejections = 3

// Allowance is a budget that several tasks share, such as that of a fan-out.
// Tasks whose allowances have the same ID draw on the same sum; of different
// limits the smallest counts for all. A limit of zero or less pays for nothing.
type Allowance struct {
	ID    string       `json:"id"`
	Limit Microdollars `json:"limit_microdollars"`
}

// MaxKeepSession bounds [Task.KeepSession].
const MaxKeepSession = time.Hour

// Session says which conversation a task continues. The zero value is a fresh one.
type Session struct {
	// Task is the task whose session is continued, or empty.
	Task TaskID `json:"task,omitempty"`
	// ID is the session to continue, or empty.
	ID string `json:"id,omitempty"`
	// Fork continues a copy, so that the original stays as it is and two
	// continuations can run at once.
	Fork bool `json:"fork,omitempty"`
}

// Fresh reports whether s is a new conversation.
func (s Session) Fresh() bool { return s.Task == "" && s.ID == "" }

// String returns the form that [ParseSession] reads.
func (s Session) String() string {
	switch {
	case s.Task != "":
		return "task:" + string(s.Task)
	case s.ID != "":
		return "id:" + s.ID
	}
	return "fresh"
}

// ParseSession reads "fresh" (or nothing), "task:ID" or "id:UUID".
func ParseSession(text string) (Session, error) {
	kind, rest, found := strings.Cut(text, ":")
	switch {
	case text == "" || text == "fresh":
		return Session{}, nil
	case found && kind == "task" && rest != "":
		return Session{Task: TaskID(rest)}, nil
	case found && kind == "id" && rest != "":
		return Session{ID: rest}, nil
	}
	return Session{}, invalidField("session", `must be "fresh", "task:ID" or "id:UUID", not %q`, text)
}

// RetryPolicy says how often, when and after what a failed task is tried
// again. Only classes of failure where another try can help are retried
// ([Outcome.Retryable]). A crash of the machinery is no retry; see [CrashPolicy].
type RetryPolicy struct {
	// Max is the number of further attempts. Zero means the pool's; negative
	// means none.
	Max int
	// First is the pause before the first retry, doubled for each further one
	// up to Most, each with up to a fifth of jitter. Zero means 1 s and 1 min.
	First, Most time.Duration
}

// CrashPolicy says what happens to a running task when its process or its host
// dies. Whatever it is, side effects of the interrupted attempt may be repeated.
type CrashPolicy string

// The crash policies.
const (
	CrashResume CrashPolicy = "resume" // continue the same session
	CrashRerun  CrashPolicy = "rerun"  // start again from the beginning
	CrashFail   CrashPolicy = "fail"   // the task has failed, if its agent was asked already
)

// CrashPolicies lists every crash policy.
func CrashPolicies() []CrashPolicy { return []CrashPolicy{CrashResume, CrashRerun, CrashFail} }

// MaxCrashes is how many crashes a task survives.
const MaxCrashes = 3

// TaskState is where a task stands.
type TaskState string

// The states of a task. The last three are terminal: nothing changes them.
const (
	StatePending       TaskState = "pending"
	StateRunning       TaskState = "running"
	StatePendingReview TaskState = "pending_review"
	StateCompleted     TaskState = "completed"
	StateFailed        TaskState = "failed"
	StateCancelled     TaskState = "cancelled"
)

// TaskStates lists every state, in the order of a task's life.
func TaskStates() []TaskState {
	return []TaskState{StatePending, StateRunning, StatePendingReview, StateCompleted, StateFailed, StateCancelled}
}

// Terminal reports whether s is final.
func (s TaskState) Terminal() bool {
	return s == StateCompleted || s == StateFailed || s == StateCancelled
}

// transitions is the state machine of a task: the states that each state can
// become. Every store enforces it through [TaskState.CanBecome].
var transitions = map[TaskState][]TaskState{
	StatePending:       {StateRunning, StateFailed, StateCancelled},
	StateRunning:       {StatePending, StatePendingReview, StateCompleted, StateFailed, StateCancelled},
	StatePendingReview: {StatePending, StateCompleted, StateFailed, StateCancelled},
}

// CanBecome reports whether a task in state s may go to state to.
func (s TaskState) CanBecome(to TaskState) bool { return slices.Contains(transitions[s], to) }

// TaskRecord is a task as the store holds it.
type TaskRecord struct {
	ID   TaskID
	Task Task
	// Chain is set when the task is a chain. Its steps are tasks of their own,
	// with this one as their parent.
	Chain *Chain
	// LaunchKey tells which tasks can share a warm process.
	LaunchKey string
	// Lane names what only one task may use at a time: a session. Of the
	// tasks with the same lane only one has a claim at once. Empty means none.
	Lane string

	State   TaskState
	Outcome Outcome // of the last attempt; empty before the first has ended
	// Version grows with every change.
	Version int64

	Submitted time.Time
	NotBefore time.Time // earliest next start
	Started   time.Time // of the current or last attempt
	First     time.Time // start of the first attempt
	Ended     time.Time // of the last attempt, or of a task that never ran; zero while running

	// Claim is the current claim while the task is running, and after a
	// cancellation until the attempt of its holder is recorded.
	Claim *TaskClaim
	// Fence is the fencing number of the last claim, raised by one when the
	// task is cancelled; it only grows.
	Fence int64
	// Attempts counts the claims, Retries the returns to the queue after a
	// failure of the agent, Crashes those after a failure of the machinery,
	// Rejections those after a review.
	Attempts, Retries, Crashes, Rejections int
	// Feedback is what the last review that returned the work to the queue said.
	Feedback string

	// Cost is what all attempts have cost so far; Estimated says that a part
	// of it had to be guessed. Assumed is the part of it that nobody has seen;
	// see [Attempt].
	Cost      Microdollars
	Estimated bool
	Assumed   Microdollars
	// SessionID is the session that the attempt of the last claim has told, or
	// one before it if it has told none. ResumeSession is the one that the next
	// attempt must continue, if any.
	SessionID     string
	ResumeSession string
	// SlotID is the slot of the last attempt.
	SlotID string

	// Result is set when the state is terminal or pending_review.
	Result *TaskResult
}

// SameRequest reports whether r and other ask for the same: the same prompt, or
// the same chain. Two that came from a skill or a workflow ask for the same if
// its name and the arguments are the same, for its text may have been edited in
// between. The texts of the skills in a chain have no bearing on it either, nor
// has how a task is to be run. Stores use it to tell a second submission from
// the misuse of its idempotency key.
func (r *TaskRecord) SameRequest(other *TaskRecord) bool {
	if a, b := r.Task.Call, other.Task.Call; a != nil && b != nil {
		return a.Skill == b.Skill && a.Workflow == b.Workflow && maps.Equal(a.Arguments, b.Arguments)
	}
	return r.Task.Prompt == other.Task.Prompt && r.Chain.same(other.Chain)
}

// TaskClaim is the right of one holder to run a task.
type TaskClaim struct {
	Holder   string // the pool instance
	SlotID   string
	Fence    int64
	Lease    time.Time // until when the claim holds unless it is extended
	Reserved Microdollars
	LastCost Microdollars // last figure seen
	// Asked says that the holder was about to ask its agent: from then on the
	// attempt may have cost something.
	Asked bool
	// SessionID is the session that the attempt runs in, once it is known.
	SessionID string
}

// TaskResult is what a task came to.
type TaskResult struct {
	TaskID  TaskID    `json:"task_id"`
	State   TaskState `json:"state"`
	Outcome Outcome   `json:"outcome"`
	// Success is true only for [OutcomeOK].
	Success bool `json:"success"`
	// Output is the agent's answer. After a failure it is what there was of it.
	Output string `json:"output"`
	// Structured is the structured output, when a JSON schema was given.
	Structured RawJSON `json:"structured_output,omitempty"`
	// Failure says what went wrong; nil for completed tasks.
	Failure *Failure `json:"failure,omitempty"`
	// Denials are the tool calls that were refused.
	Denials []claude.Denial `json:"permission_denials,omitempty"`
	// Work is the branch that has what the last attempt wrote, if the task was
	// isolated.
	Work *worktree.Result `json:"work,omitempty"`

	// Steps are those of a chain.
	Steps []StepResult `json:"steps,omitempty"`

	// Cost is that of all attempts, and of a chain's steps. Estimated marks a
	// figure that had to be guessed.
	Cost      Microdollars `json:"cost_microdollars"`
	Estimated bool         `json:"cost_estimated,omitempty"`
	// Models are the tokens by model, of the last attempt.
	Models map[string]claude.ModelUsage `json:"models,omitempty"`
	// Turns counts model requests, as the CLI does, of the last attempt.
	Turns    int `json:"turns"`
	Attempts int `json:"attempts"`

	SlotID    string `json:"slot_id,omitempty"`
	SessionID string `json:"session_id,omitempty"`
	Model     string `json:"model,omitempty"`

	Queued     Duration `json:"queued"`      // from submission to the first start
	Ran        Duration `json:"ran"`         // of the last attempt
	FirstToken Duration `json:"first_token"` // of the last attempt; zero when there was none
	Total      Duration `json:"total"`       // from submission to the end
}

// Failure says why a task did not complete.
type Failure struct {
	Class    Outcome `json:"class"`
	Message  string  `json:"message"`
	ExitCode *int    `json:"exit_code,omitempty"`
	Stderr   string  `json:"stderr,omitempty"`  // its last 4 KiB, without secrets
	Command  string  `json:"command,omitempty"` // without secrets
	// RetryAt is when another try makes sense, if that is known.
	RetryAt time.Time `json:"retry_at,omitzero"`
}

// Attempt is the record of one execution of a task.
type Attempt struct {
	TaskID    TaskID       `json:"task_id"`
	Fence     int64        `json:"fence"` // names the attempt within its task
	SlotID    string       `json:"slot_id,omitempty"`
	Holder    string       `json:"holder,omitempty"`
	Outcome   Outcome      `json:"outcome"`
	Message   string       `json:"message,omitempty"`
	Output    string       `json:"output,omitempty"` // of an attempt that came too late to give its task a result
	Cost      Microdollars `json:"cost_microdollars"`
	Estimated bool         `json:"cost_estimated,omitempty"` // Cost is not what the agent told at the end
	// Assumed is the part of Cost that nobody has seen: an attempt that was cut
	// off before it told any figure is assumed to have spent what was reserved
	// for it. It counts against the budget, so that this cannot be overspent,
	// but not against the caps of the task and its allowance: it is no reason
	// not to finish the work.
	Assumed   Microdollars                 `json:"cost_assumed_microdollars,omitempty"`
	Models    map[string]claude.ModelUsage `json:"models,omitempty"`
	SessionID string                       `json:"session_id,omitempty"`
	Work      *worktree.Result             `json:"work,omitempty"` // of an isolated task
	Started   time.Time                    `json:"started,omitzero"`
	Ended     time.Time                    `json:"ended,omitzero"`
	// Late says that the attempt had lost its claim before it ended: it
	// changed no state, but its cost counts.
	Late bool `json:"late,omitempty"`
}

// TaskFilter selects tasks. Zero fields select all.
type TaskFilter struct {
	States []TaskState
	Tag    string
	SlotID string
	Owner  string
	// IdempotencyKey selects the tasks that were submitted with it. With Owner
	// there is at most one, and it is found quickly however many tasks there are.
	IdempotencyKey string
	// LeaseBefore selects tasks with a claim whose lease ends before it.
	LeaseBefore time.Time
	// Before is a cursor: only tasks with a smaller id, that is older ones.
	Before TaskID
	// Limit is the most tasks to return. Zero means all.
	Limit int
}

// Match reports whether r is selected by f, Before included and Limit aside.
func (f TaskFilter) Match(r *TaskRecord) bool {
	return (len(f.States) == 0 || slices.Contains(f.States, r.State)) &&
		(f.Tag == "" || slices.Contains(r.Task.Tags, f.Tag)) &&
		(f.SlotID == "" || r.SlotID == f.SlotID) &&
		(f.Owner == "" || r.Task.Owner == f.Owner) &&
		(f.IdempotencyKey == "" || r.Task.IdempotencyKey == f.IdempotencyKey) &&
		(f.Before == "" || r.ID < f.Before) &&
		(f.LeaseBefore.IsZero() || r.Claim != nil && r.Claim.Lease.Before(f.LeaseBefore))
}

// Duration is a [time.Duration] that is written as text, such as "1.5s".
type Duration time.Duration

// MarshalText implements [encoding.TextMarshaler].
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("a duration such as 90s or 5m: %w", err)
	}
	*d = Duration(v)
	return nil
}

func (d Duration) String() string { return time.Duration(d).String() }
