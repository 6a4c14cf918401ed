//go:build linux

package proctree_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claudepool/claudepool/internal/proctree"
)

// hostProgram is a program that has started trees.
type hostProgram struct {
	cmd      *exec.Cmd
	dir      string // its registry
	pids     []int  // of all it started, without itself
	watchdog int
}

func startHost(t *testing.T, dir string, args ...string) hostProgram {
	t.Helper()
	h := hostProgram{cmd: command("host", args...), dir: dir}
	h.cmd.Env = append(h.cmd.Env, "CLAUDEPOOL_STATE_DIR="+dir)
	h.cmd.Stderr = os.Stderr
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.kill)
	h.pids = readPIDs(out)[1:]
	slices.Sort(h.pids)
	h.pids = slices.Compact(h.pids)
	for _, pid := range h.pids {
		if isWatchdog(pid) {
			h.watchdog = pid
		}
	}
	if left := living(h.pids); h.watchdog == 0 || len(left) != len(h.pids) {
		t.Fatalf("watchdog %d, alive %v of %v", h.watchdog, left, h.pids)
	}
	return h
}

// kill ends the host as kill -9 does, and reaps it.
func (h hostProgram) kill() {
	h.cmd.Process.Kill()
	h.cmd.Wait()
}

// killWithWatchdog leaves the trees of the host to Recover.
func (h hostProgram) killWithWatchdog() {
	syscall.Kill(h.watchdog, syscall.SIGSTOP) // else it strikes before its own death
	h.kill()
	syscall.Kill(h.watchdog, syscall.SIGKILL)
}

func isWatchdog(pid int) bool {
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && bytes.Contains(args, []byte("\x00claudepool-watchdog\x00"))
}

func environ(t *testing.T, pid int) []string {
	t.Helper()
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(env), "\x00"), "\x00")
}

// runRecover runs Recover in a program of its own.
func runRecover(t *testing.T, dir string) recovery {
	t.Helper()
	cmd := command("recover")
	cmd.Env = append(cmd.Env, "CLAUDEPOOL_STATE_DIR="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var r recovery
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

var everyKind = []string{"deaf", "child", "unmarked", "holder", "setsid", "daemon"}

func TestP7HostKilled(t *testing.T) {
	t.Parallel()
	h := startHost(t, t.TempDir(), everyKind...)
	h.kill()
	waitGone(t, h.pids)
	// The record is of no more use, and the next pool clears it away.
	if r := runRecover(t, h.dir); r.Err != "" || len(r.Recovered) > 0 {
		t.Errorf("recovered %+v; want nothing", r)
	}
	if left, _ := filepath.Glob(h.dir + "/*"); len(left) > 0 {
		t.Errorf("left in the registry: %v", left)
	}
}

func TestP7HostAndWatchdogKilled(t *testing.T) {
	t.Parallel()
	h := startHost(t, t.TempDir(), everyKind...)
	h.killWithWatchdog()
	r := runRecover(t, h.dir)
	if left := living(h.pids); r.Err != "" || len(left) > 0 {
		t.Errorf("recovered %+v, left %v; want nothing left", r, left)
	}
	if len(r.Recovered) != 1 || r.Recovered[0].Host != h.cmd.Process.Pid || len(r.Recovered[0].Procs) != len(h.pids)-1 {
		t.Errorf("recovered %+v; want all but the watchdog of %v", r, h.pids)
	}
	if left, _ := filepath.Glob(h.dir + "/*"); len(left) > 0 {
		t.Errorf("left in the registry: %v", left)
	}
}

func TestP7HostsDoNotDisturbEachOther(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := startHost(t, dir, "setsid", "child")
	second := startHost(t, dir, "setsid", "child")
	first.killWithWatchdog()
	if r := runRecover(t, dir); r.Err != "" || len(r.Recovered) != 1 {
		t.Errorf("recovered %+v; want the first host", r)
	}
	if left := living(first.pids); len(left) > 0 {
		t.Errorf("left of the first host: %v", left)
	}
	if left := living(second.pids); len(left) != len(second.pids) {
		t.Errorf("left of the second host: %v; want all of %v", left, second.pids)
	}
	second.kill()
	waitGone(t, second.pids)
}

func TestWatchdogHoldsNothing(t *testing.T) {
	t.Parallel()
	cmd := command("host", "setsid")
	cmd.Env = append(cmd.Env, "CLAUDEPOOL_STATE_DIR="+t.TempDir(), proctree.EnvTree+"=outer.tree")
	r, w, err := os.Pipe() // an open file that the host inherits and passes on
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	cmd.ExtraFiles = []*os.File{w}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pids := readPIDs(out)
	i := slices.IndexFunc(pids, isWatchdog)
	if i < 0 {
		t.Fatal("no watchdog")
	}
	for _, kv := range environ(t, pids[i]) {
		if strings.HasPrefix(kv, proctree.EnvTree) {
			t.Errorf("the watchdog has %s: it would be ended with the tree that its host is in", kv)
		}
	}
	proc := fmt.Sprintf("/proc/%d/", pids[i])
	fds, err := filepath.Glob(proc + "fd/*")
	if err != nil || len(fds) != 3 {
		t.Errorf("open files %v, %v; want 0, 1 and 2", fds, err)
	}
	if cwd, err := os.Readlink(proc + "cwd"); err != nil || cwd != "/" {
		t.Errorf("it works in %s, %v; want /", cwd, err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	waitGone(t, pids)
}

// A program that had trees has no process left, and no file.
func TestWatchdogEndsWithTheLastTree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := command("cycle")
	cmd.Env = append(cmd.Env, "CLAUDEPOOL_STATE_DIR="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func TestWatchdogIsReplaced(t *testing.T) {
	t.Parallel()
	h := startHost(t, t.TempDir(), "deaf", "setsid")
	var pids []int
	for round := range 2 {
		// One that died young is replaced only by the next Start.
		time.Sleep(1100 * time.Millisecond)
		syscall.Kill(h.watchdog, syscall.SIGKILL)
		old := h.watchdog
		deadline := time.Now().Add(20 * time.Second)
		for h.watchdog == old {
			if time.Now().After(deadline) {
				t.Fatalf("round %d: no other watchdog", round)
			}
			if i := slices.IndexFunc(children(h.cmd.Process.Pid), func(pid int) bool { return pid != old && isWatchdog(pid) }); i >= 0 {
				h.watchdog = children(h.cmd.Process.Pid)[i]
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	pids = append(h.pids, h.watchdog)
	h.kill()
	waitGone(t, pids)
}

func TestNoRegistryNoTree(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open := t.TempDir()
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Join(file, "dir"), open, "relative"} {
		cmd := command("cycle")
		cmd.Env = append(cmd.Env, "CLAUDEPOOL_STATE_DIR="+dir)
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), dir) || !strings.Contains(string(out), "CLAUDEPOOL_STATE_DIR") {
			t.Errorf("%s: %v, %s; want an error that names the folder and the remedy", dir, err, out)
		}
	}
}
