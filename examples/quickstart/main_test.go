package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/claudetest"
	"github.com/claudepool/claudepool/examples/internal/demotest"
)

func TestMain(m *testing.M) { demotest.Main(m, main, standIn) }

func TestStandIn(t *testing.T) {
	t.Parallel()
	out, code := demotest.Output(t, os.Environ(), "-n", "4", "-slots", "2")
	if code != 0 {
		t.Fatalf("exit code %d, want 0:\n%s", code, out)
	}
	for _, c := range canned[:4] {
		if !strings.Contains(out, c.question[:25]) || !strings.Contains(out, c.answer[:35]) {
			t.Errorf("the output lacks %q or its answer", c.question)
		}
	}
	for _, want := range []string{
		`slot-0  starts`, `slot-1  starts`, `4 of 4 done in [\d.]+s, for \$0\.0\d+`,
		`Of 4 attempts 4 found the warm process`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("the output lacks %q", want)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Error("the output steers a terminal that is none")
	}
	if t.Failed() {
		t.Log(out)
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"no tasks", []string{"-n", "0"}, 2, "flag -n: must be at least 1"},
		{"negative slots", []string{"-slots", "-2"}, 2, "flag -slots: must be at least 1"},
		{"no budget", []string{"-budget", "0"}, 2, "flag -budget: must be more than zero"},
		{"unknown flag", []string{"-fast"}, 2, "not defined: -fast"},
		{"stray argument", []string{"hello"}, 2, `unexpected argument "hello"`},
		{"no CLI", []string{"-real", "-claude", "/nowhere/claude"}, 2, "program not found"},
		{"too little money", []string{"-n", "3", "-budget", "0.000002"}, 1, "3 not done: 3 budget"},
		{"prompts of one's own", []string{"-n", "2", "-prompt", "Who?", "-prompt", "Where?"}, 0, "Where?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out, code := demotest.Output(t, os.Environ(), c.args...)
			if code != c.code || !strings.Contains(out, c.want) {
				t.Errorf("exit code %d, want %d and the words %q:\n%s", code, c.code, c.want, out)
			}
		})
	}
}

func TestInterruptDrains(t *testing.T) {
	t.Parallel()
	c := demotest.Command(t.Context(), t, os.Environ(), "-n", "40", "-slots", "2")
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	lines := bufio.NewReader(io.TeeReader(stdout, &out))
	for signalled := false; ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			break
		}
		if !signalled && strings.Contains(line, "  ok  ") {
			signalled = true
			if err := c.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
		}
	}
	err = c.Wait()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("the program ended with %v, want exit code 1", err)
	}
	// What ran when the signal came has ended by itself.
	if got := out.String(); strings.Count(got, "starts") != strings.Count(got, "  ok  ")/2 || !regexp.MustCompile(`not done: \d+ cancelled\.`).MatchString(got) {
		t.Errorf("not everything that had started has ended, or something else failed:\n%s", got)
	}
}

func TestReal(t *testing.T) {
	t.Parallel()
	env := demotest.Real(t, func(r *claudetest.Request) claudetest.Reply {
		return claudetest.Text("you asked: " + r.Prompt)
	})
	out, code := demotest.Output(t, env, "-real", "-n", "4", "-slots", "2", "-prompt", "one", "-prompt", "two")
	if code != 0 {
		t.Fatalf("exit code %d, want 0:\n%s", code, out)
	}
	for _, want := range []string{"of the Claude CLI 2.", "read-only", "at most $0.25", "you asked: one", "you asked: two", "4 of 4 done"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
}

func TestScreen(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := newScreen(&out)
	s.live, s.total = true, 2
	s.prompt = func(claudepool.TaskID) string { return "a prompt\nof two lines, long enough to be cut somewhere" }
	for _, slot := range []string{"slot-10", "slot-2"} {
		s.happened(claudepool.Event{Kind: claudepool.EventSlot, SlotID: slot, SlotState: claudepool.SlotBusy})
	}
	evil := "\x1b[2J\r\n" + strings.Repeat("äöü ", 40) + "\x1b]0;title\x07"
	s.happened(claudepool.Event{Kind: claudepool.EventAgent, SlotID: "slot-2", Agent: claude.TextDelta{Text: evil}})
	s.draw()
	first := out.String()
	s.ended(claudepool.TaskResult{State: claudepool.StateCompleted, Cost: 5})
	s.draw()

	if second := strings.TrimPrefix(out.String(), first); !strings.HasPrefix(second, "\x1b[3A") || !strings.Contains(second, "1 of 2 done, 0 failed") {
		t.Errorf("the second drawing does not replace the three lines of the first, or shows no progress: %q", second)
	}
	if i, j := strings.Index(first, "slot-2 "), strings.Index(first, "slot-10"); i > j {
		t.Error("slot-10 comes before slot-2")
	}
	for line := range strings.Lines(first) {
		line = strings.TrimSuffix(line, "\x1b[K\n")
		if n := utf8.RuneCountInString(line); n > width || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' }) {
			t.Errorf("a line of %d characters, or with some that steer the terminal: %q", n, line)
		}
	}
}
