package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// envInspector names the command line of the MCP inspector, the npm package
// @modelcontextprotocol/inspector. The Node that it needs is in the same folder.
const envInspector = "CLAUDEPOOL_TEST_INSPECTOR"

// inspect starts the program under the inspector's command line, lets it do one
// thing, and decodes what it prints.
func inspect[T any](t *testing.T, args ...string) T {
	t.Helper()
	inspector := os.Getenv(envInspector)
	if inspector == "" {
		t.Skipf("there is no MCP inspector: %s does not name one", envInspector)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	home := t.TempDir()
	cmd := exec.CommandContext(ctx, inspector, append([]string{
		"--cli", "-e", envMain + "=1", "-e", "TMPDIR=" + home, "-e", "CLAUDEPOOL_STATE_DIR=" + filepath.Join(home, "state"),
		os.Args[0], "-demo", "-n", "1", "--no-global-skills",
	}, args...)...)
	cmd.Dir = home
	cmd.Env = []string{"PATH=" + filepath.Dir(inspector) + ":" + os.Getenv("PATH"), "HOME=" + home}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %v\n%s%s", args, err, &stdout, &stderr)
	}
	var out T
	if err := json.Unmarshal(stdout.Bytes(), &out); err != nil {
		t.Fatalf("%v: %v\n%s%s", args, err, &stdout, &stderr)
	}
	return out
}

// Another implementation of the protocol than that of the other tests, and one
// that says what other clients may stumble over, sees all of the server.
func TestInspector(t *testing.T) {
	t.Parallel()
	type named struct{ Name, URI, URITemplate string }
	t.Run("tools", func(t *testing.T) {
		t.Parallel()
		got := inspect[struct{ Tools []named }](t, "--method", "tools/list", "--strict")
		for _, want := range []string{"pool_run", "pool_chain", "pool_skill_run", "pool_auto", "pool_approve_result", "pool_send_message", "pool_drain", "context_set"} {
			if !slices.ContainsFunc(got.Tools, func(n named) bool { return n.Name == want }) {
				t.Errorf("%s is missing", want)
			}
		}
	})
	for name, c := range map[string]struct {
		args   []string
		output string
	}{
		"a task":              {[]string{"--tool-name", "pool_run", "--tool-arg", "prompt=[[reply:hello]]"}, "hello"},
		"the newest protocol": {[]string{"--protocol-era", "modern", "--tool-name", "pool_run", "--tool-arg", "prompt=[[reply:hello]]"}, "hello"},
		"a chain":             {[]string{"--tool-name", "pool_chain", "--tool-arg", `steps=[{"name":"a","value":"[[reply:one]]"},{"name":"b","value":"[[reply:{previous_output} two]]"}]`}, "one two"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := inspect[struct {
				StructuredContent struct {
					State, Output string
					Success       bool
				}
			}](t, append([]string{"--method", "tools/call"}, c.args...)...)
			if s := got.StructuredContent; s.State != "completed" || !s.Success || s.Output != c.output {
				t.Errorf("got %+v, want %q", s, c.output)
			}
		})
	}
	t.Run("resources", func(t *testing.T) {
		t.Parallel()
		got := inspect[struct{ Resources []named }](t, "--method", "resources/list")
		if !slices.ContainsFunc(got.Resources, func(n named) bool { return n.URI == "pool://status" }) {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("templates", func(t *testing.T) {
		t.Parallel()
		got := inspect[struct{ ResourceTemplates []named }](t, "--method", "resources/templates/list")
		if !slices.ContainsFunc(got.ResourceTemplates, func(n named) bool { return n.URITemplate == "pool://chains/{task_id}" }) {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("a resource", func(t *testing.T) {
		t.Parallel()
		got := inspect[struct{ Contents []struct{ Text string } }](t, "--method", "resources/read", "--uri", "pool://status")
		if len(got.Contents) != 1 || !strings.Contains(got.Contents[0].Text, `"total_slots":1`) {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("prompts", func(t *testing.T) {
		t.Parallel()
		got := inspect[struct{ Prompts []named }](t, "--method", "prompts/list")
		if !slices.ContainsFunc(got.Prompts, func(n named) bool { return n.Name == "code_review" }) {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("a prompt", func(t *testing.T) {
		t.Parallel()
		got := inspect[struct {
			Messages []struct{ Content struct{ Text string } }
		}](t, "--method", "prompts/get", "--prompt-name", "chain_watcher", "--prompt-args", "task_id=task-0123")
		if len(got.Messages) != 1 || !strings.Contains(got.Messages[0].Content.Text, "Follow the chain task-0123") {
			t.Errorf("got %+v", got)
		}
	})
}
