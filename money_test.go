package claudepool_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
)

// spender costs what cost says, a bit at a time, and stops when it is told to.
func spender(total func() claude.Microdollars) *fakeLauncher {
	return &fakeLauncher{turn: func(ctx context.Context, a *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
		sum := total()
		for spent := claude.Microdollars(0); spent < sum; {
			step := min(1000, sum-spent)
			a.cost.Add(int64(step))
			spent += step
			emit(claude.ToolUse{Name: "Bash"})
			select {
			case <-time.After(3 * time.Second):
			case <-ctx.Done():
				return claude.Result{Interrupted: true, IsError: true, Subtype: "error_during_execution", Cost: spent}, context.Cause(ctx)
			}
		}
		return ok("done", sum), nil
	}}
}

func TestP5ReservationsHoldOverAllSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const limit, cap = 100_000, 20_000
		rnd := rand.New(rand.NewPCG(1, 2))
		var mu sync.Mutex
		l := spender(func() claude.Microdollars {
			mu.Lock()
			defer mu.Unlock()
			return claude.Microdollars(rnd.IntN(cap) + 1)
		})
		p := build(t, claudepool.PoolConfig{Slots: 8, Launcher: l, Budget: limit, DefaultCap: cap})
		stop := make(chan struct{})
		var watch sync.WaitGroup
		watch.Go(func() {
			for {
				st, err := p.Status(t.Context())
				if err != nil || st.TotalSpend+st.Reserved > limit {
					t.Errorf("spent %v and reserved %v of %v (%v)", st.TotalSpend, st.Reserved, claudepool.Microdollars(limit), err)
				}
				select {
				case <-stop:
					return
				case <-time.After(time.Second):
				}
			}
		})
		out, err := p.FanOut(t.Context(), prompts(40, "%d"), claudepool.FanOutOptions{})
		close(stop)
		watch.Wait()
		if err != nil {
			t.Fatal(err)
		}
		if out.Census.Cost > limit || out.Census.OK == 0 || out.Census.OK+out.Census.Failed[claudepool.OutcomeBudget] != 40 {
			t.Errorf("census = %+v, want some ok, the rest out of budget, and at most %v spent", out.Census, claudepool.Microdollars(limit))
		}
	})
}

func TestP5ATurnIsEndedAtItsCap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := build(t, claudepool.PoolConfig{Launcher: spender(func() claude.Microdollars { return 1_000_000 })})
		task := claudepool.Task{Prompt: "x", Overrides: claudepool.TaskOverrides{MaxCost: 5000}}
		r := wait(t, p, submit(t, p, task))
		if r.Outcome != claudepool.OutcomeBudget || r.Cost < 5000 || r.Cost > 6000 {
			t.Errorf("ended %s at %v, want budget at the cap of $0.005 or one call more", r.Outcome, r.Cost)
		}
	})
}

func TestACapCoversAllAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		failing := apiFailure(500, "")
		failing.Cost = 4000
		turn, n := attempts(says(failing))
		p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: turn}, Retry: claudepool.RetryPolicy{Max: 10}})
		r := wait(t, p, submit(t, p, claudepool.Task{Prompt: "x", Overrides: claudepool.TaskOverrides{MaxCost: 10_000}}))
		if r.Outcome != claudepool.OutcomeBudget || n.Load() != 3 || r.Cost != 12_000 {
			t.Errorf("ended %s after %d attempts at %v, want budget after 3 at $0.012", r.Outcome, n.Load(), r.Cost)
		}
	})
}

func TestAnExhaustedBudgetRefusesNewWork(t *testing.T) {
	t.Parallel()
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}, Budget: 1000})
	if r, err := p.Run(t.Context(), claudepool.Task{Prompt: "a"}); err != nil || r.Cost != 1000 {
		t.Fatalf("Run = %v, %v", r.Cost, err)
	}
	var broke *claudepool.BudgetExhausted
	if _, err := p.Submit(t.Context(), claudepool.Task{Prompt: "b"}); !errors.As(err, &broke) || broke.Spent != 1000 || broke.Limit != 1000 {
		t.Fatalf("Submit = %v, want BudgetExhausted with the figures", err)
	}
	if err := p.SetBudget(5000); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Run(t.Context(), claudepool.Task{Prompt: "b"}); err != nil {
		t.Errorf("Run after SetBudget = %v", err)
	}
	if err := p.SetBudget(0); err == nil {
		t.Error("SetBudget(0) was taken")
	}
}

func TestTasksCanWaitForALargerBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}, Budget: 1500, DefaultCap: 1000, WaitForBudget: true})
		p.Pause() // both are taken before either has cost anything
		first := submit(t, p, claudepool.Task{Prompt: "a"})
		second := submit(t, p, claudepool.Task{Prompt: "b"})
		p.Resume()
		wait(t, p, first)
		time.Sleep(time.Hour)
		if r, err := p.Task(t.Context(), second); err != nil || r.State != claudepool.StatePending {
			t.Fatalf("the second task is %s (%v), want pending", r.State, err)
		}
		if e, err := p.Explain(t.Context(), second); err != nil {
			t.Error(err)
		} else {
			contains(t, "Explain", e.Reason, "budget")
		}
		if err := p.SetBudget(3000); err != nil {
			t.Fatal(err)
		}
		if r := wait(t, p, second); r.Outcome != claudepool.OutcomeOK {
			t.Errorf("ended %s, want ok", r.Outcome)
		}
	})
}

func TestAFanOutCanHaveACapOfItsOwn(t *testing.T) {
	t.Parallel()
	p := build(t, claudepool.PoolConfig{Slots: 2, Launcher: &fakeLauncher{turn: echo}, DefaultCap: 1000})
	out, err := p.FanOut(t.Context(), prompts(10, "%d"), claudepool.FanOutOptions{MaxCost: 4000})
	if err != nil {
		t.Fatal(err)
	}
	if out.Census.OK != 4 || out.Census.Failed[claudepool.OutcomeBudget] != 6 || out.Census.Cost != 4000 {
		t.Errorf("census = %+v, want 4 ok and 6 without money", out.Census)
	}
	if _, err := p.Run(t.Context(), claudepool.Task{Prompt: "other"}); err != nil {
		t.Errorf("a task outside the fan-out = %v", err)
	}
}

func TestWindowOfTheDay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // the bubble's clock starts at midnight UTC
		p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}, Budget: 1000, Window: claudepool.WindowDay})
		for day := range 3 {
			if _, err := p.Run(t.Context(), claudepool.Task{Prompt: fmt.Sprint(day)}); err != nil {
				t.Errorf("day %d: %v", day, err)
			}
			if _, err := p.Submit(t.Context(), claudepool.Task{Prompt: "more"}); err == nil {
				t.Errorf("day %d: more than the day's budget was taken", day)
			}
			time.Sleep(24 * time.Hour)
		}
	})
}

func TestUnknownCostIsEstimated(t *testing.T) {
	t.Parallel()
	l := &fakeLauncher{turn: func(_ context.Context, _ *fakeAgent, _ claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
		return claude.Result{}, errDied
	}}
	p := build(t, claudepool.PoolConfig{Launcher: l})
	task := claudepool.Task{Prompt: "x", OnCrash: claudepool.CrashFail, Overrides: claudepool.TaskOverrides{MaxCost: 3000}}
	r := wait(t, p, submit(t, p, task))
	if r.Cost != 3000 || !r.Estimated {
		t.Errorf("cost %v, estimated %t; want the reservation, marked", r.Cost, r.Estimated)
	}
}
