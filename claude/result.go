package claude

import (
	"encoding/json"
	"time"
)

// Prompt is what one turn asks.
type Prompt struct {
	// ID names the turn. Empty means a new UUID. It must be new to the process.
	ID string
	// Text is the prompt. It must be valid UTF-8.
	Text string
	// Images follow the text.
	Images []Image
	// Commands lets a text that starts with "/" be a command of the CLI.
	// Otherwise it is text like any other.
	Commands bool
}

// Image is a picture in a prompt.
type Image struct {
	MediaType string // such as "image/png"
	Data      []byte
}

// Result is what a turn came to, as the CLI tells it. It is not the whole truth
// when [Process.Turn] also returns an error.
type Result struct {
	ID        string // of the prompt
	SessionID string

	// Subtype, IsError, TerminalReason, APIStatus and APIError are the CLI's
	// own words. Beware: a failed API request has the subtype "success"; only
	// IsError tells.
	Subtype        string
	IsError        bool
	TerminalReason string
	APIStatus      int    // HTTP status; 0 when there was none
	APIError       string // such as "rate_limit", "authentication_failed", "billing_error"
	Errors         []string
	StopReason     string

	// Text is the answer. When the turn was cut short it is what had been
	// streamed until then. When IsError is set it may be an error text of the CLI.
	Text string
	// Structured is the structured output; nil when the model gave none.
	Structured json.RawMessage
	// LocalCommand is set when a command of the CLI answered, not a model.
	LocalCommand string
	// Interrupted says that the turn was stopped by an interrupt.
	Interrupted bool
	// Turns counts as the CLI does: one, and one more for each message that
	// was given back to the model.
	Turns   int
	Denials []Denial

	// Cost and Models are for this turn, subagents included.
	Cost   Microdollars
	Models map[string]ModelUsage
	// RateLimit is the last one heard of in this turn, or nil.
	RateLimit *RateLimit

	Duration    time.Duration
	APIDuration time.Duration
	FirstToken  time.Duration // until the model's first token; zero when there was none
}

// Denial is a tool call that was refused.
type Denial struct {
	Tool      string          `json:"tool"`
	ToolUseID string          `json:"tool_use_id,omitempty"`
	Input     json.RawMessage `json:"input,omitempty"`
}

// ModelUsage counts the tokens of one model.
type ModelUsage struct {
	Input         int64        `json:"input_tokens"`
	Output        int64        `json:"output_tokens"`
	CacheRead     int64        `json:"cache_read_tokens"`
	CacheCreation int64        `json:"cache_creation_tokens"`
	Cost          Microdollars `json:"cost_microdollars"`
}

// Info describes a live process.
type Info struct {
	PID       int
	Version   string // of the CLI, such as "2.1.330"
	SessionID string
	Dir       string
	// ConfigDir is the folder in which the CLI keeps its configuration and the
	// transcripts of sessions. Empty when the environment does not tell.
	ConfigDir string
	Started   time.Time
	// Turns counts the turns since the start, Resets the resets.
	Turns, Resets int
	// KeySource tells which credential pays, such as "ANTHROPIC_API_KEY" or
	// "CLAUDE_CODE_OAUTH_TOKEN"; "none" means not logged in.
	KeySource string
}
