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

func TestP13WorkInTheCheckoutKeepsToItsMode(t *testing.T) {
	t.Parallel()
	f := setup(t, places(t, claude.PermissionAcceptEdits), mcp.Options{MaxSharedMode: claude.PermissionPlan})
	steps := []any{args{"name": "a", "value": "mode"}}
	plan := args{"permission_mode": "plan"}
	planned := []any{args{"name": "a", "value": "mode", "overrides": plan}}
	f.call(t, "pool_skill_add", args{"name": "looks", "description": "d", "prompt": "mode", "config": plan})
	f.call(t, "pool_skill_add", args{"name": "writes", "description": "d", "prompt": "mode"})
	for name, c := range map[string]struct {
		tool    string
		in      args
		refused bool
	}{
		"the slots' mode":          {"pool_run", args{"prompt": "mode", "isolation": "none"}, true},
		"in a place":               {"pool_run", args{"prompt": "mode"}, false},
		"a mode that only reads":   {"pool_run", args{"prompt": "mode", "isolation": "none", "overrides": plan}, false},
		"a looser mode":            {"pool_submit", args{"prompt": "mode", "isolation": "none", "overrides": args{"permission_mode": "default"}}, true},
		"fan-out":                  {"pool_fan_out", args{"prompts": []any{"mode"}, "isolation": "none"}, true},
		"chain":                    {"pool_chain", args{"steps": steps, "isolation": "none"}, true},
		"chain in places":          {"pool_chain", args{"steps": steps}, false},
		"chain that only reads":    {"pool_chain", args{"steps": planned, "isolation": "none"}, false},
		"chains":                   {"pool_fan_out_chains", args{"chains": []any{steps}, "isolation": "none"}, true},
		"skill":                    {"pool_skill_run", args{"skill": "writes", "isolation": "none"}, true},
		"skill that only reads":    {"pool_skill_run", args{"skill": "looks", "isolation": "none"}, false},
		"request that is routed":   {"pool_auto", args{"prompt": "auto single mode", "isolation": "none"}, true},
		"task that is looked over": {"pool_submit_with_review", args{"prompt": "mode", "isolation": "none"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			if !c.refused {
				f.call(t, c.tool, c.in)
				return
			}
			msg := f.refused(t, c.tool, c.in)
			for _, want := range []string{"isolation", "none", "overrides.permission_mode", "--permission-mode"} {
				if !strings.Contains(msg, want) {
					t.Errorf("%q does not name %s", msg, want)
				}
			}
		})
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
