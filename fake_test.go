package claudepool_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
)

// fakeLauncher starts agents that live in this program. What a turn does is
// given by turn; the rest is what a well-behaved agent does.
type fakeLauncher struct {
	turn  func(ctx context.Context, a *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error)
	start func(o claude.Options) error // nil means that every start goes well
	reset func(a *fakeAgent)           // called when a reset begins
	close func(a *fakeAgent) error     // called when an agent is to end

	mu       sync.Mutex
	launched []*fakeAgent
}

func (l *fakeLauncher) Launch(ctx context.Context, o claude.Options) (claudepool.Agent, error) {
	if l.start != nil {
		if err := l.start(o); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	a := &fakeAgent{l: l, opts: o, n: len(l.launched), done: make(chan struct{}), started: time.Now(), set: o.Settings}
	a.session.Store(fmt.Sprintf("session-%d.0", a.n))
	if o.Resume != "" && !o.Fork {
		a.session.Store(o.Resume)
	}
	l.launched = append(l.launched, a)
	return a, nil
}

// agents returns those started so far.
func (l *fakeLauncher) agents() []*fakeAgent {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.launched)
}

type fakeAgent struct {
	l       *fakeLauncher
	opts    claude.Options
	n       int
	done    chan struct{}
	end     sync.Once
	started time.Time
	session atomic.Value // string
	cost    atomic.Int64 // since the last reset
	resets  atomic.Int64
	turns   atomic.Int64
	noReset atomic.Bool  // its resets cannot be proven
	strays  atomic.Int64 // turns that nobody asked for

	mu      sync.Mutex
	set     claude.Settings
	history []string
}

func (a *fakeAgent) Turn(ctx context.Context, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
	a.mu.Lock()
	a.history = append(a.history, p.Text)
	a.mu.Unlock()
	a.turns.Add(1)
	emit(claude.Started{SessionID: a.session.Load().(string), Model: "fake"})
	before := a.cost.Load()
	res, err := a.l.turn(ctx, a, p, emit)
	if res.SessionID == "" {
		res.SessionID = a.session.Load().(string)
	}
	if res.Cost == 0 {
		res.Cost = claude.Microdollars(a.cost.Load() - before)
	} else {
		a.cost.Store(before + int64(res.Cost))
	}
	if errors.Is(err, errDied) {
		a.die()
	}
	return res, err
}

func (a *fakeAgent) Apply(_ context.Context, s claude.Settings) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.set = s
	return nil
}

func (a *fakeAgent) Reset(_ context.Context, s claude.Settings) error {
	if a.l.reset != nil {
		a.l.reset(a)
	}
	if a.noReset.Load() {
		return &claude.ResetError{Reason: "a background task is left"}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.set, a.history = s, nil
	a.cost.Store(0)
	a.session.Store(fmt.Sprintf("session-%d.%d", a.n, a.resets.Add(1)))
	return nil
}

func (a *fakeAgent) Cost(context.Context) (claudepool.Microdollars, error) {
	return claudepool.Microdollars(a.cost.Load()), nil
}

func (a *fakeAgent) Close(context.Context) error {
	if a.l.close != nil {
		if err := a.l.close(a); err != nil {
			return err
		}
	}
	a.die()
	return nil
}

func (a *fakeAgent) Unsolicited() (claude.Microdollars, int) { return 0, int(a.strays.Load()) }
func (a *fakeAgent) die()                                    { a.end.Do(func() { close(a.done) }) }
func (a *fakeAgent) Done() <-chan struct{}                   { return a.done }
func (a *fakeAgent) Info() claude.Info {
	return claude.Info{PID: 1000 + a.n, Version: "fake", SessionID: a.session.Load().(string), Started: a.started, Dir: a.opts.Dir}
}

// said returns the prompts of the agent's present conversation.
func (a *fakeAgent) said() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.history)
}

// errDied is what a turn returns when its process has ended.
var errDied = &claude.ExitError{Code: -1, Signal: "killed", Stderr: "last words", Command: "claude -p"}

// echo answers with the prompt, at a cost of a tenth of a cent.
func echo(_ context.Context, _ *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
	emit(claude.TextDelta{Text: p.Text})
	return ok(p.Text, 1000), nil
}

func ok(text string, cost claude.Microdollars) claude.Result {
	return claude.Result{
		Subtype: "success", TerminalReason: "completed", Text: text, Cost: cost, Turns: 1,
		Models: map[string]claude.ModelUsage{"fake": {Input: 10, Output: 5, Cost: cost}},
	}
}

// apiFailure is a result as the CLI gives it when the API fails.
func apiFailure(status int, word string) claude.Result {
	return claude.Result{Subtype: "success", IsError: true, TerminalReason: "api_error", APIStatus: status, APIError: word, Text: fmt.Sprintf("API Error: %d", status)}
}

// blocker is a turn that goes on until it is released or interrupted.
type blocker struct {
	begun   chan string // gets the prompt of each turn that has begun
	release chan struct{}
}

func newBlocker() *blocker {
	return &blocker{begun: make(chan string, 1000), release: make(chan struct{})}
}

func (b *blocker) turn(ctx context.Context, _ *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
	b.begun <- p.Text
	select {
	case <-b.release:
		return ok(p.Text, 1000), nil
	case <-ctx.Done():
		return claude.Result{Interrupted: true, Subtype: "error_during_execution", IsError: true, Text: "so far"}, context.Cause(ctx)
	}
}

// build makes a pool that is closed when the test ends.
func build(t *testing.T, c claudepool.PoolConfig) *claudepool.Pool {
	t.Helper()
	if c.SlotMemory == 0 {
		c.SlotMemory = -1 // in-process agents need none
	}
	p, err := claudepool.NewPoolBuilder().Config(c).Build(t.Context())
	if err != nil {
		t.Fatalf("Build: %v", err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return p
}

func submit(t *testing.T, p *claudepool.Pool, task claudepool.Task) claudepool.TaskID {
	t.Helper()
	id, err := p.Submit(t.Context(), task)
	if err != nil {
		t.Fatalf("Submit(%.40q): %v", task.Prompt, err)
	}
	return id
}

// wait waits for a task and returns its result, whatever it is.
func wait(t *testing.T, p *claudepool.Pool, id claudepool.TaskID) claudepool.TaskResult {
	t.Helper()
	r, err := p.Wait(t.Context(), id)
	var failure *claudepool.TaskError
	if err != nil && !errors.As(err, &failure) {
		t.Fatalf("Wait(%s): %v", id, err)
	}
	return r
}

func prompts(n int, form string) []claudepool.Task {
	ts := make([]claudepool.Task, n)
	for i := range ts {
		ts[i].Prompt = fmt.Sprintf(form, i)
	}
	return ts
}

func contains(t *testing.T, what, got, want string) {
	t.Helper()
	if !strings.Contains(got, want) {
		t.Errorf("%s = %q, want it to contain %q", what, got, want)
	}
}
