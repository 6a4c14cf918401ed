package mcp

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
)

// withinCeiling refuses a permission mode that is looser than the server allows.
func (s *Server) withinCeiling(field string, mode claude.PermissionMode) error {
	modes := claude.PermissionModes()
	if slices.Index(modes, mode) <= slices.Index(modes, s.opts.MaxPermissionMode) {
		return nil
	}
	return invalid(field, "is %s; this server allows %s at most, until a person starts the server with --permission-mode %[1]s", mode, s.opts.MaxPermissionMode)
}

// withinShared refuses work in the person's checkout with a permission mode that
// is looser than the server allows there. An empty mode is that of the slots. who
// is what asks for it.
func (s *Server) withinShared(who string, i claudepool.Isolation, mode claude.PermissionMode) error {
	c := s.pool.Config()
	mode, modes := cmp.Or(mode, c.Agent.PermissionMode), claude.PermissionModes()
	if cmp.Or(i, c.Isolation) != claudepool.IsolationNone || slices.Index(modes, mode) <= slices.Index(modes, s.opts.MaxSharedMode) {
		return nil
	}
	return invalid(who+"isolation", "is none with permission_mode %s, which this server allows only in places of the tasks' own; leave isolation out, or set overrides.permission_mode to %s, until a person starts the server with --permission-mode %[1]s", mode, s.opts.MaxSharedMode)
}

// submitTask submits a task that was checked in all other respects.
func (s *Server) submitTask(ctx context.Context, t claudepool.Task) (claudepool.TaskID, error) {
	if err := s.withinShared("", t.Isolation, t.Overrides.PermissionMode); err != nil {
		return "", err
	}
	return s.pool.Submit(ctx, t)
}

// withinBudget refuses a cap above the pool's budget.
func (s *Server) withinBudget(ctx context.Context, field string, most claudepool.Microdollars) error {
	if most <= 0 {
		return nil
	}
	st, err := s.pool.Status(ctx)
	if err != nil {
		return err
	}
	if st.Budget > 0 && most > st.Budget {
		return invalid(field, "is %v, above the pool's budget of %v", most, st.Budget)
	}
	return nil
}

// taskWithinCeilings refuses a task that wants more than the server allows,
// wherever it has that from. who is what asks for it, such as "step x: ".
func (s *Server) taskWithinCeilings(ctx context.Context, who string, o claudepool.TaskOverrides) error {
	if err := s.withinCeiling(who+"permission_mode", o.PermissionMode); err != nil {
		return err
	}
	return s.withinBudget(ctx, who+"max_budget_usd", o.MaxCost)
}

// ofSkill begins the names of a skill's fields.
func ofSkill(name string) string { return fmt.Sprintf("skill %q: ", name) }

// chainWithinCeilings does the same for a chain, its steps and their skills.
func (s *Server) chainWithinCeilings(ctx context.Context, c claudepool.Chain) error {
	if err := s.taskWithinCeilings(ctx, "", claudepool.TaskOverrides{AgentConfig: c.Overrides, MaxCost: c.MaxCost}); err != nil {
		return err
	}
	isolation := c.Isolation
	if isolation == "" && c.Resume != "" {
		was, err := s.pool.Task(ctx, c.Resume)
		if err != nil {
			return err
		}
		isolation = was.Task.Isolation
	}
	for _, st := range c.Steps {
		who := fmt.Sprintf("step %q: ", st.Name)
		if err := s.taskWithinCeilings(ctx, who, st.Overrides); err != nil {
			return err
		}
		// What the step and the chain say wins over the skill.
		if d := st.Action.Definition; d != nil && st.Overrides.PermissionMode == "" && c.Overrides.PermissionMode == "" {
			if err := s.withinCeiling(who+ofSkill(d.Name)+"permission_mode", d.Config.PermissionMode); err != nil {
				return err
			}
		}
		mode := cmp.Or(st.Overrides.PermissionMode, c.Overrides.PermissionMode)
		if d := st.Action.Definition; d != nil {
			mode = cmp.Or(mode, d.Config.PermissionMode)
		}
		if err := s.withinShared(who, isolation, mode); err != nil {
			return err
		}
	}
	return nil
}
