package bench_test

import (
	"context"
	"testing"
	"time"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
)

// agent is a [claudepool.Agent] in this program that costs next to nothing, and
// its own launcher. It has no state, so that all slots can share one.
type agent struct {
	done chan struct{} // never closed: it does not end by itself

	// answer answers a prompt. Nil answers at once with the prompt.
	answer func(ctx context.Context, prompt string) (string, error)
}

func newAgent() *agent { return &agent{done: make(chan struct{})} }

func (a *agent) Launch(context.Context, claude.Options) (claudepool.Agent, error) { return a, nil }

func (a *agent) Turn(ctx context.Context, p claude.Prompt, _ func(claude.Event)) (claude.Result, error) {
	text := p.Text
	if a.answer != nil {
		var err error
		if text, err = a.answer(ctx, text); err != nil {
			return claude.Result{}, err
		}
	}
	return claude.Result{Subtype: "success", TerminalReason: "completed", Text: text, Cost: 1, Turns: 1}, nil
}

func (a *agent) Apply(context.Context, claude.Settings) error          { return nil }
func (a *agent) Reset(context.Context, claude.Settings) error          { return nil }
func (a *agent) Cost(context.Context) (claudepool.Microdollars, error) { return 0, nil }
func (a *agent) Close(context.Context) error                           { return nil }
func (a *agent) Done() <-chan struct{}                                 { return a.done }
func (a *agent) Info() claude.Info                                     { return claude.Info{} }

// pool builds a pool of n slots with agents in this program, and returns it
// once all of them are idle.
func pool(tb testing.TB, n int, a *agent) *claudepool.Pool {
	tb.Helper()
	return poolOn(tb, nil, n, a)
}

// poolOn builds such a pool on a store. Nil means one of its own, in memory.
func poolOn(tb testing.TB, s claudepool.PoolStore, n int, a *agent) *claudepool.Pool {
	tb.Helper()
	p, err := claudepool.NewPoolBuilder().Config(claudepool.PoolConfig{
		Slots: n, Launcher: a, Store: s,
		SlotMemory: -1,      // the agents need none
		MaxTasks:   1 << 30, // nor do they wear out
	}).Build(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	for {
		st, err := p.Status(tb.Context())
		if err != nil {
			tb.Fatal(err)
		}
		if st.IdleSlots == n {
			return p
		}
		time.Sleep(time.Millisecond)
	}
}

func closePool(tb testing.TB, p *claudepool.Pool) {
	tb.Helper()
	if err := p.Close(); err != nil {
		tb.Fatalf("Close: %v", err)
	}
}
