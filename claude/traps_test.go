package claude_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/claudetest"
)

// The tests in this file show that the driver is not caught by what is
// surprising about the CLI. They run on the real one.

func TestTrap01_APIFailureLooksLikeSuccess(t *testing.T) {
	t.Parallel()
	b := realCLI(t, nil)
	p := b.start()
	r := b.turn(p, "[[status:403]]")
	if !r.IsError || r.APIStatus != 403 || r.APIError != "authentication_failed" {
		t.Errorf("result = error %t, status %d, %q; want an error with 403 authentication_failed", r.IsError, r.APIStatus, r.APIError)
	}
	if r.Subtype != "success" {
		t.Errorf("subtype = %q: the trap is gone", r.Subtype)
	}
	r = b.says(p, "and now?", "and now?")
	if r.APIStatus != 0 || r.APIError != "" {
		t.Errorf("the turn after has status %d, %q", r.APIStatus, r.APIError)
	}
}

func TestTrap02_ResultsNobodyAskedFor(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	var notified atomic.Bool
	b := realCLI(t, func(r *claudetest.Request) claudetest.Reply {
		if r.Prompt != "mine" && strings.Contains(fmt.Sprint(r.Messages), "task-notification") {
			notified.Store(true)
			return claudetest.Text("nobody asked for this").Gate(gate)
		}
		return claudetest.Directives(r)
	})
	p := b.start(bypass, tools("Bash"), with("CLAUDE_CODE_DISABLE_BACKGROUND_TASKS", "0"))
	b.turn(p, `[[tool:Bash:{"command":"until [ -e go ]; do sleep 0.02; done","description":"job","run_in_background":true}]][[reply:started]]`)
	b.file("go", "")
	until(t, "the turn that nobody asked for", notified.Load)
	time.AfterFunc(50*time.Millisecond, func() { close(gate) })
	r, err := p.Turn(b.ctx, claude.Prompt{Text: "mine"}, nil)
	if r.Text != "mine" || !errors.Is(err, claude.ErrDisturbed) {
		t.Errorf("Turn = %q, %v; want its own result, and to be told", r.Text, err)
	}
	cost, n := p.Unsolicited()
	if n != 1 || cost <= 0 {
		t.Errorf("Unsolicited = %v, %d; want the cost of one result", cost, n)
	}
}

func TestTrap03_ClearDoesNotStopBackgroundWork(t *testing.T) {
	t.Parallel()
	b := realCLI(t, nil)
	b.needs(b.caps.WarmReuse, "proven reset")
	p := b.start(bypass, tools("Bash"), with("CLAUDE_CODE_DISABLE_BACKGROUND_TASKS", "0"))
	b.turn(p, `[[tool:Bash:{"command":"sleep 60; echo secret","description":"job","run_in_background":true}]][[reply:started]]`)
	until(t, "the job", func() bool { s, err := p.Strays(); return err == nil && len(s) > 0 })
	b.reset(p, b.options(bypass).Settings)
	if strays, err := p.Strays(); err != nil || len(strays) > 0 {
		t.Errorf("after the reset: %v, %v", strays, err)
	}
	b.says(p, "[[history]]", "[[history]]")
	if _, n := p.Unsolicited(); n != 0 {
		t.Errorf("%d unsolicited results", n)
	}
	// As the driver starts it, there is no such work at all.
	q := b.start(bypass, tools("Bash"))
	b.turn(q, `[[tool:Bash:{"command":"sleep 0.1; echo secret","description":"job","run_in_background":true}]][[reply:started]]`)
	if strays, err := q.Strays(); err != nil || len(strays) > 0 {
		t.Errorf("a job runs in the background: %v, %v", strays, err)
	}
}

func TestTrap04_CommandOverItsTimeIsKilled(t *testing.T) {
	t.Parallel()
	b := realCLI(t, nil)
	p := b.start(bypass, with("BASH_DEFAULT_TIMEOUT_MS", "300"))
	var ev events
	r, err := p.Turn(b.ctx, claude.Prompt{Text: "[[bash:for i in $(seq 600); do sleep 0.1; done]][[reply:over]]"}, ev.emit)
	if err != nil || r.Text != "over" {
		t.Fatalf("Turn = %q, %v", r.Text, err)
	}
	results := eventsOf[claude.ToolResult](&ev)
	if len(results) != 1 || !results[0].IsError {
		t.Errorf("tool results = %+v, want one that failed", results)
	}
	if strays, err := p.Strays(); err != nil || len(strays) > 0 {
		t.Errorf("the command runs on: %v, %v", strays, err)
	}
}

func TestTrap05_SubagentsRunInTheForeground(t *testing.T) {
	t.Parallel()
	b := realCLI(t, nil)
	p := b.start(bypass)
	r := b.turn(p, `[[tool:Agent:{"description":"sub","prompt":"[[reply:from the subagent]]","subagent_type":"general-purpose"}]]`)
	contains(t, "text", r.Text, "from the subagent")
	if _, n := p.Unsolicited(); n != 0 {
		t.Errorf("%d results nobody asked for", n)
	}
	if want := 3 * claude.Microdollars(300); r.Cost != want {
		t.Errorf("cost = %v, want %v: that of the subagent too", r.Cost, want)
	}
}

func TestTrap06_OnlyWholeMessagesAreSent(t *testing.T) {
	t.Parallel()
	b := realCLI(t, claudetest.Echo)
	p := b.start()
	for _, bad := range []claude.Prompt{{Text: "bad \xff"}, {Text: "  \n"}, {Text: "x", ID: "\xff"}, {Text: strings.Repeat("x", claude.MaxPrompt+1)}} {
		if _, err := p.Turn(b.ctx, bad, nil); !errors.Is(err, claude.ErrInvalidPrompt) {
			t.Errorf("Turn(%.20q) = %v, want ErrInvalidPrompt", bad.Text, err)
		}
	}
	for _, text := range []string{"a \"quoted\"\nline\r\nand more", "sep\u2028para\u2029", "emoji 👩‍👩‍👧 \x00\x1b[31m", `{"type":"user"}`, "<b>&amp;"} {
		r := b.turn(p, text)
		if strings.TrimSpace(r.Text) != strings.TrimSpace(text) {
			t.Errorf("echo of %q = %q", text, r.Text)
		}
	}
}

func TestTrap07_CloseStopsWhatRuns(t *testing.T) {
	t.Parallel()
	b := realCLI(t, nil)
	p := b.start(bypass)
	used, on := once[claude.ToolUse]()
	ended := make(chan error, 1)
	go func() {
		_, err := p.Turn(b.ctx, claude.Prompt{Text: "[[bash:while true; do sleep 0.1; done]]"}, on)
		ended <- err
	}()
	await(t, used, "the command")
	if err := p.Close(b.ctx); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := <-ended; !errors.Is(err, claude.ErrClosed) {
		t.Errorf("Turn = %v, want ErrClosed", err)
	}
	if strays, err := p.Strays(); err != nil || len(strays) > 0 {
		t.Errorf("after Close: %v, %v", strays, err)
	}
}

func TestTrap08_UnansweredQuestionEndsWithTheTurn(t *testing.T) {
	t.Parallel()
	b := realCLI(t, nil)
	withdrawn := make(chan struct{})
	p := b.start(func(o *claude.Options) {
		o.Settings.PermissionMode = claude.PermissionDefault
		o.Permission = func(ctx context.Context, r claude.PermissionRequest) (claude.PermissionAnswer, error) {
			<-ctx.Done()
			close(withdrawn)
			return claude.PermissionAnswer{Allow: true}, nil
		}
	})
	ctx, cancel := context.WithCancelCause(b.ctx)
	why := errors.New("nobody answers")
	var ev events
	ev.on = func(e claude.Event) {
		if _, ok := e.(claude.Asked); ok {
			cancel(why)
		}
	}
	r, err := p.Turn(ctx, claude.Prompt{Text: "[[write:new.txt:x]]"}, ev.emit)
	if !errors.Is(err, why) || !r.Interrupted {
		t.Errorf("Turn = interrupted %t, %v; want the cause", r.Interrupted, err)
	}
	await(t, withdrawn, "the end of the question")
	if _, err := os.Stat(filepath.Join(b.iso.Dir, "new.txt")); err == nil {
		t.Error("the late answer was heard")
	}
	b.says(p, "still there?", "still there?")
}

func TestTrap09_NoInterruptIsLost(t *testing.T) {
	t.Parallel()
	b := realCLI(t, func(r *claudetest.Request) claudetest.Reply {
		if r.Prompt == "quick" {
			return claudetest.Text("quick")
		}
		return claudetest.Words(100, 50*time.Millisecond)
	})
	p := b.start()
	for i := range 12 {
		ctx, cancel := context.WithTimeout(b.ctx, time.Duration(i)*time.Millisecond)
		r, err := p.Turn(ctx, claude.Prompt{Text: fmt.Sprintf("long %d", i)}, nil)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || strings.Contains(r.Text, "word100") {
			t.Fatalf("after %d ms: %q (%s), %v; want an interrupted turn", i, clip(r.Text), r.TerminalReason, err)
		}
		b.says(p, "quick", "quick")
	}
}

func TestTrap10_CostsAreDifferences(t *testing.T) {
	t.Parallel()
	b := realCLI(t, nil)
	o := b.options()
	p := b.start()
	const each = claude.Microdollars(300)
	for range 2 {
		if r := b.says(p, "hello", "hello"); r.Cost != each || r.Models["claude-sonnet-5"].Cost != each || r.Models["claude-sonnet-5"].Output != 10 {
			t.Errorf("cost = %v, %+v; want %v", r.Cost, r.Models, each)
		}
	}
	if c, err := p.Cost(b.ctx); c != 2*each || err != nil {
		t.Errorf("Cost = %v, %v; want %v", c, err, 2*each)
	}
	if b.caps.WarmReuse {
		b.reset(p, o.Settings)
		if c, err := p.Cost(b.ctx); c != 0 || err != nil {
			t.Errorf("Cost after the reset = %v, %v", c, err)
		}
		if r := b.says(p, "hello", "hello"); r.Cost != each {
			t.Errorf("cost after the reset = %v, want %v", r.Cost, each)
		}
	}
	session := p.Info().SessionID
	if err := p.Close(b.ctx); err != nil {
		t.Fatal(err)
	}
	q := b.start(func(o *claude.Options) { o.Resume = session })
	if r := b.says(q, "hello again", "hello again"); r.Cost != each || r.SessionID != session {
		t.Errorf("resumed: cost %v, session %s; want %v, %s", r.Cost, r.SessionID, each, session)
	}
	if c, err := q.Cost(b.ctx); c != each || err != nil {
		t.Errorf("resumed: Cost = %v, %v; want %v", c, err, each)
	}
}

func TestTrap11_LongLines(t *testing.T) {
	t.Parallel()
	b := realCLI(t, nil)
	p := b.start()
	r := b.turn(p, "[[huge:5000000]]")
	if len(r.Text) != 5_000_000 {
		t.Errorf("text has %d bytes", len(r.Text))
	}
}

func TestTrap12_SuggestionsAreNotSentBack(t *testing.T) {
	t.Parallel()
	b := realCLI(t, nil)
	var asked atomic.Int32
	p := b.start(func(o *claude.Options) {
		o.Settings.PermissionMode = claude.PermissionDefault
		o.Permission = func(context.Context, claude.PermissionRequest) (claude.PermissionAnswer, error) {
			asked.Add(1)
			return claude.PermissionAnswer{Allow: true}, nil
		}
	})
	b.turn(p, "[[write:a.txt:x]][[bash:touch b.txt]]")
	b.turn(p, "[[write:c.txt:x]][[bash:touch b.txt]]")
	if n := asked.Load(); n != 4 {
		t.Errorf("asked %d times, want 4: an answer is for one call", n)
	}
	for _, f := range []string{"a.txt", "b.txt", "c.txt"} {
		if _, err := os.Stat(filepath.Join(b.iso.Dir, f)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(b.iso.Dir, ".claude")); err == nil {
		t.Error("a rule was written into the project")
	}
}

func TestTrap13_TextIsNoCommand(t *testing.T) {
	t.Parallel()
	b := realCLI(t, nil)
	b.file("notes.txt", "SECRET-NOTES")
	p := b.start()
	b.says(p, "first", "first")
	session := p.Info().SessionID
	for _, text := range []string{"/clear", "/clear and more", "/model haiku", "/nonsense", "/", "look at @notes.txt", "@notes.txt", "(@notes.txt)", "/clear @notes.txt"} {
		r := b.turn(p, text)
		if strings.TrimSpace(r.Text) != text || r.LocalCommand != "" {
			t.Errorf("Turn(%q) = %q, command %q; want the text back", text, r.Text, r.LocalCommand)
		}
	}
	if got := p.Info().SessionID; got != session {
		t.Errorf("the session is %s, was %s", got, session)
	}
	for _, q := range b.api.Requests() {
		if q.Model != "claude-sonnet-5" {
			t.Errorf("the model is %s", q.Model)
		}
		for _, m := range q.Messages {
			for _, c := range m.Content {
				if strings.Contains(c.Text, "SECRET-NOTES") && !expandsAlways(b) {
					t.Fatalf("a file got into the conversation: %q", c.Text)
				}
			}
		}
	}
	r, err := p.Turn(b.ctx, claude.Prompt{Text: "/cost", Commands: true}, nil)
	if err != nil || r.LocalCommand != "cost" && b.caps.WarmReuse {
		t.Errorf("with Commands: command %q, %v", r.LocalCommand, err)
	}
}

// expandsAlways says that this version expands @path whatever it is told.
func expandsAlways(b *bed) bool { return !b.caps.WarmReuse }

func TestTrap14_ResumedSessionsKeepTheirPrompt(t *testing.T) {
	t.Parallel()
	b := realCLI(t, nil)
	p := b.start(func(o *claude.Options) { o.SystemPrompt = "SYSTEM-ONE" })
	contains(t, "system prompt", b.turn(p, "[[system]]").Text, "SYSTEM-ONE")
	session := p.Info().SessionID
	if err := p.Close(b.ctx); err != nil {
		t.Fatal(err)
	}
	_, err := claude.Start(b.ctx, b.options(func(o *claude.Options) { o.Resume, o.SystemPrompt = session, "SYSTEM-TWO" }))
	if e := errorAs[*claude.OptionError](t, err); e.Field != "SystemPrompt" {
		t.Errorf("field = %s", e.Field)
	}
	q := b.start(func(o *claude.Options) { o.Resume = session })
	if got := b.turn(q, "[[system]]").Text; strings.Contains(got, "SYSTEM-ONE") != b.caps.WarmReuse {
		t.Errorf("the resumed session has the system prompt %q", clip(got)) // versions before warm reuse forget it
	}
}

func TestTrap15_StructuredOutputCanBeMissing(t *testing.T) {
	t.Parallel()
	b := realCLI(t, func(r *claudetest.Request) claudetest.Reply {
		if strings.Contains(r.Prompts[0], "never") {
			return claudetest.Text("no")
		}
		return claudetest.Directives(r)
	})
	schema := json.RawMessage(`{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}`)
	p := b.start(func(o *claude.Options) { o.JSONSchema = schema })
	r := b.turn(p, "never")
	if r.IsError || r.Structured != nil {
		t.Errorf("result = error %t, structured %s; want neither", r.IsError, r.Structured)
	}
	q := b.start(func(o *claude.Options) { o.JSONSchema = schema })
	r = b.turn(q, `[[output:{"n":7}]]`)
	if r.IsError || string(r.Structured) != `{"n":7}` {
		t.Errorf("result = error %t, structured %s", r.IsError, r.Structured)
	}
}

func TestTrap16_ToolsOfThisProgramAreSeen(t *testing.T) {
	t.Parallel()
	b := realCLI(t, nil)
	host := &adder{}
	p := b.start(func(o *claude.Options) {
		o.Servers = map[string]claude.MCPHandler{"host": host}
		o.Tools = append(claude.DefaultTools(), "ToolSearch") // without it nothing is put off
		o.Settings.AllowedTools = []string{"mcp__host"}
		o.Settings.PermissionMode = claude.PermissionDontAsk
	})
	contains(t, "tools", b.turn(p, "[[tools]]").Text, "mcp__host__add")
	b.says(p, `[[tool:mcp__host__add:{"a":2,"b":3}]]`, "5")
}

func TestTrap17_RequestsBeforeTheHandshakeIsOver(t *testing.T) {
	t.Parallel()
	b := realCLI(t, nil)
	host := &adder{slow: 100 * time.Millisecond}
	p := b.start(func(o *claude.Options) {
		o.Servers = map[string]claude.MCPHandler{"host": host}
		o.Settings.AllowedTools = []string{"mcp__host__add"}
		o.Settings.PermissionMode = claude.PermissionDontAsk
	})
	b.says(p, `[[tool:mcp__host__add:{"a":20,"b":30}]]`, "50")
	if got := host.methods(); len(got) == 0 || got[0] != "initialize" {
		t.Errorf("methods = %v, want initialize first", got)
	}
}

func TestTrap18_RetriesCanBeStopped(t *testing.T) {
	t.Parallel()
	b := realCLI(t, nil)
	p := b.start()
	ctx, cancel := context.WithCancel(b.ctx)
	var ev events
	ev.on = func(e claude.Event) {
		if _, ok := e.(claude.Retry); ok {
			cancel()
		}
	}
	r, err := p.Turn(ctx, claude.Prompt{Text: "[[status:529]]"}, ev.emit)
	if !errors.Is(err, context.Canceled) || !r.Interrupted {
		t.Errorf("Turn = interrupted %t, %v", r.Interrupted, err)
	}
	retries := eventsOf[claude.Retry](&ev)
	if len(retries) == 0 || retries[0].Status != 529 || retries[0].Reason != "overloaded" || retries[0].Delay <= 0 {
		t.Errorf("retries = %+v", retries)
	}

	// A login that is refused is not tried ten times.
	before := b.api.Count()
	r = b.turn(p, "[[status:401]]")
	if !r.IsError || r.APIError != "authentication_failed" || r.APIStatus != 401 || r.Interrupted {
		t.Errorf("result = %+v, want a refused login", r)
	}
	if n := b.api.Count() - before; n > 3 {
		t.Errorf("%d requests", n)
	}
	b.says(p, "still there?", "still there?")
}

func TestTrap19_ExitCodesSayNothingOfResults(t *testing.T) {
	t.Parallel()
	b := realCLI(t, nil)
	p := b.start()
	if r := b.turn(p, "[[status:403]]"); !r.IsError {
		t.Errorf("result = %+v", r)
	}
	if err := p.Close(b.ctx); err != nil || !errors.Is(p.Err(), claude.ErrClosed) {
		t.Errorf("Close = %v, Err = %v; want a clean end", err, p.Err())
	}
	if _, err := p.Turn(b.ctx, claude.Prompt{Text: "x"}, nil); !errors.Is(err, claude.ErrClosed) {
		t.Errorf("Turn after Close = %v", err)
	}
}

func TestTrap20_ExceededCeilingKeepsTheText(t *testing.T) {
	t.Parallel()
	b := realCLI(t, nil)
	p := b.start(func(o *claude.Options) { o.MaxCost = 5 * claude.Dollar / 10 })
	r := b.turn(p, "[[usage:100,100000]][[reply:dear words]]")
	if r.Subtype != "error_max_budget_usd" || !r.IsError || r.Text != "dear words" || r.Cost < claude.Dollar {
		t.Errorf("result = %s, error %t, text %q, cost %v; want the ceiling, the text and the cost", r.Subtype, r.IsError, r.Text, r.Cost)
	}
	n := b.api.Count()
	if r := b.turn(p, "again"); r.Subtype != "error_max_budget_usd" || r.Cost != 0 || b.api.Count() != n {
		t.Errorf("the turn after = %s, cost %v, %d requests", r.Subtype, r.Cost, b.api.Count()-n)
	}
	if b.caps.WarmReuse {
		b.reset(p, b.options().Settings)
		b.says(p, "again", "again")
	}
}
