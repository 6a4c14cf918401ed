package mcp

import "fmt"

// instructions teach a coordinator when to use what. Some clients cut them at
// 2,048 characters.
func (s *Server) instructions() string {
	return fmt.Sprintf(`A pool of Claude CLI processes ("slots") works on tasks for you, in parallel. Use it for work that splits into independent parts, or that would fill your own context; do small things yourself.

- A task starts with an empty conversation and sees none of yours: put all it needs into its prompt, and say what to answer with.
- One answer now: pool_run. Several independent prompts: pool_fan_out, in one call. Work to collect later: pool_submit, then pool_wait.
- An answer with state pending or running, or with unfinished tasks, is no failure: the work goes on. Call pool_wait with the task ids; never submit it again. Give an idempotency_key when you might repeat a call.
- Only success true means done. Else outcome says why (denied, max_turns, budget, timeout, api_error, …) and note what to do; pool_explain says why a task waits.
- Slots may do what their permission mode allows; this server's limit is %s (plan only reads). Ask with overrides.permission_mode. All slots may share one working directory: do not let two tasks edit the same files.
- For a follow-up in the same conversation use session "task:ID".
- Money is shared: look at pool_status, and cap a task with overrides.max_budget_usd. A cheaper overrides.model or a lower effort suits simple tasks.
- For answers a program can read give overrides.json_schema; they come as structured_output.
- Long output is cut: read on with pool_result and next_offset.
- Facts that all later tasks need: context_set.`, s.opts.MaxPermissionMode)
}
