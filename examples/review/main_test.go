package main

import (
	"os"
	"regexp"
	"testing"

	"github.com/claudepool/claudepool/examples/internal/demotest"
)

func TestMain(m *testing.M) { demotest.Main(m, main, standIn) }

func TestExample(t *testing.T) {
	t.Parallel()
	demotest.Shows(t, standIn, []string{"-words", "5"},
		`(?s)draft 1, 20 words: .*draft 2, 10 words: .*draft 3, 5 words: .*completed after 3 drafts, \$\S+: reuse`,
	)
}

// A reviewer who is never content ends the task.
func TestTooManyRejections(t *testing.T) {
	t.Parallel()
	out, code := demotest.Output(t, os.Environ(), "-words", "0")
	if code != 1 || !regexp.MustCompile(`draft 3, 5 words(?s:.*)failed \(rejected\).*rejection 3 of 3`).MatchString(out) {
		t.Errorf("exit code %d, want 1 and a task that was rejected:\n%s", code, out)
	}
}
