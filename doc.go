// Package claudepool keeps a pool of Claude CLI processes warm and hands them
// tasks, one after another, without the start of a process for each.
//
//	pool, err := claudepool.NewPoolBuilder().Slots(4).Budget(claudepool.USD(5)).Build(ctx)
//	…
//	defer pool.Close()
//	r, err := pool.Run(ctx, claudepool.Task{Prompt: "What does main.go do?"})
//
// A [Task] is a prompt and what is to become of it. [Pool.Run] waits for its
// end, [Pool.Submit] returns at once and [Pool.Wait] waits later, [Pool.FanOut]
// runs many and returns every result in order. [Pool.Cancel] interrupts,
// [Pool.Explain] says why a task waits, and [Pool.Drain] ends the pool in good
// order. A [Pool] is safe for concurrent use.
//
// A [Chain] is steps of which later ones see what earlier ones gave, one after
// another or as a graph: [Pool.ExecuteChain]. A step is a prompt or a [Skill], a
// prompt template that comes as a file; a [Workflow] is a chain that does. With
// [Task].Review a result waits for approval; [Pool.SendMessage] leaves a note for
// a slot's next task; [Pool.Auto] lets a cheap call decide how a request is run.
//
// Each task ends with one [Outcome] out of a closed list. Only [OutcomeOK] and
// [OutcomePartlyDenied] are completed; a refusal, an error of the API, a broken
// answer or a silent process never passes for success. A task that has not
// completed comes with a [*TaskError], and with its result all the same.
//
// A slot is a place for one process. Between two tasks the process is reset,
// and the reset is proven: a new session, no job in the background, the settings
// as they should be. What cannot be proven means another process. So a task sees
// nothing of the one before it, unless it asked to continue it ([Session]).
// Files are shared, as all slots of a pool work in the directory they are given.
//
// Slots may read and not write unless you say otherwise: the default is the
// CLI's plan mode. [PoolBuilder.PermissionMode] with
// [github.com/claudepool/claudepool/claude.PermissionAcceptEdits] lets them edit,
// and [PoolBuilder.Permission] answers what the mode leaves open.
//
// With a budget, money is reserved before a task starts, over all slots, so that
// many tasks at once do not overshoot it ([BudgetExhausted]).
//
// When a process dies in the middle of a task, the task goes on in its session
// or starts anew ([CrashPolicy]): side effects of the interrupted attempt may
// happen twice.
//
// The truth is in a [PoolStore]. [MemoryStore] is the default and ends with the
// program; package storetest says what any other must do.
//
// Package mcp serves a pool to MCP clients, package claude drives a single
// process, and package claudetest has a stand-in for the CLI, with which all of
// this can be tried and tested without an account. [NewPoolBuilder] is where to
// start.
package claudepool
