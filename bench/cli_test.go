package bench_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/claudetest"
)

// model is what every process is started with.
const model = "claude-sonnet-5"

// bed is a scripted model that answers at once with the prompt, and a place for
// real CLI processes that ask it.
type bed struct {
	tb   testing.TB
	path string
	iso  *claudetest.Isolation
	api  *claudetest.API
}

// newBed skips the benchmark where there is no CLI.
func newBed(tb testing.TB) *bed {
	tb.Helper()
	path := claudetest.CLI(tb)
	api := claudetest.NewAPI(tb, claudetest.Echo)
	api.Keep(0)
	b := &bed{tb: tb, path: path, iso: claudetest.Isolate(tb, api), api: api}
	caps, err := claude.Probe(tb.Context(), path, b.env())
	if err != nil {
		tb.Fatal(err)
	}
	if !caps.WarmReuse {
		tb.Skipf("claude %s cannot be reset and used again", caps.Version)
	}
	tb.Logf("claude %s", caps.Version)
	return b
}

// env is the environment of every process, however it is started.
func (b *bed) env() []string { return claude.Environment(os.Environ(), b.iso.Env) }

// answers fails the benchmark unless got is the answer to the prompt.
func (b *bed) answers(how, prompt, got string) {
	b.tb.Helper()
	if got != prompt {
		b.tb.Fatalf("%s answered %q to %q", how, got, prompt)
	}
}

// usage is what a task took: time on the clock, and of the CPUs in the process
// of the CLI and its children.
type usage struct{ wall, cpu time.Duration }

// single runs a task in a process of its own, with the flags that make it do
// the same as a slot: the same model, tools, settings and mode, no MCP servers.
func (b *bed) single(prompt string) usage {
	b.tb.Helper()
	cmd := exec.CommandContext(b.tb.Context(), b.path, "-p", prompt, "--output-format", "json",
		"--model", model, "--tools", strings.Join(claude.DefaultTools(), ","),
		"--permission-mode", string(claude.PermissionPlan), "--setting-sources", "project", "--strict-mcp-config")
	cmd.Env, cmd.Dir = b.env(), b.iso.Dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	begin := time.Now()
	out, err := cmd.Output()
	wall := time.Since(begin)
	if err != nil {
		b.tb.Fatalf("claude -p: %v: %s%s", err, out, stderr.Bytes())
	}
	var r struct{ Result string }
	if err := json.Unmarshal(out, &r); err != nil {
		b.tb.Fatalf("claude -p printed %.200q: %v", out, err)
	}
	b.answers("claude -p", prompt, r.Result)
	return usage{wall, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
}

// slot is a pool with one slot on the real CLI, and its changes of state.
type slot struct {
	*bed
	pool   *claudepool.Pool
	states func() (claudepool.Event, bool)
}

// newSlot returns a slot that is idle.
func (b *bed) newSlot() *slot {
	b.tb.Helper()
	p, err := claudepool.NewPoolBuilder().Config(claudepool.PoolConfig{
		ClaudePath: b.path, Env: b.iso.Env, ConfigDir: b.iso.ConfigDir, WorkDir: b.iso.Dir,
		Agent:    claudepool.AgentConfig{Model: model},
		Spares:   -1,                           // nothing beside the one process
		MaxTasks: 1 << 30, MaxMemory: 16 << 30, // and always the same
	}).Build(b.tb.Context())
	if err != nil {
		b.tb.Fatal(err)
	}
	b.tb.Cleanup(func() { closePool(b.tb, p) })
	states, stop := iter.Pull(p.Events(b.tb.Context(), claudepool.EventFilter{Kinds: []claudepool.EventKind{claudepool.EventSlot}}))
	b.tb.Cleanup(stop)
	s := &slot{bed: b, pool: p, states: states}
	s.awaitIdle()
	return s
}

// awaitIdle waits until the slot is idle, which it was not before.
func (s *slot) awaitIdle() {
	s.tb.Helper()
	for {
		e, ok := s.states()
		if !ok {
			s.tb.Fatal("the pool has ended")
		}
		if e.SlotState == claudepool.SlotIdle {
			return
		}
	}
}

// run runs a task from its submission to its result.
func (s *slot) run(prompt string) time.Duration {
	s.tb.Helper()
	begin := time.Now()
	r, err := s.pool.Run(s.tb.Context(), claudepool.Task{Prompt: prompt})
	wall := time.Since(begin)
	if err != nil {
		s.tb.Fatalf("Run: %v", err)
	}
	s.answers("the slot", prompt, r.Output)
	return wall
}

// runAndReset runs a task until the slot is proven clean and ready for the next.
func (s *slot) runAndReset(prompt string) usage {
	s.tb.Helper()
	pid := s.pid()
	before, begin := cpuTime(s.tb, pid), time.Now()
	s.run(prompt)
	s.awaitIdle()
	wall := time.Since(begin)
	return usage{wall, cpuTime(s.tb, pid) - before}
}

func (s *slot) pid() int {
	s.tb.Helper()
	st, err := s.pool.Status(s.tb.Context())
	if err != nil {
		s.tb.Fatal(err)
	}
	return st.Slots[0].PID
}

// alternate runs the two in turns, so that what else the machine does hits both,
// with the first place going to each as often.
func alternate(i int, a, b func()) {
	if i%2 == 1 {
		a, b = b, a
	}
	a()
	b()
}

func taskText(i int) string { return fmt.Sprintf("task %d: answer at once", i) }
