package claudepool_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/claudetest"
)

// standInPool builds a pool of stand-ins for the CLI: real processes that
// misbehave on demand.
func standInPool(t *testing.T, c claudepool.PoolConfig, faults ...claudetest.Fault) *claudepool.Pool {
	t.Helper()
	o := claudetest.StandIn(t, faults...)
	c.ClaudePath, c.Env, c.ConfigDir, c.WorkDir = o.Path, o.Env, o.ConfigDir, t.TempDir()
	return build(t, c)
}

// A turn goes wrong in every way a process can think of. The task ends with
// its class, and the slot serves the next one.
func TestP4MisbehavedProcesses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		prompt string
		want   claudepool.Outcome
		output string
	}{
		{"[[fault:crash]]", claudepool.OutcomeCrashed, ""},
		{"[[fault:exit:3]]", claudepool.OutcomeCrashed, ""},
		{"[[fault:half-line]]", claudepool.OutcomeCrashed, ""},
		{"[[fault:crash-after]][[reply:fine]]", claudepool.OutcomeOK, "fine"},
		{"[[fault:garbage]][[reply:fine]]", claudepool.OutcomeOK, "fine"},
		{"[[fault:long-line]][[reply:fine]]", claudepool.OutcomeOK, "fine"},
		{"[[fault:hold-stdout]][[reply:fine]]", claudepool.OutcomeOK, "fine"},
		{"[[fault:escape]][[reply:fine]]", claudepool.OutcomeOK, "fine"},
		{"[[fault:foreign-result]][[reply:fine]]", claudepool.OutcomeOK, "fine"},
		{"[[fault:duplicate-result]][[reply:fine]]", claudepool.OutcomeOK, "fine"},
		{"[[fault:result-first]][[reply:fine]]", claudepool.OutcomeOK, ""},
		{"[[fault:idle-first]][[reply:fine]]", claudepool.OutcomeOK, "fine"},
		{"[[fault:deny]][[write:x:y]]", claudepool.OutcomePartlyDenied, ""},
		{"[[status:404]]", claudepool.OutcomeInvalid, ""},
		{"[[status:401]]", claudepool.OutcomeAuth, ""},
	} {
		t.Run(tc.prompt, func(t *testing.T) {
			t.Parallel()
			p := standInPool(t, claudepool.PoolConfig{})
			task := claudepool.Task{Prompt: tc.prompt, OnCrash: claudepool.CrashFail, Retry: claudepool.RetryPolicy{Max: -1}}
			r := wait(t, p, submit(t, p, task))
			if r.Outcome != tc.want || tc.output != "" && r.Output != tc.output {
				t.Errorf("ended %s with %q (%+v), want %s with %q", r.Outcome, r.Output, r.Failure, tc.want, tc.output)
			}
			next, err := p.Run(t.Context(), claudepool.Task{Prompt: "[[history]]"})
			if err != nil || next.Output != "[[history]]" {
				t.Errorf("the next task saw %q (%v), want its own prompt alone", next.Output, err)
			}
		})
	}
}

func TestP8AFrozenProcessIsEnded(t *testing.T) {
	t.Parallel()
	p := standInPool(t, claudepool.PoolConfig{})
	task := claudepool.Task{Prompt: "[[fault:freeze]]", StallTimeout: 500 * time.Millisecond, Retry: claudepool.RetryPolicy{Max: -1}}
	if r := wait(t, p, submit(t, p, task)); r.Outcome != claudepool.OutcomeStalled {
		t.Errorf("ended %s, want stalled", r.Outcome)
	}
	if r, err := p.Run(t.Context(), claudepool.Task{Prompt: "[[reply:next]]"}); err != nil || r.Output != "next" {
		t.Errorf("the next task = %q, %v", r.Output, err)
	}
}

func TestP9ProcessesWhoseResetIsNotProvenAreReplaced(t *testing.T) {
	t.Parallel()
	for _, fault := range []claudetest.Fault{claudetest.FaultStaleSession, claudetest.FaultNoIdle, claudetest.FaultUnsolicited} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			p := standInPool(t, claudepool.PoolConfig{}, fault)
			for i := range 3 {
				prompt := fmt.Sprintf("[[history]] %d", i)
				r, err := p.Run(t.Context(), claudepool.Task{Prompt: prompt})
				if err != nil || r.Output != prompt {
					t.Errorf("task %d saw %q (%v)", i, r.Output, err)
				}
			}
		})
	}
}

func TestP7NothingIsLeftAfterClose(t *testing.T) {
	t.Parallel()
	p := standInPool(t, claudepool.PoolConfig{Slots: 3, Spares: 1}, claudetest.FaultIgnoreTerm)
	out, err := p.FanOut(t.Context(), prompts(6, "[[fault:escape:1h]][[reply:%d]]"), claudepool.FanOutOptions{})
	if err != nil || out.Census.OK != 6 {
		t.Fatalf("FanOut = %+v, %v", out.Census, err)
	}
	home := p.Config().ConfigDir
	if len(processesWith(t, home)) == 0 {
		t.Fatal("no process was found while the pool lives: the search does not work")
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if left := processesWith(t, home); len(left) != 0 {
		t.Errorf("processes left after Close: %v", left)
	}
}

// processesWith returns the pids of the processes that have text in their environment.
func processesWith(t *testing.T, text string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil || len(files) == 0 {
		t.Skip("needs /proc")
	}
	var pids []string
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.Contains(string(b), text) {
			pids = append(pids, filepath.Base(filepath.Dir(f)))
		}
	}
	return pids
}

func TestSpawnedProcessesServeTasksThatNoWarmOneFits(t *testing.T) {
	t.Parallel()
	p := standInPool(t, claudepool.PoolConfig{Spares: 2})
	task := func(prompt string) claudepool.Task {
		return claudepool.Task{Prompt: "[[system]]", Overrides: claudepool.TaskOverrides{AgentConfig: claudepool.AgentConfig{SystemPrompt: prompt}}}
	}
	for i := range 4 {
		prompt := fmt.Sprintf("system prompt %d", i)
		r, err := p.Run(t.Context(), task(prompt))
		if err != nil || !strings.Contains(r.Output, prompt) {
			t.Errorf("task %d ran under %q (%v), want %q", i, r.Output, err, prompt)
		}
	}
	m := p.Metrics()
	t.Logf("warm %d, claimed %d, spawned %d", m.Warm, m.Claimed, m.Spawned)
	if m.Claimed == 0 {
		t.Error("no spare was claimed")
	}
}

func TestOldVersionsOfTheCLI(t *testing.T) {
	t.Parallel()
	for version, builds := range map[string]bool{"2.1.112": false, "2.1.240": true, "2.1.280": true} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			o, err := claudetest.StandInOptions(claudetest.StandInConfig{Version: version, ConfigDir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			// A program of its own for each version: a version is asked for
			// once per program.
			path := filepath.Join(t.TempDir(), "claude")
			if err := os.WriteFile(path, fmt.Appendf(nil, "#!/bin/sh\nexec %q \"$@\"\n", o.Path), 0o700); err != nil {
				t.Fatal(err)
			}
			c := claudepool.PoolConfig{ClaudePath: path, Env: o.Env, ConfigDir: o.ConfigDir, WorkDir: t.TempDir()}
			if !builds {
				p, err := claudepool.NewPoolBuilder().Config(c).Build(t.Context())
				var old *claude.VersionError
				if p != nil || !errors.As(err, &old) || old.Found != version {
					t.Fatalf("Build = %v, want a VersionError that found %s", err, version)
				}
				return
			}
			p := build(t, c)
			for i := range 3 {
				prompt := fmt.Sprintf("[[history]] %d", i)
				if r, err := p.Run(t.Context(), claudepool.Task{Prompt: prompt}); err != nil || r.Output != prompt {
					t.Errorf("task %d = %q, %v", i, r.Output, err)
				}
			}
			if n := p.Metrics().ResetFailures; n != 0 {
				t.Errorf("%d resets failed; a version that cannot be reset should not be asked to", n)
			}
		})
	}
}

func TestNotLoggedIn(t *testing.T) {
	t.Parallel()
	p := standInPool(t, claudepool.PoolConfig{}, claudetest.FaultLoggedOut)
	r := wait(t, p, submit(t, p, claudepool.Task{Prompt: "x"}))
	if r.Outcome != claudepool.OutcomeAuth {
		t.Errorf("ended %s (%+v), want auth", r.Outcome, r.Failure)
	}
	if err := p.Ready(t.Context()); err == nil {
		t.Error("Ready = nil though nobody is logged in")
	}
}

func TestPromptsOfAnySize(t *testing.T) {
	t.Parallel()
	p := standInPool(t, claudepool.PoolConfig{})
	big := strings.Repeat("a", 1<<20)
	if _, err := p.Run(t.Context(), claudepool.Task{Prompt: big}); err != nil {
		t.Errorf("1 MB: %v", err)
	}
	if _, err := p.Run(t.Context(), claudepool.Task{Prompt: "x"}); err != nil {
		t.Errorf("after it: %v", err)
	}
}
