package claudepool

import (
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/claudepool/claudepool/claude"
)

// AgentConfig is how an agent is set up. It can be given for the pool, for a
// slot and for a task; each wins over the one before. Zero fields leave the
// earlier value. Tools, and an MCP server of the same name, replace; the other
// lists and maps add.
type AgentConfig struct {
	Model          string                `json:"model,omitempty"`
	Effort         claude.Effort         `json:"effort,omitempty"`
	PermissionMode claude.PermissionMode `json:"permission_mode,omitempty"`
	SystemPrompt   string                `json:"system_prompt,omitempty"`
	AppendPrompt   string                `json:"append_system_prompt,omitempty"`
	// MaxTurns bounds the model requests of one attempt.
	MaxTurns int `json:"max_turns,omitempty"`
	// Tools is the whole list of built-in tools; empty but not nil means none.
	Tools           []string                    `json:"tools,omitempty"`
	AllowedTools    []string                    `json:"allowed_tools,omitempty"`
	DisallowedTools []string                    `json:"disallowed_tools,omitempty"`
	MCPServers      map[string]claude.MCPServer `json:"mcp_servers,omitempty"`
	JSONSchema      json.RawMessage             `json:"json_schema,omitempty"`
	AddDirs         []string                    `json:"add_dirs,omitempty"`
	Agents          json.RawMessage             `json:"agents,omitempty"`
	Settings        json.RawMessage             `json:"settings,omitempty"`
	FallbackModel   string                      `json:"fallback_model,omitempty"`
}

// merge returns c with the fields of over that are set.
func (c AgentConfig) merge(over AgentConfig) AgentConfig {
	set := func(dst *string, v string) {
		if v != "" {
			*dst = v
		}
	}
	raw := func(dst *json.RawMessage, v json.RawMessage) {
		if v != nil {
			*dst = v
		}
	}
	set(&c.Model, over.Model)
	set((*string)(&c.Effort), string(over.Effort))
	set((*string)(&c.PermissionMode), string(over.PermissionMode))
	set(&c.SystemPrompt, over.SystemPrompt)
	set(&c.AppendPrompt, over.AppendPrompt)
	set(&c.FallbackModel, over.FallbackModel)
	raw(&c.JSONSchema, over.JSONSchema)
	raw(&c.Agents, over.Agents)
	raw(&c.Settings, over.Settings)
	if over.MaxTurns != 0 {
		c.MaxTurns = over.MaxTurns
	}
	if over.Tools != nil {
		c.Tools = over.Tools
	}
	c.AllowedTools = union(c.AllowedTools, over.AllowedTools)
	c.DisallowedTools = union(c.DisallowedTools, over.DisallowedTools)
	c.AddDirs = union(c.AddDirs, over.AddDirs)
	if len(over.MCPServers) > 0 {
		m := maps.Clone(c.MCPServers)
		if m == nil {
			m = make(map[string]claude.MCPServer, len(over.MCPServers))
		}
		maps.Copy(m, over.MCPServers)
		c.MCPServers = m
	}
	return c
}

// union returns a followed by what b has more, in a new slice when both have something.
func union(a, b []string) []string {
	switch {
	case len(b) == 0:
		return a
	case len(a) == 0:
		return b
	}
	out := slices.Clone(a)
	for _, v := range b {
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// TaskOverrides are what a task wants otherwise than its slot.
type TaskOverrides struct {
	AgentConfig
	// MaxCost caps all attempts of the task together. Zero means the pool's
	// default cap.
	MaxCost Microdollars
	// Timeout bounds the running time of each attempt. Zero means the pool's.
	Timeout time.Duration
}

// SlotConfig is what one slot has otherwise than the pool.
type SlotConfig struct {
	AgentConfig
	// Name must be unique in the pool, if given.
	Name        string
	Role        string
	Description string
	// WorkDir is the working directory. Empty means the pool's.
	WorkDir string
	Env     map[string]string
}

// Reuse says whether a process may serve more than one task.
type Reuse string

// The values of [Reuse].
const (
	ReuseAuto  Reuse = "auto"  // reset and reused when the CLI can and the reset is proven
	ReuseNever Reuse = "never" // a process for each task
)

// BudgetWindow says which spending counts against the budget.
type BudgetWindow string

// The budget windows.
const (
	WindowRun   BudgetWindow = "run"   // since this pool was built
	WindowStore BudgetWindow = "store" // everything the store has recorded
	WindowDay   BudgetWindow = "day"   // since midnight UTC
)

// BudgetWindows lists every budget window.
func BudgetWindows() []BudgetWindow { return []BudgetWindow{WindowRun, WindowStore, WindowDay} }

// PoolConfig is everything that can be set on a pool. [PoolBuilder] fills it in;
// zero fields get the defaults stated here.
type PoolConfig struct {
	// Slots is the number of slots at the start. Default 1.
	Slots int
	// MinSlots and MaxSlots bound scaling. Defaults 1 and the larger of 16 and Slots.
	MinSlots, MaxSlots int
	// SlotConfigs configure slot-0, slot-1, … in order; the rest have none.
	SlotConfigs []SlotConfig
	// Agent is the configuration of all slots.
	Agent AgentConfig
	// WorkDir is the working directory of all slots. Default: that of this program.
	WorkDir string
	// Env is added to the sealed environment of every slot.
	Env map[string]string
	// ClaudePath is the claude program. Default "claude" from PATH.
	ClaudePath string
	// ConfigDir becomes CLAUDE_CONFIG_DIR of every slot. Default: the person's own.
	ConfigDir string
	// SettingSources as in [claude.Options]. Default: project settings only.
	SettingSources []string
	// InheritMCP also loads the MCP servers of the person's own configuration.
	InheritMCP bool
	// AllowBypass permits [claude.PermissionBypass].
	AllowBypass bool
	// Permission answers permission requests of all slots. Default: all are
	// refused at once.
	Permission PermissionHandler

	// Store holds the truth. Default a new [MemoryStore], which the pool
	// closes; one given here stays the caller's.
	Store PoolStore
	// Launcher starts agents. Default the Claude CLI.
	Launcher Launcher

	// Budget limits spending. Zero means no limit.
	Budget Microdollars
	// Window says which spending counts. Default [WindowRun] with a
	// [MemoryStore], else [WindowStore].
	Window BudgetWindow
	// DefaultCap caps tasks that have no cap of their own. Default: an equal
	// share of what is left for each idle slot.
	DefaultCap Microdollars
	// WaitForBudget lets tasks that the budget cannot pay for wait for it to be
	// raised. By default they fail.
	WaitForBudget bool

	// TagLimits bounds how many tasks with a tag run at once.
	TagLimits map[string]int
	// Retry is the default retry policy. Default: 2 retries, 1 s to 1 min.
	Retry RetryPolicy
	// Timeout bounds each attempt. Default 1 h.
	Timeout time.Duration
	// StallTimeout bounds the silence of an agent between two signs of life.
	// Default 10 min.
	StallTimeout time.Duration

	// Reuse says whether processes serve more than one task. Default [ReuseAuto].
	Reuse Reuse
	// Spares is how many started processes wait for tasks that no warm one
	// fits. Default 1; negative means none.
	Spares int
	// MaxTasks, MaxAge and MaxMemory bound the life of a process, in tasks,
	// time and resident bytes. Defaults 200, 4 h and 600 MB.
	MaxTasks  int
	MaxAge    time.Duration
	MaxMemory int64
	// StartTimeout bounds the start of a process. Default 60 s.
	StartTimeout time.Duration
	// StartsAtOnce bounds how many processes start at the same time. Default:
	// the number of CPUs.
	StartsAtOnce int
	// SlotMemory is the memory that a slot is expected to need until it was
	// measured. Default 300 MB. Negative turns admission by memory off.
	SlotMemory int64
	// Restart says when a slot whose process keeps failing is given up.
	Restart RestartPolicy

	// Transcripts is the folder that gets a JSON-lines file per attempt.
	// Default: none are kept.
	Transcripts string
	// Logger gets what an operator would want to know. Default: silent.
	Logger *slog.Logger
}

// RestartPolicy says how a slot whose process fails is restarted.
type RestartPolicy struct {
	// First is the pause before the first restart, doubled up to Most.
	// Defaults 500 ms and 30 s.
	First, Most time.Duration
	// Failures within Window open the slot's circuit: it is errored, and tried
	// again after Cooldown. Defaults 5, 1 min and 1 min.
	Failures         int
	Window, Cooldown time.Duration
}
