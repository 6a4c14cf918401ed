package mcp

import (
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
	return invalid(field, "asks for permission mode %s; this server allows %s at most, so ask for that or have a person start it with a looser one", mode, s.opts.MaxPermissionMode)
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
// wherever it has that from.
func (s *Server) taskWithinCeilings(ctx context.Context, field string, o claudepool.TaskOverrides) error {
	if err := s.withinCeiling(field+".permission_mode", o.PermissionMode); err != nil {
		return err
	}
	return s.withinBudget(ctx, field+".max_budget_usd", o.MaxCost)
}

// chainWithinCeilings does the same for a chain, its steps and their skills.
func (s *Server) chainWithinCeilings(ctx context.Context, c claudepool.Chain) error {
	if err := s.taskWithinCeilings(ctx, "overrides", claudepool.TaskOverrides{AgentConfig: c.Overrides, MaxCost: c.MaxCost}); err != nil {
		return err
	}
	for i, st := range c.Steps {
		field := fmt.Sprintf("steps[%d]", i)
		if err := s.taskWithinCeilings(ctx, field, st.Overrides); err != nil {
			return err
		}
		// What the step and the chain say wins over the skill.
		if d := st.Action.Definition; d != nil && st.Overrides.PermissionMode == "" && c.Overrides.PermissionMode == "" {
			if err := s.withinCeiling(fmt.Sprintf("%s: the skill %s", field, d.Name), d.Config.PermissionMode); err != nil {
				return err
			}
		}
	}
	return nil
}
