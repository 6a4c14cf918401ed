//go:build unix

package claudetest

import (
	"context"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// detach gives cmd a session of its own, as the CLI does with its shells.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }

// killGroup ends a detached command and its children.
func killGroup(cmd *exec.Cmd) { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

// runGroup runs a detached command. The end of ctx asks its group to end, and
// kills it a second later.
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
	syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
	select {
	case err := <-done:
		return err
	case <-time.After(time.Second):
	}
	killGroup(cmd)
	return <-done
}

// die ends this process as a crash would: without a word.
func die() {
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}
