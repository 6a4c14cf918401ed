package mcp_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/mcp"
	"github.com/claudepool/claudepool/worktree"
)

// places is the configuration of a pool whose tasks have places of their own.
func places(t *testing.T, mode claude.PermissionMode) claudepool.PoolConfig {
	t.Helper()
	return claudepool.PoolConfig{
		WorkDir: repository(t), Isolation: claudepool.IsolationWorktree, Agent: claudepool.AgentConfig{PermissionMode: mode},
		Worktrees: worktree.Options{Home: filepath.Join(t.TempDir(), "home")},
	}
}

func TestAnswersSayWhatThereIsOfTheWork(t *testing.T) {
	t.Parallel()
	cfg := places(t, claude.PermissionAcceptEdits)
	f := setup(t, cfg, mcp.Options{})
	run := f.call(t, "pool_run", args{"prompt": "write new"})
	id := structured[report](t, run).TaskID
	if got, want := text(run), "branch claude-pool/"+string(id)+", 1 commits, 1 files, +1 -0; pool_merge brings it"; !strings.Contains(got, want) {
		t.Errorf("pool_run says %q, want %q in it", got, want)
	}
	chain := f.call(t, "pool_chain", args{"steps": []any{args{"name": "a", "value": "write more"}}})
	if got := text(chain); !strings.Contains(got, "- a completed, branch claude-pool/task-") || !strings.Contains(got, "pool_merge") {
		t.Errorf("pool_chain says %q, want the branch of the step, and pool_merge", got)
	}
	plain := f.call(t, "pool_run", args{"prompt": "say x", "isolation": "none"})
	if got := text(plain); strings.Contains(got, "branch") {
		t.Errorf("pool_run of a task without a branch says %q", got)
	}
}
