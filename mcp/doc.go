// Package mcp serves a [claudepool.Pool] to MCP clients: a coordinator, such
// as an interactive Claude session, hands tasks to the pool's slots and gets
// their results back.
//
// Tools are thin, one method of the pool each. What the package adds is what
// a caller at the other end of a connection needs:
//
//   - No call outlives its caller's patience. Tools that wait, such as pool_run,
//     pool_fan_out and pool_chain, store their tasks first. A caller with a
//     progress token then hears of them every few seconds until they have ended
//     or wait for a review; one without is answered after 50 s with the task
//     ids, and the work goes on.
//   - No result is lost with a connection. Only the explicit cancellation of a
//     request cancels its tasks; a time-out or a closed connection does not.
//   - Bounded answers. Long output is cut with a note; pool_result reads on, and
//     the resources pool://results/{task_id} and pool://chains/{task_id} hold all
//     of it.
//   - Ceilings. Nothing that is started, be it a task, a step of a chain, a skill
//     or a workflow, has a looser permission mode than
//     [Options.MaxPermissionMode], or a larger budget than the pool.
//   - Prompts. Each skill is one, and clients are told when their files change.
//   - A short list. What many tools take is spelt out in the first of them, and
//     toolsets leave out what a coordinator does not need.
//
// The server speaks every protocol version of the SDK over any of its
// transports:
//
//	server, err := mcp.NewServer(pool, mcp.Options{})
//	…
//	err = server.Run(ctx, &sdk.StdioTransport{})
//
// Over stdio nothing else may write to standard output; see examples/mcpserver
// for a complete program.
package mcp
