package main

import (
	"os"
	"regexp"
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
	all, first, found := strings.Cut(out, "Until the first failure:")
	if !found {
		t.Fatalf("there is no second fan-out:\n%s", out)
	}
	// Results in the order of the tasks, with the failure in its place.
	if !regexp.MustCompile(`(?s)1  ok .* 1 squared.*2  ok .* 2 squared.*3  ok .*4  ok .*5  timeout.*6  ok .* 6 squared.*asked 6, ok 5, failed map\[timeout:1\]`).MatchString(all) {
		t.Errorf("the first fan-out is not in order, or its census is wrong:\n%s", all)
	}
	if !regexp.MustCompile(`(?s)5  timeout.*failed map\[(cancelled:\d )?timeout:1\]`).MatchString(first) {
		t.Errorf("the second fan-out has no failure:\n%s", first)
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
