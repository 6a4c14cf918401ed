package claudepool_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
)

func TestP1ADrainLeavesTheQueueThoughAnotherSlotCannotStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var starts atomic.Int32
		room := make(chan struct{})
		b := newBlocker()
		l := &fakeLauncher{turn: b.turn, start: func(claude.Options) error {
			switch n := starts.Add(1); {
			case n == 1:
				return nil
			case n > 4:
				<-room
			}
			return errors.New("no room")
		}}
		s := durable{stored(t)}
		p := build(t, claudepool.PoolConfig{Launcher: l, Slots: 2, StartsAtOnce: 2, Store: s})
		submit(t, p, claudepool.Task{Prompt: "runs"})
		<-b.begun
		id := submit(t, p, claudepool.Task{Prompt: "waits"})
		time.Sleep(10 * time.Second)
		if starts.Load() != 5 {
			t.Fatalf("%d starts, want the second slot in its fourth try", starts.Load())
		}
		drained := make(chan error, 1)
		go func() {
			sum, err := p.Drain(t.Context())
			if err == nil && (sum.Finished != 1 || sum.Pending != 1) {
				err = fmt.Errorf("drained %+v, want 1 finished, 1 pending", sum)
			}
			drained <- err
		}()
		synctest.Wait()
		close(b.release)
		synctest.Wait() // the slot that could start has gone, the other is left
		close(room)
		if err := <-drained; err != nil {
			t.Error(err)
		}
		if r := record(t, s, id); r.State != claudepool.StatePending {
			t.Errorf("the waiting task is %s (%s), want pending", r.State, r.Outcome)
		}
	})
}

func TestP9ASessionHasOneOwnerHoweverItIsNamed(t *testing.T) {
	t.Parallel()
	for _, idFirst := range []bool{false, true} {
		t.Run(fmt.Sprintf("by id first %t", idFirst), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBlocker()
				p := build(t, claudepool.PoolConfig{Slots: 2, Launcher: &fakeLauncher{turn: func(ctx context.Context, a *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
					if p.Text == "one" {
						return echo(ctx, a, p, emit)
					}
					return b.turn(ctx, a, p, emit)
				}}})
				r := wait(t, p, submit(t, p, claudepool.Task{Prompt: "one"}))
				names := []claudepool.Session{{Task: r.TaskID}, {ID: r.SessionID}}
				if idFirst {
					names[0], names[1] = names[1], names[0]
				}
				var ids []claudepool.TaskID
				for _, s := range names {
					ids = append(ids, submit(t, p, claudepool.Task{Prompt: s.String(), Session: s}))
				}
				synctest.Wait()
				if len(b.begun) != 1 {
					t.Errorf("%d tasks run in the session %s at once, want 1", len(b.begun), r.SessionID)
				}
				close(b.release)
				for _, id := range ids {
					if next := wait(t, p, id); next.Outcome != claudepool.OutcomeOK || next.SessionID != r.SessionID {
						t.Errorf("task %s ended %s in %s, want ok in %s", id, next.Outcome, next.SessionID, r.SessionID)
					}
				}
			})
		})
	}
}

func TestP9AHeldSessionThatWentOnElsewhereIsOutOfDate(t *testing.T) {
	t.Parallel()
	// A process that resumes a session has its past from disk, which recall
	// does not tell: it says what the process itself has heard.
	for keep, want := range map[time.Duration]string{0: "three", time.Minute: "two|three"} {
		t.Run(keep.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: recall}, Slots: 2})
				r1 := wait(t, p, submit(t, p, claudepool.Task{Prompt: "one", Slot: "slot-0", KeepSession: time.Minute}))
				synctest.Wait()
				r2 := wait(t, p, submit(t, p, claudepool.Task{Prompt: "two", Slot: "slot-1", KeepSession: keep, Session: claudepool.Session{Task: r1.TaskID}}))
				synctest.Wait()
				r3 := wait(t, p, submit(t, p, claudepool.Task{Prompt: "three", Session: claudepool.Session{Task: r2.TaskID}}))
				if r3.Output != want || r3.SessionID != r1.SessionID {
					t.Errorf("the third turn came after %q in %s, want %q in %s", r3.Output, r3.SessionID, want, r1.SessionID)
				}
			})
		})
	}
}

func TestKeepSessionStaysWarmWithASystemPrompt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &fakeLauncher{turn: recall}
		p := build(t, claudepool.PoolConfig{Launcher: l, Agent: claudepool.AgentConfig{SystemPrompt: "Be brief.", AppendPrompt: "Be kind."}})
		r := wait(t, p, submit(t, p, claudepool.Task{Prompt: "one", KeepSession: time.Minute}))
		synctest.Wait()
		r = wait(t, p, submit(t, p, claudepool.Task{Prompt: "two", Session: claudepool.Session{Task: r.TaskID}}))
		if m := p.Metrics(); r.Output != "one|two" || len(l.agents()) != 1 || m.Warm != 2 || m.Spawned != 0 {
			t.Errorf("the continuation saw %q of %d processes, %d warm, %d spawned; want one|two of one, 2, 0", r.Output, len(l.agents()), m.Warm, m.Spawned)
		}
	})
}

func TestAContinuationCannotHaveAnotherSystemPrompt(t *testing.T) {
	t.Parallel()
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}})
	r := wait(t, p, submit(t, p, claudepool.Task{Prompt: "one"}))
	for _, session := range []claudepool.Session{{Task: r.TaskID}, {ID: r.SessionID}, {ID: r.SessionID, Fork: true}} {
		for _, c := range []claudepool.AgentConfig{{SystemPrompt: "Be a pirate."}, {AppendPrompt: "Be a pirate."}} {
			id, err := p.Submit(t.Context(), claudepool.Task{Prompt: "two", Session: session, Overrides: claudepool.TaskOverrides{AgentConfig: c}})
			if bad, ok := errors.AsType[*claudepool.InvalidError](err); !ok || bad.Field != "overrides.system_prompt" {
				t.Errorf("Submit(%+v, %+v) = %s, %v; want an InvalidError of overrides.system_prompt", session, c, id, err)
			}
		}
	}
}

func TestFanOutEndsThoughItsTasksCannotBeCancelled(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		failures  int32
		cancelled int
	}{"once": {1, 2}, "ever": {1 << 20, 0}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var f failures
				f.left.Store(tc.failures)
				s := &faultyStore{PoolStore: stored(t), transition: func(tr claudepool.Transition) error {
					if tr.To == claudepool.StateCancelled {
						return f.next()
					}
					return nil
				}}
				p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}, Store: s})
				p.Pause()
				begin := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
				type answer struct {
					out claudepool.FanOutResult
					err error
				}
				ended := make(chan answer, 1)
				go func() {
					out, err := p.FanOut(ctx, prompts(2, "%d"), claudepool.FanOutOptions{})
					ended <- answer{out, err}
				}()
				select {
				case a := <-ended:
					if !errors.Is(a.err, context.DeadlineExceeded) || a.out.Census.Failed[claudepool.OutcomeCancelled] != tc.cancelled {
						t.Errorf("FanOut = %+v, %v; want %d cancelled and the context's end", a.out.Census, a.err, tc.cancelled)
					}
					for i, r := range a.out.Results {
						if r.TaskID == "" {
							t.Errorf("result %d names no task", i)
						}
					}
				case <-time.After(5 * time.Minute):
					t.Errorf("FanOut still waits %v after its context has ended", time.Since(begin))
					p.Resume()
					<-ended
				}
			})
		})
	}
}

func TestFanOutKeepsWhatItKnowsWhenWaitingFails(t *testing.T) {
	t.Parallel()
	var mended atomic.Bool
	defer mended.Store(true) // Close asks for the task too, if its slot has yet to finish with it
	s := &faultyStore{PoolStore: stored(t), task: func(r claudepool.TaskRecord) error {
		if r.Task.Prompt == "1" && !mended.Load() {
			return errLocked
		}
		return nil
	}}
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}, Slots: 3, Store: s})
	out, err := p.FanOut(t.Context(), prompts(3, "%d"), claudepool.FanOutOptions{})
	if !errors.Is(err, errLocked) || len(out.Results) != 3 {
		t.Fatalf("FanOut = %d results, %v; want 3 and the store's error", len(out.Results), err)
	}
	for i, r := range out.Results {
		if stored, err := s.PoolStore.Task(t.Context(), r.TaskID); err != nil || stored.Task.Prompt != fmt.Sprint(i) {
			t.Errorf("result %d names the task %q with the prompt %q (%v)", i, r.TaskID, stored.Task.Prompt, err)
		}
		if i != 1 && r.Output != fmt.Sprint(i) {
			t.Errorf("result %d = %q (%s), want its answer", i, r.Output, r.State)
		}
	}
}

func TestFanOutThatIsRefusedLeavesTasksOfOthersAlone(t *testing.T) {
	t.Parallel()
	b := newBlocker()
	defer close(b.release)
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: b.turn}})
	running := submit(t, p, claudepool.Task{Prompt: "one", IdempotencyKey: "k1"})
	<-b.begun
	waiting := submit(t, p, claudepool.Task{Prompt: "two", IdempotencyKey: "k2"})
	_, err := p.FanOut(t.Context(), []claudepool.Task{
		{Prompt: "new"}, {Prompt: "one", IdempotencyKey: "k1"}, {Prompt: "two", IdempotencyKey: "k2"},
		{Prompt: "keyed", IdempotencyKey: "k3"}, {Prompt: "other", IdempotencyKey: "k3"}, // found out when the others are stored
	}, claudepool.FanOutOptions{})
	if !errors.Is(err, claudepool.ErrKeyReused) {
		t.Fatalf("FanOut = %v, want ErrKeyReused", err)
	}
	want := map[string]claudepool.TaskState{"new": claudepool.StateCancelled, "keyed": claudepool.StateCancelled, "one": claudepool.StateRunning, "two": claudepool.StatePending}
	got := map[string]claudepool.TaskState{}
	for r, err := range p.Tasks(t.Context(), claudepool.TaskFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		got[r.Task.Prompt] = r.State
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("tasks %s and %s were there before (-want +got):\n%s", running, waiting, diff)
	}
}

func TestSuperviseRefusesAnIntervalThatIsNone(t *testing.T) {
	t.Parallel()
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}})
	for _, every := range []time.Duration{0, -time.Second} {
		h, err := p.Supervise(every)
		if bad, ok := errors.AsType[*claudepool.InvalidError](err); h != nil || !ok || bad.Field != "every" {
			t.Errorf("Supervise(%v) = %v, %v; want an InvalidError of every", every, h, err)
		}
	}
}

func TestBuildChecksTheConfigurationOfEverySlot(t *testing.T) {
	t.Parallel()
	for field, c := range map[string]claudepool.AgentConfig{
		"json_schema":     {JSONSchema: []byte("{")},
		"permission_mode": {PermissionMode: claude.PermissionBypass},
	} {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			b := claudepool.NewPoolBuilder().Config(claudepool.PoolConfig{Slots: 2, SlotMemory: -1, Launcher: &fakeLauncher{turn: echo}})
			p, err := b.Slot(claudepool.SlotConfig{}).Slot(claudepool.SlotConfig{AgentConfig: c}).Build(t.Context())
			if p != nil {
				defer p.Close()
			}
			if bad, ok := errors.AsType[*claudepool.InvalidError](err); !ok || bad.Field != "slot_configs[1]."+field {
				t.Errorf("Build = %v, want an InvalidError of slot_configs[1].%s", err, field)
			}
		})
	}
}

func TestTheConfigurationIsCopied(t *testing.T) {
	t.Parallel()
	config := func() claudepool.PoolConfig {
		return claudepool.PoolConfig{
			TagLimits: map[string]int{"a": 1}, Env: map[string]string{"A": "1"}, SettingSources: []string{"project"},
			Agent:       claudepool.AgentConfig{AllowedTools: []string{"Read"}, MCPServers: map[string]claude.MCPServer{}},
			SlotConfigs: []claudepool.SlotConfig{{Name: "bob", Env: map[string]string{"B": "1"}, AgentConfig: claudepool.AgentConfig{Tools: []string{"Read"}}}},
		}
	}
	spoil := func(c claudepool.PoolConfig) {
		c.TagLimits["a"], c.Env["A"], c.SettingSources[0] = 9, "2", "user"
		c.Agent.AllowedTools[0], c.Agent.MCPServers["x"] = "Bash", claude.MCPServer{}
		c.SlotConfigs[0].Name, c.SlotConfigs[0].Env["B"], c.SlotConfigs[0].Tools[0] = "eve", "2", "Bash"
	}
	given := config()
	given.Launcher = &fakeLauncher{turn: echo}
	p := build(t, given)
	spoil(given) // while slots start, which the race detector would notice too
	for range 2 {
		got, want := p.Config(), config()
		got = claudepool.PoolConfig{
			TagLimits: got.TagLimits, Env: got.Env, SettingSources: got.SettingSources, SlotConfigs: got.SlotConfigs,
			Agent: claudepool.AgentConfig{AllowedTools: got.Agent.AllowedTools, MCPServers: got.Agent.MCPServers},
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("the pool's configuration (-want +got):\n%s", diff)
		}
		spoil(got)
	}
	if _, err := p.Run(t.Context(), claudepool.Task{Prompt: "x", Slot: "bob", Tags: []string{"a"}}); err != nil {
		t.Error(err)
	}
}

func TestOneErrorOfTheStoreStrandsNoExpiringTask(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"read", "write"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var f failures
				f.left.Store(1)
				s := &faultyStore{PoolStore: stored(t)}
				if step == "read" {
					s.task = func(claudepool.TaskRecord) error { return f.next() }
				} else {
					s.transition = func(claudepool.Transition) error { return f.next() }
				}
				p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}, Store: s})
				p.Pause()
				id := submit(t, p, claudepool.Task{Prompt: "x", QueueTimeout: 10 * time.Second})
				time.Sleep(time.Minute)
				if r := record(t, s.PoolStore, id); r.Outcome != claudepool.OutcomeExpired || f.left.Load() >= 1 {
					t.Errorf("after a minute the task is %s (%s) and %d errors are left; want expired and none", r.State, r.Outcome, f.left.Load())
				}
			})
		})
	}
}

func TestOneErrorOfTheStoreStrandsNoHopelessTask(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"list", "write"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var f failures
				s := &faultyStore{PoolStore: stored(t)}
				if step == "list" {
					s.tasks = func(claudepool.TaskFilter) error { return f.next() }
				} else {
					s.transition = func(claudepool.Transition) error { return f.next() }
				}
				l := &fakeLauncher{turn: echo, start: func(claude.Options) error { return claude.ErrNotFound }}
				hour := claudepool.RestartPolicy{First: time.Hour, Most: time.Hour}
				p := build(t, claudepool.PoolConfig{Launcher: l, Store: s, Restart: hour, CheckEvery: -1})
				synctest.Wait()
				f.left.Store(1)
				id := submit(t, p, claudepool.Task{Prompt: "x"})
				time.Sleep(time.Minute)
				if r := record(t, s.PoolStore, id); r.Outcome != claudepool.OutcomeLaunch || f.left.Load() >= 1 {
					t.Errorf("after a minute the task is %s (%s) and %d errors are left; want failed, launch and none", r.State, r.Outcome, f.left.Load())
				}
			})
		})
	}
}

func TestP9ATranscriptHasNoLinesOfTheFormerTask(t *testing.T) {
	t.Parallel()
	line := func(a *fakeAgent, what string) {
		if a.opts.Trace != nil {
			a.opts.Trace(claude.DirectionOut, fmt.Appendf(nil, "%q", what+" after "+cmp.Or(strings.Join(a.said(), "|"), "nothing")))
		}
	}
	l := hookedLauncher{
		fakeLauncher: &fakeLauncher{turn: func(ctx context.Context, a *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
			line(a, "turn")
			return echo(ctx, a, p, emit)
		}},
		reset: func(_ context.Context, a *fakeAgent) { line(a, "reset") },
		close: func(_ context.Context, a *fakeAgent) { line(a, "close") },
	}
	p := build(t, claudepool.PoolConfig{Launcher: l, Transcripts: t.TempDir()})
	for _, task := range []claudepool.Task{
		{Prompt: "held", KeepSession: time.Minute},
		{Prompt: "resets", KeepSession: time.Minute},
		{Prompt: "starts another", WorkDir: t.TempDir()},
		{Prompt: "last"},
	} {
		r := wait(t, p, submit(t, p, task))
		f, err := p.Transcript(r.TaskID, 1)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(f)
		f.Close()
		if err != nil || strings.Count(string(text), "\n") != 1 || !strings.Contains(string(text), `"turn after `+task.Prompt+`"`) {
			t.Errorf("transcript of %q = %s (%v), want the line of its turn alone", task.Prompt, text, err)
		}
	}
}

func TestAfterCloseEverythingFailsThoughTheStoreGoesOn(t *testing.T) {
	t.Parallel()
	s := durable{stored(t)}
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}, Store: s})
	p.Pause()
	id := submit(t, p, claudepool.Task{Prompt: "x"})
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"Submit":   func() error { _, err := p.Submit(ctx, claudepool.Task{Prompt: "x"}); return err },
		"Wait":     func() error { _, err := p.Wait(ctx, id); return err },
		"WaitFor":  func() error { _, err := p.WaitFor(ctx, id, claudepool.TaskState.Terminal); return err },
		"Task":     func() error { _, err := p.Task(ctx, id); return err },
		"Attempts": func() error { _, err := p.Attempts(ctx, id); return err },
		"Tasks": func() error {
			for _, err := range p.Tasks(ctx, claudepool.TaskFilter{}) {
				return err
			}
			return nil
		},
		"Cancel":     func() error { _, err := p.Cancel(ctx, id); return err },
		"Explain":    func() error { _, err := p.Explain(ctx, id); return err },
		"Status":     func() error { _, err := p.Status(ctx); return err },
		"Claim":      func() error { _, _, err := p.Claim(ctx, "slot-0"); return err },
		"Context":    func() error { _, err := p.Context(ctx); return err },
		"SetContext": func() error { return p.SetContext(ctx, "k", "v") },
		"Retry":      func() error { _, err := p.Retry(ctx, id); return err },
		"FindSlots":  func() error { _, err := p.FindSlots(ctx, claudepool.SlotFilter{}); return err },
	} {
		if err := call(); !errors.Is(err, claudepool.ErrClosed) {
			t.Errorf("%s after Close = %v, want ErrClosed", name, err)
		}
	}
	if r := record(t, s, id); r.State != claudepool.StatePending {
		t.Errorf("the task is %s, want it left pending", r.State)
	}
}
