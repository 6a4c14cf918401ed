package claudepool_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/google/go-cmp/cmp"
)

func TestP2CancelledStaysCancelled(t *testing.T) {
	t.Parallel()
	// An agent that answers although it was interrupted.
	begun := make(chan struct{})
	l := &fakeLauncher{turn: func(ctx context.Context, a *fakeAgent, p claude.Prompt, _ func(claude.Event)) (claude.Result, error) {
		close(begun)
		<-ctx.Done()
		return ok("too late", 700), nil
	}}
	p := build(t, claudepool.PoolConfig{Launcher: l})
	id := submit(t, p, claudepool.Task{Prompt: "x"})
	<-begun
	if state, err := p.Cancel(t.Context(), id); err != nil || state != claudepool.StateCancelled {
		t.Fatalf("Cancel = %s, %v", state, err)
	}
	if _, err := p.Run(t.Context(), claudepool.Task{Prompt: "y", Slot: "slot-7"}); !errors.Is(err, claudepool.ErrUnknownSlot) {
		t.Fatal(err)
	}
	for { // the late result is recorded when the attempt is through
		at, err := p.Attempts(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if len(at) == 1 {
			if !at[0].Late || at[0].Cost != 700 {
				t.Errorf("attempt = %+v, want a late one that cost 700", at[0])
			}
			break
		}
		time.Sleep(time.Millisecond)
	}
	r := wait(t, p, id)
	if r.State != claudepool.StateCancelled || r.Outcome != claudepool.OutcomeCancelled {
		t.Errorf("task is %s (%s), want cancelled", r.State, r.Outcome)
	}
	if state, err := p.Cancel(t.Context(), id); err != nil || state != claudepool.StateCancelled {
		t.Errorf("second Cancel = %s, %v; want cancelled and no error", state, err)
	}
	st, err := p.Status(t.Context())
	if err != nil || st.TotalSpend != 700 || st.Reserved != 0 {
		t.Errorf("spent %v, reserved %v (%v); want 700 and 0: late cost counts", st.TotalSpend, st.Reserved, err)
	}
}

func TestCancelPending(t *testing.T) {
	t.Parallel()
	b := newBlocker()
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: b.turn}})
	running := submit(t, p, claudepool.Task{Prompt: "a"})
	<-b.begun
	waiting := submit(t, p, claudepool.Task{Prompt: "b"})
	if state, err := p.Cancel(t.Context(), waiting); err != nil || state != claudepool.StateCancelled {
		t.Fatalf("Cancel = %s, %v", state, err)
	}
	close(b.release)
	if r := wait(t, p, running); r.Outcome != claudepool.OutcomeOK {
		t.Errorf("the running task ended %s", r.Outcome)
	}
	if r := wait(t, p, waiting); r.Attempts != 0 || r.Failure == nil || r.Failure.Class != claudepool.OutcomeCancelled {
		t.Errorf("the waiting task = %+v, want cancelled without an attempt", r)
	}
	if _, err := p.Cancel(t.Context(), "task-none"); !errors.Is(err, claudepool.ErrUnknownTask) {
		t.Errorf("Cancel of an unknown task = %v", err)
	}
}

func TestRunCancelsItsTaskWhenItsCallerGoes(t *testing.T) {
	t.Parallel()
	b := newBlocker()
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: b.turn}})
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("had enough")
	go func() { <-b.begun; cancel(why) }()
	if _, err := p.Run(ctx, claudepool.Task{Prompt: "x"}); !errors.Is(err, why) {
		t.Fatalf("Run = %v, want the cause of its context", err)
	}
	for r, err := range p.Tasks(t.Context(), claudepool.TaskFilter{}) {
		if err != nil || r.State != claudepool.StateCancelled {
			t.Errorf("task is %s (%v), want cancelled", r.State, err)
		}
	}
}

func TestP4EveryFailureHasItsClass(t *testing.T) {
	t.Parallel()
	denied := []claude.Denial{{Tool: "Write"}}
	for name, tc := range map[string]struct {
		res    claude.Result
		schema bool
		want   claudepool.Outcome
	}{
		"success":            {res: ok("fine", 1), want: claudepool.OutcomeOK},
		"partly denied":      {res: claude.Result{Subtype: "success", Text: "did the rest", Denials: denied}, want: claudepool.OutcomePartlyDenied},
		"denied":             {res: claude.Result{Subtype: "success", Denials: denied}, want: claudepool.OutcomeDenied},
		"denied and stopped": {res: claude.Result{Subtype: "error_during_execution", IsError: true, TerminalReason: "aborted_tools", Denials: denied}, want: claudepool.OutcomeDenied},
		"max turns":          {res: claude.Result{Subtype: "error_max_turns", IsError: true}, want: claudepool.OutcomeMaxTurns},
		"budget of the CLI":  {res: claude.Result{Subtype: "error_max_budget_usd", IsError: true}, want: claudepool.OutcomeBudget},
		"schema retries":     {res: claude.Result{Subtype: "error_max_structured_output_retries", IsError: true}, want: claudepool.OutcomeSchema},
		"schema missing":     {res: ok("text only", 1), schema: true, want: claudepool.OutcomeSchema},
		"401":                {res: apiFailure(401, "authentication_failed"), want: claudepool.OutcomeAuth},
		"403":                {res: apiFailure(403, ""), want: claudepool.OutcomeAuth},
		"not logged in":      {res: apiFailure(0, "authentication_failed"), want: claudepool.OutcomeAuth},
		"404":                {res: apiFailure(404, "model_not_found"), want: claudepool.OutcomeInvalid},
		"400":                {res: apiFailure(400, "unknown"), want: claudepool.OutcomeInvalid},
		"413":                {res: apiFailure(413, "invalid_request"), want: claudepool.OutcomeInvalid},
		"429":                {res: apiFailure(429, "rate_limit"), want: claudepool.OutcomeRateLimited},
		"500":                {res: apiFailure(500, "server_error"), want: claudepool.OutcomeAPIError},
		"529":                {res: apiFailure(529, "server_error"), want: claudepool.OutcomeOverloaded},
		"refused":            {res: apiFailure(0, "server_error"), want: claudepool.OutcomeAPIError},
		"prompt too long":    {res: claude.Result{Subtype: "success", IsError: true, TerminalReason: "blocking_limit", Text: "Prompt is too long"}, want: claudepool.OutcomeInvalid},
		"hook":               {res: claude.Result{Subtype: "success", TerminalReason: "hook_stopped", Text: "x"}, want: claudepool.OutcomeDenied},
		"ended early":        {res: claude.Result{Subtype: "success", TerminalReason: "model_error", Text: "x"}, want: claudepool.OutcomeAgentError},
		"error of its own":   {res: claude.Result{Subtype: "error_during_execution", IsError: true, Errors: []string{"boom"}}, want: claudepool.OutcomeAgentError},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := &fakeLauncher{turn: func(context.Context, *fakeAgent, claude.Prompt, func(claude.Event)) (claude.Result, error) {
				return tc.res, nil
			}}
			p := build(t, claudepool.PoolConfig{Launcher: l, Retry: claudepool.RetryPolicy{Max: -1}})
			task := claudepool.Task{Prompt: "x"}
			if tc.schema {
				task.Overrides.JSONSchema = []byte(`{"type":"object"}`)
			}
			r := wait(t, p, submit(t, p, task))
			if r.Outcome != tc.want || r.State != tc.want.State() || r.Success != (tc.want == claudepool.OutcomeOK) {
				t.Errorf("outcome %s, state %s, success %t; want %s", r.Outcome, r.State, r.Success, tc.want)
			}
			if (r.Failure == nil) != (r.State == claudepool.StateCompleted) {
				t.Errorf("failure = %+v with state %s", r.Failure, r.State)
			}
			if r.Failure != nil && r.Failure.Message == "" {
				t.Error("the failure has no message")
			}
		})
	}
}

// attempts makes a turn out of one function per attempt; the last one repeats.
func attempts(turns ...func(p claude.Prompt) (claude.Result, error)) (func(context.Context, *fakeAgent, claude.Prompt, func(claude.Event)) (claude.Result, error), *atomic.Int32) {
	n := new(atomic.Int32)
	return func(_ context.Context, _ *fakeAgent, p claude.Prompt, _ func(claude.Event)) (claude.Result, error) {
		i := min(int(n.Add(1)), len(turns))
		return turns[i-1](p)
	}, n
}

func says(r claude.Result) func(claude.Prompt) (claude.Result, error) {
	return func(claude.Prompt) (claude.Result, error) { return r, nil }
}

func TestRetries(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		first  claude.Result
		want   []string // prompts of the attempts
		resume bool     // the second attempt continues the session
	}{
		"agent error starts again":     {claude.Result{Subtype: "error_during_execution", IsError: true}, []string{"work", "work"}, false},
		"API error goes on":            {apiFailure(500, ""), []string{"work", "Continue from where you left off."}, true},
		"overload goes on":             {apiFailure(529, ""), []string{"work", "Continue from where you left off."}, true},
		"max turns is not tried again": {claude.Result{Subtype: "error_max_turns", IsError: true}, []string{"work"}, false},
		"401 is not tried again":       {apiFailure(401, ""), []string{"work"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var got []string
				turn, _ := attempts(says(tc.first), says(ok("done", 1)))
				l := &fakeLauncher{turn: func(ctx context.Context, a *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
					got = append(got, p.Text)
					return turn(ctx, a, p, emit)
				}}
				p := build(t, claudepool.PoolConfig{Launcher: l})
				id := submit(t, p, claudepool.Task{Prompt: "work"})
				r := wait(t, p, id)
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("prompts (-want +got):\n%s", diff)
				}
				if r.Attempts != len(tc.want) {
					t.Errorf("%d attempts, want %d", r.Attempts, len(tc.want))
				}
				resumed := false
				for _, a := range l.agents() {
					resumed = resumed || a.opts.Resume != ""
				}
				if resumed != tc.resume {
					t.Errorf("a session was continued: %t, want %t", resumed, tc.resume)
				}
			})
		})
	}
}

func TestRetriesEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turn, n := attempts(says(apiFailure(500, "")))
		p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: turn}, Retry: claudepool.RetryPolicy{Max: 3}})
		r := wait(t, p, submit(t, p, claudepool.Task{Prompt: "x"}))
		if r.Outcome != claudepool.OutcomeAPIError || n.Load() != 4 {
			t.Errorf("ended %s after %d attempts, want api_error after 4", r.Outcome, n.Load())
		}
	})
}

func TestP3CrashesDoNotUseUpRetries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		crash := func(claude.Prompt) (claude.Result, error) { return claude.Result{}, errDied }
		turn, _ := attempts(crash, crash, crash, says(apiFailure(500, "")), says(ok("done", 5)))
		p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: turn}, Retry: claudepool.RetryPolicy{Max: 1}})
		id := submit(t, p, claudepool.Task{Prompt: "x"})
		r := wait(t, p, id)
		rec, err := p.Task(t.Context(), id)
		if err != nil || r.Outcome != claudepool.OutcomeOK || rec.Crashes != 3 || rec.Retries != 1 || rec.Attempts != 5 {
			t.Errorf("outcome %s, crashes %d, retries %d, attempts %d (%v); want ok, 3, 1, 5", r.Outcome, rec.Crashes, rec.Retries, rec.Attempts, err)
		}
	})
}

// resumed is what a task is asked whose process has died.
func resumed(prompt string) string {
	return "Continue from where you left off. You were interrupted at the following request. If it is not in this conversation yet, begin with it now.\n\n" + prompt
}

func TestCrashPolicies(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		policy  claudepool.CrashPolicy
		prompts []string
		want    claudepool.Outcome
	}{
		{"", []string{"x", resumed("x")}, claudepool.OutcomeOK},
		{claudepool.CrashResume, []string{"x", resumed("x")}, claudepool.OutcomeOK},
		{claudepool.CrashRerun, []string{"x", "x"}, claudepool.OutcomeOK},
		{claudepool.CrashFail, []string{"x"}, claudepool.OutcomeCrashed},
	} {
		t.Run(string(tc.policy), func(t *testing.T) {
			t.Parallel()
			var got []string
			turn, _ := attempts(func(claude.Prompt) (claude.Result, error) { return claude.Result{}, errDied }, says(ok("done", 5)))
			l := &fakeLauncher{turn: func(ctx context.Context, a *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
				got = append(got, p.Text)
				return turn(ctx, a, p, emit)
			}}
			p := build(t, claudepool.PoolConfig{Launcher: l})
			r := wait(t, p, submit(t, p, claudepool.Task{Prompt: "x", OnCrash: tc.policy}))
			if diff := cmp.Diff(tc.prompts, got); diff != "" || r.Outcome != tc.want {
				t.Errorf("outcome %s, want %s; prompts (-want +got):\n%s", r.Outcome, tc.want, diff)
			}
			if r.Failure != nil && (r.Failure.Stderr != "last words" || r.Failure.Command == "" || r.Failure.ExitCode == nil) {
				t.Errorf("failure = %+v, want the process's last words, command and exit code", r.Failure)
			}
		})
	}
}

func TestCrashesEnd(t *testing.T) {
	t.Parallel()
	turn, n := attempts(func(claude.Prompt) (claude.Result, error) { return claude.Result{}, errDied })
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: turn}})
	r := wait(t, p, submit(t, p, claudepool.Task{Prompt: "x"}))
	if r.Outcome != claudepool.OutcomeCrashed || n.Load() != 1+claudepool.MaxCrashes {
		t.Errorf("ended %s after %d attempts, want crashed after %d", r.Outcome, n.Load(), 1+claudepool.MaxCrashes)
	}
}

func TestP8BoundsOfARunningTask(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		task claudepool.Task
		want claudepool.Outcome
		text string
	}{
		"timeout": {claudepool.Task{Prompt: "x", Overrides: claudepool.TaskOverrides{Timeout: 3 * time.Minute}}, claudepool.OutcomeTimeout, "3m0s"},
		"stall":   {claudepool.Task{Prompt: "x", StallTimeout: time.Minute, Retry: claudepool.RetryPolicy{Max: -1}}, claudepool.OutcomeStalled, "waiting for the model"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBlocker()
				p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: b.turn}})
				begin := time.Now()
				r := wait(t, p, submit(t, p, tc.task))
				if r.Outcome != tc.want || r.Failure == nil || r.Output != "so far" {
					t.Fatalf("result = %+v, want %s with what there was of the answer", r, tc.want)
				}
				if tc.want == claudepool.OutcomeStalled {
					contains(t, "message", r.Failure.Message, tc.text)
				}
				if d := time.Since(begin); d > 4*time.Minute {
					t.Errorf("it took %v", d)
				}
			})
		})
	}
}

func TestP8SignsOfLifeHoldOffTheStall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &fakeLauncher{turn: func(ctx context.Context, _ *fakeAgent, _ claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
			for range 10 {
				time.Sleep(50 * time.Second)
				emit(claude.Retry{Attempt: 1, Status: 529})
			}
			return ok("patience", 1), ctx.Err()
		}}
		p := build(t, claudepool.PoolConfig{Launcher: l})
		r := wait(t, p, submit(t, p, claudepool.Task{Prompt: "x", StallTimeout: time.Minute}))
		if r.Outcome != claudepool.OutcomeOK {
			t.Errorf("ended %s, want ok: a retry of the CLI is a sign of life", r.Outcome)
		}
	})
}

func TestQueueTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBlocker()
		p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: b.turn}})
		first := submit(t, p, claudepool.Task{Prompt: "a"})
		<-b.begun
		late := submit(t, p, claudepool.Task{Prompt: "b", QueueTimeout: 10 * time.Second})
		patient := submit(t, p, claudepool.Task{Prompt: "c"})
		r := wait(t, p, late)
		if r.Outcome != claudepool.OutcomeExpired || time.Duration(r.Total) != 10*time.Second {
			t.Errorf("ended %s after %v, want expired after 10s", r.Outcome, r.Total)
		}
		time.Sleep(time.Minute)
		close(b.release)
		for _, id := range []claudepool.TaskID{first, patient} {
			if r := wait(t, p, id); r.Outcome != claudepool.OutcomeOK {
				t.Errorf("task %s ended %s, want ok", id, r.Outcome)
			}
		}
	})
}

func TestNotBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}})
		at := time.Now().Add(time.Hour)
		id := submit(t, p, claudepool.Task{Prompt: "later", NotBefore: at})
		if e, err := p.Explain(t.Context(), id); err != nil || !e.Until.Equal(at) {
			t.Errorf("Explain = %+v, %v; want until %v", e, err, at)
		}
		r := wait(t, p, id)
		if now := time.Now(); now.Before(at) || r.Outcome != claudepool.OutcomeOK {
			t.Errorf("ran at %v (%s), not before %v", now, r.Outcome, at)
		}
	})
}

func TestP8RateLimitParksTheWorkUntilItsReset(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reset := time.Now().Add(2 * time.Hour)
		limited := apiFailure(429, "rate_limit")
		limited.RateLimit = &claude.RateLimit{Status: "rejected", Kind: "five_hour", ResetsAt: reset}
		turn, n := attempts(says(limited), says(ok("done", 1)))
		l := &fakeLauncher{turn: turn}
		p := build(t, claudepool.PoolConfig{Launcher: l})
		a := submit(t, p, claudepool.Task{Prompt: "a"})
		b := submit(t, p, claudepool.Task{Prompt: "b"})
		synctest.Wait()
		st, err := p.Status(t.Context())
		if err != nil || st.Hold == nil || st.Hold.Class != claudepool.OutcomeRateLimited || !st.Hold.Until.Equal(reset) {
			t.Fatalf("Status.Hold = %+v (%v), want rate_limited until %v", st.Hold, err, reset)
		}
		if e, err := p.Explain(t.Context(), b); err != nil || !e.Until.Equal(reset) {
			t.Errorf("Explain = %+v, %v; want until %v", e, err, reset)
		}
		if n.Load() != 1 {
			t.Errorf("%d attempts before the reset, want 1: the queue is not burnt", n.Load())
		}
		for _, id := range []claudepool.TaskID{a, b} {
			if r := wait(t, p, id); r.Outcome != claudepool.OutcomeOK {
				t.Errorf("task %s ended %s", id, r.Outcome)
			}
		}
		if now := time.Now(); now.Before(reset) {
			t.Errorf("work went on at %v, before %v", now, reset)
		}
		rec, err := p.Task(t.Context(), a)
		if err != nil || rec.Retries != 0 || rec.Attempts != 2 {
			t.Errorf("retries %d, attempts %d (%v); want 0 and 2: a limit is not the task's fault", rec.Retries, rec.Attempts, err)
		}
	})
}

func TestP8WhenNoSlotCanStartTasksFailWithTheReason(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err  error
		want claudepool.Outcome
	}{
		"not logged in": {claude.ErrNotLoggedIn, claudepool.OutcomeAuth},
		"no program":    {fmt.Errorf("%w: /nowhere/claude", claude.ErrNotFound), claudepool.OutcomeLaunch},
		"bad flag":      {&claude.ExitError{Code: 1, Stderr: "error: unknown option '--x'"}, claudepool.OutcomeLaunch},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := &fakeLauncher{turn: echo, start: func(claude.Options) error { return tc.err }}
				p := build(t, claudepool.PoolConfig{Slots: 3, Launcher: l})
				begin := time.Now()
				for i := range 3 {
					r := wait(t, p, submit(t, p, claudepool.Task{Prompt: fmt.Sprint(i)}))
					if r.Outcome != tc.want || r.Failure == nil || !strings.Contains(r.Failure.Message, tc.err.Error()) {
						t.Errorf("task %d = %+v, want %s because of %v", i, r.Failure, tc.want, tc.err)
					}
				}
				if d := time.Since(begin); d > 5*time.Second {
					t.Errorf("the tasks failed after %v, want seconds", d)
				}
				if err := p.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), tc.err.Error()) {
					t.Errorf("Ready = %v, want %v", err, tc.err)
				}
			})
		})
	}
}

func TestSlotsComeBackWhenTheReasonHasPassed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		broken.Store(true)
		l := &fakeLauncher{turn: echo, start: func(claude.Options) error {
			if broken.Load() {
				return errors.New("no room")
			}
			return nil
		}}
		p := build(t, claudepool.PoolConfig{Launcher: l})
		if r := wait(t, p, submit(t, p, claudepool.Task{Prompt: "x"})); r.Outcome != claudepool.OutcomeLaunch {
			t.Fatalf("ended %s, want launch", r.Outcome)
		}
		time.Sleep(5 * time.Minute)
		if st, err := p.FindSlots(t.Context(), claudepool.SlotFilter{}); err != nil || st[0].Detail == "" || st[0].Restarts == 0 {
			t.Errorf("slot = %+v (%v), want its failure told", st, err)
		}
		broken.Store(false)
		if _, err := p.CheckAndRestartSlots(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if r := wait(t, p, submit(t, p, claudepool.Task{Prompt: "x"})); r.Outcome != claudepool.OutcomeOK {
			t.Errorf("ended %s after the repair, want ok", r.Outcome)
		}
	})
}

func TestQueueTimeoutOfATaskThatWaitsForAnother(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turn, _ := attempts(says(apiFailure(500, "")), says(ok("done", 1)))
		retry := claudepool.RetryPolicy{Max: 1, First: time.Hour, Most: time.Hour}
		p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: turn}, Retry: retry})
		first := submit(t, p, claudepool.Task{Prompt: "a"})
		synctest.Wait() // its first attempt has failed, the next is an hour away
		next := submit(t, p, claudepool.Task{Prompt: "b", Session: claudepool.Session{Task: first}, QueueTimeout: 10 * time.Second})
		r := wait(t, p, next)
		if r.Outcome != claudepool.OutcomeExpired || r.Attempts != 0 || time.Duration(r.Total) != 10*time.Second {
			t.Errorf("ended %s after %v and %d attempts, want expired after 10s and none", r.Outcome, r.Total, r.Attempts)
		}
	})
}
