package claudepool

import (
	"time"

	"github.com/claudepool/claudepool/claude"
)

// PoolStatus is how a pool stands.
type PoolStatus struct {
	Instance string `json:"instance"`

	TotalSlots int          `json:"total_slots"`
	IdleSlots  int          `json:"idle_slots"`
	BusySlots  int          `json:"busy_slots"`
	Slots      []SlotStatus `json:"slots"`
	Spares     int          `json:"spares"` // started processes that wait for a task

	PendingTasks       int `json:"pending_tasks"`
	RunningTasks       int `json:"running_tasks"`
	PendingReviewTasks int `json:"pending_review_tasks"`

	TotalSpend Microdollars `json:"total_spend_microdollars"` // in the budget's window
	// Assumed is the part of TotalSpend that nobody has seen; see [Attempt].
	Assumed  Microdollars `json:"assumed_microdollars,omitempty"`
	Reserved Microdollars `json:"reserved_microdollars"`
	Budget   Microdollars `json:"budget_microdollars"` // 0 means no limit

	// Shutdown says that the pool drains or is closed.
	Shutdown bool `json:"shutdown"`
	// Paused says that dispatch was stopped by [Pool.Pause]; Hold that the pool
	// waits by itself, why, and until when.
	Paused bool  `json:"paused"`
	Hold   *Hold `json:"hold,omitempty"`

	ClaudeVersion string `json:"claude_version,omitempty"`
}

// Hold is why the pool dispatches nothing for a while.
type Hold struct {
	Class  Outcome   `json:"class"` // rate_limited, overloaded, auth or launch
	Reason string    `json:"reason"`
	Until  time.Time `json:"until,omitzero"` // zero when unknown
}

// SlotStatus is how a slot stands.
type SlotStatus struct {
	ID          string    `json:"id"`
	Instance    string    `json:"instance,omitempty"` // set for slots of other pools on the same store
	Name        string    `json:"name,omitempty"`
	Role        string    `json:"role,omitempty"`
	Description string    `json:"description,omitempty"`
	State       SlotState `json:"state"`
	Detail      string    `json:"detail,omitempty"` // such as the last error, or what it waits for
	TaskID      TaskID    `json:"task_id,omitempty"`
	PID         int       `json:"pid,omitempty"`
	SessionID   string    `json:"session_id,omitempty"`
	Since       time.Time `json:"since"` // of the state

	Tasks    int   `json:"tasks"`    // run since the pool was built
	Warm     int   `json:"warm"`     // of these, in a process that was warm already
	Claimed  int   `json:"claimed"`  // in a spare
	Spawned  int   `json:"spawned"`  // in a process started for the task
	Restarts int   `json:"restarts"` // after a failure
	RSS      int64 `json:"rss_bytes,omitempty"`
}

// SlotFilter selects slots. Zero fields select all.
type SlotFilter struct {
	Name  string
	Role  string
	State SlotState
}

// SlotUpdate changes how a slot is called. Nil fields stay as they are.
type SlotUpdate struct {
	Name        *string
	Role        *string
	Description *string
}

// Metrics are sums since the pool was built.
type Metrics struct {
	Since    time.Time                    `json:"since"`
	Spend    Microdollars                 `json:"spend_microdollars"`
	Total    Tally                        `json:"total"`
	Outcomes map[Outcome]Tally            `json:"outcomes"`
	Models   map[string]claude.ModelUsage `json:"models"`
	Slots    map[string]Tally             `json:"slots"`
	Tags     map[string]Tally             `json:"tags"`
	// Warm, Claimed and Spawned tell how the attempts got their process.
	Warm    int `json:"warm"`
	Claimed int `json:"claimed"`
	Spawned int `json:"spawned"`
	// ResetFailures counts processes thrown away because a reset was not proven.
	ResetFailures int `json:"reset_failures"`
	Restarts      int `json:"restarts"`
	Retries       int `json:"retries"`
	Crashes       int `json:"crashes"`
}

// Tally sums up attempts.
type Tally struct {
	Count      int          `json:"count"`
	Cost       Microdollars `json:"cost_microdollars"`
	Queued     Duration     `json:"queued"`      // sum of waiting times
	Ran        Duration     `json:"ran"`         // sum of running times
	FirstToken Duration     `json:"first_token"` // sum of times to the first token
}

// Explanation says in words why a task is where it is.
type Explanation struct {
	TaskID TaskID    `json:"task_id"`
	State  TaskState `json:"state"`
	Reason string    `json:"reason"`
	// Until is when that is expected to change, if known.
	Until time.Time `json:"until,omitzero"`
}

// DrainSummary tells what a drain came to.
type DrainSummary struct {
	Finished  int          `json:"finished"`  // tasks that were running and ended by themselves, or wait for a review in a durable store
	Requeued  int          `json:"requeued"`  // running tasks that went back to the queue of a durable store
	Cancelled int          `json:"cancelled"` // tasks that were cancelled because the store ends with the program
	Pending   int          `json:"pending"`   // tasks that wait in a durable store
	Spend     Microdollars `json:"total_spend_microdollars"`
}

// FanOutOptions say how a fan-out ends. The zero value waits for all.
type FanOutOptions struct {
	// StopAfter cancels the rest once that many tasks have not completed.
	// Zero means never, 1 at the first.
	StopAfter int
	// MaxCost caps all tasks of the fan-out together. Zero means no cap.
	MaxCost Microdollars
	// OnDone, if set, is called with each result as it comes, from one
	// goroutine at a time.
	OnDone func(index int, r TaskResult)
}

// FanOutResult holds every result, in the order of the tasks.
type FanOutResult struct {
	Results []TaskResult `json:"results"`
	Census  Census       `json:"census"`
}

// Census counts how the tasks of a fan-out ended.
type Census struct {
	Asked  int             `json:"asked"`
	OK     int             `json:"ok"`     // completed
	Failed map[Outcome]int `json:"failed"` // the others, by class
	Cost   Microdollars    `json:"cost_microdollars"`
}
