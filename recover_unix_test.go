//go:build unix

package claudepool_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claudetest"
)

// lives reports whether there is such a process that is no zombie.
func lives(t *testing.T, pid int) bool {
	t.Helper()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("needs /proc")
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	state := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))[0]
	return state != "Z" && state != "X"
}

// watchdogs returns the pids of the watchdogs of a host.
func watchdogs(t *testing.T, host int) []int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(files) == 0 {
		t.Skip("needs /proc")
	}
	var pids []int
	for _, f := range files {
		args, err := os.ReadFile(f)
		if err != nil || !strings.Contains(string(args), "\x00claudepool-watchdog\x00") {
			continue
		}
		dir := filepath.Dir(f)
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err == nil && strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))[1] == strconv.Itoa(host) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestP7P1AKilledProgramIsSucceededAtOnce kills a program and all that watches
// over its processes. The next pool on the file ends what is left, takes over,
// resumes the conversations, and pays no finished step again.
func TestP7P1AKilledProgramIsSucceededAtOnce(t *testing.T) {
	t.Parallel()
	c := newHost(t)
	c.Running, c.Ended = 2, 1
	// The first answers nothing while the host lives; each leaves a process in
	// a session of its own behind.
	c.Env[claudetest.EnvStandInFaults] = "escape:1h"
	c.Tasks = []claudepool.Task{{Prompt: "a long task"}}
	c.Chain = &claudepool.Chain{Steps: []claudepool.ChainStep{prompt("a", "[[reply:one]]"), prompt("b", "after {previous_output}")}}
	host, was := c.start(t)
	mark := c.Config // in the environment of all processes of the host's slots
	dogs := watchdogs(t, host.Process.Pid)
	for _, dog := range dogs { // else it strikes before its own death
		syscall.Kill(dog, syscall.SIGSTOP)
	}
	kill(host)
	for _, dog := range dogs {
		syscall.Kill(dog, syscall.SIGKILL)
	}
	left := processesWith(t, mark)
	if len(dogs) != 1 || len(left) < 2 {
		t.Fatalf("watchdogs %v, and %v live on: the host died too well to show anything", dogs, left)
	}

	s := c.openStore(t)
	p := c.quick(t).succeed(t, s, -1) // no pass of the supervisor helps
	for _, pid := range left {
		if n, err := strconv.Atoi(pid); err != nil || lives(t, n) {
			t.Errorf("process %s of the dead host is still there (%v)", pid, err)
		}
	}
	for _, before := range was.Tasks {
		res := wait(t, p, before.ID)
		r := record(t, s, before.ID)
		attempts, err := p.Attempts(t.Context(), before.ID)
		if err != nil || res.Outcome != claudepool.OutcomeOK {
			t.Fatalf("%s ended %s (%v)", before.ID, res.Outcome, err)
		}
		if before.State != claudepool.StateRunning {
			if len(attempts) != 1 || r.Fence != before.Fence {
				t.Errorf("the finished step has %d attempts, want the one that there was", len(attempts))
			}
			continue
		}
		if len(attempts) != 2 || attempts[0].Outcome != claudepool.OutcomeLost || r.Crashes != 1 {
			t.Fatalf("%s has the attempts %+v and %d crashes; want a lost one, then another", before.ID, attempts, r.Crashes)
		}
		if at, lease := attempts[0].Ended, before.Claim.Lease; !at.Before(lease) {
			t.Errorf("%s was taken over at %v, not before its lease ended at %v", before.ID, at, lease)
		}
		if attempts[1].SessionID != before.Claim.SessionID {
			t.Errorf("%s went on in session %s, want %s", before.ID, attempts[1].SessionID, before.Claim.SessionID)
		}
	}
	if r, err := p.WaitChain(t.Context(), was.Chain); err != nil || r.Steps[0].Output != "one" || r.Steps[1].State != claudepool.StepCompleted {
		t.Errorf("WaitChain = %+v, %v", r, err)
	}
}

// expire makes the claims of a program that cannot extend them run out.
func expire(t *testing.T, s claudepool.PoolStore, tasks []claudepool.TaskRecord) {
	t.Helper()
	for _, r := range tasks {
		ref := claudepool.ClaimRef{Task: r.ID, Fence: r.Fence}
		if err := s.Extend(context.WithoutCancel(t.Context()), ref, time.Now().Add(-time.Second), 0); err != nil {
			t.Fatal(err)
		}
	}
}

// TestP3AProgramThatHangsIsEndedBeforeItIsSucceeded stops a program that shares
// its store. The other pool ends the process that works on the claimed task,
// nothing else of the program, and then runs the task; when the program wakes up
// it finds that it has lost the claim, and goes on with other work.
func TestP3AProgramThatHangsIsEndedBeforeItIsSucceeded(t *testing.T) {
	t.Parallel()
	c := newHost(t)
	c.Shared, c.Running = true, 1
	c.Tasks = []claudepool.Task{{Prompt: "a long task"}}
	host, was := c.start(t)
	s := c.openStore(t)
	task := was.Tasks[0]
	at := slices.IndexFunc(was.Slots, func(s claudepool.SlotStatus) bool { return s.ID == task.Claim.SlotID })
	busy, idle := was.Slots[at].PID, was.Slots[1-at].PID
	if len(was.Slots) != 2 || !lives(t, busy) || !lives(t, idle) {
		t.Fatalf("slots of the host: %+v; want two that live", was.Slots)
	}
	if err := host.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	expire(t, s, was.Tasks)
	p := c.quick(t).succeed(t, s, 0)
	if r := record(t, s, task.ID); r.Fence != task.Fence || !lives(t, busy) {
		t.Fatalf("the claim was taken over when it was first seen to have run out: %+v", r)
	}
	res := wait(t, p, task.ID)
	if res.Outcome != claudepool.OutcomeOK || lives(t, busy) {
		t.Errorf("ended %s, and the process that had it lives: %t; want ok, false", res.Outcome, lives(t, busy))
	}
	if !lives(t, idle) || !lives(t, host.Process.Pid) {
		t.Error("the host or its other slot was ended too")
	}
	ended := record(t, s, task.ID)
	if err := host.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	// The host is good for other work.
	p.Pause()
	next := submit(t, p, claudepool.Task{Prompt: "[[reply:next]]"})
	if r := wait(t, p, next); r.Outcome != claudepool.OutcomeOK {
		t.Errorf("the next task ended %s in the host that woke up", r.Outcome)
	}
	if r := record(t, s, task.ID); r.State != ended.State || r.Fence != ended.Fence || r.Result.Output != ended.Result.Output {
		t.Errorf("the host has changed a task that was over: %+v, was %+v", r, ended)
	}
}
