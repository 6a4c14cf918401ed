//go:build !unix

package claudetest

import (
	"context"
	"os"
	"os/exec"
)

// There are no sessions and groups here: only the command itself is ended.

func detach(*exec.Cmd) {}

func killGroup(cmd *exec.Cmd) { cmd.Process.Kill() }

func runGroup(ctx context.Context, cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	cmd.Process.Kill()
	return <-done
}

// die ends this process as a crash would: without a word.
func die() { os.Exit(137) }
