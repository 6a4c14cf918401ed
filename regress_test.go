package claudepool_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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
	context    func() error
}

func (s *faultyStore) Context(ctx context.Context) (map[string]string, error) {
	if s.context != nil {
		if err := s.context(); err != nil {
			return nil, err
		}
	}
	return s.PoolStore.Context(ctx)
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

func TestAStoreThatIsLockedForAMomentIsNoCrash(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		left := 3
		s := &faultyStore{PoolStore: stored(t), context: func() error {
			if left--; left >= 0 {
				return errLocked
			}
			return nil
		}}
		p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}, Store: s})
		id := submit(t, p, claudepool.Task{Prompt: "x"})
		if r := wait(t, p, id); r.Outcome != claudepool.OutcomeOK || r.Attempts != 1 {
			t.Errorf("the task ended %s after %d attempts, want ok after one", r.Outcome, r.Attempts)
		}
	})
}
