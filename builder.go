package claudepool

import (
	"context"
	"log/slog"
	"time"

	"github.com/claudepool/claudepool/claude"
)

// PoolBuilder collects the settings of a pool. Its methods return the builder,
// so that calls chain; mistakes are kept, and all reported by Build. A builder
// can be used again: Build copies what it needs.
//
// The methods cover what most programs set; [PoolBuilder.Config] takes the rest.
type PoolBuilder struct{ cfg PoolConfig }

// NewPoolBuilder returns a builder with the defaults of [PoolConfig].
func NewPoolBuilder() *PoolBuilder { return &PoolBuilder{} }

// Config replaces all settings made so far.
func (b *PoolBuilder) Config(c PoolConfig) *PoolBuilder { b.cfg = c; return b }

// Slots sets how many slots the pool starts with. Default 1.
func (b *PoolBuilder) Slots(n int) *PoolBuilder {
	if n == 0 {
		n = -1 // zero was asked for, which is not the same as nothing
	}
	b.cfg.Slots = n
	return b
}

// Bounds sets the bounds of scaling. Default 1 to 16.
func (b *PoolBuilder) Bounds(lowest, highest int) *PoolBuilder {
	if lowest == 0 {
		lowest = -1
	}
	b.cfg.MinSlots, b.cfg.MaxSlots = lowest, highest
	return b
}

// Slot adds the configuration of one slot: the first call configures slot-0.
func (b *PoolBuilder) Slot(c SlotConfig) *PoolBuilder {
	b.cfg.SlotConfigs = append(b.cfg.SlotConfigs[:len(b.cfg.SlotConfigs):len(b.cfg.SlotConfigs)], c)
	return b
}

// Model sets the model of all slots. Default: the CLI's.
func (b *PoolBuilder) Model(name string) *PoolBuilder { b.cfg.Agent.Model = name; return b }

// SystemPrompt replaces the CLI's system prompt.
func (b *PoolBuilder) SystemPrompt(text string) *PoolBuilder {
	b.cfg.Agent.SystemPrompt = text
	return b
}

// PermissionMode says what slots may do without asking. Default plan, which is
// read-only; acceptEdits lets them edit files in their working directory.
func (b *PoolBuilder) PermissionMode(m claude.PermissionMode) *PoolBuilder {
	b.cfg.Agent.PermissionMode = m
	return b
}

// Permission sets who answers permission requests. Default: they are refused.
func (b *PoolBuilder) Permission(h PermissionHandler) *PoolBuilder { b.cfg.Permission = h; return b }

// WorkDir sets the working directory of all slots. Default: that of this program.
func (b *PoolBuilder) WorkDir(dir string) *PoolBuilder { b.cfg.WorkDir = dir; return b }

// ClaudePath sets the claude program. Default "claude" from PATH.
func (b *PoolBuilder) ClaudePath(path string) *PoolBuilder { b.cfg.ClaudePath = path; return b }

// Budget limits spending. It must be more than zero. Default: no limit.
func (b *PoolBuilder) Budget(limit Microdollars) *PoolBuilder {
	if limit == 0 {
		limit = -1
	}
	b.cfg.Budget = limit
	return b
}

// Timeout bounds each attempt of a task. Default 1 h.
func (b *PoolBuilder) Timeout(d time.Duration) *PoolBuilder { b.cfg.Timeout = d; return b }

// Store sets where the truth is kept. The pool does not close it. Default: a
// [MemoryStore] of the pool's own.
func (b *PoolBuilder) Store(s PoolStore) *PoolBuilder { b.cfg.Store = s; return b }

// Launcher sets what starts agents. Default: the Claude CLI.
func (b *PoolBuilder) Launcher(l Launcher) *PoolBuilder { b.cfg.Launcher = l; return b }

// Skills sets which skills there are. Default: the built-in ones and those in
// the .claude-pool folders of the working directory and of the person.
func (b *PoolBuilder) Skills(r *SkillRegistry) *PoolBuilder { b.cfg.Skills = r; return b }

// Workflows sets which workflows there are. Default: the built-in ones and those
// in the .claude-pool folders of the working directory and of the person.
func (b *PoolBuilder) Workflows(r *WorkflowRegistry) *PoolBuilder { b.cfg.Workflows = r; return b }

// Logger sets the log. Default: silent.
func (b *PoolBuilder) Logger(l *slog.Logger) *PoolBuilder { b.cfg.Logger = l; return b }

// Build checks the settings, finds out whether agents can be started at all,
// and starts the pool; ctx bounds that. The slots start in the background:
// [Pool.Ready] waits for the first. The pool must be closed.
//
// Bad settings come as [*InvalidError], joined by [errors.Join]; a missing,
// foreign or too old claude program as the errors of [claude.Probe].
func (b *PoolBuilder) Build(ctx context.Context) (*Pool, error) { return newPool(ctx, b.cfg) }
