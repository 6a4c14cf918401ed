//go:build linux

package proctree_test

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/claudepool/claudepool/internal/proctree"
)

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*exec.Cmd, *proctree.Options)
		want   string
	}{
		{"no environment", func(c *exec.Cmd, _ *proctree.Options) { c.Env = nil }, "set Env"},
		{"stdin", func(c *exec.Cmd, _ *proctree.Options) { c.Stdin = strings.NewReader("") }, "leave Stdin"},
		{"stdout", func(c *exec.Cmd, _ *proctree.Options) { c.Stdout = io.Discard }, "leave Stdin"},
		{"attributes", func(c *exec.Cmd, _ *proctree.Options) { c.SysProcAttr = &syscall.SysProcAttr{} }, "SysProcAttr"},
		{"context", func(c *exec.Cmd, _ *proctree.Options) { c.Cancel = func() error { return nil } }, "exec.Command"},
		{"grace", func(_ *exec.Cmd, o *proctree.Options) { o.Grace = -1 }, "negative"},
		{"no program", func(c *exec.Cmd, _ *proctree.Options) { c.Path = "/nonexistent/program" }, "/nonexistent/program"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cmd, o := command("polite"), proctree.Options{}
			c.change(cmd, &o)
			_, err := proctree.Start(t.Context(), cmd, o)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v; want an error with %q", err, c.want)
			}
		})
	}
}

func TestStartHeedsItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("changed my mind")
	cancel(why)
	if _, err := proctree.Start(ctx, command("polite"), proctree.Options{}); !errors.Is(err, why) {
		t.Errorf("got %v; want %v", err, why)
	}
}

func TestStartTwoFromOneCommand(t *testing.T) {
	t.Parallel()
	cmd := command("polite")
	tree, err := proctree.Start(t.Context(), cmd, patient)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Stdout.Close()
	defer tree.Stderr.Close()
	if _, err := proctree.Start(t.Context(), cmd, patient); err == nil {
		t.Error("a second tree was started from a command in use")
	}
	if err := tree.End(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

func TestMarkerReplacesAnInheritedOne(t *testing.T) {
	t.Parallel()
	cmd := command("deaf")
	cmd.Env = append(cmd.Env, proctree.EnvTree+"=other.tree", proctree.EnvTree+"=another.tree")
	tree, err := proctree.Start(t.Context(), cmd, quick)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Stdout.Close()
	defer tree.Stderr.Close()
	readPIDs(tree.Stdout)
	var markers []string
	for _, kv := range environ(t, tree.PID()) {
		if v, ok := strings.CutPrefix(kv, proctree.EnvTree+"="); ok {
			markers = append(markers, v)
		}
	}
	if len(markers) != 1 || strings.Contains(markers[0], "other") || strings.Count(markers[0], ".") != 1 {
		t.Errorf("markers %q; want one of the tree's own", markers)
	}
	if err := tree.End(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

func TestExit(t *testing.T) {
	t.Parallel()
	tree, _ := start(t, patient, "exit", "7")
	<-tree.Done()
	exit, ok := errors.AsType[*exec.ExitError](tree.Err())
	if !ok || exit.ExitCode() != 7 || tree.ExitCode() != 7 {
		t.Errorf("Err %v, ExitCode %d; want status 7", tree.Err(), tree.ExitCode())
	}
	if _, err := tree.RSS(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("RSS of a dead leader: %v; want os.ErrProcessDone", err)
	}
}

func TestOutputOutlivesTheLeader(t *testing.T) {
	t.Parallel()
	tree, _ := start(t, patient, "say", "all of it")
	<-tree.Done()
	if err := tree.End(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(tree.Stderr)
	if err != nil || string(out) != "all of it" {
		t.Errorf("read %q, %v", out, err)
	}
}

func TestWhileItRuns(t *testing.T) {
	t.Parallel()
	tree, pids := start(t, quick, "family", "child")
	if tree.PID() != pids[0] || tree.ExitCode() != -1 || tree.Err() != nil {
		t.Errorf("PID %d, ExitCode %d, Err %v; want %d, -1, nil", tree.PID(), tree.ExitCode(), tree.Err(), pids[0])
	}
	if n, err := tree.RSS(); err != nil || n < 1<<20 {
		t.Errorf("RSS %d, %v; want the megabytes of a Go program", n, err)
	}
	strays, err := tree.Strays()
	if err != nil || !slices.ContainsFunc(strays, func(p proctree.Proc) bool { return p.PID == pids[1] && p.PPID == pids[0] }) {
		t.Errorf("strays %v, %v; want child %d of %d", strays, err, pids[1], pids[0])
	}
}

func TestFreeMemory(t *testing.T) {
	t.Parallel()
	if n, err := proctree.FreeMemory(); err != nil || n < 1<<20 {
		t.Errorf("%d, %v; want the megabytes that this test needs itself", n, err)
	}
}
