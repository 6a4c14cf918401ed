package mcp_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/mcp"
	"github.com/claudepool/claudepool/worktree"
)

// repository makes one with a commit.
func repository(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git: ", err)
	}
	dir := t.TempDir()
	script := "git init -q -b main && git config user.name P && git config user.email p@example.com && echo one >file && git add . && git commit -qm first"
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

func TestIsolatedWorkIsMerged(t *testing.T) {
	t.Parallel()
	repo := repository(t)
	cfg := claudepool.PoolConfig{WorkDir: repo, Worktrees: worktree.Options{Home: filepath.Join(t.TempDir(), "home")}}
	f := setup(t, cfg, mcp.Options{CheckedOut: worktree.FastForward, MergeCheck: []string{"test", "-f", "new"}})
	run := structured[map[string]any](t, f.call(t, "pool_run", args{"prompt": "write new", "isolation": "worktree"}))
	work, isWork := run["work"].(map[string]any)
	if !isWork || work["files_changed"] != 1.0 {
		t.Fatalf("pool_run gives the work %v", run["work"])
	}
	id := run["task_id"]
	dry := structured[map[string]any](t, f.call(t, "pool_merge", args{"task_id": id, "dry_run": true, "strategy": "squash", "check": true}))
	if dry["merged"] != false || dry["files_changed"] != 1.0 || dry["target"] != "main" {
		t.Errorf("a dry run of pool_merge gives %v", dry)
	}
	if got := structured[map[string]any](t, f.call(t, "pool_merge", args{"task_id": id})); got["merged"] != true {
		t.Errorf("pool_merge gives %v", got)
	}
	if _, err := os.Stat(filepath.Join(repo, "new")); err != nil {
		t.Errorf("the checkout of main was not moved forward: %v", err)
	}
	list := structured[map[string]any](t, f.call(t, "pool_worktrees", args{"clean": true, "dry_run": true}))
	if places, isList := list["places"].([]any); !isList || len(places) != 1 {
		t.Errorf("pool_worktrees gives %v, want one place", list)
	}
	failed := structured[map[string]any](t, f.call(t, "pool_submit", args{"prompt": "fail", "isolation": "worktree"}))["task_id"]
	f.call(t, "pool_wait", args{"task_ids": []any{failed}})
	if got := structured[map[string]any](t, f.call(t, "pool_merge", args{"task_id": failed})); !strings.Contains(fmt.Sprint(got["note"]), "failed") {
		t.Errorf("pool_merge of a task that has failed gives %v, want a note", got)
	}
	for tool, in := range map[string]args{
		"pool_merge":   {"task_id": id, "strategy": "octopus"},
		"pool_recover": {"ref": "refs/heads/main", "branch": "b"},
	} {
		if msg := f.refused(t, tool, in); msg == "" {
			t.Errorf("%s %v was not refused with a reason", tool, in)
		}
	}
	other := structured[map[string]any](t, f.call(t, "pool_run", args{"prompt": "say x"}))
	if msg := f.refused(t, "pool_merge", args{"task_id": other["task_id"]}); !strings.Contains(msg, "no branch") {
		t.Errorf("pool_merge of a task without isolation: %q", msg)
	}
}
