// Command claude-standin is a stand-in for the Claude CLI: it speaks the same
// stream-json protocol, needs no account and no network, and does what the
// prompt tells it to. See the package claudetest for the prompt language and
// for the environment variables that make it misbehave.
package main

import (
	"os"

	"github.com/claudepool/claudepool/claudetest"
)

func main() {
	claudetest.Main() // for the children that some faults start
	os.Exit(claudetest.RunStandIn())
}
