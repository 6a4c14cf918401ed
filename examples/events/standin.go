package main

import (
	"time"

	"github.com/claudepool/claudepool/claudetest"
)

// standIn does as it is told, a few words at a time.
func standIn(r *claudetest.Request) claudetest.Reply {
	done := claudetest.Text("That is done, as far as I was allowed to.").Chunks(12, 50*time.Millisecond)
	return claudetest.Match(
		claudetest.When("haiku", claudetest.ToolUse("Write", map[string]any{"file_path": "haiku.txt", "content": "first in is first out\n"}), done),
		claudetest.When("touch", claudetest.ToolUse("Bash", map[string]any{"command": "touch done.txt", "description": "Make a file"}), done),
	)(r)
}
