package claudepool

import (
	"context"
	"time"

	"github.com/claudepool/claudepool/claude"
)

// EventKind is the kind of an [Event].
type EventKind string

// The kinds of events.
const (
	EventTask       EventKind = "task"       // a task has a new state
	EventSlot       EventKind = "slot"       // a slot has a new state
	EventAgent      EventKind = "agent"      // something happened in a running turn; see Event.Agent
	EventSpend      EventKind = "spend"      // an attempt was settled
	EventPermission EventKind = "permission" // a permission question opened or closed
	EventRateLimit  EventKind = "rate_limit" // the account's limits changed
	EventPool       EventKind = "pool"       // the pool paused, went on, or cannot start slots
	EventLagged     EventKind = "lagged"     // this reader was too slow: Lost events are missing
)

// EventKinds lists every kind but [EventLagged], which nobody asks for.
func EventKinds() []EventKind {
	return []EventKind{EventTask, EventSlot, EventAgent, EventSpend, EventPermission, EventRateLimit, EventPool}
}

// Event is something that happened in the pool. Which fields are set depends on Kind.
type Event struct {
	Seq  int64
	At   time.Time
	Kind EventKind

	TaskID    TaskID
	Chain     TaskID // the chain whose step the task is, if it is one
	TaskState TaskState
	Outcome   Outcome
	SlotID    string
	SlotState SlotState
	Agent     claude.Event // for EventAgent
	Cost      Microdollars // for EventSpend: of the attempt
	Spent     Microdollars // for EventSpend: of all, in the budget's window; 0 if the store did not tell
	Message   string
	Until     time.Time // for EventPool and EventRateLimit: when it is expected to end
	Lost      int       // for EventLagged
}

// EventFilter selects events. Zero fields select all, but [EventAgent] events
// come only when they are asked for by kind: they are many.
type EventFilter struct {
	Kinds  []EventKind
	TaskID TaskID
	SlotID string
	// Buffer is how many events may wait for the reader. Default 1,024.
	Buffer int
}

// PermissionHandler answers permission requests of slots. An error refuses,
// with its text; so does the end of ctx, which comes when the request is
// withdrawn. It is called from a goroutine of its own for each request.
type PermissionHandler func(ctx context.Context, q PermissionQuestion) (claude.PermissionAnswer, error)

// PermissionQuestion is a tool call of a task that waits for leave.
type PermissionQuestion struct {
	SlotID  string
	TaskID  TaskID
	Request claude.PermissionRequest
}
