package mcp

import (
	"fmt"
	"strings"
)

// instructions teach a coordinator when to use what of the tools that are
// served. Some clients cut them at 2,048 characters.
func (s *Server) instructions() string {
	var b strings.Builder
	b.WriteString(`Claude CLI processes ("slots") work on tasks for you, in parallel. Use them for work that splits into independent parts or would fill your context; do small things yourself.
`)
	line := func(t Toolset, text string) {
		if s.has(t) {
			b.WriteString("\n- " + text)
		}
	}
	b.WriteString("\n- A task starts with an empty conversation: put all it needs into its prompt, and say what to answer with.")
	line(ToolsetCore, `One answer now: pool_run. Independent prompts: pool_fan_out, in one call. To collect later: pool_submit, then pool_wait. A follow-up in the same conversation: session "task:ID".`)
	line(ToolsetChains, "Steps that build on each other: pool_chain, whose needs make a graph; kept ones: pool_workflow_list, pool_invoke_workflow. Unsure: pool_auto.")
	line(ToolsetSkills, "Kept prompts for usual work: pool_skill_list, pool_skill_run.")
	line(ToolsetWorktrees, `Work on files side by side: isolation "worktree", then pool_merge for each task, one after the other.`)
	line(ToolsetReview, "Results to check before they count: pool_submit_with_review.")
	line(ToolsetMessages, "Notes for a slot's next task: pool_send_message.")
	line(ToolsetContext, "Facts that all later tasks need: context_set.")
	line(ToolsetCore, "State pending or running is no failure: the work goes on. Call pool_wait with the ids, never submit it again. Give an idempotency_key when you might repeat a call.")
	line(ToolsetCore, "Only success true means done. Else outcome says why and note what to do; pool_explain says why a task waits; pool_retry tries it again.")
	b.WriteString(fmt.Sprintf("\n- Slots may do what their permission mode allows; this server's limit is %s (plan only reads, but for tools allowed by name). Ask with overrides.permission_mode. Slots may share one folder: do not let two tasks edit the same files.", s.opts.MaxPermissionMode))
	b.WriteString("\n- Money is shared: cap tasks with overrides.max_budget_usd, use a cheaper model or a lower effort for simple ones. With overrides.json_schema the answer comes as structured_output.")
	line(ToolsetCore, "Long output is cut: read on with pool_result and next_offset.")
	return b.String()
}
