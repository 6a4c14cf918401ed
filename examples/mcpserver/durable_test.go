package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claudetest"
)

// place is where servers follow one another on one store.
type place struct {
	dir, file string
	env, args []string
}

// standIns is a place whose slots are stand-ins that keep their sessions there.
func standIns(t *testing.T) place {
	t.Helper()
	dir := t.TempDir()
	claude := filepath.Join(dir, "claude")
	script := fmt.Sprintf("#!/bin/sh\nexport %s=1\nexec '%s' \"$@\"\n", claudetest.EnvStandIn, os.Args[0])
	if err := os.WriteFile(claude, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return place{dir: dir, file: filepath.Join(dir, "pool.db"), env: []string{"CLAUDE_CONFIG_DIR=" + filepath.Join(dir, "config")}, args: []string{"--claude", claude}}
}

// open starts a server on the store.
func (p place) open(t *testing.T, args ...string) *server {
	t.Helper()
	return startIn(t, p.dir, p.env, slices.Concat(p.args, []string{"-p", "acceptEdits", "--store", p.file}, args)...)
}

// refused starts a server that must not start, and returns what it says.
func (p place) refused(t *testing.T, args ...string) string {
	t.Helper()
	s := launchIn(t, p.dir, p.env, slices.Concat(p.args, args)...)
	out := &syncBuffer{}
	s.cmd.Stdout = out
	s.begin(t)
	if code := s.wait(t); code != exitFailure || out.String() != "" {
		t.Errorf("%v: exit code %d, want %d; stdout %q", args, code, exitFailure, out)
	}
	return s.stderr.String()
}

// asked counts how often the transcripts of the CLI hold a prompt.
func (p place) asked(t *testing.T, prompt string) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(p.dir, "config", "projects", "*", "*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(b) {
			if bytes.Contains(line, []byte(`"text":`+strconv.Quote(prompt))) && bytes.Contains(line, []byte(`"role":"user"`)) {
				n++
			}
		}
	}
	return n
}

func submit(t *testing.T, s *server, prompt string) claudepool.TaskID {
	t.Helper()
	return call[result](t, s.client, "pool_submit", map[string]any{
		"prompt": prompt, "overrides": map[string]any{"allowed_tools": []string{"Bash"}, "permission_mode": "acceptEdits"},
	}).TaskID
}

// slow is a prompt that is answered once the gate of the place is open.
func (p place) slow(answer string) string {
	return "[[bash:until [ -e " + filepath.Join(p.dir, "gate") + " ]; do sleep 0.1; done]][[reply:" + answer + "]]"
}

// openGate lets slow prompts be answered.
func (p place) openGate(t *testing.T) {
	t.Helper()
	put(t, "", p.dir, "gate")
}

// outputs waits for tasks, all of which must complete, and returns what they gave.
func outputs(t *testing.T, s *server, ids ...claudepool.TaskID) []string {
	t.Helper()
	var out []string
	for _, id := range ids {
		var r result
		eventually(t, fmt.Sprintf("task %s ends", id), func() bool {
			r = call[result](t, s.client, "pool_result", map[string]any{"task_id": id})
			return r.State.Terminal()
		})
		if r.State != claudepool.StateCompleted {
			t.Errorf("task %s is %s", id, r.State)
		}
		out = append(out, r.Output)
	}
	return out
}

// running waits until so many tasks run, or more.
func running(t *testing.T, s *server, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d tasks run", n), func() bool {
		return call[claudepool.PoolStatus](t, s.client, "pool_status", nil).RunningTasks >= n
	})
}

// stop ends a server by its standard input and sees that nothing is left.
func (s *server) stop(t *testing.T) {
	t.Helper()
	s.stdin.Close()
	if code := s.wait(t); code != exitOK {
		t.Errorf("exit code %d, want %d", code, exitOK)
	}
	s.noneLeft(t, 0)
}

func TestASecondServerOnAStoreIsRefused(t *testing.T) {
	t.Parallel()
	p := standIns(t)
	first := p.open(t, "-n", "1")
	says := func(args ...string) {
		t.Helper()
		got := p.refused(t, append([]string{"--store", p.file}, args...)...)
		for _, want := range []string{p.file, "--peer", args[0], fmt.Sprintf("process %d", first.cmd.Process.Pid)} {
			if !strings.Contains(got, want) {
				t.Errorf("%v: the message lacks %q:\n%s", args, want, got)
			}
		}
	}
	says("--store", p.file)
	says("--peer")
	if got := outputs(t, first, submit(t, first, "[[reply:not disturbed]]")); got[0] != "not disturbed" {
		t.Errorf("got %q", got)
	}
	first.stop(t)

	// Peers share the queue; nobody else may join them.
	a, b := p.open(t, "-n", "1", "--peer"), p.open(t, "-n", "1", "--peer")
	if got := outputs(t, b, submit(t, a, "[[reply:shared]]")); got[0] != "shared" {
		t.Errorf("got %q", got)
	}
	if got := p.refused(t, "--store", p.file); !strings.Contains(got, "--store") || !strings.Contains(got, "--peer") {
		t.Errorf("a server without --peer is told: %s", got)
	}
	for _, s := range []*server{a, b} {
		s.stdin.Close()
		if code := s.wait(t); code != exitOK {
			t.Errorf("exit code %d", code)
		}
	}
	a.noneLeft(t, 0)
}

func TestStoresThatCannotBeAreNamed(t *testing.T) {
	t.Parallel()
	p := standIns(t)
	text := filepath.Join(p.dir, "notes.txt")
	put(t, strings.Repeat("no database at all\n", 100), text)
	for _, file := range []string{text, p.dir, filepath.Join(p.dir, "missing", "pool.db")} {
		if got := p.refused(t, "--store", file); !strings.Contains(got, "flag --store") || !strings.Contains(got, file) {
			t.Errorf("%s: %s", file, got)
		}
	}
	// A pool that cannot be built leaves the store to others.
	if got := p.refused(t, "--store", p.file, "--claude", filepath.Join(p.dir, "no-claude")); !strings.Contains(got, "no-claude") {
		t.Errorf("without a CLI: %s", got)
	}
	p.open(t, "-n", "1").stop(t)
}

// A server is replaced while it works: what it has not done the next one does.
func TestAnUpgradeLosesNothing(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			p := standIns(t)
			a := p.open(t, "-n", "2", "--drain-timeout", "300ms", "-b", "50", "--log-level", "error")
			done := submit(t, a, "[[reply:done before]]")
			outputs(t, a, done)
			prompts := []string{p.slow("one"), p.slow("two"), "[[reply:three]]", "[[reply:four]]", "[[reply:five]]"}
			var ids []claudepool.TaskID
			for _, prompt := range prompts {
				ids = append(ids, submit(t, a, prompt))
			}
			running(t, a, 2)
			eventually(t, "both are asked", func() bool { return p.asked(t, prompts[0])+p.asked(t, prompts[1]) == 2 })
			spent := call[claudepool.PoolStatus](t, a.client, "pool_status", nil).TotalSpend
			if err := a.cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			if code := a.wait(t); code != exitOK {
				t.Errorf("exit code %d, want %d", code, exitOK)
			}
			a.noneLeft(t, 0)
			if want := "0 running tasks have finished, 2 were handed back to the queue; 5 wait in " + p.file; !strings.Contains(a.stderr.String(), want) {
				t.Errorf("standard error lacks %q:\n%s", want, a.stderr)
			}

			p.openGate(t)
			b := p.open(t, "-n", "2", "-b", "50")
			if got := call[claudepool.PoolStatus](t, b.client, "pool_status", nil).TotalSpend; got < spent || spent == 0 {
				t.Errorf("the new server counts %v as spent, the old one %v", got, spent)
			}
			got := outputs(t, b, append(ids, done)...)
			if want := []string{"one", "two", "three", "four", "five", "done before"}; !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			// What was cut off has gone on where it was.
			for _, prompt := range append(prompts, "[[reply:done before]]") {
				if n := p.asked(t, prompt); n != 1 {
					t.Errorf("%q was asked %d times", prompt, n)
				}
			}
			b.stop(t)
		})
	}
}

// As the Claude CLI ends its servers: two signals, and the drain has its time.
func TestTwoSignalsOfAClientCountAsOne(t *testing.T) {
	t.Parallel()
	p := standIns(t)
	s := p.open(t, "-n", "1", "--drain-timeout", "1m")
	id := submit(t, s, p.slow("finished"))
	running(t, s, 1)
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		if err := s.cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "it drains", func() bool { return strings.Contains(s.stderr.String(), "draining") })
	p.openGate(t)
	if code := s.wait(t); code != exitOK || !strings.Contains(s.stderr.String(), "finished=1") {
		t.Errorf("exit code %d; task %s was to finish:\n%s", code, id, s.stderr)
	}
	s.noneLeft(t, 0)
}

// chainStart submits a chain of which the first step is quick.
func chainStart(t *testing.T, s *server, steps ...string) claudepool.TaskID {
	t.Helper()
	var list []map[string]any
	for i, step := range steps {
		list = append(list, map[string]any{"name": fmt.Sprintf("step%d", i), "value": step})
	}
	id := call[result](t, s.client, "pool_submit_chain", map[string]any{"steps": list}).TaskID
	eventually(t, "the first step is recorded", func() bool {
		steps := call[claudepool.ChainResult](t, s.client, "pool_chain_result", map[string]any{"task_id": id}).Steps
		return len(steps) > 1 && steps[0].State == claudepool.StepCompleted && steps[1].State != claudepool.StepWaiting
	})
	return id
}

// Whatever ran when the server was killed is done by the next one.
func TestAKilledServerLosesNothing(t *testing.T) {
	t.Parallel()
	p := standIns(t)
	a := p.open(t, "-n", "4")
	chain := chainStart(t, a, "[[reply:planned]]", "[[sleep:3s]][[reply:did {previous_output}]]", "[[reply:checked {previous_output}]]")
	var ids []claudepool.TaskID
	var want []string
	for i := range 6 {
		want = append(want, fmt.Sprintf("slow %d", i))
		ids = append(ids, submit(t, a, p.slow(want[i])))
	}
	running(t, a, 4)
	if err := a.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	a.wait(t)
	a.noneLeft(t, 5*time.Second)

	p.openGate(t)
	b := p.open(t, "-n", "4")
	if got := outputs(t, b, ids...); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := outputs(t, b, chain); got[0] != "checked did planned" {
		t.Errorf("the chain gave %q", got)
	}
	if n := p.asked(t, "[[reply:planned]]"); n != 1 {
		t.Errorf("the first step was asked %d times", n)
	}
	b.stop(t)
}

// The same with the real CLI, of which the scripted model is asked.
func TestRealKilledServerLosesNothing(t *testing.T) {
	t.Parallel()
	cli := claudetest.CLI(t)
	release := make(chan struct{}) // closed when slow answers may come
	api := claudetest.NewAPI(t, func(r *claudetest.Request) claudetest.Reply {
		said := claudetest.Text("did: " + r.Prompt)
		if strings.Contains(r.Prompt, "slow") {
			return said.Gate(release)
		}
		return said
	})
	iso := claudetest.Isolate(t, api)
	dir := t.TempDir()
	p := place{dir: dir, file: filepath.Join(dir, "pool.db"), env: iso.Environ(), args: []string{"--claude", cli, "--model", "claude-sonnet-5"}}
	asked := func(prompt string) (exact, within int) {
		for _, r := range api.Requests() {
			if r.Prompt == prompt {
				exact++
			}
			if strings.Contains(r.Prompt, prompt) {
				within++
			}
		}
		return exact, within
	}

	a := p.open(t, "-n", "7")
	chain := chainStart(t, a, "plan it", "slow work on it", "check it")
	var ids []claudepool.TaskID
	for i := range 6 {
		ids = append(ids, submit(t, a, fmt.Sprintf("slow task %d", i)))
	}
	eventually(t, "the model is asked for all", func() bool {
		n := 0
		for _, r := range api.Requests() {
			if strings.HasPrefix(r.Prompt, "slow") {
				n++
			}
		}
		return n >= 7
	})
	if err := a.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	a.wait(t)
	a.noneLeft(t, 5*time.Second)
	close(release)

	b := p.open(t, "-n", "7")
	for i, out := range outputs(t, b, ids...) {
		if !strings.Contains(out, fmt.Sprintf("slow task %d", i)) {
			t.Errorf("task %d gave %q", i, out)
		}
	}
	if got := outputs(t, b, chain); got[0] != "did: check it" {
		t.Errorf("the chain gave %q", got)
	}
	if exact, within := asked("plan it"); exact != 1 || within != 1 {
		t.Errorf("the first step was asked of the model %d times, and named %d times", exact, within)
	}
	for i := range ids {
		exact, within := asked(fmt.Sprintf("slow task %d", i))
		t.Logf("task %d: asked %d times, %d of them as at first", i, within, exact)
		if exact != 1 || within > 2 {
			t.Errorf("task %d was asked %d times, %d of them from the beginning", i, within, exact)
		}
	}
	b.stop(t)
}
