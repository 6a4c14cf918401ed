package mcp_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/mcp"
)

// A coordinator that knows these tools by these fields and no others works as
// it is. Each tool is called with all of its fields; what it must give is named.
func TestAnExistingCoordinatorWorksUnchanged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, cfg := project(t)
		cfg.Budget, cfg.Slots = claudepool.USD(9), 4
		f := setup(t, cfg, mcp.Options{MaxPermissionMode: "acceptEdits"}) // built-in skills that write ask for it
		called := map[string]bool{}
		use := func(tool string, in args, gives ...string) map[string]any {
			t.Helper()
			called[tool] = true
			got := structured[map[string]any](t, f.call(t, tool, in))
			for _, field := range gives {
				if _, ok := got[field]; !ok {
					t.Errorf("%s gives no %s: %v", tool, field, got)
				}
			}
			return got
		}
		id := func(got map[string]any) any { t.Helper(); return got["task_id"] }
		overrides := args{
			"model": "m", "effort": "low", "permission_mode": "plan", "system_prompt": "s", "max_turns": 3, "tools": []string{"Read"},
			"allowed_tools": []string{"Read"}, "disallowed_tools": []string{"Bash"}, "mcp_servers": args{}, "json_schema": args{"type": "string"},
			"max_budget_usd": 0.5, "timeout_secs": 60,
		}
		tags := []string{"a"}
		steps := []args{
			{
				"name": "one", "type": "prompt", "value": "say [1]", "model": "m", "effort": "low", "retries": 1,
				"recovery_prompt": "{error}", "output_vars": args{"x": "0"}, "needs": []string{},
			},
			{
				"name": "two", "type": "skill", "value": "greet", "arguments": args{"who": "{item}"}, "needs": []string{"one"},
				"for_each": "steps.one.output", "when": "steps.one.x",
			},
		}

		use("pool_skill_add", args{
			"name": "greet", "description": "d", "prompt": "say {who}", "arguments": []args{{"name": "who", "description": "d", "required": true}},
			"scope": "task", "config": args{"model": "m"},
		})
		use("pool_skill_list", args{"scope": "task", "source": "runtime"}, "skills")
		use("pool_skill_get", args{"name": "greet"}, "name", "description", "prompt", "arguments", "scope", "source")
		use("pool_skill_run", args{"skill": "greet", "arguments": args{"who": "x"}, "model": "m", "effort": "low"}, "task_id", "state", "output")
		use("pool_skill_save", args{"name": "greet", "dir": ".claude-pool/skills"}, "path")
		use("pool_skill_eject", args{"name": "implement", "dir": ".claude-pool/skills"}, "path")
		use("pool_skill_add", args{"name": "gone", "prompt": "x"})
		use("pool_skill_remove", args{"name": "gone"})

		use("pool_status", nil, "total_slots", "idle_slots", "busy_slots", "pending_tasks", "running_tasks", "pending_review_tasks",
			"total_spend_microdollars", "reserved_microdollars", "budget_microdollars", "shutdown", "slots", "server")
		use("pool_session_metrics", nil)
		use("pool_run", args{"prompt": "say x", "overrides": overrides, "tags": tags, "isolation": "none", "session": "fresh"}, "task_id", "state", "output")
		done := id(use("pool_submit", args{
			"prompt": "fail", "overrides": args{}, "tags": tags, "priority": 1, "idempotency_key": "k", "isolation": "none", "session": "fresh",
		}, "task_id"))
		use("pool_wait", args{"task_ids": []any{done}, "mode": "all", "timeout_secs": 50}, "tasks")
		use("pool_result", args{"task_id": done}, "task_id", "state", "outcome")
		use("pool_list_tasks", args{"state": "failed", "tag": "a", "slot_id": "slot-0", "limit": 5, "cursor": "zzz"}, "tasks")
		use("pool_explain", args{"task_id": done})
		use("pool_cancel", args{"task_id": id(use("pool_retry", args{"task_id": done}, "task_id"))}, "task_id", "state")
		use("pool_fan_out", args{"prompts": []string{"say x", "say y"}, "overrides": args{}, "tags": tags, "fail_fast": true}, "results", "census")

		reviewed := id(use("pool_submit_with_review", args{
			"prompt": "say x", "overrides": args{}, "tags": tags, "priority": 1, "idempotency_key": "r", "isolation": "none", "session": "fresh", "max_rejections": 3,
		}, "task_id"))
		use("pool_wait", args{"task_ids": []any{reviewed}})
		use("pool_reject_result", args{"task_id": reviewed, "feedback": "say z"}, "task_id", "state")
		use("pool_wait", args{"task_ids": []any{reviewed}})
		use("pool_approve_result", args{"task_id": reviewed}, "task_id", "state")

		got := use("pool_chain", args{"steps": steps, "tags": tags, "isolation": "none"}, "task_id", "state", "success", "output", "steps", "cost_microdollars")
		if got["output"] != "[1]" || got["success"] != true {
			t.Errorf("the chain came to %v", got)
		}
		c := id(use("pool_submit_chain", args{"steps": steps, "tags": tags, "isolation": "none"}, "task_id"))
		use("pool_chain_result", args{"task_id": c}, "task_id", "state", "steps")
		use("pool_cancel_chain", args{"task_id": c}, "task_id", "state")
		use("pool_fan_out_chains", args{"chains": []any{steps, steps}, "tags": tags, "isolation": "none"}, "task_ids")
		use("pool_workflow_list", nil, "workflows")
		use("pool_invoke_workflow", args{"workflow": "refactor_and_test", "arguments": args{"target_file": "f", "refactor_goal": "g"}, "tags": tags}, "task_id")

		hints := args{"prompt": "auto parallel say a|say b", "max_parallel": 2, "max_chain_steps": 2, "prefer": "parallel", "domain": "d", "decomposition_hints": []string{"h"}}
		use("pool_auto", args{"prompt": "auto single"}, "route", "results")
		use("pool_auto_with_hints", hints, "route", "results")
		use("pool_route", args{"prompt": "auto single"}, "route")
		use("pool_route_with_hints", hints, "route", "prompts")

		use("pool_send_message", args{"from": "me", "to": "slot-0", "content": "c"})
		use("pool_broadcast", args{"from": "me", "content": "c"})
		use("pool_peek_messages", args{"slot_id": "slot-0"}, "messages")
		use("pool_read_messages", args{"slot_id": "slot-0"}, "messages")
		use("context_set", args{"key": "k", "value": "v"})
		use("context_get", args{"key": "k"}, "value")
		use("context_list", nil)
		use("context_delete", args{"key": "k"})

		use("pool_configure_slot", args{"slot_id": "slot-0", "name": "n", "role": "r", "description": "d"})
		use("pool_find_slots", args{"name": "n", "role": "r", "state": "idle"}, "slots")
		use("pool_pause", nil)
		use("pool_claim", args{"slot_id": "slot-0"}, "task_id")
		use("pool_resume", nil)
		use("pool_scale_up", args{"count": 1}, "new_slot_count")
		use("pool_scale_down", args{"count": 1}, "new_slot_count")
		use("pool_set_target_slots", args{"target": 2}, "new_slot_count")
		use("pool_drain", args{"timeout_secs": 5})

		for _, tool := range strings.Fields(toolsets[mcp.ToolsetWorktrees].tools) {
			called[tool] = true // they need a repository, and have a test of their own
		}
		if diff := cmp.Diff(f.tools(t), slices.Sorted(maps.Keys(called))); diff != "" {
			t.Errorf("the tools that are served, and those that were called (-served +called):\n%s", diff)
		}
	})
}
