package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claudetest"
	"github.com/claudepool/claudepool/worktree"
)

// sh runs a script in a folder and returns what it prints.
func sh(t *testing.T, dir, script string) string {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_SYSTEM="+os.DevNull)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// A coordinator merges what real agents have written in places of their own, sends a
// conflict back to the session that it comes from, and gets back what was on no branch.
func TestRealIsolatedWorkIsMergedAndRecovered(t *testing.T) {
	t.Parallel()
	cli := claudetest.CLI(t)
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git: ", err)
	}
	repo := t.TempDir()
	sh(t, repo, `git init -q -b main; git config user.name Person; git config user.email person@example.com; seq 9 >list.txt; git add .; git commit -qm begin`)
	bash := claudetest.ToolUse("Bash", map[string]any{"command": `sed -i -e '/^<<<<<<<\|^=======\|^>>>>>>>/d' list.txt`, "description": "take both"})
	api := claudetest.NewAPI(t, claudetest.Match(claudetest.When("Resolve each conflict", bash, claudetest.Text("resolved"))))
	s := start(t, claudetest.Isolate(t, api).Environ(), "-n", "2", "--claude", cli, "--model", "claude-sonnet-5",
		"--worktree", "--working-dir", repo, "--merge-checked-out", "--merge-check", "grep -qx two list.txt")

	task := func(tool, command string, isolation ...string) claudepool.TaskID {
		t.Helper()
		in := map[string]any{"prompt": "[[bash:" + command + "]]", "overrides": map[string]any{"allowed_tools": []string{"Bash"}}}
		if len(isolation) > 0 {
			in["isolation"] = isolation[0]
		}
		return call[result](t, s.client, tool, in).TaskID
	}
	two := task("pool_run", "sed -i -e s/^2$/two/ list.txt")
	five := task("pool_submit", "sed -i -e s/^5$/five/ list.txt")
	other := task("pool_submit", "sed -i -e s/^5$/cinque/ list.txt; git commit -qam cinque", "worktree")
	stashed := task("pool_submit", "sed -i -e s/^9$/nine/ list.txt; git stash -q", "clone")
	outputs(t, s, two, five, other, stashed)

	type merged struct {
		worktree.MergeResult
		ResolvedBy claudepool.TaskID `json:"resolved_by"`
	}
	merge := func(id claudepool.TaskID, with ...string) merged {
		t.Helper()
		in := map[string]any{"task_id": id}
		for _, flag := range with {
			in[flag] = true
		}
		before := sh(t, repo, "git rev-parse main")
		m := call[merged](t, s.client, "pool_merge", in)
		if moved := sh(t, repo, "git rev-parse main") != before; moved != m.Merged || sh(t, repo, "git status --porcelain") != "" {
			t.Errorf("main has moved: %t, with the checkout at\n%s\nand pool_merge says %+v", moved, sh(t, repo, "git status"), m)
		}
		return m
	}
	if m := merge(two, "dry_run", "check"); m.Merged || !m.DryRun || m.Files != 1 || len(m.Conflicts) > 0 {
		t.Errorf("a dry run gives %+v, want a file that would be merged", m)
	}
	for _, id := range []claudepool.TaskID{two, five} {
		if m := merge(id, "check"); !m.Merged || m.Files != 1 {
			t.Errorf("pool_merge of %s gives %+v, want it merged", id, m)
		}
	}
	for _, with := range []string{"dry_run", "check"} {
		if m := merge(other, with); m.Merged || len(m.Conflicts) != 1 || m.Conflicts[0].Path != "list.txt" || !strings.Contains(m.Conflicts[0].Text, "cinque") {
			t.Errorf("pool_merge with %s gives %+v, want the conflict in list.txt", with, m)
		}
	}
	resolved := merge(other, "resolve").ResolvedBy
	outputs(t, s, resolved)
	session := func(id claudepool.TaskID) string {
		t.Helper()
		return call[claudepool.TaskResult](t, s.client, "pool_result", map[string]any{"task_id": id}).SessionID
	}
	if got, want := session(resolved), session(other); got != want || want == "" {
		t.Errorf("the conflict was resolved in session %q, not in %q which has written the work", got, want)
	}
	if m := merge(resolved, "check"); !m.Merged {
		t.Errorf("pool_merge of what was resolved gives %+v", m)
	}
	if got := sh(t, repo, "tr '\n' ' ' <list.txt"); got != "1 two 3 4 cinque five 6 7 8 9 " {
		t.Errorf("main has come to %q", got)
	}

	list := call[struct {
		Places     []worktree.PlaceInfo
		Recoveries []worktree.Recovery
		Removed    []worktree.Removal
	}](t, s.client, "pool_worktrees", map[string]any{"clean": true, "dry_run": true})
	kinds := map[worktree.Kind]int{}
	for _, p := range list.Places {
		if kinds[p.Kind]++; p.State != worktree.Ready || p.PID != s.cmd.Process.Pid || strings.HasPrefix(p.Path, repo) {
			t.Errorf("place %+v; want one outside of the checkout that waits for the next task", p)
		}
	}
	if kinds[worktree.Worktree] < 1 || kinds[worktree.Worktree] > 2 || kinds[worktree.Clone] != 1 {
		t.Errorf("there are the places %v, want a worktree for a slot and one clone", kinds)
	}
	if len(list.Removed) == 0 || sh(t, repo, "git branch --list 'claude-pool/*'") == "" {
		t.Errorf("a dry run of the clean-up would remove %+v; want the merged branches, and that they stay", list.Removed)
	}
	if len(list.Recoveries) != 1 || list.Recoveries[0].Work != string(stashed) {
		t.Fatalf("recovery refs %+v, want one of the task that has stashed its work", list.Recoveries)
	}
	call[struct{}](t, s.client, "pool_recover", map[string]any{"ref": list.Recoveries[0].Ref, "branch": "rescued"})
	if got := sh(t, repo, "git show rescued:list.txt | tail -n 1"); got != "nine\n" {
		t.Errorf("the recovered branch ends in %q", got)
	}
	s.stop(t)
}
