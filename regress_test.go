package claudepool_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
)

// faultyStore does what its hooks say before, or after, its store is asked.
// What is nil does nothing. Like every store that does not say otherwise, it
// outlives the program.
type faultyStore struct {
	claudepool.PoolStore
	task       func(claudepool.TaskRecord) error
	tasks      func(claudepool.TaskFilter) error
	transition func(claudepool.Transition) error
	claimed    func(claudepool.TaskRecord)
}

func (s *faultyStore) Task(ctx context.Context, id claudepool.TaskID) (claudepool.TaskRecord, error) {
	r, err := s.PoolStore.Task(ctx, id)
	if err == nil && s.task != nil {
		err = s.task(r)
	}
	return r, err
}

func (s *faultyStore) Tasks(ctx context.Context, f claudepool.TaskFilter) iter.Seq2[claudepool.TaskRecord, error] {
	if s.tasks != nil {
		if err := s.tasks(f); err != nil {
			return func(yield func(claudepool.TaskRecord, error) bool) { yield(claudepool.TaskRecord{}, err) }
		}
	}
	return s.PoolStore.Tasks(ctx, f)
}

func (s *faultyStore) Transition(ctx context.Context, t claudepool.Transition) (claudepool.TaskRecord, error) {
	if s.transition != nil {
		if err := s.transition(t); err != nil {
			return claudepool.TaskRecord{}, err
		}
	}
	return s.PoolStore.Transition(ctx, t)
}

func (s *faultyStore) Claim(ctx context.Context, r claudepool.ClaimRequest) (claudepool.TaskRecord, error) {
	rec, err := s.PoolStore.Claim(ctx, r)
	if err == nil && s.claimed != nil {
		s.claimed(rec)
	}
	return rec, err
}

var errLocked = errors.New("database is locked")

// failures fails as often as its number says.
type failures struct{ left atomic.Int32 }

func (f *failures) next() error {
	if f.left.Add(-1) >= 0 {
		return errLocked
	}
	return nil
}

// stored makes a store that is closed when the test ends.
func stored(t *testing.T) claudepool.PoolStore {
	t.Helper()
	s := claudepool.NewMemoryStore()
	t.Cleanup(func() { s.Close() })
	return s
}

func record(t *testing.T, s claudepool.PoolStore, id claudepool.TaskID) claudepool.TaskRecord {
	t.Helper()
	r, err := s.Task(context.WithoutCancel(t.Context()), id)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// hookedLauncher makes agents whose reset and end can be looked into.
type hookedLauncher struct {
	*fakeLauncher
	reset, close func(context.Context, *fakeAgent)
}

func (l hookedLauncher) Launch(ctx context.Context, o claude.Options) (claudepool.Agent, error) {
	a, err := l.fakeLauncher.Launch(ctx, o)
	if err != nil {
		return nil, err
	}
	return hookedAgent{a.(*fakeAgent), l}, nil
}

type hookedAgent struct {
	*fakeAgent
	l hookedLauncher
}

func (a hookedAgent) Reset(ctx context.Context, s claude.Settings) error {
	if a.l.reset != nil {
		a.l.reset(ctx, a.fakeAgent)
	}
	return a.fakeAgent.Reset(ctx, s)
}

func (a hookedAgent) Close(ctx context.Context) error {
	if a.l.close != nil {
		a.l.close(ctx, a.fakeAgent)
	}
	return a.fakeAgent.Close(ctx)
}

// recall answers with all prompts of the conversation.
func recall(_ context.Context, a *fakeAgent, _ claude.Prompt, _ func(claude.Event)) (claude.Result, error) {
	return ok(strings.Join(a.said(), "|"), 1), nil
}

// While one slot is being reset, tasks that its process fits may wait for it,
// but no more than one, whatever other slots are idle.
func TestP3ClaimsNeverOutnumberTheSlotsWhileOneIsReset(t *testing.T) {
	t.Parallel()
	for _, closed := range []bool{false, true} {
		t.Run(fmt.Sprintf("closed %t", closed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, resetting, goOn := newBlocker(), make(chan struct{}, 100), make(chan struct{})
				turn := func(ctx context.Context, a *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
					if p.Text == "first" {
						return echo(ctx, a, p, emit)
					}
					return b.turn(ctx, a, p, emit)
				}
				l := hookedLauncher{fakeLauncher: &fakeLauncher{turn: turn}, reset: func(ctx context.Context, _ *fakeAgent) {
					resetting <- struct{}{}
					select {
					case <-goOn:
					case <-ctx.Done():
					}
				}}
				store, elsewhere := durable{stored(t)}, t.TempDir()
				p := build(t, claudepool.PoolConfig{Launcher: l, Slots: 2, Store: store})
				wait(t, p, submit(t, p, claudepool.Task{Prompt: "first", WorkDir: elsewhere, Slot: "slot-1"}))
				<-resetting
				ids := make([]claudepool.TaskID, 10)
				for i := range ids {
					ids[i] = submit(t, p, claudepool.Task{Prompt: fmt.Sprint(i), WorkDir: elsewhere})
				}
				synctest.Wait()
				st, err := p.Status(t.Context())
				if err != nil || st.RunningTasks != 2 || len(b.begun) != 1 {
					t.Fatalf("%d tasks are claimed and %d have begun (%v), want 2 and 1: one waits for the reset", st.RunningTasks, len(b.begun), err)
				}
				if closed {
					if err := p.Close(); err != nil {
						t.Fatal(err)
					}
					for i, id := range ids {
						if r := record(t, store, id); r.State != claudepool.StatePending || r.Claim != nil {
							t.Errorf("after Close task %d is %s with the claim %v, want pending without", i, r.State, r.Claim)
						}
					}
					return
				}
				close(goOn)
				synctest.Wait()
				if len(b.begun) != 2 {
					t.Errorf("%d tasks have begun after the reset, want 2", len(b.begun))
				}
				close(b.release)
				for _, id := range ids {
					if r := wait(t, p, id); r.Outcome != claudepool.OutcomeOK || r.Attempts != 1 {
						t.Errorf("task %s ended %s after %d attempts, want ok after 1", id, r.Outcome, r.Attempts)
					}
				}
			})
		})
	}
}

func TestP8ARateLimitWhoseResetIsPastIsRetriedLikeAnyFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limited := apiFailure(429, "rate_limit")
		limited.RateLimit = &claude.RateLimit{Status: "rejected", ResetsAt: time.Now().Add(-time.Second)}
		turn, n := attempts(says(limited))
		p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: turn}, Retry: claudepool.RetryPolicy{Max: 2}})
		id := submit(t, p, claudepool.Task{Prompt: "x"})
		time.Sleep(time.Hour)
		r, err := p.Task(t.Context(), id)
		if err != nil || r.State != claudepool.StateFailed || r.Outcome != claudepool.OutcomeRateLimited || r.Retries != 2 || n.Load() != 3 {
			t.Errorf("after an hour it is %s (%s), %d retries, %d turns (%v); want failed, rate_limited, 2, 3", r.State, r.Outcome, r.Retries, n.Load(), err)
		}
	})
}

func TestP3AnAgentsOwnDeadlineCountsAsACrash(t *testing.T) {
	t.Parallel()
	for policy, want := range map[claudepool.CrashPolicy]int32{claudepool.CrashFail: 1, claudepool.CrashRerun: 1 + claudepool.MaxCrashes} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				turn, n := attempts(func(claude.Prompt) (claude.Result, error) {
					return claude.Result{Cost: 1000}, fmt.Errorf("call the API: %w", context.DeadlineExceeded)
				})
				l := &fakeLauncher{turn: turn}
				p := build(t, claudepool.PoolConfig{Launcher: l})
				id := submit(t, p, claudepool.Task{Prompt: "x", OnCrash: policy})
				time.Sleep(time.Hour)
				r, err := p.Task(t.Context(), id)
				if err != nil || r.State != claudepool.StateFailed || r.Outcome != claudepool.OutcomeCrashed || n.Load() != want {
					t.Errorf("it is %s (%s) after %d turns (%v), want failed, crashed after %d", r.State, r.Outcome, n.Load(), err, want)
				}
				if got := len(l.agents()); got != int(want)+1 {
					t.Errorf("%d processes were started, want %d: one that failed so is not used again", got, want+1)
				}
			})
		})
	}
}

func TestP5APromptThatTheDriverRefusesCostsNothing(t *testing.T) {
	t.Parallel()
	turn, _ := attempts(func(claude.Prompt) (claude.Result, error) {
		return claude.Result{}, fmt.Errorf("%w: it is too large", claude.ErrInvalidPrompt)
	}, says(ok("done", 1000)))
	l := &fakeLauncher{turn: turn}
	p := build(t, claudepool.PoolConfig{Launcher: l, Budget: claudepool.USD(10)})
	r := wait(t, p, submit(t, p, claudepool.Task{Prompt: "x"}))
	st, err := p.Status(t.Context())
	if err != nil || r.Outcome != claudepool.OutcomeInvalid || r.Attempts != 1 || r.Cost != 0 || r.Estimated || st.TotalSpend != 0 || st.Reserved != 0 {
		t.Errorf("ended %s after %d attempts at %v; %v spent, %v reserved (%v); want invalid, at no cost", r.Outcome, r.Attempts, r.Cost, st.TotalSpend, st.Reserved, err)
	}
	if r := wait(t, p, submit(t, p, claudepool.Task{Prompt: "y"})); r.Outcome != claudepool.OutcomeOK {
		t.Errorf("the next task ended %s", r.Outcome)
	}
	if n, restarts := len(l.agents()), p.Metrics().Restarts; n != 1 || restarts != 0 {
		t.Errorf("%d processes, %d restarts; want the one process kept", n, restarts)
	}
}

func TestSettlingACancelledTaskOfADeadHolderWakesAWaitingOne(t *testing.T) {
	t.Parallel()
	for name, waits := range map[string]claudepool.Task{
		"for money": {Prompt: "w", Overrides: claudepool.TaskOverrides{MaxCost: claudepool.USD(2)}},
		"for a tag": {Prompt: "w", Tags: []string{"deploy"}, Overrides: claudepool.TaskOverrides{MaxCost: claudepool.USD(1)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, ctx, now := stored(t), t.Context(), time.Now()
				dead := claudepool.Task{Prompt: "x", Tags: []string{"deploy"}, Overrides: claudepool.TaskOverrides{MaxCost: claudepool.USD(9)}}
				if _, _, err := s.CreateTask(ctx, claudepool.TaskRecord{ID: "task-0", Lane: "task-0", Task: dead, Submitted: now}); err != nil {
					t.Fatal(err)
				}
				r, err := s.Claim(ctx, claudepool.ClaimRequest{Holder: "dead", Now: now, Lease: 30 * time.Second, Budget: claudepool.BudgetTerms{Limit: claudepool.USD(10)}})
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Extend(ctx, claudepool.ClaimRef{Task: r.ID, Fence: r.Fence}, now.Add(30*time.Second), claudepool.USD(1)); err != nil {
					t.Fatal(err)
				}
				if _, err := s.Transition(ctx, claudepool.Transition{Task: r.ID, From: r.State, To: claudepool.StateCancelled, At: now}); err != nil {
					t.Fatal(err)
				}
				p := build(t, claudepool.PoolConfig{
					Launcher: &fakeLauncher{turn: echo}, Store: durable{s}, Budget: claudepool.USD(10), TagLimits: map[string]int{"deploy": 1},
				})
				id := submit(t, p, waits)
				time.Sleep(20 * time.Second)
				if r := record(t, s, id); r.State != claudepool.StatePending {
					t.Fatalf("the task is %s while the lease holds, want pending", r.State)
				}
				time.Sleep(time.Minute)
				if r := record(t, s, id); r.State != claudepool.StateCompleted {
					e, err := p.Explain(ctx, id)
					t.Errorf("the task is %s after the lease (%s, %v), want completed", r.State, e.Reason, err)
				}
			})
		})
	}
}

func TestP5AClaimUnderWayIsGivenBackWhenThePoolEnds(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(context.Context, *claudepool.Pool) error{
		"Drain": func(ctx context.Context, p *claudepool.Pool) error { _, err := p.Drain(ctx); return err },
		"Close": func(_ context.Context, p *claudepool.Pool) error { return p.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				claimed, goOn := make(chan struct{}, 1), make(chan struct{})
				s := &faultyStore{PoolStore: stored(t), claimed: func(claudepool.TaskRecord) { claimed <- struct{}{}; <-goOn }}
				p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}, Store: s, Budget: claudepool.USD(5)})
				id := submit(t, p, claudepool.Task{Prompt: "x"})
				<-claimed
				ended := make(chan error, 1)
				go func() { ended <- end(t.Context(), p) }()
				synctest.Wait()
				close(goOn)
				if err := <-ended; err != nil {
					t.Error(err)
				}
				r := record(t, s, id)
				l, err := s.Ledger(t.Context(), claudepool.LedgerQuery{})
				if err != nil || r.State != claudepool.StatePending || r.Claim != nil || r.Attempts != 0 || l.Reserved != 0 {
					t.Errorf("the task is %s with the claim %v after %d attempts, %v reserved (%v); want pending and nothing", r.State, r.Claim, r.Attempts, l.Reserved, err)
				}
			})
		})
	}
}

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
	s := &faultyStore{PoolStore: stored(t), task: func(r claudepool.TaskRecord) error {
		if r.Task.Prompt == "1" {
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
	_, err := p.FanOut(t.Context(), []claudepool.Task{{Prompt: "new"}, {Prompt: "one", IdempotencyKey: "k1"}, {Prompt: "other", IdempotencyKey: "k2"}}, claudepool.FanOutOptions{})
	if !errors.Is(err, claudepool.ErrKeyReused) {
		t.Fatalf("FanOut = %v, want ErrKeyReused", err)
	}
	want := map[string]claudepool.TaskState{"new": claudepool.StateCancelled, "one": claudepool.StateRunning, "two": claudepool.StatePending}
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
