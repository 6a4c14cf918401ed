package claudetest_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/claudepool/claudepool/claudetest"
)

// rss is the resident memory of a process in bytes.
func rss(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// tagged finds the processes that only hold, by the tag in their environment.
func tagged(t *testing.T, tag string) []int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, f := range files {
		env, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended meanwhile
		}
		if bytes.Contains(env, []byte(tag)) && bytes.Contains(env, []byte("=hold:")) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestFaultsLeaveChildrenBehind(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		fault  claudetest.Fault
		escape bool
	}{{claudetest.FaultHoldStdout, false}, {claudetest.FaultEscape, true}} {
		t.Run(string(tt.fault), func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, claudetest.StandInConfig{})
			tag := "TEST_TAG=" + t.Name()
			c := start(t, self(t), append(p.environ(), tag), p.dir, bypass...)
			pid := c.cmd.Process.Pid
			c.turn(id1, "[[fault:"+string(tt.fault)+"]]")
			pids := tagged(t, tag)
			if len(pids) != 1 {
				t.Fatalf("%d children", len(pids))
			}
			t.Cleanup(func() { syscall.Kill(pids[0], syscall.SIGKILL) })
			ours, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/1", pid))
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/1", pids[0]))
			if err != nil {
				t.Fatal(err)
			}
			if holds := ours == theirs; holds == tt.escape {
				t.Errorf("stdout of the child is %s, ours %s", theirs, ours)
			}
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pids[0]))
			if err != nil {
				t.Fatal(err)
			}
			_, after, _ := strings.Cut(string(stat), ") ")
			session := strings.Fields(after)[3]
			if own := session == strconv.Itoa(pids[0]); own != tt.escape {
				t.Errorf("session %s of child %d", session, pids[0])
			}
			c.ask("end_session", nil)
			if _, err := c.cmd.Process.Wait(); err != nil {
				t.Fatal(err)
			}
			if len(tagged(t, tag)) != 1 {
				t.Error("the child went with its parent")
			}
		})
	}
}
