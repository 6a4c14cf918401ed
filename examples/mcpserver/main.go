// Mcpserver serves a pool of Claude CLI processes to an MCP client over stdio:
// an interactive Claude session, as the coordinator, hands tasks to the slots
// and gets their results back.
//
// To try it without an account, with a stand-in for the CLI behind the slots:
//
//	go install github.com/claudepool/claudepool/examples/mcpserver@latest
//	claude mcp add pool -- mcpserver -demo
//
// To work with it, put it into .mcp.json in the folder of your project:
//
//	{
//	  "mcpServers": {
//	    "claudepool": {
//	      "command": "mcpserver",
//	      "args": ["--slots", "3", "--budget-usd", "5", "--permission-mode", "acceptEdits"]
//	    }
//	  }
//	}
//
// Without flags there are two slots in plan mode, which only read, but for tools
// that a task or a skill allows by name, and no limit to what they may spend. Tasks cannot ask for a looser permission mode
// than --permission-mode, nor for more money than --budget-usd. Slots load the
// MCP servers of --mcp-config and no others.
//
// With --store FILE tasks, results and what was spent are in that file, and
// outlive the server: what a server was told to do and has not done, the next one
// on the file does, however the first one ended. A second server on the file is
// refused, unless both say --peer; then they share the queue.
//
// Skills and workflows are those that are built in (--no-builtins), those in
// .claude-pool of your home folder (--no-global-skills) and of the project
// (--no-project-skills; --skills-dir takes another folder of skills in its
// place), the last winning over the first. --disable-skill leaves some out. Each
// skill is a prompt of the server too, such as /mcp__claudepool__code_review in the
// Claude CLI. --toolsets serves some of the tools only.
//
// Standard output carries the protocol and nothing else; the log goes to
// standard error. The first SIGINT or SIGTERM, or the end of standard input,
// drains the pool: it takes no more work, and what runs has --drain-timeout to
// finish. With --store, what does not make it goes back to the queue, and standard
// error says how much that was. A second signal ends the program at once; one
// of SIGINT and SIGTERM that follows the other within a second does not count,
// for that is how the Claude CLI ends a server. However it ends, no process
// of a slot outlives it. The exit code is 0 after a drain, 2 when a flag has a
// bad value, 1 when the pool could not start or end well, and 130 after a second
// signal.
//
// All flags: mcpserver -help.
package main

import (
	"os"

	"github.com/claudepool/claudepool/claudetest"
)

func main() {
	claudetest.Main() // does not return when this program is started as its own stand-in
	os.Exit(run(os.Args[1:], os.Stdin, takeStdout(), os.Stderr))
}

// takeStdout returns standard output. Whatever prints to it by mistake from now
// on goes to standard error, and does not reach the client.
func takeStdout() *os.File {
	stdout := os.Stdout
	os.Stdout = os.Stderr
	return stdout
}
