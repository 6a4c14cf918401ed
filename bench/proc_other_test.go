//go:build !linux

package bench_test

import (
	"testing"
	"time"
)

// cpuTime skips: this system does not tell.
func cpuTime(tb testing.TB, _ int) time.Duration {
	tb.Helper()
	tb.Skip("the CPU time of another process is known on Linux only")
	return 0
}

// commandLine skips as well.
func commandLine(tb testing.TB, _ int) string {
	tb.Helper()
	tb.Skip("the arguments of another process are known on Linux only")
	return ""
}
