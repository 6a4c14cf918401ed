package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/claudepool/claudepool/claudetest"
)

// A real session of the CLI is the coordinator and calls pool_fan_out of the
// server that it has started, whose slots are real processes of the CLI too.
func TestRealCoordinatorFansOutOverRealSlots(t *testing.T) {
	t.Parallel()
	cli := claudetest.CLI(t)
	const tool = "mcp__pool__pool_fan_out"
	var prompts, want []string
	for i := range 6 {
		prompts = append(prompts, fmt.Sprintf("question %d", i))
		want = append(want, fmt.Sprintf("answer to question %d", i))
	}
	api := claudetest.NewAPI(t, func(r *claudetest.Request) claudetest.Reply {
		switch {
		case !slices.Contains(r.ToolNames(), tool): // a slot
			// The later questions are answered first.
			var n int
			fmt.Sscanf(r.Prompt, "question %d", &n)
			return claudetest.Text("answer to " + r.Prompt).After(time.Duration(6-n) * 50 * time.Millisecond)
		case r.Round == 0:
			return claudetest.ToolUse(tool, map[string]any{"prompts": prompts})
		default:
			return claudetest.Text("the pool said: " + r.Results[0].Content)
		}
	})
	iso := claudetest.Isolate(t, api)

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	mark := "TMPDIR=" + t.TempDir()
	_, tmp, _ := strings.Cut(mark, "=")
	config, err := json.Marshal(map[string]any{"mcpServers": map[string]any{"pool": map[string]any{
		"command": self,
		"args":    []string{"--slots", "3", "--claude", cli, "--model", "claude-sonnet-5"},
		"env":     map[string]string{envMain: "1", "TMPDIR": tmp, "CLAUDEPOOL_STATE_DIR": filepath.Join(tmp, "state")},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), cli, "-p", "--model", "claude-sonnet-5", "--output-format", "json",
		"--mcp-config", string(config), "--strict-mcp-config", "--tools", "", "--allowedTools", tool, "--", "ask the pool")
	cmd.Dir, cmd.Env = iso.Dir, append(iso.Environ(), "ENABLE_TOOL_SEARCH=false")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s%s", err, out, &stderr)
	}
	var last struct {
		Result  string
		IsError bool `json:"is_error"`
	}
	if err := json.Unmarshal(out, &last); err != nil || last.IsError {
		t.Fatalf("%s: %v", out, err)
	}
	t.Logf("the coordinator's model read: %s", last.Result)
	rest := last.Result
	for _, w := range want {
		_, after, found := strings.Cut(rest, w)
		if !found {
			t.Fatalf("%q is missing, or out of order, in: %s", w, last.Result)
		}
		rest = after
	}
	sessions := map[string]bool{}
	for _, r := range api.Requests() {
		if !slices.Contains(r.ToolNames(), tool) {
			sessions[r.SessionID] = true
			if slices.ContainsFunc(r.ToolNames(), func(n string) bool { return strings.HasPrefix(n, "mcp__pool") }) {
				t.Errorf("a slot has the tools of the pool that it belongs to: %v", r.ToolNames())
			}
		}
	}
	if len(sessions) != len(prompts) {
		t.Errorf("the slots used %d sessions for %d tasks; each must have one of its own", len(sessions), len(prompts))
	}
	(&server{mark: mark}).noneLeft(t, 5*time.Second)
}
