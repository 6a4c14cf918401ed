package main

import (
	"os"
	"regexp"
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
		`(?m)^pick completed · .* · .* · `,
		`(?m)^pick +completed: {"animal": ?"walrus"|(?m)^pick +completed: {.*"animal": ?"walrus"`,
		`(?m)^describe +completed: large, whiskered`,
		`(?m)^verse +completed by its recovery prompt: The walrus is large`,
		`(?m)^wings +skipped: its condition does not hold: steps.pick.can_fly$`,
		`(?m)^The chain is completed for \$0\.\d+: The walrus is large`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("no %q in:\n%s", want, out)
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
