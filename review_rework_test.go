package claudepool_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
)

// What the attempts after a rejection are asked, and in which session, whatever
// happens to them.
func TestReviewReworkIsGivenTheFeedbackUntilItIsDone(t *testing.T) {
	t.Parallel()
	died := func(claude.Prompt) (claude.Result, error) { return claude.Result{}, errDied }
	for name, tc := range map[string]struct {
		turns   []func(claude.Prompt) (claude.Result, error) // after the first result
		edit    func(*claudepool.Task)
		gone    bool // the session
		session []bool
		prompts []string // of the rework; "task" stands for the task's own prompt
	}{
		"in another process": {session: []bool{true}, prompts: []string{"reviewer"}},
		"after a crash": {
			turns: []func(claude.Prompt) (claude.Result, error){died}, session: []bool{true, true}, prompts: []string{"reviewer", "Continue|reviewer"},
		},
		"after a limit of the API": {
			turns:   []func(claude.Prompt) (claude.Result, error){says(apiFailure(500, ""))},
			session: []bool{true, true}, prompts: []string{"reviewer", "Continue|reviewer"},
		},
		"started again after a failure": {
			turns:   []func(claude.Prompt) (claude.Result, error){says(claude.Result{Subtype: "error_during_execution", IsError: true})},
			session: []bool{true, false}, prompts: []string{"reviewer", "task|reviewer"},
		},
		"run again after a crash": {
			edit:  func(t *claudepool.Task) { t.OnCrash = claudepool.CrashRerun },
			turns: []func(claude.Prompt) (claude.Result, error){died}, session: []bool{true, false}, prompts: []string{"reviewer", "task|reviewer"},
		},
		"without its session": {gone: true, session: []bool{false}, prompts: []string{"task|reviewer"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				type call struct {
					resumed bool
					prompt  string
				}
				var calls []call
				turns := append([]func(claude.Prompt) (claude.Result, error){says(ok("first", 1))}, tc.turns...)
				l := &fakeLauncher{turn: func(_ context.Context, a *fakeAgent, p claude.Prompt, _ func(claude.Event)) (claude.Result, error) {
					calls = append(calls, call{a.session.Load().(string) == "session-0.0", p.Text})
					if n := len(calls); n <= len(turns) {
						return turns[n-1](p)
					}
					return ok("last", 1), nil
				}}
				l.start = func(o claude.Options) error {
					if tc.gone && o.Resume != "" {
						return claude.ErrNoSession
					}
					return nil
				}
				p := build(t, claudepool.PoolConfig{Launcher: l})
				if err := p.SetContext(t.Context(), "key", "value"); err != nil {
					t.Fatal(err)
				}
				task := reviewed("the task")
				if tc.edit != nil {
					tc.edit(&task)
				}
				id := submit(t, p, task)
				inReview(t, p, id)
				reject(t, p, id, "tests are missing")
				if r := inReview(t, p, id); r.Result.Output != "last" || r.Rejections != 1 {
					t.Errorf("after the rework: output %q, %d rejections", r.Result.Output, r.Rejections)
				}
				rework := calls[1:]
				if len(rework) != len(tc.prompts) {
					t.Fatalf("%d attempts at the rework, want %d: %+v", len(rework), len(tc.prompts), rework)
				}
				for i, want := range tc.prompts {
					got := rework[i]
					if got.resumed != tc.session[i] {
						t.Errorf("attempt %d resumed its session: %t, want %t", i, got.resumed, tc.session[i])
					}
					contains(t, "prompt", got.prompt, "tests are missing")
					for _, part := range []string{"Continue", "task", "reviewer"} {
						text := map[string]string{"Continue": "Continue from where", "task": "the task", "reviewer": "reviewer"}[part]
						if wanted := strings.Contains(want, part); strings.Contains(got.prompt, text) != wanted {
							t.Errorf("attempt %d: the prompt %q says %q: %t, want %t", i, got.prompt, text, !wanted, wanted)
						}
					}
					if has := strings.Contains(got.prompt, "<run_context>"); has == tc.session[i] {
						t.Errorf("attempt %d: the prompt has the run context: %t, want it where the conversation has not", i, has)
					}
				}
			})
		})
	}
}

// mute is an agent that can die before it has told its session.
type mute struct {
	*fakeAgent
	dies func() bool
}

func (m mute) Turn(ctx context.Context, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
	if m.dies() {
		m.die()
		return claude.Result{}, errDied
	}
	return m.fakeAgent.Turn(ctx, p, emit)
}

type muteLauncher struct {
	*fakeLauncher
	dies func() bool
}

func (l muteLauncher) Launch(ctx context.Context, o claude.Options) (claudepool.Agent, error) {
	a, err := l.fakeLauncher.Launch(ctx, o)
	if err != nil {
		return nil, err
	}
	return mute{a.(*fakeAgent), l.dies}, nil
}

func TestReviewReworkKeepsItsSessionThoughItsProcessDiedAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turns := 0
		l := muteLauncher{&fakeLauncher{turn: recall}, func() bool { turns++; return turns == 2 }}
		p := build(t, claudepool.PoolConfig{Launcher: l})
		id := submit(t, p, reviewed("x"))
		session := inReview(t, p, id).SessionID
		reject(t, p, id, "no")
		if r := inReview(t, p, id); r.SessionID != session || r.Crashes != 1 {
			t.Errorf("after %d crashes the rework ran in %s, want %s after one", r.Crashes, r.SessionID, session)
		}
	})
}

// A holder that is lost before it has told its session leaves the one that the
// rework was to go on in.
func TestReviewReworkOfALostHolderKeepsItsSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := durable{stored(t)}
		l := &fakeLauncher{turn: recall}
		p := build(t, claudepool.PoolConfig{Launcher: l, Store: s})
		task := reviewed("x")
		task.Slot = "slot-0"
		id := submit(t, p, task)
		session := inReview(t, p, id).SessionID
		p.Pause()
		reject(t, p, id, "no")
		held, err := s.Claim(t.Context(), claudepool.ClaimRequest{
			Holder: "pool-gone", Now: time.Now(), Lease: time.Second, Accepts: func(_, _ string) bool { return true },
		})
		if err != nil || held.ID != id {
			t.Fatalf("Claim = %s, %v", held.ID, err)
		}
		time.Sleep(2 * time.Second)
		if _, err := p.CheckAndRestartSlots(t.Context()); err != nil {
			t.Fatal(err)
		}
		if r := record(t, s, id); r.State != claudepool.StatePending || r.ResumeSession != session || r.Crashes != 1 {
			t.Errorf("taken over, the task is %s with session %q, crashes %d; want pending, %q, 1", r.State, r.ResumeSession, r.Crashes, session)
		}
		p.Resume()
		if r := inReview(t, p, id); r.SessionID != session {
			t.Errorf("the rework ran in %s, want %s", r.SessionID, session)
		}
	})
}

func TestReviewOutlivesThePoolOnADurableStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := durable{stored(t)}
		p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}, Store: s})
		approved, rejected := submit(t, p, reviewed("one")), submit(t, p, reviewed("two"))
		inReview(t, p, approved)
		session := inReview(t, p, rejected).SessionID
		sum, err := p.Drain(t.Context())
		if err != nil || sum.Cancelled != 0 {
			t.Errorf("Drain = %+v, %v; want nothing cancelled", sum, err)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := p.ApproveResult(t.Context(), approved); err == nil {
			t.Error("a closed pool has approved a result")
		}
		l := &fakeLauncher{turn: recall}
		p = build(t, claudepool.PoolConfig{Launcher: l, Store: s})
		if r := approve(t, p, approved); r.Output != "one" || r.Outcome != claudepool.OutcomeOK {
			t.Errorf("approved after the restart: %q (%s)", r.Output, r.Outcome)
		}
		reject(t, p, rejected, "not yet")
		if r := inReview(t, p, rejected); r.SessionID != session || !strings.Contains(r.Result.Output, "not yet") {
			t.Errorf("the rework ran in %s with %q, want %s with the feedback", r.SessionID, r.Result.Output, session)
		}
	})
}

func TestReviewEndsWithThePoolOnAVolatileStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBlocker()
		turn := func(ctx context.Context, a *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
			if p.Text == "runs" {
				return b.turn(ctx, a, p, emit)
			}
			return echo(ctx, a, p, emit)
		}
		s := stored(t)
		p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: turn}, Store: s})
		waits := submit(t, p, reviewed("waits"))
		inReview(t, p, waits)
		runs := submit(t, p, reviewed("runs"))
		<-b.begun
		drained := make(chan claudepool.DrainSummary, 1)
		go func() {
			sum, err := p.Drain(t.Context())
			if err != nil {
				t.Errorf("Drain: %v", err)
			}
			drained <- sum
		}()
		synctest.Wait()
		close(b.release) // the one that runs goes to its review while the pool drains
		if sum := <-drained; sum.Cancelled != 2 || sum.Finished != 0 {
			t.Errorf("Drain = %+v, want both cancelled, and each counted once", sum)
		}
		for id, output := range map[claudepool.TaskID]string{waits: "waits", runs: "runs"} {
			r := wait(t, p, id)
			if r.Outcome != claudepool.OutcomeCancelled || r.Output != output || r.Failure == nil {
				t.Fatalf("%s ended %s with %q, want cancelled, with its work kept", output, r.Outcome, r.Output)
			}
			contains(t, "failure", r.Failure.Message, "shut down")
		}
	})
}
