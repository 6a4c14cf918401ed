package claudepool_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/internal/proctree"
)

// offlineStore does not answer while it is off.
type offlineStore struct {
	claudepool.PoolStore
	off       atomic.Bool
	presences atomic.Int64 // how often a pool has said that it is there
}

func (s *offlineStore) err() error {
	if s.off.Load() {
		return errLocked
	}
	return nil
}

func (s *offlineStore) PutInstance(ctx context.Context, r claudepool.InstanceRecord) error {
	if err := s.err(); err != nil {
		return err
	}
	s.presences.Add(1)
	return s.PoolStore.PutInstance(ctx, r)
}

func (s *offlineStore) Transition(ctx context.Context, t claudepool.Transition) (claudepool.TaskRecord, error) {
	if err := s.err(); err != nil {
		return claudepool.TaskRecord{}, err
	}
	return s.PoolStore.Transition(ctx, t)
}

func (s *offlineStore) Extend(ctx context.Context, ref claudepool.ClaimRef, lease time.Time, cost claudepool.Microdollars) error {
	if err := s.err(); err != nil {
		return err
	}
	return s.PoolStore.Extend(ctx, ref, lease, cost)
}

func TestAPoolIsOnItsStoreWhileItLives(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &offlineStore{PoolStore: stored(t)}
		p := build(t, claudepool.PoolConfig{Store: s, Launcher: &fakeLauncher{turn: echo}})
		id := instance(t, p)
		mine := func() claudepool.InstanceRecord {
			t.Helper()
			all, err := s.Instances(t.Context())
			if err != nil || len(all) != 1 || all[0].ID != id {
				t.Fatalf("pools on the store: %+v, %v; want %s alone", all, err, id)
			}
			return all[0]
		}
		if r := mine(); !proctree.IsSelf(r.Process) || r.PID == 0 || r.Machine == "" {
			t.Errorf("the pool says %+v of itself, which does not name this program", r)
		}
		time.Sleep(15 * time.Second)
		if r := mine(); time.Since(r.Seen) > 10*time.Second {
			t.Errorf("was last seen %v ago, want at most a third of the lease of 30s", time.Since(r.Seen))
		}
		s.off.Store(true)
		time.Sleep(time.Hour) // no reason to end
		s.off.Store(false)
		time.Sleep(2 * time.Second)
		if r := mine(); time.Since(r.Seen) > 2*time.Second {
			t.Errorf("was last seen %v ago though the store answers again", time.Since(r.Seen))
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if left := instanceIDs(t, s); len(left) != 0 {
			t.Errorf("pools on the store after Close: %v", left)
		}
	})
}

func TestAPoolThatCannotRegisterIsNotBuilt(t *testing.T) {
	t.Parallel()
	s := &offlineStore{PoolStore: stored(t)}
	s.off.Store(true)
	p, err := claudepool.NewPoolBuilder().Config(claudepool.PoolConfig{Store: s, Launcher: &fakeLauncher{turn: echo}}).Build(t.Context())
	if p != nil || !errors.Is(err, errLocked) {
		t.Errorf("Build = %v, %v; want the store's error", p, err)
	}
}

func configure(t *testing.T, p *claudepool.Pool, slot, name, role string) {
	t.Helper()
	if _, err := p.ConfigureSlot(t.Context(), slot, claudepool.SlotUpdate{Name: &name, Role: &role}); err != nil {
		t.Fatal(err)
	}
}

// called returns "id name/role" of every slot that a pool sees.
func called(t *testing.T, p *claudepool.Pool) []string {
	t.Helper()
	slots, err := p.FindSlots(t.Context(), claudepool.SlotFilter{})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, s := range slots {
		out = append(out, s.ID+" "+s.Name+"/"+s.Role)
	}
	return out
}

func TestSlotsAreCalledTheSameAfterARestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := durable{stored(t)}
		config := claudepool.PoolConfig{Store: s, Launcher: &fakeLauncher{turn: echo}, Slots: 2, SlotConfigs: []claudepool.SlotConfig{{Role: "from config"}}}
		want := func(p *claudepool.Pool, when string, want ...string) {
			t.Helper()
			if diff := cmp.Diff(want, called(t, p)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", when, diff)
			}
		}
		p := build(t, config)
		if _, err := p.ScaleUp(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		configure(t, p, "slot-0", "ann", "given")
		configure(t, p, "slot-2", "eve", "")
		for range 2 {
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			p = build(t, config)
			want(p, "after a restart", "slot-0 ann/from config", "slot-1 /")
			if _, err := p.ScaleUp(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			want(p, "with another slot", "slot-0 ann/from config", "slot-1 /", "slot-2 eve/")
		}
		if n := len(instanceIDs(t, s)); n != 1 {
			t.Errorf("%d pools on the store, want one", n)
		}
		// Nobody calls them anything any more: so it stays.
		configure(t, p, "slot-0", "", "from config")
		configure(t, p, "slot-2", "", "")
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if left := instanceIDs(t, s); len(left) != 0 {
			t.Errorf("pools on the store after Close: %v", left)
		}
		want(build(t, config), "unnamed", "slot-0 /from config", "slot-1 /")
	})
}

func TestSlotsOfADeadPoolAreReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := durable{stored(t)}
		putPool(t, s, "dead-1", dead(t, "a"), claudepool.SlotRecord{ID: "slot-0", Name: "ann", Role: "r"}, claudepool.SlotRecord{ID: "slot-9"})
		putPool(t, s, "dead-2", dead(t, "b"), claudepool.SlotRecord{ID: "slot-0"})
		putPool(t, s, "lives", unknowable(t), claudepool.SlotRecord{ID: "slot-3", Name: "eve"})
		p := build(t, claudepool.PoolConfig{Store: s, Launcher: &fakeLauncher{turn: echo}})
		if diff := cmp.Diff([]string{"slot-0 ann/r", "slot-3 eve/"}, called(t, p)); diff != "" {
			t.Errorf("slots (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"lives", instance(t, p)}, instanceIDs(t, s)); diff != "" {
			t.Errorf("pools on the store (-want +got):\n%s", diff)
		}
		// The next pool finds its slot's name in use.
		putPool(t, s, "dead-3", dead(t, "c"), claudepool.SlotRecord{ID: "slot-0", Name: "ann", Role: "other"})
		q := build(t, claudepool.PoolConfig{Store: s, Launcher: &fakeLauncher{turn: echo}})
		if diff := cmp.Diff("slot-0 /other", called(t, q)[0]); diff != "" {
			t.Errorf("first slot of the second pool (-want +got):\n%s", diff)
		}
	})
}

// A pool that can run nothing must not fail what another can run.
func TestAHopelessPoolLeavesTasksToOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := durable{stored(t)}
		good := build(t, claudepool.PoolConfig{Store: s, Launcher: &fakeLauncher{turn: echo}})
		good.Pause()
		bad := build(t, claudepool.PoolConfig{
			Store: s, Launcher: &fakeLauncher{start: func(claude.Options) error { return claude.ErrNotFound }},
			SlotConfigs: []claudepool.SlotConfig{{Name: "only here"}},
		})
		id := submit(t, bad, claudepool.Task{Prompt: "x"})
		pinned := submit(t, bad, claudepool.Task{Prompt: "y", Slot: "only here"})
		if r := wait(t, bad, pinned); r.Outcome != claudepool.OutcomeLaunch {
			t.Errorf("the task that no other pool can run ended %s, want launch", r.Outcome)
		}
		time.Sleep(time.Hour)
		if r := record(t, s, id); r.State != claudepool.StatePending {
			t.Fatalf("the task is %s (%s), want pending: the other pool can run it", r.State, r.Outcome)
		}
		if e, err := bad.Explain(t.Context(), id); err != nil || !strings.Contains(e.Reason, "another pool") || !strings.Contains(e.Reason, "no slot can start") {
			t.Errorf("Explain = %+v, %v; want both the reason and who can run it", e, err)
		}
		good.Resume()
		if r := wait(t, bad, id); r.Outcome != claudepool.OutcomeOK {
			t.Errorf("ended %s, want ok", r.Outcome)
		}
		good.Pause()
		id = submit(t, bad, claudepool.Task{Prompt: "z"})
		if err := good.Close(); err != nil {
			t.Fatal(err)
		}
		if r := wait(t, bad, id); r.Outcome != claudepool.OutcomeLaunch {
			t.Errorf("with nobody left the task ended %s, want launch", r.Outcome)
		}
	})
}

func TestP8HopelessPoolsDoNotLeaveTasksToEachOther(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		l    *fakeLauncher
		want claudepool.Outcome
	}{
		"no program": {&fakeLauncher{start: func(claude.Options) error { return claude.ErrNotFound }}, claudepool.OutcomeLaunch},
		"no login": {&fakeLauncher{turn: func(context.Context, *fakeAgent, claude.Prompt, func(claude.Event)) (claude.Result, error) {
			return apiFailure(401, "authentication_failed"), nil
		}}, claudepool.OutcomeAuth},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := durable{stored(t)}
				c := claudepool.PoolConfig{Store: s, Launcher: tc.l}
				p, q := build(t, c), build(t, c)
				begin := time.Now()
				for range 20 {
					submit(t, p, claudepool.Task{Prompt: "x"})
				}
				for r, err := range s.Tasks(t.Context(), claudepool.TaskFilter{}) {
					if err != nil {
						t.Fatal(err)
					}
					if r := wait(t, q, r.ID); r.Outcome != tc.want {
						t.Errorf("ended %s, want %s", r.Outcome, tc.want)
					}
				}
				if d := time.Since(begin); d > time.Minute {
					t.Errorf("the last task failed after %v", d)
				}
			})
		})
	}
}

// Of two pools one is logged in: the other must not use up the tasks.
func TestAPoolThatIsNotLoggedInFailsNothingThatAnotherCanRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := durable{stored(t)}
		refused := 0
		bad := build(t, claudepool.PoolConfig{Store: s, Launcher: &fakeLauncher{turn: func(context.Context, *fakeAgent, claude.Prompt, func(claude.Event)) (claude.Result, error) {
			refused++
			return apiFailure(401, "authentication_failed"), nil
		}}})
		good := build(t, claudepool.PoolConfig{Store: s, Launcher: &fakeLauncher{turn: func(ctx context.Context, a *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
			time.Sleep(time.Second)
			return echo(ctx, a, p, emit)
		}}})
		synctest.Wait() // until its slot is there to be seen
		var ids []claudepool.TaskID
		for range 100 {
			ids = append(ids, submit(t, bad, claudepool.Task{Prompt: "x", Retry: claudepool.RetryPolicy{Max: 10}}))
		}
		for _, id := range ids {
			if r := wait(t, good, id); r.Outcome != claudepool.OutcomeOK {
				t.Errorf("%s ended %s, want ok", id, r.Outcome)
			}
		}
		if refused == 0 || refused > 10 {
			t.Errorf("the pool without a login tried %d times in some minutes, want a few", refused)
		}
	})
}

// What has been paid for is written down as soon as the store answers again.
func TestP1AFinishedResultOutlivesAStoreThatFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &offlineStore{PoolStore: stored(t)}
		var turns atomic.Int64
		p := build(t, claudepool.PoolConfig{Store: s, Launcher: &fakeLauncher{turn: func(ctx context.Context, a *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
			turns.Add(1)
			s.off.Store(true)
			return echo(ctx, a, p, emit)
		}}})
		id := submit(t, p, claudepool.Task{Prompt: "x"})
		next := submit(t, p, claudepool.Task{Prompt: "y"})
		time.Sleep(10 * time.Minute)
		if a, b := record(t, s, id), record(t, s, next); a.State != claudepool.StateRunning || b.State != claudepool.StatePending || turns.Load() != 1 {
			t.Fatalf("while the store fails the tasks are %s and %s after %d turns, want running, pending, 1", a.State, b.State, turns.Load())
		}
		s.off.Store(false)
		r := wait(t, p, id)
		rec := record(t, s, id)
		if r.Outcome != claudepool.OutcomeOK || r.Output != "x" || rec.Attempts != 1 || rec.Crashes != 0 || rec.Cost != 1000 {
			t.Errorf("ended %s with %q; %+v; want the result of the only attempt", r.Outcome, r.Output, rec)
		}
	})
}

func TestP1TheEndOfAChainOutlivesAStoreThatFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var locked failures
		locked.left.Store(100) // for more than a minute
		s := &faultyStore{PoolStore: stored(t), transition: func(tr claudepool.Transition) error {
			if strings.Contains(string(tr.Task), ".") { // a step
				return nil
			}
			return locked.next()
		}}
		p := build(t, claudepool.PoolConfig{Store: s, Launcher: &fakeLauncher{turn: echo}})
		begin := time.Now()
		r, err := p.ExecuteChain(t.Context(), threeSteps(), claudepool.ChainOptions{})
		if err != nil || r.Output != "c b a" {
			t.Errorf("ExecuteChain = %q, %v", r.Output, err)
		}
		if d := time.Since(begin); d < time.Minute {
			t.Errorf("the store failed for %v only: the test shows nothing", d)
		}
		if rec := record(t, s, r.TaskID); rec.Attempts != 1 {
			t.Errorf("the chain was run %d times, want once", rec.Attempts)
		}
	})
}

// A pool that closes does not wait for a store that does not come back.
func TestP8CloseDoesNotWaitForAStoreThatFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &offlineStore{PoolStore: stored(t)}
		p := build(t, claudepool.PoolConfig{Store: s, Launcher: &fakeLauncher{turn: func(ctx context.Context, a *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
			s.off.Store(true)
			return echo(ctx, a, p, emit)
		}}})
		id := submit(t, p, claudepool.Task{Prompt: "x"})
		time.Sleep(time.Minute)
		begin := time.Now()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if d := time.Since(begin); d > 20*time.Second {
			t.Errorf("Close took %v", d)
		}
		s.off.Store(false)
		q := build(t, claudepool.PoolConfig{Store: s, Launcher: &fakeLauncher{turn: echo}})
		if r := wait(t, q, id); r.Outcome != claudepool.OutcomeOK {
			t.Errorf("ended %s", r.Outcome)
		}
	})
}
