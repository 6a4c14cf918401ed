package claudepool_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/worktree"
)

// isolate has a task work on a branch of its own, and merges that.
func isolate(ctx context.Context, repo string) error {
	pool, err := claudepool.NewPoolBuilder().Config(claudepool.PoolConfig{
		Slots: 4, WorkDir: repo, Isolation: claudepool.IsolationWorktree,
		Agent: claudepool.AgentConfig{PermissionMode: claude.PermissionAcceptEdits},
	}).Build(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()

	r, err := pool.Run(ctx, claudepool.Task{Prompt: "Make the parser accept trailing commas."})
	if err != nil {
		return err
	}
	fmt.Printf("%s has %d commits, %d files changed\n", r.Work.Branch, r.Work.Total, r.Work.Files)

	_, err = pool.MergeTask(ctx, r.TaskID, worktree.MergeRequest{
		Target: "main", Check: []string{"go", "test", "./..."},
		CheckedOut: worktree.FastForward, // a checkout of main moves along
	})
	var conflict *worktree.ConflictError
	if errors.As(err, &conflict) {
		// Back to the session that has written it, with the conflict in its files.
		_, err = pool.ResolveConflict(ctx, r.TaskID, conflict, "")
	}
	return err
}

func Example_isolation() {
	// An error of isolate is that of git, of the agent, or of the check.
	if err := isolate(context.Background(), "/path/to/repository"); err != nil {
		fmt.Println(err)
	}
}
