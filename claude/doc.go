// Package claude drives one process of the Claude CLI over its stream-json
// protocol.
//
// A process is started once and then serves one prompt after another:
//
//	p, err := claude.Start(ctx, claude.Options{Dir: "/src/project"})
//	if err != nil {
//		return err
//	}
//	defer p.Close(context.Background())
//	r, err := p.Turn(ctx, claude.Prompt{Text: "What does this project do?"}, nil)
//
// [Process.Turn] returns the one truthful [Result] of its prompt, and passes on
// what happens meanwhile as typed [Event] values. Beware of [Result.IsError]: a
// failure of the API or of the agent is a result, not an error. An error means
// that there is no result to trust: the context ended, or the process did.
//
// # Safe by default
//
// The zero [Options] start "claude" from PATH in plan mode, which reads and
// does not write, with the tools of [DefaultTools], and refuse at once what
// would have to be asked. To let a process edit files, set PermissionMode to
// [PermissionAcceptEdits], or answer its questions with [Options.Permission].
//
// The environment is sealed ([Environment]): a process gets what it needs to
// run and to log in, and nothing that marks a session around this program.
// MCP servers are those of [Settings.MCPServers] and [Options.Servers] alone.
// Nothing secret stands in arguments, errors or traces.
//
// # Many tasks, one process
//
// Between two tasks, [Process.Reset] makes the process as good as new and
// proves it, in a fraction of the time of a start: a new session, no cost, no
// task in the background, no other process, the settings as wanted. What it
// cannot prove it refuses ([ResetError]). Which tasks can share a process is
// told by [Options.LaunchKey]; what a live process can change is in [Settings].
// A [Spare] is started ahead and takes directory and prompts when it is
// claimed.
//
// # Ends
//
// [Process.Close] ends everything that the process has started, and must be
// called also when the process died. When this program dies, even by SIGKILL, its
// processes are ended too (on Linux completely, on macOS by process groups).
//
// # Versions
//
// The CLI must be 2.1.240 or newer; resets need 2.1.280 and spares 2.1.299.
// [Probe] tells what a CLI can do, and refuses what is too old with a
// [*VersionError]. Before 2.1.280 a resumed session forgets its system prompt
// and the CLI expands "@path" in every prompt.
package claude
