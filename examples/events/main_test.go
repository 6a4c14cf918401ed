package main

import (
	"os"
	"strings"
	"testing"

	"github.com/claudepool/claudepool/examples/internal/demotest"
)

func TestMain(m *testing.M) { demotest.Main(m, main, standIn) }

func check(t *testing.T, out string, code int) {
	t.Helper()
	if code != 0 {
		t.Fatalf("exit code %d, want 0:\n%s", code, out)
	}
	for _, want := range []string{
		"calls Write(", "calls Bash(", "asks for Write", "was allowed Write", "asks for Bash", "was refused Bash", `"That is done`,
		": ok, 0 calls refused", ": partly_denied, 1 calls refused",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
}

func TestStandIn(t *testing.T) {
	t.Parallel()
	out, code := demotest.Output(t, os.Environ())
	check(t, out, code)
}

func TestReal(t *testing.T) {
	t.Parallel()
	out, code := demotest.Output(t, demotest.Real(t, standIn), "-real")
	check(t, out, code)
}
