package mcp_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"go.uber.org/goleak"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/claudetest"
	"github.com/claudepool/claudepool/mcp"
)

func TestMain(m *testing.M) {
	claudetest.Main() // the example starts this program again as the stand-in
	goleak.VerifyTestMain(m)
}

// turnCost is what a turn of the fake agent costs.
const turnCost = claudepool.Microdollars(1_000)

// fake is a launcher of agents that live in the test and do as the prompt says:
//
//	say TEXT      answer TEXT
//	long N        answer N characters
//	json N        give a structured output of N characters
//	hold          answer "held" once release is called
//	fail          end with an error of the agent
//	deny          end with a refused tool call
//	mode          answer the permission mode
//	model         answer the model
//
// After a rejection it does as the feedback says. A request to be routed that
// begins with "auto KIND" is decided so, with the parts that follow, separated by
// "|"; with "slow" before the kind once release is called.
type fake struct {
	mu       sync.Mutex
	released chan struct{}
}

func newFake() *fake { return &fake{released: make(chan struct{})} }

// release lets the turns go on that hold.
func (f *fake) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.released)
	f.released = make(chan struct{})
}

func (f *fake) gate() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.released
}

func (f *fake) Launch(_ context.Context, o claude.Options) (claudepool.Agent, error) {
	return &fakeAgent{fake: f, dir: o.Dir, settings: o.Settings, done: make(chan struct{})}, nil
}

type fakeAgent struct {
	*fake
	dir      string
	settings claude.Settings
	done     chan struct{}
	once     sync.Once
}

func (a *fakeAgent) Turn(ctx context.Context, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
	emit(claude.Started{SessionID: "s", Model: "fake"})
	r := claude.Result{ID: p.ID, SessionID: "s", Subtype: "success", Turns: 1, Cost: turnCost}
	text := p.Text
	if _, request, routed := strings.Cut(text, "<request>\nauto "); routed {
		request, _, _ = strings.Cut(request, "\n</request>")
		if rest, slow := strings.CutPrefix(request, "slow "); slow {
			select {
			case <-a.gate():
			case <-ctx.Done():
				r.Interrupted = true
				return r, context.Cause(ctx)
			case <-a.done:
				return r, errors.New("agent was closed")
			}
			request = rest
		}
		var err error
		r.Structured, err = decision(request)
		return r, err
	}
	if _, feedback, rejected := strings.Cut(text, "<review_feedback>\n"); rejected {
		text, _, _ = strings.Cut(feedback, "\n</review_feedback>")
	}
	verb, rest, _ := strings.Cut(text[strings.LastIndex(text, "\n")+1:], " ")
	switch verb {
	case "say":
		r.Text = rest
	case "write":
		if err := os.WriteFile(filepath.Join(a.dir, rest), []byte("written\n"), 0o644); err != nil {
			return r, err
		}
	case "long":
		n, err := strconv.Atoi(rest)
		if err != nil {
			return r, err
		}
		r.Text = strings.Repeat("x", n)
	case "json":
		n, err := strconv.Atoi(rest)
		if err != nil {
			return r, err
		}
		r.Structured = []byte(`"` + strings.Repeat("z", n-2) + `"`)
	case "hold":
		select {
		case <-a.gate():
			r.Text = "held"
		case <-ctx.Done():
			r.Interrupted = true
			return r, context.Cause(ctx)
		case <-a.done:
			return r, errors.New("agent was closed")
		}
	case "fail":
		r.Subtype, r.IsError, r.Errors = "error_during_execution", true, []string{"the agent gave up"}
	case "deny":
		r.Text = "could not write"
		r.Denials = []claude.Denial{{Tool: "Write", Input: []byte(`{"content":"` + strings.Repeat("y", 10_000) + `"}`)}}
	case "mode":
		r.Text = string(a.settings.PermissionMode)
	case "model":
		r.Text = a.settings.Model
	}
	emit(claude.TextDelta{Text: r.Text})
	return r, nil
}

// decision is the answer to a request to be routed.
func decision(request string) ([]byte, error) {
	kind, rest, _ := strings.Cut(request, " ")
	d := map[string]any{"route": kind, "reason": "it says so"}
	parts := strings.Split(rest, "|")
	switch kind {
	case "parallel":
		d["prompts"] = parts
	case "chain":
		steps := make([]map[string]any, len(parts))
		for i, p := range parts {
			steps[i] = map[string]any{"name": "s" + strconv.Itoa(i), "prompt": p}
		}
		d["steps"] = steps
	}
	return json.Marshal(d)
}

func (a *fakeAgent) Apply(_ context.Context, s claude.Settings) error { a.settings = s; return nil }
func (a *fakeAgent) Reset(_ context.Context, s claude.Settings) error { a.settings = s; return nil }
func (a *fakeAgent) Cost(context.Context) (claudepool.Microdollars, error) {
	return turnCost, nil
}
func (a *fakeAgent) Close(context.Context) error {
	a.once.Do(func() { close(a.done) })
	return nil
}
func (a *fakeAgent) Done() <-chan struct{} { return a.done }
func (a *fakeAgent) Info() claude.Info     { return claude.Info{Version: "2.1.330", SessionID: "s"} }

// fixture is a pool of fake agents behind a server, and a client of it.
type fixture struct {
	*fake
	pool   *claudepool.Pool
	server *mcp.Server
	client *sdk.ClientSession
}

// setup starts a fixture. All parts of its configuration may be zero.
func setup(t *testing.T, cfg claudepool.PoolConfig, o mcp.Options) *fixture {
	t.Helper()
	f := &fixture{fake: newFake()}
	cfg.Launcher = f.fake
	cfg.Spares, cfg.SlotMemory = -1, -1
	cfg.Retry.Max = -1
	if cfg.Slots == 0 {
		cfg.Slots = 2
	}
	var err error
	if cfg.Skills == nil {
		if cfg.Skills, err = claudepool.NewSkillRegistry(claudepool.SourceOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if cfg.Workflows == nil {
		if cfg.Workflows, err = claudepool.NewWorkflowRegistry(claudepool.SourceOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if f.pool, err = claudepool.NewPoolBuilder().Config(cfg).Build(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.pool.Close(); err != nil {
			t.Errorf("close pool: %v", err)
		}
	})
	if f.server, err = mcp.NewServer(f.pool, o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.server.Close(); err != nil {
			t.Errorf("close server: %v", err)
		}
	})
	f.client = f.connect(t, nil, "")
	return f
}

// connect connects one more client. An empty protocol is the newest.
func (f *fixture) connect(t *testing.T, o *sdk.ClientOptions, protocol string) *sdk.ClientSession {
	t.Helper()
	session, _ := f.cuttable(t, o, protocol)
	return session
}

// cuttable is a connect that also returns a function which cuts the connection
// off, whatever goes on in it.
func (f *fixture) cuttable(t *testing.T, o *sdk.ClientOptions, protocol string) (*sdk.ClientSession, func()) {
	t.Helper()
	in, far := sdk.NewInMemoryTransports()
	near := &wire{Transport: in}
	var running sync.WaitGroup
	running.Go(func() {
		if err := f.server.Run(context.WithoutCancel(t.Context()), far); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	c := sdk.NewClient(&sdk.Implementation{Name: "test", Version: "1"}, o)
	session, err := c.Connect(t.Context(), near, &sdk.ClientSessionOptions{ProtocolVersion: protocol})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		session.Close()
		running.Wait()
	})
	return session, func() { near.conn.Close() }
}

// wire is a transport that knows its connection.
type wire struct {
	sdk.Transport
	conn sdk.Connection
}

func (w *wire) Connect(ctx context.Context) (_ sdk.Connection, err error) {
	w.conn, err = w.Transport.Connect(ctx)
	return w.conn, err
}

// protocols are versions of both eras.
var protocols = []string{"2025-06-18", "2025-11-25", "2026-07-28"}
