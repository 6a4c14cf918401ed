package claude_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/claudetest"
)

// quick is the grace time of processes that are meant to misbehave.
const quick = 200 * time.Millisecond

// standIn starts a stand-in with faults that hold for its whole life.
func standIn(t *testing.T, edit func(*claude.Options), faults ...claudetest.Fault) (context.Context, *claude.Process) {
	t.Helper()
	ctx := testContext(t)
	p, err := claude.Start(ctx, standInOptions(t, edit, faults...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			t.Errorf("Close: %v", err)
		}
		if strays, err := p.Strays(); err != nil || len(strays) > 0 {
			t.Errorf("after Close: strays %v, %v", strays, err)
		}
	})
	return ctx, p
}

func standInOptions(t *testing.T, edit func(*claude.Options), faults ...claudetest.Fault) claude.Options {
	t.Helper()
	o := claudetest.StandIn(t, faults...)
	o.Dir, o.Grace, o.AllowBypass = t.TempDir(), quick, true
	o.Env["ANTHROPIC_API_KEY"], o.Env["IS_SANDBOX"] = claudetest.FakeKey, "1"
	o.Settings = claude.Settings{Model: "claude-sonnet-5", PermissionMode: claude.PermissionBypass}
	if edit != nil {
		edit(&o)
	}
	return o
}

func TestTurnOfDyingProcess(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		prompt string
		check  func(*testing.T, *claude.ExitError)
	}{
		{"[[fault:crash]]", func(t *testing.T, e *claude.ExitError) {
			if e.Signal != "killed" || e.Code != -1 {
				t.Errorf("signal %q, code %d", e.Signal, e.Code)
			}
		}},
		{"[[fault:exit:3]]", func(t *testing.T, e *claude.ExitError) {
			if e.Signal != "" || e.Code != 3 {
				t.Errorf("signal %q, code %d", e.Signal, e.Code)
			}
		}},
		{"[[fault:half-line]]", func(t *testing.T, e *claude.ExitError) {
			if e.Partial == 0 {
				t.Error("the half line is not reported")
			}
		}},
		{"[[fault:hold-stdout]][[fault:crash]]", func(t *testing.T, e *claude.ExitError) {}},
	} {
		t.Run(tc.prompt, func(t *testing.T) {
			t.Parallel()
			ctx, p := standIn(t, nil)
			r, err := p.Turn(ctx, claude.Prompt{Text: "[[reply:some words]]" + tc.prompt}, nil)
			e := errorAs[*claude.ExitError](t, err)
			tc.check(t, e)
			contains(t, "command", e.Command, "--output-format stream-json")
			if r.Text != "" && r.Text != "some words" {
				t.Errorf("text = %q", r.Text)
			}
			await(t, p.Done(), "the end")
			if _, err := p.Turn(ctx, claude.Prompt{Text: "x"}, nil); err == nil {
				t.Error("a turn of a dead process gives no error")
			}
			if _, err := p.Cost(ctx); err == nil {
				t.Error("the cost of a dead process gives no error")
			}
		})
	}
}

func TestTurnOfOddProcess(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"garbage", "long-line:70000000", "result-first", "idle-first", "foreign-result", "duplicate-result", "no-idle", "crash-after"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			ctx, p := standIn(t, nil)
			r, err := p.Turn(ctx, claude.Prompt{Text: "[[fault:" + fault + "]][[reply:mine]]"}, nil)
			want := "mine"
			if fault == "result-first" {
				want = "" // the result is what counts, and it came before there was a text
			}
			if err != nil || r.Text != want || r.IsError {
				t.Errorf("Turn = %q, error %t, %v; want its own result", clip(r.Text), r.IsError, err)
			}
			switch fault {
			case "crash-after":
				await(t, p.Done(), "the end")
				errorAs[*claude.ExitError](t, p.Err())
				return
			case "no-idle", "idle-first":
				if _, err := p.Turn(ctx, claude.Prompt{Text: "x"}, nil); !errors.Is(err, claude.ErrUnresponsive) {
					t.Errorf("the turn after = %v, want ErrUnresponsive", err)
				}
				errorAs[*claude.ResetError](t, p.Reset(ctx, claude.Settings{}))
				return
			case "foreign-result", "duplicate-result":
				until(t, "the other result", func() bool { _, n := p.Unsolicited(); return n == 1 })
			}
			if r, err := p.Turn(ctx, claude.Prompt{Text: "[[reply:after]]"}, nil); err != nil || r.Text != "after" {
				t.Errorf("the turn after = %q, %v", r.Text, err)
			}
			total, err := p.Cost(ctx)
			if stray, _ := p.Unsolicited(); err != nil || total != 600 || r.Cost+stray > 300 {
				t.Errorf("cost = %v of the turn, %v of others, %v in all, %v", r.Cost, stray, total, err)
			}
		})
	}
}

func TestLineOverTheBound(t *testing.T) {
	t.Parallel()
	ctx, p := standIn(t, func(o *claude.Options) { o.MaxLine = 1 << 20 })
	_, err := p.Turn(ctx, claude.Prompt{Text: "[[fault:long-line]][[reply:x]]"}, nil)
	errorAs[*claude.ExitError](t, err)
	if !errors.Is(err, claude.ErrLineTooLong) {
		t.Errorf("Turn = %v, want ErrLineTooLong", err)
	}
}

func TestFrozenProcessIsEnded(t *testing.T) {
	t.Parallel()
	ctx, p := standIn(t, nil)
	turn, cancel := context.WithCancelCause(ctx)
	why := errors.New("enough")
	time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
	_, err := p.Turn(turn, claude.Prompt{Text: "[[fault:freeze]]"}, nil)
	if !errors.Is(err, why) || !errors.Is(err, claude.ErrUnresponsive) {
		t.Errorf("Turn = %v, want the cause and ErrUnresponsive", err)
	}
	await(t, p.Done(), "the end")
}

func TestResetIsProven(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, prompt, reason string
		fault                claudetest.Fault
	}{
		{name: "stale session", fault: claudetest.FaultStaleSession, prompt: "x", reason: "session"},
		{name: "deaf", fault: claudetest.FaultDeaf, prompt: "x", reason: "PermissionMode"},
		{name: "stray", prompt: "[[fault:escape]][[reply:x]]", reason: "still running"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var faults []claudetest.Fault
			if tc.fault != "" {
				faults = append(faults, tc.fault)
			}
			ctx, p := standIn(t, nil, faults...)
			if _, err := p.Turn(ctx, claude.Prompt{Text: tc.prompt}, nil); err != nil {
				t.Fatal(err)
			}
			err := p.Reset(ctx, claude.Settings{Model: "claude-sonnet-5", PermissionMode: claude.PermissionAcceptEdits})
			errorAs[*claude.ResetError](t, err)
			contains(t, "error", err.Error(), tc.reason)
			if n := p.Info().Resets; n != 0 {
				t.Errorf("Resets = %d", n)
			}
		})
	}
}

func TestResetRefusesToolsThatOutliveIt(t *testing.T) {
	t.Parallel()
	ctx, p := standIn(t, func(o *claude.Options) { o.Tools = []string{"Bash", "ScheduleWakeup"} })
	errorAs[*claude.ResetError](t, p.Reset(ctx, claude.Settings{}))
}

func TestApplyToDeafProcess(t *testing.T) {
	t.Parallel()
	ctx, p := standIn(t, nil, claudetest.FaultDeaf)
	for _, s := range []claude.Settings{
		{Model: "claude-haiku-4-5", PermissionMode: claude.PermissionBypass},
		{Model: "claude-sonnet-5", PermissionMode: claude.PermissionBypass, Effort: claude.EffortLow},
		{Model: "claude-sonnet-5", PermissionMode: claude.PermissionBypass, AllowedTools: []string{"Read"}},
	} {
		err := p.Apply(ctx, s)
		t.Log(errorAs[*claude.SettingError](t, err))
	}
}

func TestCloseOfStubbornProcess(t *testing.T) {
	t.Parallel()
	ctx, p := standIn(t, nil, claudetest.FaultIgnoreTerm)
	if err := p.Close(ctx); err != nil {
		t.Error(err)
	}
	if err := p.Close(ctx); err != nil {
		t.Errorf("the second Close: %v", err)
	}
}

func TestStartOfSilentProcess(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(testContext(t), 300*time.Millisecond)
	defer cancel()
	_, err := claude.Start(ctx, standInOptions(t, nil, claudetest.FaultHangInit))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Start = %v, want the end of the context", err)
	}
}

func TestNotLoggedIn(t *testing.T) {
	t.Parallel()
	_, p := standIn(t, nil, claudetest.FaultLoggedOut)
	if got := p.Info().KeySource; got != "none" {
		t.Errorf("KeySource = %q", got)
	}
}

func TestOneAtATime(t *testing.T) {
	t.Parallel()
	ctx, p := standIn(t, nil)
	begun, on := once[claude.TextDelta]()
	ended := make(chan claude.Result, 1)
	go func() {
		r, err := p.Turn(ctx, claude.Prompt{Text: "[[stream:1000:10ms]]"}, on)
		if err != nil {
			t.Error(err)
		}
		ended <- r
	}()
	await(t, begun, "the answer")
	if _, err := p.Turn(ctx, claude.Prompt{Text: "x"}, nil); !errors.Is(err, claude.ErrBusy) {
		t.Errorf("Turn = %v, want ErrBusy", err)
	}
	if err := p.Reset(ctx, claude.Settings{}); !errors.Is(err, claude.ErrBusy) {
		t.Errorf("Reset = %v, want ErrBusy", err)
	}
	if err := p.Apply(ctx, claude.Settings{}); !errors.Is(err, claude.ErrBusy) {
		t.Errorf("Apply = %v, want ErrBusy", err)
	}
	if err := p.Interrupt(ctx); err != nil {
		t.Errorf("Interrupt: %v", err)
	}
	r := <-ended
	if !r.Interrupted || !strings.HasPrefix(r.Text, "word1") {
		t.Errorf("result = interrupted %t, %q", r.Interrupted, clip(r.Text))
	}
	if err := p.Interrupt(ctx); err != nil {
		t.Errorf("Interrupt of nothing: %v", err)
	}
	id := "11111111-1111-4111-8111-111111111111"
	for i := range 2 {
		_, err := p.Turn(ctx, claude.Prompt{ID: id, Text: "x"}, nil)
		if (err != nil) != (i == 1) || err != nil && !errors.Is(err, claude.ErrInvalidPrompt) {
			t.Errorf("use %d of an id: %v", i+1, err)
		}
	}
}

func TestSecretsStayOut(t *testing.T) {
	t.Parallel()
	const secret = "very-secret-value-1"
	var lines []string
	ctx, p := standIn(t, func(o *claude.Options) {
		o.Env["MY_API_TOKEN"] = secret
		o.Trace = func(_ claude.Direction, line []byte) { lines = append(lines, string(line)) }
	})
	_, err := p.Turn(ctx, claude.Prompt{Text: "[[bash:echo $MY_API_TOKEN]][[reply:x]]"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(lines, "\n"); strings.Contains(all, secret) || !strings.Contains(all, "[redacted]") {
		t.Error("the trace holds the secret")
	}
}
