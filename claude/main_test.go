package claude_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/claudetest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	claudetest.Main()
	serveMCP()
	goleak.VerifyTestMain(m)
}

// running bounds how many CLI processes the tests run at once.
var running = make(chan struct{}, 3)

// patience ends a test that hangs. No test passes or fails on it.
const patience = 60 * time.Second

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// bed is a scripted API with the real CLI in front of it.
type bed struct {
	t    testing.TB
	api  *claudetest.API
	iso  *claudetest.Isolation
	path string
	caps claude.Capabilities
	ctx  context.Context
}

// realCLI waits until another CLI may run, and makes a bed for it.
func realCLI(t testing.TB, script claudetest.Script) *bed {
	t.Helper()
	path := claudetest.CLI(t)
	running <- struct{}{}
	t.Cleanup(func() { <-running })
	b := &bed{t: t, path: path, api: claudetest.NewAPI(t, script), ctx: testContext(t)}
	b.iso = claudetest.Isolate(t, b.api)
	var err error
	if b.caps, err = claude.Probe(b.ctx, path, b.iso.Environ()); err != nil {
		t.Fatal(err)
	}
	return b
}

// needs skips a test of what this version of the CLI does not have.
func (b *bed) needs(has bool, what string) {
	b.t.Helper()
	if !has {
		b.t.Skipf("claude %s has no %s", b.caps.Version, what)
	}
}

func (b *bed) options(edit ...func(*claude.Options)) claude.Options {
	o := b.iso.Options(b.path)
	o.Settings.Model = "claude-sonnet-5"
	for _, e := range edit {
		e(&o)
	}
	return o
}

func (b *bed) start(edit ...func(*claude.Options)) *claude.Process {
	b.t.Helper()
	p, err := claude.Start(b.ctx, b.options(edit...))
	if err != nil {
		b.t.Fatal(err)
	}
	b.closeLater(p)
	return p
}

func (b *bed) closeLater(p *claude.Process) {
	b.t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			b.t.Errorf("Close: %v", err)
		}
		if strays, err := p.Strays(); err != nil || len(strays) > 0 {
			b.t.Errorf("after Close: strays %v, %v", strays, err)
		}
	})
}

// bypass lets the process do everything.
func bypass(o *claude.Options) {
	o.AllowBypass = true
	o.Settings.PermissionMode = claude.PermissionBypass
	env(o, "IS_SANDBOX", "1")
}

func env(o *claude.Options, name, value string) { o.Env[name] = value }

func with(name, value string) func(*claude.Options) {
	return func(o *claude.Options) { env(o, name, value) }
}

func tools(names ...string) func(*claude.Options) {
	return func(o *claude.Options) { o.Tools = names }
}

// turn runs a turn that must give a result.
func (b *bed) turn(p *claude.Process, text string) claude.Result {
	b.t.Helper()
	r, err := p.Turn(b.ctx, claude.Prompt{Text: text}, nil)
	if err != nil {
		b.t.Fatalf("Turn(%.60q): %v", text, err)
	}
	return r
}

// says runs a turn that must end well with this text.
func (b *bed) says(p *claude.Process, text, want string) claude.Result {
	b.t.Helper()
	r := b.turn(p, text)
	if r.IsError || r.Text != want {
		b.t.Fatalf("Turn(%.60q) = %q, error %t (%s %v), want %q", text, clip(r.Text), r.IsError, r.TerminalReason, r.Errors, clip(want))
	}
	return r
}

func (b *bed) reset(p *claude.Process, s claude.Settings) {
	b.t.Helper()
	if err := p.Reset(b.ctx, s); err != nil {
		b.t.Fatalf("Reset: %v", err)
	}
}

func (b *bed) file(name, content string) string {
	b.t.Helper()
	path := filepath.Join(b.iso.Dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return path
}

func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}

// events collects what a turn emits and lets a test wait for some of it.
type events struct {
	mu  sync.Mutex
	all []claude.Event
	on  func(claude.Event)
}

func (e *events) emit(ev claude.Event) {
	e.mu.Lock()
	e.all = append(e.all, ev)
	e.mu.Unlock()
	if e.on != nil {
		e.on(ev)
	}
}

func eventsOf[T claude.Event](e *events) []T {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []T
	for _, ev := range e.all {
		if v, ok := ev.(T); ok {
			out = append(out, v)
		}
	}
	return out
}

// once returns a function that closes the channel at its first call with a T.
func once[T claude.Event]() (<-chan struct{}, func(claude.Event)) {
	ch := make(chan struct{})
	var o sync.Once
	return ch, func(ev claude.Event) {
		if _, ok := ev.(T); ok {
			o.Do(func() { close(ch) })
		}
	}
}

func await(t testing.TB, ch <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
	}
}

// until waits for a condition that nothing announces.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func errorAs[T error](t testing.TB, err error) T {
	t.Helper()
	var want T
	if !errors.As(err, &want) {
		t.Fatalf("error = %v (%T), want a %T", err, err, want)
	}
	return want
}

func contains(t testing.TB, what, s, sub string) {
	t.Helper()
	if !strings.Contains(s, sub) {
		t.Errorf("%s = %q, want it to contain %q", what, clip(s), sub)
	}
}
