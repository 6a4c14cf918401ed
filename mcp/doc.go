// Package mcp serves a [claudepool.Pool] to MCP clients: a coordinator, such
// as an interactive Claude session, hands tasks to the pool's slots and gets
// their results back.
//
// Tools are thin, one method of the pool each. What the package adds is what
// a caller at the other end of a connection needs:
//
//   - No call outlives its caller's patience. pool_run and pool_fan_out store
//     their tasks first. A caller with a progress token then hears of them every
//     few seconds until they have ended; one without is answered after 50 s with
//     the task ids, and the work goes on.
//   - No result is lost with a connection. Only the explicit cancellation of a
//     request cancels its tasks; a time-out or a closed connection does not.
//   - Bounded answers. Long output is cut with a note; pool_result reads on, and
//     the resource pool://results/{task_id} holds all of it.
//   - Ceilings. A task cannot have a looser permission mode than
//     [Options.MaxPermissionMode], nor a larger budget than the pool.
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
