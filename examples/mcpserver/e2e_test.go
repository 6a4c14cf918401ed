package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/claudepool/claudepool/claudetest"
)

// coordinator prepares a real session of the CLI whose model and whose slots'
// model are api, and which starts this program as its MCP server. mark is in
// the environment of the server and of all it starts.
func coordinator(t *testing.T, cli string, api *claudetest.API, slots int, args ...string) (cmd *exec.Cmd, mark string) {
	t.Helper()
	iso := claudetest.Isolate(t, api)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config, err := json.Marshal(map[string]any{"mcpServers": map[string]any{"pool": map[string]any{
		"command": self,
		"args":    []string{"--slots", fmt.Sprint(slots), "--claude", cli, "--model", "claude-sonnet-5"},
		"env":     map[string]string{envMain: "1", "TMPDIR": dir, "CLAUDEPOOL_STATE_DIR": filepath.Join(dir, "state")},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.CommandContext(t.Context(), cli, append([]string{"-p", "--model", "claude-sonnet-5",
		"--mcp-config", string(config), "--strict-mcp-config", "--tools", "", "--allowedTools", "mcp__pool"}, args...)...)
	cmd.Dir, cmd.Env = iso.Dir, append(iso.Environ(), "ENABLE_TOOL_SEARCH=false")
	return cmd, "TMPDIR=" + dir
}

// isCoordinator tells the coordinator's requests from those of slots.
func isCoordinator(r *claudetest.Request) bool {
	return slices.ContainsFunc(r.ToolNames(), func(n string) bool { return strings.HasPrefix(n, "mcp__pool") })
}

// A real session of the CLI is the coordinator and calls pool_fan_out of the
// server that it has started, whose slots are real processes of the CLI too.
func TestRealCoordinatorFansOutOverRealSlots(t *testing.T) {
	t.Parallel()
	cli := claudetest.CLI(t)
	var prompts, want []string
	for i := range 6 {
		prompts = append(prompts, fmt.Sprintf("question %d", i))
		want = append(want, fmt.Sprintf("answer to question %d", i))
	}
	api := claudetest.NewAPI(t, func(r *claudetest.Request) claudetest.Reply {
		switch {
		case !isCoordinator(r):
			n := slices.Index(prompts, r.Prompt) // the later questions are answered first
			return claudetest.Text("answer to " + r.Prompt).After(time.Duration(6-n) * 50 * time.Millisecond)
		case r.Round == 0:
			return claudetest.ToolUse("mcp__pool__pool_fan_out", map[string]any{"prompts": prompts})
		default:
			return claudetest.Text("the pool said: " + r.Results[0].Content)
		}
	})
	cmd, mark := coordinator(t, cli, api, 3, "--output-format", "json", "--", "ask the pool")
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
		if slices.Contains(prompts, r.Prompt) {
			sessions[r.SessionID] = true
			if isCoordinator(r) {
				t.Errorf("a slot has the tools of the pool that it belongs to: %v", r.ToolNames())
			}
		}
	}
	if len(sessions) != len(prompts) {
		t.Errorf("the slots used %d sessions for %d tasks; each must have one of its own", len(sessions), len(prompts))
	}
	(&server{mark: mark}).noneLeft(t, 5*time.Second)
}

// The CLI gives up on a call; the work goes on, and its result is found again.
func TestP11_RealCoordinatorThatRunsOutOfPatienceLosesNothing(t *testing.T) {
	t.Parallel()
	cli := claudetest.CLI(t)
	answer := make(chan struct{}) // closed when the slot may answer
	id := regexp.MustCompile(`task-[0-9a-z]+`)
	api := claudetest.NewAPI(t, func(r *claudetest.Request) claudetest.Reply {
		if !isCoordinator(r) {
			return claudetest.Text("worth waiting for").Gate(answer)
		}
		switch r.Round {
		case 0:
			return claudetest.ToolUse("mcp__pool__pool_run", map[string]any{"prompt": "think hard"})
		case 1:
			if got := r.Results[0].Content; !strings.Contains(got, "timed out") {
				t.Errorf("pool_run was answered: %s", got)
			}
			return claudetest.ToolUse("mcp__pool__pool_list_tasks", map[string]any{"state": "running"})
		case 2:
			close(answer)
			return claudetest.ToolUse("mcp__pool__pool_wait", map[string]any{"task_ids": []string{id.FindString(r.Results[0].Content)}, "timeout_secs": 2})
		default:
			return claudetest.Text(r.Results[0].Content)
		}
	})
	cmd, mark := coordinator(t, cli, api, 1, "--", "ask the pool")
	cmd.Env = append(cmd.Env, "MCP_TOOL_TIMEOUT=4000")
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("worth waiting for")) {
		t.Errorf("%v: %s", err, out)
	}
	(&server{mark: mark}).noneLeft(t, 5*time.Second)
}

// A person interrupts the coordinator; the task that it waits for is cancelled.
func TestP11_RealCoordinatorThatIsInterruptedCancels(t *testing.T) {
	t.Parallel()
	cli := claudetest.CLI(t)
	api := claudetest.NewAPI(t, func(r *claudetest.Request) claudetest.Reply {
		if !isCoordinator(r) {
			return claudetest.Hang()
		}
		return claudetest.ToolUse("mcp__pool__pool_run", map[string]any{"prompt": "think hard"})
	})
	cmd, mark := coordinator(t, cli, api, 1, "--input-format", "stream-json", "--output-format", "stream-json", "--verbose")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out syncBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	say := func(line string) {
		t.Helper()
		if _, err := fmt.Fprintln(stdin, line); err != nil {
			t.Fatal(err)
		}
	}
	say(`{"type":"user","message":{"role":"user","content":"ask the pool"}}`)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	asked, err := api.Wait(ctx, func(r *claudetest.Request) bool { return !isCoordinator(r) && r.Prompt == "think hard" })
	if err != nil {
		t.Fatalf("no slot was asked: %v\n%s", err, &out)
	}
	say(`{"type":"control_request","request_id":"1","request":{"subtype":"interrupt"}}`)
	select {
	case <-asked.Done():
	case <-ctx.Done():
		t.Errorf("the slot works on\n%s", &out)
	}
	stdin.Close()
	cmd.Wait() // its exit code is no matter of ours
	(&server{mark: mark}).noneLeft(t, 5*time.Second)
}

// A chain whose second step sees what the first one gave, in real processes.
func TestRealCoordinatorRunsAChain(t *testing.T) {
	t.Parallel()
	cli := claudetest.CLI(t)
	api := claudetest.NewAPI(t, func(r *claudetest.Request) claudetest.Reply {
		switch {
		case !isCoordinator(r):
			return claudetest.Text("<" + r.Prompt + ">")
		case r.Round == 0:
			return claudetest.ToolUse("mcp__pool__pool_chain", map[string]any{"steps": []map[string]any{
				{"name": "plan", "value": "plan it"},
				{"name": "look", "type": "prompt", "value": "look at {previous_output}", "needs": []string{"plan"}},
				{"name": "end", "type": "skill", "value": "summarize", "arguments": map[string]any{"target": "{steps.look.output}"}, "needs": []string{"look"}},
			}})
		default:
			return claudetest.Text("the pool said: " + r.Results[0].Content)
		}
	})
	cmd, mark := coordinator(t, cli, api, 2, "--", "ask the pool")
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte(`"state":"completed"`)) || bytes.Count(out, []byte("look at <plan it>")) < 2 {
		t.Errorf("%v: %s", err, out)
	}
	(&server{mark: mark}).noneLeft(t, 5*time.Second)
}

// A skill of the server is a command of the session.
func TestRealCoordinatorUsesASkillAsAPrompt(t *testing.T) {
	t.Parallel()
	cli := claudetest.CLI(t)
	api := claudetest.NewAPI(t, func(r *claudetest.Request) claudetest.Reply {
		return claudetest.Text("asked: " + r.Prompt)
	})
	cmd, mark := coordinator(t, cli, api, 1, "--", "/mcp__pool__chain_watcher task-0123")
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("Follow the chain task-0123 until it has ended.")) {
		t.Errorf("%v: %s", err, out)
	}
	(&server{mark: mark}).noneLeft(t, 5*time.Second)
}
