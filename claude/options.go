package claude

import (
	"encoding/json"
	"log/slog"
	"time"
)

// PermissionMode says what a process may do without asking.
// The values are the CLI's own.
type PermissionMode string

// The permission modes of the CLI.
const (
	PermissionDefault     PermissionMode = "default"           // asks for everything that writes
	PermissionAcceptEdits PermissionMode = "acceptEdits"       // edits inside the working directory are allowed
	PermissionPlan        PermissionMode = "plan"              // read only
	PermissionDontAsk     PermissionMode = "dontAsk"           // what is not allowed is denied without asking
	PermissionAuto        PermissionMode = "auto"              // a classifier of the CLI decides
	PermissionBypass      PermissionMode = "bypassPermissions" // everything is allowed
)

// PermissionModes lists every mode, the strictest first.
func PermissionModes() []PermissionMode {
	return []PermissionMode{PermissionPlan, PermissionDontAsk, PermissionDefault, PermissionAcceptEdits, PermissionAuto, PermissionBypass}
}

// Effort says how long the model may think. The empty value is the model's default.
type Effort string

// The efforts the CLI knows. It ignores others with a warning; this package refuses them.
const (
	EffortLow    Effort = "low"
	EffortMedium Effort = "medium"
	EffortHigh   Effort = "high"
	EffortXHigh  Effort = "xhigh"
	EffortMax    Effort = "max"
)

// Efforts lists every effort, the least first.
func Efforts() []Effort {
	return []Effort{EffortLow, EffortMedium, EffortHigh, EffortXHigh, EffortMax}
}

// MCPServer is one entry of "mcpServers" in the CLI's own form, such as
// {"command":"npx","args":["…"]} or {"type":"http","url":"…"}.
type MCPServer = json.RawMessage

// Settings are what a live process can change between two turns. Everything
// else stands in [Options] and needs another process.
type Settings struct {
	// Model is a model name or alias. Empty means the CLI's default.
	Model string
	// Effort is empty for the model's default.
	Effort Effort
	// PermissionMode is empty for [PermissionPlan]. [PermissionBypass] needs
	// [Options.AllowBypass].
	PermissionMode PermissionMode
	// AllowedTools and DisallowedTools are permission rules in the CLI's
	// syntax, such as "Bash(git *)" or "Read". A disallowed tool stays in the
	// model's list, but its calls are denied.
	AllowedTools    []string
	DisallowedTools []string
	// MCPServers are the MCP servers by name. No others are loaded, unless
	// [Options.InheritMCP] is set.
	MCPServers map[string]MCPServer
}

// Options describe a process at its start. The zero value starts "claude" from
// PATH in the current directory, in plan mode, with the tools of [DefaultTools].
type Options struct {
	// Path is the claude program: a path, or a name looked up in PATH.
	// Empty means "claude".
	Path string
	// Dir is the working directory. Empty means that of this program.
	Dir string
	// Env is added to the sealed environment of [Environment], and wins over it.
	Env map[string]string
	// ConfigDir becomes CLAUDE_CONFIG_DIR. Empty means the person's own.
	ConfigDir string

	// Settings are the live settings the process starts with.
	Settings Settings

	// SystemPrompt replaces the CLI's own; AppendSystemPrompt extends it. Empty
	// means neither. A resumed session keeps the system prompt it was made
	// with; giving another one with Resume is refused.
	SystemPrompt       string
	AppendSystemPrompt string
	// Tools is the whole list of built-in tools. Nil means [DefaultTools];
	// empty but not nil means none.
	Tools []string
	// AddDirs are further directories the process may work in. Each must exist.
	AddDirs []string
	// SettingSources are the settings files to load, out of "user", "project"
	// and "local". Nil means "project" alone; empty but not nil means none.
	SettingSources []string
	// SettingsJSON is one more settings object, in the CLI's own form.
	SettingsJSON json.RawMessage
	// Agents are subagent definitions, in the CLI's own form.
	Agents json.RawMessage
	// FallbackModel is tried when the main model is overloaded.
	FallbackModel string
	// JSONSchema asks for structured output. It must be a JSON Schema object.
	JSONSchema json.RawMessage
	// MaxTurns bounds the model requests of one turn. Zero means no bound.
	MaxTurns int
	// MaxCost is the CLI's own ceiling for the process since its last reset.
	// The CLI checks it after each model request. Zero means none.
	MaxCost Microdollars
	// AllowBypass lets the process reach [PermissionBypass]. As root the CLI
	// also wants IS_SANDBOX=1 in Env.
	AllowBypass bool
	// InheritMCP also loads the MCP servers of the person's own configuration.
	InheritMCP bool

	// Resume continues the session with this id; Fork continues a copy of it
	// under a new id. SessionID chooses the id of a new or forked session; it
	// must be a UUID that is not in use.
	Resume    string
	Fork      bool
	SessionID string
	// NoPersistence keeps no transcript, so the session cannot be resumed.
	NoPersistence bool

	// Permission answers what the permission mode leaves open. Nil means that
	// nobody can be asked: the CLI refuses at once, and the tools that need a
	// person are not offered.
	Permission PermissionFunc
	// Servers are MCP servers that live in this program, by name. They must be
	// safe for concurrent use.
	Servers map[string]MCPHandler

	// MaxLine bounds one line of the process's output in bytes. Zero means
	// [DefaultMaxLine]. A longer line ends the process with [ErrLineTooLong].
	MaxLine int
	// Grace is how long each step of ending the process may take before the
	// next, harder one. Zero means [DefaultGrace].
	Grace time.Duration
	// Trace, if set, is called with each line that passes, in order, from one
	// goroutine at a time. It must not keep line, and must not block.
	Trace func(dir Direction, line []byte)
	// Logger gets what an operator would want to know. Nil means none.
	Logger *slog.Logger
}

// Direction tells which way a traced line went.
type Direction string

// The two directions of a line.
const (
	DirectionIn  Direction = "in"  // to the process
	DirectionOut Direction = "out" // from the process
)

const (
	// DefaultMaxLine is the bound on one line of output: 256 MiB.
	DefaultMaxLine = 256 << 20
	// DefaultGrace is the time between the steps of ending a process.
	DefaultGrace = 2 * time.Second
)

// DefaultTools returns the built-in tools a process gets when none are named:
// those that read, write and run, and none that outlive a task (background
// jobs, cron, wake-ups) or reach other sessions.
func DefaultTools() []string {
	return []string{"Agent", "Bash", "Edit", "Glob", "Grep", "NotebookEdit", "Read", "Skill", "WebFetch", "WebSearch", "Write"}
}
