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
	if !regexp.MustCompile(`(?s)^split +completed\nexplain +completed\n.*in five words to a child: the frame.*: the wheels.*: the chain.*\njoin +completed\n.*two sentences about a bicycle: \[".*the frame.*"\]\)\n`).MatchString(out) {
		t.Errorf("the workflow did not run the skill for each part and join the answers:\n%s", out)
	}
	if !regexp.MustCompile(`(?s)after an edit:\n.*in five words to a child: a bell.*\n.*in one word to a child: a bell`).MatchString(out) {
		t.Errorf("the edit was not seen:\n%s", out)
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
