// Package demotest runs an example the way a person does: as a program, by its
// own test binary.
package demotest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/claudepool/claudepool/claudetest"
)

// asProgram makes the test binary run as the example itself.
const asProgram = "CLAUDEPOOL_EXAMPLE"

// Main is for TestMain: it runs the example when the binary was started by
// [Command] or as a stand-in with script, else the tests.
func Main(m *testing.M, main func(), script claudetest.Script) {
	claudetest.MainScript(script)
	if os.Getenv(asProgram) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Command returns the example as a command with the given environment.
func Command(ctx context.Context, t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(ctx, self, args...)
	c.Env = append(env[:len(env):len(env)], asProgram+"=1")
	return c
}

// Output runs the example to its end, and returns what it printed and its exit code.
func Output(t *testing.T, env []string, args ...string) (text string, code int) {
	t.Helper()
	out, err := Command(t.Context(), t, env, args...).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return string(out), exit.ExitCode()
	case err != nil:
		t.Fatal(err)
	}
	return string(out), 0
}

// Real returns an environment in which claude in PATH is the real CLI, with
// script for a model, at no cost. Without a CLI the test is skipped.
func Real(t *testing.T, script claudetest.Script) []string {
	t.Helper()
	cli := claudetest.CLI(t)
	bin := t.TempDir()
	if err := os.Symlink(cli, filepath.Join(bin, "claude")); err != nil {
		t.Fatal(err)
	}
	env := claudetest.Isolate(t, claudetest.NewAPI(t, script)).Environ()
	return append(env, "PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
}

// Shows runs the example with the stand-in and with the real CLI, each to its
// end, and checks that what it printed matches every one of the patterns.
func Shows(t *testing.T, script claudetest.Script, args []string, patterns ...string) {
	t.Helper()
	check := func(t *testing.T, env []string, args []string) {
		out, code := Output(t, env, args...)
		if code != 0 {
			t.Fatalf("exit code %d, want 0:\n%s", code, out)
		}
		for _, p := range patterns {
			if !regexp.MustCompile(p).MatchString(out) {
				t.Errorf("no %q in:\n%s", p, out)
			}
		}
	}
	t.Run("stand-in", func(t *testing.T) {
		t.Parallel()
		check(t, os.Environ(), args)
	})
	t.Run("real", func(t *testing.T) {
		t.Parallel()
		check(t, Real(t, script), append([]string{"-real"}, args...))
	})
}
