package bench_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime returns the CPU time that a process has used, with that of the
// children it has waited for.
func cpuTime(tb testing.TB, pid int) time.Duration {
	tb.Helper()
	// The CPU clock of another process counts nanoseconds, where its stat file
	// counts ticks of 10 ms. This is its number, as clock_getcpuclockid makes it.
	const scheduler = 2
	var own unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduler), &own); err != nil {
		tb.Fatalf("CPU clock of process %d: %v", pid, err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		tb.Fatal(err)
	}
	const cutime = 13 // counted after the name, which may hold anything
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	var user, system int64
	if _, err := fmt.Sscan(f[cutime]+" "+f[cutime+1], &user, &system); err != nil {
		tb.Fatalf("/proc/%d/stat: %v in %q", pid, err, text)
	}
	const tick = 10 * time.Millisecond
	return time.Duration(own.Nano()) + time.Duration(user+system)*tick
}

// commandLine returns the arguments of a process.
func commandLine(tb testing.TB, pid int) string {
	tb.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		tb.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "\x00", " ")
}

func TestCPUTimeCountsThisProgram(t *testing.T) {
	before := cpuTime(t, os.Getpid())
	for n := 0; cpuTime(t, os.Getpid()) == before; n++ {
		if n > 1_000_000 {
			t.Fatal("CPU time stands still")
		}
	}
}
