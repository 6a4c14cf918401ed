package claudepool

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/internal/schema"
	"github.com/claudepool/claudepool/worktree"
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
	Tools           []string                    `json:"tools,omitzero"`
	AllowedTools    []string                    `json:"allowed_tools,omitempty"`
	DisallowedTools []string                    `json:"disallowed_tools,omitempty"`
	MCPServers      map[string]claude.MCPServer `json:"mcp_servers,omitempty"`
	// JSONSchema asks for structured output, which is checked against it: a
	// task whose output does not fit ends as [OutcomeSchema]. The dialect is
	// draft-07.
	JSONSchema    json.RawMessage `json:"json_schema,omitempty"`
	AddDirs       []string        `json:"add_dirs,omitempty"`
	Agents        json.RawMessage `json:"agents,omitempty"`
	Settings      json.RawMessage `json:"settings,omitempty"`
	FallbackModel string          `json:"fallback_model,omitempty"`
}

// Merge returns c with the fields of over that are set. Neither is changed.
func (c AgentConfig) Merge(over AgentConfig) AgentConfig {
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
	MaxCost Microdollars `json:"max_cost_microdollars,omitempty"`
	// Timeout bounds the running time of each attempt. Zero means the pool's.
	Timeout time.Duration `json:"timeout,omitempty"`
}

// SlotConfig is what one slot has otherwise than the pool.
type SlotConfig struct {
	AgentConfig
	// Name must be unique in the pool, if given.
	Name        string
	Role        string
	Description string
	// WorkDir is the working directory. Empty means the pool's. A pool with a
	// slot that has one takes no isolated tasks, for these work in places of the
	// pool's repository whichever slot they have.
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
	// Isolation is that of tasks and chains that name none. Default [IsolationNone].
	Isolation Isolation
	// Worktrees says how isolated tasks get their places. Its Repo is by default
	// WorkDir, its Log the pool's.
	Worktrees worktree.Options
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
	// share of what is left for each slot without a task.
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
	// CheckEvery is how often the supervisor looks at the slots. Default 5 s;
	// negative means only when [Pool.CheckAndRestartSlots] is called.
	CheckEvery time.Duration
	// Restart says when a slot whose process keeps failing is given up.
	Restart RestartPolicy

	// Skills are what [Pool.RunSkill] and the steps of chains can name. Default:
	// those of [StandardSources] for WorkDir.
	Skills *SkillRegistry
	// Workflows are what [Pool.InvokeWorkflow] can name. Default: those of
	// [StandardSources] for WorkDir.
	Workflows *WorkflowRegistry
	// Route says how [Pool.Route] decides.
	Route RouteConfig

	// Transcripts is the folder that gets a JSON-lines file per attempt.
	// Default: none are kept.
	Transcripts string
	// TranscriptRetention says how many of these files are kept, and for how
	// long after they were last written to. Default: 10,000 and 30 days. What
	// is too old is removed within the hour.
	TranscriptRetention Retention
	// SessionRetention is how long the CLI's own transcript of a conversation
	// that a slot has begun is kept after its last use, by whomever; after that
	// it cannot be continued. It stays as long as a task needs it that has yet
	// to end. Conversations that a task was only told to continue are never
	// removed. Default 30 days; negative keeps all that this pool begins.
	SessionRetention time.Duration
	// Logger gets what an operator would want to know. Default: silent.
	Logger *slog.Logger
}

// month is how long transcripts are kept by default.
const month = 30 * 24 * time.Hour

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

// clone returns a copy that shares nothing with c that could be changed.
func (c PoolConfig) clone() PoolConfig {
	c.Agent = c.Agent.clone()
	c.SlotConfigs = slices.Clone(c.SlotConfigs)
	for i := range c.SlotConfigs {
		sc := &c.SlotConfigs[i]
		sc.AgentConfig, sc.Env = sc.AgentConfig.clone(), maps.Clone(sc.Env)
	}
	c.Env, c.TagLimits = maps.Clone(c.Env), maps.Clone(c.TagLimits)
	c.SettingSources = slices.Clone(c.SettingSources)
	c.Worktrees.Copy, c.Worktrees.Setup = slices.Clone(c.Worktrees.Copy), slices.Clone(c.Worktrees.Setup)
	return c
}

// withDefaults returns c with every zero field filled in.
func (c PoolConfig) withDefaults() PoolConfig {
	c.Slots = cmp.Or(c.Slots, 1)
	c.MinSlots = cmp.Or(c.MinSlots, 1)
	c.MaxSlots = cmp.Or(c.MaxSlots, max(16, c.Slots))
	c.Agent.PermissionMode = cmp.Or(c.Agent.PermissionMode, claude.PermissionPlan)
	c.Retry = c.Retry.or(RetryPolicy{Max: 2, First: time.Second, Most: time.Minute})
	c.Timeout = cmp.Or(c.Timeout, time.Hour)
	c.StallTimeout = cmp.Or(c.StallTimeout, 10*time.Minute)
	c.Reuse = cmp.Or(c.Reuse, ReuseAuto)
	c.Spares = cmp.Or(c.Spares, 1)
	c.MaxTasks = cmp.Or(c.MaxTasks, 200)
	c.MaxAge = cmp.Or(c.MaxAge, 4*time.Hour)
	c.MaxMemory = cmp.Or(c.MaxMemory, 600<<20)
	c.StartTimeout = cmp.Or(c.StartTimeout, time.Minute)
	c.StartsAtOnce = cmp.Or(c.StartsAtOnce, runtime.GOMAXPROCS(0))
	c.SlotMemory = cmp.Or(c.SlotMemory, 300<<20)
	c.CheckEvery = cmp.Or(c.CheckEvery, 5*time.Second)
	c.TranscriptRetention.Count = cmp.Or(c.TranscriptRetention.Count, 10_000)
	c.TranscriptRetention.Age = cmp.Or(c.TranscriptRetention.Age, month)
	c.SessionRetention = cmp.Or(c.SessionRetention, month)
	c.Route = c.Route.withDefaults()
	c.Isolation = cmp.Or(c.Isolation, IsolationNone)
	c.Worktrees.Repo = cmp.Or(c.Worktrees.Repo, c.WorkDir, ".")
	c.Restart.First = cmp.Or(c.Restart.First, 500*time.Millisecond)
	c.Restart.Most = cmp.Or(c.Restart.Most, 30*time.Second)
	c.Restart.Failures = cmp.Or(c.Restart.Failures, 5)
	c.Restart.Window = cmp.Or(c.Restart.Window, time.Minute)
	c.Restart.Cooldown = cmp.Or(c.Restart.Cooldown, time.Minute)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Worktrees.Log == nil {
		c.Worktrees.Log = c.Logger
	}
	if c.Window == "" {
		c.Window = WindowStore
		if volatile(c.Store) {
			c.Window = WindowRun
		}
	}
	return c
}

// or returns r with its zero fields taken from other.
func (r RetryPolicy) or(other RetryPolicy) RetryPolicy {
	r.Max = cmp.Or(r.Max, other.Max)
	r.First = cmp.Or(r.First, other.First)
	r.Most = cmp.Or(r.Most, other.Most)
	return r
}

// pause returns how long to wait before retry n, counted from 1.
func (r RetryPolicy) pause(n int) time.Duration { return backoff(r.First, r.Most, n) }

// backoff returns first, doubled for each n above 1 up to most, with up to a
// fifth of jitter on top.
func backoff(first, most time.Duration, n int) time.Duration {
	d := first
	for ; n > 1 && d < most; n-- {
		d *= 2
	}
	d = min(d, most)
	return d + rand.N(d/5+1)
}

// validate checks a configuration that has its defaults. It returns every
// mistake it finds.
func (c PoolConfig) validate() error {
	var errs []error
	bad := func(field, format string, args ...any) { errs = append(errs, invalidField(field, format, args...)) }

	if c.Slots < 1 {
		bad("slots", "must be at least 1")
	}
	if c.MinSlots < 1 {
		bad("min_slots", "must be at least 1")
	}
	if c.MinSlots > c.MaxSlots {
		bad("min_slots", "is %d, above max_slots, %d", c.MinSlots, c.MaxSlots)
	} else if c.Slots >= 1 && (c.Slots < c.MinSlots || c.Slots > c.MaxSlots) {
		bad("slots", "is %d, outside min_slots to max_slots, %d to %d", c.Slots, c.MinSlots, c.MaxSlots)
	}
	if len(c.SlotConfigs) > max(c.Slots, 0) {
		bad("slot_configs", "has %d entries for %d slots", len(c.SlotConfigs), c.Slots)
	}
	names := map[string]bool{}
	for i, sc := range c.SlotConfigs {
		if sc.Name != "" && names[sc.Name] {
			bad(fmt.Sprintf("slot_configs[%d].name", i), "%q is used twice", sc.Name)
		}
		names[sc.Name] = true
		errs = append(errs, sc.AgentConfig.validate(fmt.Sprintf("slot_configs[%d].", i)))
		if sc.Name != "" {
			errs = append(errs, validSlotName(fmt.Sprintf("slot_configs[%d].name", i), sc.Name))
		}
		if sc.PermissionMode == claude.PermissionBypass && !c.AllowBypass {
			bad(fmt.Sprintf("slot_configs[%d].permission_mode", i), "is %s, which AllowBypass has to permit", sc.PermissionMode)
		}
	}
	errs = append(errs, c.Agent.validate("agent."), c.Route.validate())
	if c.Agent.PermissionMode == claude.PermissionBypass && !c.AllowBypass {
		bad("agent.permission_mode", "is %s, which AllowBypass has to permit", c.Agent.PermissionMode)
	}
	if c.Budget < 0 {
		bad("budget", "must be more than zero; leave it out for no limit")
	}
	if c.Isolation != "" && !slices.Contains(Isolations(), c.Isolation) {
		bad("isolation", "must be one of %v, not %q", Isolations(), c.Isolation)
	}
	if err := c.Worktrees.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("worktrees: %w", err))
	}
	if c.DefaultCap < 0 {
		bad("default_cap", "must not be negative")
	}
	if c.Budget > 0 && c.DefaultCap > c.Budget {
		bad("default_cap", "is %v, above the budget, %v", c.DefaultCap, c.Budget)
	}
	if !slices.Contains(BudgetWindows(), c.Window) {
		bad("window", "must be one of %v, not %q", BudgetWindows(), c.Window)
	}
	if c.Reuse != ReuseAuto && c.Reuse != ReuseNever {
		bad("reuse", "must be %q or %q, not %q", ReuseAuto, ReuseNever, c.Reuse)
	}
	for tag, n := range c.TagLimits {
		if n < 1 {
			bad("tag_limits", "allows %d tasks with the tag %q; it must be at least 1", n, tag)
		}
	}
	for field, d := range map[string]time.Duration{
		"timeout": c.Timeout, "stall_timeout": c.StallTimeout, "max_age": c.MaxAge, "start_timeout": c.StartTimeout,
		"retry.first": c.Retry.First, "retry.most": c.Retry.Most,
		"restart.first": c.Restart.First, "restart.most": c.Restart.Most,
		"restart.window": c.Restart.Window, "restart.cooldown": c.Restart.Cooldown,
	} {
		if d < 0 {
			bad(field, "must not be negative")
		}
	}
	for field, n := range map[string]int{
		"max_tasks": c.MaxTasks, "starts_at_once": c.StartsAtOnce, "restart.failures": c.Restart.Failures,
	} {
		if n < 1 {
			bad(field, "must be at least 1")
		}
	}
	if c.MaxMemory < 0 {
		bad("max_memory", "must not be negative")
	}
	return errors.Join(errs...)
}

// validate checks what can be checked without knowing the rest of the options.
func (c AgentConfig) validate(prefix string) error {
	if c.MaxTurns < 0 {
		return invalidField(prefix+"max_turns", "must not be negative")
	}
	if c.PermissionMode != "" && !slices.Contains(claude.PermissionModes(), c.PermissionMode) {
		return invalidField(prefix+"permission_mode", "must be one of %v, not %q", claude.PermissionModes(), c.PermissionMode)
	}
	if c.Effort != "" && !slices.Contains(claude.Efforts(), c.Effort) {
		return invalidField(prefix+"effort", "must be one of %v, not %q", claude.Efforts(), c.Effort)
	}
	if c.JSONSchema != nil {
		if _, err := schema.Of(c.JSONSchema); err != nil {
			return invalidField(prefix+"json_schema", "%v", err)
		}
	}
	return nil
}

// validSlotName checks the name of a slot, which must not look like an id.
func validSlotName(field, name string) error {
	if strings.HasPrefix(name, "slot-") {
		return invalidField(field, "must not begin with slot-, as ids do: %q", name)
	}
	return validName(field, name)
}

// validName checks the name of a slot or a role.
func validName(field, name string) error {
	if len(name) > 64 || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || r == '/' || r == '\\' }) {
		return invalidField(field, "must be at most 64 printable characters without slashes, not %q", name)
	}
	return nil
}

// options returns how to start an agent for a slot, and for a task if there is one.
func (c PoolConfig) options(slot SlotConfig, task *Task) claude.Options {
	agent := c.Agent.Merge(slot.AgentConfig)
	o := claude.Options{
		Path:           c.ClaudePath,
		Dir:            cmp.Or(slot.WorkDir, c.WorkDir),
		Env:            c.Env,
		ConfigDir:      c.ConfigDir,
		SettingSources: c.SettingSources,
		InheritMCP:     c.InheritMCP,
		AllowBypass:    c.AllowBypass,
		Logger:         c.Logger,
	}
	o.Env = addEnv(o.Env, slot.Env)
	if task != nil {
		agent = agent.Merge(task.Overrides.AgentConfig)
		o.Dir = cmp.Or(task.WorkDir, o.Dir)
		o.Env = addEnv(o.Env, task.Env)
	}
	o.Settings = claude.Settings{
		Model:           agent.Model,
		Effort:          agent.Effort,
		PermissionMode:  agent.PermissionMode,
		AllowedTools:    agent.AllowedTools,
		DisallowedTools: agent.DisallowedTools,
		MCPServers:      agent.MCPServers,
	}
	o.SystemPrompt, o.AppendSystemPrompt = agent.SystemPrompt, agent.AppendPrompt
	o.Tools, o.AddDirs = agent.Tools, agent.AddDirs
	o.Agents, o.SettingsJSON = agent.Agents, agent.Settings
	o.FallbackModel, o.JSONSchema, o.MaxTurns = agent.FallbackModel, agent.JSONSchema, agent.MaxTurns
	return o
}

// addEnv returns base with more on top, without changing either.
func addEnv(base, more map[string]string) map[string]string {
	if len(more) == 0 {
		return base
	}
	out := maps.Clone(base)
	if out == nil {
		out = make(map[string]string, len(more))
	}
	maps.Copy(out, more)
	return out
}
