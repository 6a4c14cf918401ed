package claudepool_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/internal/proctree"
)

// identity returns that of this program with other values.
func identity(t *testing.T, values map[string]any) string {
	t.Helper()
	text, err := proctree.Identity()
	if err != nil {
		t.Skip("needs a system that can tell programs apart:", err)
	}
	var id map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &id); err != nil {
		t.Fatal(err)
	}
	for k, v := range values {
		if id[k], err = json.Marshal(v); err != nil {
			t.Fatal(err)
		}
	}
	out, err := json.Marshal(id)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// dead is the identity of a program that has ended, and unknowable that of one
// in another container.
func dead(t *testing.T, token string) string {
	return identity(t, map[string]any{"token": token, "start": 1})
}

func unknowable(t *testing.T) string {
	return identity(t, map[string]any{"token": "other", "namespace": "pid:[1]"})
}

// putPool stores another pool with a slot.
func putPool(t *testing.T, s claudepool.PoolStore, id, process string, slots ...claudepool.SlotRecord) {
	t.Helper()
	if err := s.PutInstance(t.Context(), claudepool.InstanceRecord{ID: id, Process: process, Seen: time.Now()}); err != nil {
		t.Fatal(err)
	}
	for _, slot := range slots {
		slot.Instance = id
		if _, err := s.PutSlot(t.Context(), slot); err != nil {
			t.Fatal(err)
		}
	}
}

// putTask stores a task, claimed by that pool if it has a name.
func putTask(t *testing.T, s claudepool.PoolStore, r claudepool.TaskRecord, holder string) claudepool.TaskRecord {
	t.Helper()
	if r.Task.Prompt == "" {
		r.Task.Prompt = "work"
	}
	r.Submitted, r.Lane = time.Now(), string(r.ID)
	r, _, err := s.CreateTask(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if holder == "" {
		return r
	}
	claim := claudepool.ClaimRequest{
		Holder: holder, Chains: r.Chain != nil, Now: time.Now(), Lease: 30 * time.Second, Accepts: func(_, _ string) bool { return true },
	}
	got, err := s.Claim(t.Context(), claim)
	if err != nil || got.ID != r.ID {
		t.Fatalf("Claim = %s, %v; want %s", got.ID, err, r.ID)
	}
	return got
}

func instanceIDs(t *testing.T, s claudepool.PoolStore) []string {
	t.Helper()
	all, err := s.Instances(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, r := range all {
		ids = append(ids, r.ID)
	}
	return ids
}

// What a dead program has left is taken over before Build returns: no lease is
// waited for, and no pass of the supervisor.
func TestP1WhatADeadProgramHasLeftIsTakenOverAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, ctx := durable{stored(t)}, t.Context()
		putPool(t, s, "dead", dead(t, "gone"), claudepool.SlotRecord{ID: "slot-0", PID: 1 << 30})
		r := putTask(t, s, claudepool.TaskRecord{ID: "task-1"}, "dead")
		ref := claudepool.ClaimRef{Task: r.ID, Fence: r.Fence, SlotID: "slot-0", SessionID: "session-x", Asked: true}
		if err := s.Extend(ctx, ref, time.Now().Add(30*time.Second), 700); err != nil {
			t.Fatal(err)
		}
		crashed := putTask(t, s, claudepool.TaskRecord{ID: "task-2", Task: claudepool.Task{OnCrash: claudepool.CrashFail}}, "dead")
		asked(t, s, crashed, 0)
		gone := putTask(t, s, claudepool.TaskRecord{ID: "task-3"}, "dead")
		if _, err := s.Transition(ctx, claudepool.Transition{Task: gone.ID, From: gone.State, To: claudepool.StateCancelled, At: time.Now()}); err != nil {
			t.Fatal(err)
		}
		chain := threeSteps()
		putTask(t, s, claudepool.TaskRecord{ID: "task-4", Chain: &chain}, "dead")
		// One that has waited too long, but began in time.
		late := putTask(t, s, claudepool.TaskRecord{ID: "task-5", Task: claudepool.Task{QueueTimeout: time.Second}}, "dead")
		time.Sleep(2 * time.Second)

		b := newBlocker()
		p := build(t, claudepool.PoolConfig{Store: s, Launcher: &fakeLauncher{turn: b.turn}, CheckEvery: -1, Slots: 5})
		attempts, err := s.Attempts(ctx, r.ID)
		if err != nil {
			t.Fatal(err)
		}
		want := []claudepool.Attempt{{
			TaskID: r.ID, Fence: 1, SlotID: "slot-0", Holder: "dead", Outcome: claudepool.OutcomeLost, Message: "its holder was lost",
			Cost: 700, Estimated: true, SessionID: "session-x",
		}}
		if diff := cmp.Diff(want, attempts, cmpopts.IgnoreFields(claudepool.Attempt{}, "Started", "Ended")); diff != "" {
			t.Errorf("attempts when Build returns (-want +got):\n%s", diff)
		}
		if len(attempts) == 0 {
			t.FailNow()
		}
		if at := attempts[0].Ended; !at.Before(r.Claim.Lease) {
			t.Errorf("taken over at %v, after the end of the lease at %v", at, r.Claim.Lease)
		}
		if r := record(t, s, crashed.ID); r.State != claudepool.StateFailed || r.Outcome != claudepool.OutcomeLost {
			t.Errorf("the task that must not be resumed is %s (%s), want failed (lost)", r.State, r.Outcome)
		}
		if r := record(t, s, gone.ID); r.State != claudepool.StateCancelled || r.Claim != nil {
			t.Errorf("the cancelled task is %s with the claim %v, want cancelled and none", r.State, r.Claim)
		}
		if diff := cmp.Diff([]string{instance(t, p)}, instanceIDs(t, s)); diff != "" {
			t.Errorf("pools on the store (-want +got):\n%s", diff)
		}
		close(b.release)
		for _, id := range []claudepool.TaskID{r.ID, late.ID} {
			if res := wait(t, p, id); res.Outcome != claudepool.OutcomeOK || record(t, s, id).Crashes != 1 {
				t.Errorf("%s ended %s after %d crashes, want ok after 1", id, res.Outcome, record(t, s, id).Crashes)
			}
		}
		if rec := record(t, s, r.ID); rec.SessionID != "session-x" {
			t.Errorf("the task went on in %s, want session-x", rec.SessionID)
		}
		if res, err := p.WaitChain(ctx, "task-4"); err != nil || record(t, s, "task-4").Estimated {
			t.Errorf("WaitChain = %+v, %v; want a chain whose cost is known", res, err)
		}
	})
}

// asked notes that the agent of a claim was asked, and what it has cost so far.
func asked(t *testing.T, s claudepool.PoolStore, r claudepool.TaskRecord, cost claudepool.Microdollars) {
	t.Helper()
	if err := s.Extend(t.Context(), claudepool.ClaimRef{Task: r.ID, Fence: r.Fence, Asked: true}, time.Now().Add(30*time.Second), cost); err != nil {
		t.Fatal(err)
	}
}

// What a lost attempt is charged is what is known of it. What is not known counts
// against the budget, and keeps no task from being finished.
func TestP5ALostAttemptIsChargedWhatIsKnownOfIt(t *testing.T) {
	t.Parallel()
	const limit, cap = 2_000_000, 20_000
	for name, tc := range map[string]struct {
		asked  bool
		seen   claudepool.Microdollars
		policy claudepool.CrashPolicy
		want   claudepool.Attempt // what it is charged
		state  claudepool.TaskState
	}{
		"nobody was asked":                {state: claudepool.StateCompleted, want: claudepool.Attempt{Message: "its holder was lost before the agent was asked"}},
		"nobody was asked, must not redo": {policy: claudepool.CrashFail, state: claudepool.StateCompleted, want: claudepool.Attempt{Message: "its holder was lost before the agent was asked"}},
		"a figure was seen":               {asked: true, seen: 700, state: claudepool.StateCompleted, want: claudepool.Attempt{Cost: 700, Estimated: true, Message: "its holder was lost"}},
		"no figure was seen":              {asked: true, state: claudepool.StateCompleted, want: claudepool.Attempt{Cost: cap, Estimated: true, Assumed: cap, Message: "its holder was lost"}},
		"asked, and must not be redone":   {asked: true, policy: claudepool.CrashFail, state: claudepool.StateFailed, want: claudepool.Attempt{Cost: cap, Estimated: true, Assumed: cap, Message: "its holder was lost"}},
		"the cap was used up":             {asked: true, seen: cap, state: claudepool.StateFailed, want: claudepool.Attempt{Cost: cap, Estimated: true, Message: "its holder was lost"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := durable{stored(t)}
				putPool(t, s, "dead", dead(t, "poor"))
				r := putTask(t, s, claudepool.TaskRecord{ID: "task-1", Task: claudepool.Task{OnCrash: tc.policy, Overrides: claudepool.TaskOverrides{MaxCost: cap}}}, "dead")
				if tc.asked {
					asked(t, s, r, tc.seen)
				}
				p := build(t, claudepool.PoolConfig{Store: s, Launcher: &fakeLauncher{turn: echo}, Budget: limit})
				if res := wait(t, p, r.ID); res.State != tc.state {
					t.Errorf("the task has %s (%s, %+v), want %s", res.State, res.Outcome, res.Failure, tc.state)
				}
				attempts, err := s.Attempts(t.Context(), r.ID)
				if err != nil || len(attempts) == 0 {
					t.Fatalf("Attempts = %v, %v", attempts, err)
				}
				tc.want.TaskID, tc.want.Fence, tc.want.Holder, tc.want.Outcome = r.ID, 1, "dead", claudepool.OutcomeLost
				if diff := cmp.Diff(tc.want, attempts[0], cmpopts.IgnoreFields(claudepool.Attempt{}, "Started", "Ended")); diff != "" {
					t.Errorf("the lost attempt (-want +got):\n%s", diff)
				}
				st, err := p.Status(t.Context())
				want := tc.want.Cost
				if tc.state == claudepool.StateCompleted {
					want += 1000
				}
				if err != nil || st.TotalSpend != want || st.Assumed != tc.want.Assumed || st.Reserved != 0 {
					t.Errorf("spent %v, %v of it assumed, reserved %v (%v); want %v, %v and nothing", st.TotalSpend, st.Assumed, st.Reserved, err, want, tc.want.Assumed)
				}
			})
		})
	}
}

// Of a pool that others can succeed, the store knows what an attempt has cost as
// soon as the pool does, whether or not the task has a cap.
func TestP5TheStoreKnowsEachFigureAtOnce(t *testing.T) {
	t.Parallel()
	for _, cap := range []claudepool.Microdollars{0, 50_000} {
		synctest.Test(t, func(t *testing.T) {
			s := durable{stored(t)}
			costs := make(chan int64)
			p := build(t, claudepool.PoolConfig{Store: s, Launcher: &fakeLauncher{turn: func(_ context.Context, a *fakeAgent, _ claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
				for cost := range costs {
					a.cost.Store(cost)
					emit(claude.ToolUse{Name: "Bash"})
				}
				return ok("done", 9000), nil
			}}})
			id := submit(t, p, claudepool.Task{Prompt: "x", Overrides: claudepool.TaskOverrides{MaxCost: cap}})
			for _, cost := range []int64{3000, 7000} {
				costs <- cost
				synctest.Wait()
				if c := record(t, s, id).Claim; c == nil || int64(c.LastCost) != cost || !c.Asked {
					t.Errorf("cap %v: at a cost of %v the claim is %+v", cap, cost, c)
				}
			}
			close(costs)
			if r := wait(t, p, id); r.Cost != 9000 {
				t.Errorf("cost %v", r.Cost)
			}
		})
	}
}

func instance(t *testing.T, p *claudepool.Pool) string {
	t.Helper()
	st, err := p.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return st.Instance
}

// A program about which nothing can be known may be alive until its lease ends,
// and so may a pool of this program.
func TestP3AProgramThatMayLiveKeepsItsClaimsUntilTheLeaseEnds(t *testing.T) {
	t.Parallel()
	for name, process := range map[string]func(*testing.T) string{
		"another container":         unknowable,
		"nothing known":             func(*testing.T) string { return "" },
		"a closed pool":             func(*testing.T) string { return "closed" },
		"another pool in this one":  func(t *testing.T) string { return identity(t, nil) },
		"a pool that is not stored": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := durable{stored(t)}
				if process != nil {
					putPool(t, s, "other", process(t))
				}
				putPool(t, s, "dead", dead(t, "meanwhile")) // whose claims are looked for
				r := putTask(t, s, claudepool.TaskRecord{ID: "task-1"}, "other")
				p := build(t, claudepool.PoolConfig{Store: s, Launcher: &fakeLauncher{turn: echo}})
				time.Sleep(29 * time.Second)
				if r := record(t, s, r.ID); r.Fence != 1 || r.State != claudepool.StateRunning {
					t.Errorf("before the end of its lease the task is %s with fence %d, want running, 1", r.State, r.Fence)
				}
				if res := wait(t, p, r.ID); res.Outcome != claudepool.OutcomeOK {
					t.Errorf("ended %s", res.Outcome)
				}
			})
		})
	}
}

// The processes of a dead program have to be ended first; that is tried again
// until it works, whatever the lease.
func TestP3NothingIsTakenOverWhileProcessesOfADeadProgramMayLive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := durable{stored(t)}
		// What is written in a way of the future cannot be acted upon.
		book := filepath.Join(os.Getenv("CLAUDEPOOL_STATE_DIR"), "stubborn.json")
		if err := os.MkdirAll(filepath.Dir(book), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(book, []byte(`{"version":99,"host":{"token":"stubborn","pid":1}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(book) })
		putPool(t, s, "dead", dead(t, "stubborn"))
		r := putTask(t, s, claudepool.TaskRecord{ID: "task-1"}, "dead")
		p := build(t, claudepool.PoolConfig{Store: s, Launcher: &fakeLauncher{turn: echo}})
		time.Sleep(5 * time.Minute)
		if r := record(t, s, r.ID); r.Fence != 1 {
			t.Fatalf("the task was taken over: %+v", r)
		}
		if _, err := p.CheckAndRestartSlots(t.Context()); err == nil || !strings.Contains(err.Error(), "stubborn.json") {
			t.Errorf("CheckAndRestartSlots = %v, want an error that names what is in the way", err)
		}
		if err := os.Remove(book); err != nil {
			t.Fatal(err)
		}
		if res := wait(t, p, r.ID); res.Outcome != claudepool.OutcomeOK {
			t.Errorf("ended %s", res.Outcome)
		}
	})
}

// A claim of this pool that nothing of it knows has not been used: the task goes
// back as if it had never been claimed.
func TestP5AnUnusedClaimOfThisPoolCostsNothing(t *testing.T) {
	t.Parallel()
	for _, cancelled := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := durable{stored(t)}
			p := build(t, claudepool.PoolConfig{Store: s, Launcher: &fakeLauncher{turn: echo}, Budget: claudepool.USD(5)})
			p.Pause()
			id := submit(t, p, claudepool.Task{Prompt: "x"})
			r, err := s.Claim(t.Context(), claudepool.ClaimRequest{
				Holder: instance(t, p), Now: time.Now(), Lease: 30 * time.Second, Budget: claudepool.BudgetTerms{Limit: claudepool.USD(5)},
			})
			if err != nil || r.ID != id || r.Claim.Reserved == 0 {
				t.Fatalf("Claim = %+v, %v", r, err)
			}
			want := claudepool.StatePending
			if cancelled {
				want = claudepool.StateCancelled
				if _, err := p.Cancel(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Minute)
			r = record(t, s, id)
			l, err := s.Ledger(t.Context(), claudepool.LedgerQuery{})
			if err != nil || r.State != want || r.Claim != nil || r.Crashes != 0 || r.Estimated || l.Spent != 0 || l.Reserved != 0 {
				t.Errorf("cancelled %t: %+v, ledger %+v, %v; want %s at no cost, and no crash", cancelled, r, l, err, want)
			}
		})
	}
}

// Waiting tasks of a pool that has died have to expire all the same.
func TestP8TasksOfADeadPoolDoNotWaitForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := durable{stored(t)}
		p := build(t, claudepool.PoolConfig{Store: s, Launcher: &fakeLauncher{turn: echo}})
		p.Pause()
		putPool(t, s, "dead", dead(t, "late"))
		r := putTask(t, s, claudepool.TaskRecord{ID: "task-1", Task: claudepool.Task{QueueTimeout: time.Minute}}, "")
		if res := wait(t, p, r.ID); res.Outcome != claudepool.OutcomeExpired {
			t.Errorf("ended %s, want expired", res.Outcome)
		}
	})
}

// An attempt that was cut off may not have left its prompt in the session: the
// next one brings all of it.
func TestP4AResumedTaskIsAskedSoThatNothingIsMissing(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		task   claudepool.Task
		prompt string
		images int
	}{
		"plain":   {claudepool.Task{Prompt: "x"}, "<run_context>\n{\"k\":\"v\"}\n</run_context>\n\n" + resumed("x"), 0},
		"images":  {claudepool.Task{Prompt: "x", Images: []claude.Image{{MediaType: "image/png", Data: []byte("png")}}}, "<run_context>\n{\"k\":\"v\"}\n</run_context>\n\n" + resumed("x"), 1},
		"command": {claudepool.Task{Prompt: "/x", Commands: true}, "/x", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := durable{stored(t)}
				if err := s.SetContext(t.Context(), "k", "v"); err != nil {
					t.Fatal(err)
				}
				putPool(t, s, "dead", dead(t, "asked"))
				r := putTask(t, s, claudepool.TaskRecord{ID: "task-1", Task: tc.task}, "dead")
				if err := s.Extend(t.Context(), claudepool.ClaimRef{Task: r.ID, Fence: r.Fence, SessionID: "session-x", Asked: true}, time.Now().Add(time.Minute), 0); err != nil {
					t.Fatal(err)
				}
				asked := make(chan claude.Prompt, 1)
				p := build(t, claudepool.PoolConfig{Store: s, Launcher: &fakeLauncher{turn: func(ctx context.Context, a *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
					asked <- p
					return echo(ctx, a, p, emit)
				}}})
				wait(t, p, r.ID)
				if got := <-asked; got.Text != tc.prompt || len(got.Images) != tc.images {
					t.Errorf("asked %q with %d images, want %q with %d", got.Text, len(got.Images), tc.prompt, tc.images)
				}
			})
		})
	}
}
