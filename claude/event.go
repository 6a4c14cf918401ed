package claude

import (
	"encoding/json"
	"time"
)

// Event is something that happened in a turn. It is one of the types in this
// file. More may come: a type switch should have a default that ignores.
type Event interface{ isEvent() }

// Started says that the process has taken up the prompt.
type Started struct {
	SessionID string
	Model     string
	Mode      PermissionMode
}

// TextDelta is a piece of the answer, as the model writes it. ParentToolUseID
// is set when a subagent writes.
type TextDelta struct {
	Text            string
	ParentToolUseID string
}

// ThinkingDelta is a sign that the model thinks. Text may be empty.
type ThinkingDelta struct{ Text string }

// ToolUse says that the model calls a tool.
type ToolUse struct {
	ID              string
	Name            string
	Input           json.RawMessage
	ParentToolUseID string
}

// ToolResult says that a tool call has ended. Content is cut at 4 KiB.
type ToolResult struct {
	ID      string
	Content string
	IsError bool
}

// ToolProgress is the CLI's heartbeat while a tool runs.
type ToolProgress struct {
	ID      string
	Name    string
	Elapsed time.Duration
}

// Retry says that a request to the API failed and will be sent again.
type Retry struct {
	Attempt, Max int
	Delay        time.Duration
	Status       int    // HTTP status; 0 when there was no answer
	Reason       string // such as "overloaded", "rate_limit", "authentication_failed"
}

// RateLimit is what the API last said of the account's limits. It comes with
// subscription logins only.
type RateLimit struct {
	Status      string    // "allowed", "allowed_warning" or "rejected"
	Kind        string    // such as "five_hour"
	ResetsAt    time.Time // zero when unknown
	Utilization float64   // 0 to 1
	Overage     bool      // the turn goes on, at extra cost
}

// Fallback says that another model answers for the one asked for.
type Fallback struct{ From, To, Reason string }

// Denied says that a tool call was refused without asking anybody.
type Denied struct {
	ToolUseID string
	Tool      string
	Reason    string
}

// Asked says that a permission question is open; Answered that it no longer is.
type (
	Asked    struct{ Request PermissionRequest }
	Answered struct {
		ToolUseID string
		Allowed   bool
	}
)

// Compacted says that the CLI has shortened the conversation.
type Compacted struct{ Trigger string }

// Requesting says that a model request is on its way.
type Requesting struct{}

func (Started) isEvent()       {}
func (TextDelta) isEvent()     {}
func (ThinkingDelta) isEvent() {}
func (ToolUse) isEvent()       {}
func (ToolResult) isEvent()    {}
func (ToolProgress) isEvent()  {}
func (Retry) isEvent()         {}
func (RateLimit) isEvent()     {}
func (Fallback) isEvent()      {}
func (Denied) isEvent()        {}
func (Asked) isEvent()         {}
func (Answered) isEvent()      {}
func (Compacted) isEvent()     {}
func (Requesting) isEvent()    {}
