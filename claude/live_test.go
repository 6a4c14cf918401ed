package claude_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/claudetest"
)

// The tests in this file run on the real CLI, beside those of its traps.

func TestApply(t *testing.T) {
	t.Parallel()
	b := realCLI(t, nil)
	p := b.start(func(o *claude.Options) {
		o.AllowBypass = b.caps.WarmReuse
		env(o, "IS_SANDBOX", "1")
	})
	r := b.turn(p, "[[bash:touch one]][[model]]")
	if len(r.Denials) != 1 || r.Text != "claude-sonnet-5" {
		t.Errorf("in plan mode: denials %v, model %s", r.Denials, r.Text)
	}
	s := claude.Settings{
		Model: "claude-haiku-4-5", PermissionMode: claude.PermissionDontAsk, Effort: claude.EffortLow,
		AllowedTools: []string{"Bash(touch *)"}, DisallowedTools: []string{"Bash(touch three)"},
	}
	if err := p.Apply(b.ctx, s); err != nil {
		t.Fatal(err)
	}
	r = b.turn(p, "[[bash:touch two]][[bash:touch three]][[model]]")
	if len(r.Denials) != 1 || r.Text != "claude-haiku-4-5" {
		t.Errorf("with rules: denials %v, model %s", r.Denials, r.Text)
	}
	for _, m := range claude.PermissionModes() {
		if m == claude.PermissionBypass && !b.caps.WarmReuse {
			_, err := claude.Start(b.ctx, b.options(bypass, func(o *claude.Options) { o.Settings.PermissionMode = claude.PermissionPlan }))
			errorAs[*claude.VersionError](t, err) // plan mode would allow everything
			continue
		}
		for _, e := range append(claude.Efforts(), "") {
			if err := p.Apply(b.ctx, claude.Settings{Model: "opus", PermissionMode: m, Effort: e}); err != nil {
				t.Errorf("%s, %q: %v", m, e, err)
			}
		}
	}
	if err := p.Apply(b.ctx, claude.Settings{Model: "claude-sonnet-5"}); err != nil {
		t.Error(err)
	}
	before := b.api.Count()
	if r := b.turn(p, "[[bash:touch four]]"); len(r.Denials) != 1 {
		t.Errorf("back in plan mode: denials %v", r.Denials)
	}
	if n := b.api.Count() - before; n != 2 {
		t.Errorf("%d requests: plan mode asks a model what may be written", n)
	}
	errorAs[*claude.SettingError](t, p.Apply(b.ctx, claude.Settings{AllowedTools: []string{"Bash(unclosed"}}))
	if err := p.Apply(b.ctx, claude.Settings{Model: "claude-sonnet-5"}); err != nil {
		t.Errorf("after a refused change: %v", err)
	}
	errorAs[*claude.OptionError](t, p.Apply(b.ctx, claude.Settings{Effort: "huge"}))
	b.says(p, "still there?", "still there?")
}

func TestResetLeavesNothing(t *testing.T) {
	t.Parallel()
	b := realCLI(t, nil)
	b.needs(b.caps.WarmReuse, "proven reset")
	p := b.start(bypass)
	b.turn(p, "remember SECRET-OF-ONE [[bash:cd /; touch "+filepath.Join(b.iso.Dir, "x")+"]]")
	one := p.Info().SessionID
	s := claude.Settings{Model: "claude-haiku-4-5", PermissionMode: claude.PermissionDontAsk, AllowedTools: []string{"Bash(pwd)"}, Effort: claude.EffortHigh}
	b.reset(p, s)
	contains(t, "directory", b.turn(p, "[[bash:pwd]]").Text, b.iso.Dir)
	b.says(p, "[[model]]", "claude-haiku-4-5")
	if two := p.Info(); two.SessionID == one || two.Resets != 1 || two.Turns != 3 {
		t.Errorf("Info = %+v", two)
	}
	s.PermissionMode = claude.PermissionPlan
	b.reset(p, s)
	b.reset(p, b.options(bypass).Settings)
	contains(t, "directory", b.turn(p, "[[bash:pwd]]").Text, b.iso.Dir)
	last := b.api.Requests()[b.api.Count()-1]
	for _, m := range last.Messages {
		for _, c := range m.Content {
			if strings.Contains(c.Text, "SECRET-OF-ONE") || strings.Contains(c.Text, "haiku") || strings.Contains(c.Text, "Plan Mode") {
				t.Errorf("the conversation has %q", clip(c.Text))
			}
		}
	}
	if last.Model != "claude-sonnet-5" {
		t.Errorf("model = %s", last.Model)
	}
}

func TestMCPServersOfTheirOwn(t *testing.T) {
	t.Parallel()
	b := realCLI(t, nil)
	b.needs(b.caps.WarmReuse, "proven reset")
	server, started := mcpCommand(t)
	s := b.options(bypass).Settings
	s.MCPServers = map[string]claude.MCPServer{"own": server}
	p := b.start(bypass, func(o *claude.Options) {
		o.Settings = s
		o.Servers = map[string]claude.MCPHandler{"host": &adder{}}
	})
	list := b.turn(p, "[[tools]]").Text
	contains(t, "tools", list, "mcp__own__ping")
	contains(t, "tools", list, "mcp__host__add")
	b.says(p, "[[tool:mcp__own__ping:{}]]", "pong")
	b.reset(p, s)
	if n := started(); n != 2 {
		t.Errorf("the server was started %d times, want anew at the reset", n)
	}
	b.says(p, "[[tool:mcp__own__ping:{}]]", "pong")
	b.says(p, `[[tool:mcp__host__add:{"a":1,"b":1}]]`, "2")
	s.MCPServers = nil
	b.reset(p, s)
	list = b.turn(p, "[[tools]]").Text
	if strings.Contains(list, "mcp__own__ping") || !strings.Contains(list, "mcp__host__add") {
		t.Errorf("tools = %s", list)
	}
	s.MCPServers = map[string]claude.MCPServer{"broken": claude.MCPServer(`{"command":"/nonexistent/server"}`)}
	if e := errorAs[*claude.SettingError](t, p.Apply(b.ctx, s)); e.Field != "MCPServers.broken" {
		t.Errorf("field = %s", e.Field)
	}
}

func TestMCPCallIsCancelled(t *testing.T) {
	t.Parallel()
	b := realCLI(t, nil)
	host := &adder{}
	p := b.start(bypass, func(o *claude.Options) { o.Servers = map[string]claude.MCPHandler{"host": host} })
	ctx, cancel := context.WithCancel(b.ctx)
	ended := make(chan error, 1)
	go func() {
		_, err := p.Turn(ctx, claude.Prompt{Text: `[[tool:mcp__host__add:{"a":-1,"b":-1}]]`}, nil)
		ended <- err
	}()
	until(t, "the call", func() bool { return slices.Contains(host.methods(), "tools/call") })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Turn = %v", err)
	}
	until(t, "the cancellation", func() bool { host.mu.Lock(); defer host.mu.Unlock(); return host.cancelled == 1 })
	b.needs(b.caps.WarmReuse, "tools that change")
	n := len(host.methods())
	if err := p.SendMCP(b.ctx, "host", json.RawMessage(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)); err != nil {
		t.Error(err)
	}
	until(t, "the new list", func() bool { return slices.Contains(host.methods()[n:], "tools/list") })
}

func TestPermission(t *testing.T) {
	t.Parallel()
	b := realCLI(t, nil)
	p := b.start(func(o *claude.Options) {
		o.Settings.PermissionMode = claude.PermissionDefault
		o.Permission = func(_ context.Context, r claude.PermissionRequest) (claude.PermissionAnswer, error) {
			in := string(r.Input)
			switch {
			case strings.Contains(in, "change"):
				return claude.PermissionAnswer{Allow: true, Input: json.RawMessage(`{"command":"touch changed","description":"x"}`)}, nil
			case strings.Contains(in, "refuse"):
				return claude.PermissionAnswer{Message: "not today"}, nil
			case strings.Contains(in, "fail"):
				return claude.PermissionAnswer{}, errors.New("nobody home")
			case strings.Contains(in, "stop"):
				return claude.PermissionAnswer{Stop: true}, nil
			}
			return claude.PermissionAnswer{Allow: true}, nil
		}
	})
	exists := func(name string) bool {
		_, err := os.Stat(filepath.Join(b.iso.Dir, name))
		return err == nil
	}
	var ev events
	r, err := p.Turn(b.ctx, claude.Prompt{Text: "[[bash:touch change]]"}, ev.emit)
	if err != nil || !exists("changed") || exists("change") || len(r.Denials) != 0 {
		t.Errorf("changed input: %+v, %v", r, err)
	}
	if asked, answered := eventsOf[claude.Asked](&ev), eventsOf[claude.Answered](&ev); len(asked) != 1 || len(answered) != 1 || !answered[0].Allowed || asked[0].Request.Tool != "Bash" || asked[0].Request.ToolUseID != answered[0].ToolUseID {
		t.Errorf("events = %+v %+v", asked, answered)
	}
	r = b.says(p, "[[bash:touch refuse]]", "not today")
	if len(r.Denials) != 1 || r.Denials[0].Tool != "Bash" || exists("refuse") {
		t.Errorf("refused: %+v", r.Denials)
	}
	contains(t, "text", b.turn(p, "[[bash:touch fail]]").Text, "nobody home")
	r = b.turn(p, "[[bash:touch stop]]")
	if !r.IsError || r.TerminalReason != "aborted_tools" || r.Interrupted || len(r.Denials) != 1 {
		t.Errorf("stopped: %+v", r)
	}
	list := b.turn(p, "[[tools]]").Text
	contains(t, "tools", list, "AskUserQuestion")
}

func TestNobodyToAsk(t *testing.T) {
	t.Parallel()
	b := realCLI(t, nil)
	p := b.start(func(o *claude.Options) {
		o.Settings.PermissionMode = claude.PermissionDefault
		o.Tools = append(claude.DefaultTools(), "AskUserQuestion", "ExitPlanMode")
	})
	var ev events
	r, err := p.Turn(b.ctx, claude.Prompt{Text: "[[write:new.txt:x]][[tools]]"}, ev.emit)
	if err != nil || len(r.Denials) != 1 || len(eventsOf[claude.Asked](&ev)) != 0 {
		t.Errorf("denials %v, %v", r.Denials, err)
	}
	for _, name := range []string{"AskUserQuestion", "ExitPlanMode", "EnterPlanMode"} {
		if strings.Contains(r.Text, name) {
			t.Errorf("%s is offered", name)
		}
	}
}

// The names in DefaultTools are the CLI's: each is offered, and no other.
func TestDefaultToolsExist(t *testing.T) {
	t.Parallel()
	b := realCLI(t, nil)
	p := b.start(bypass)
	got := strings.Fields(b.turn(p, "[[tools]]").Text)
	want := claude.DefaultTools()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("offered %q, want %q", got, want)
	}
}

func TestSpare(t *testing.T) {
	t.Parallel()
	b := realCLI(t, nil)
	if !b.caps.Spares {
		_, err := claude.Park(b.ctx, b.options())
		errorAs[*claude.VersionError](t, err)
		b.needs(false, "spares")
	}
	s, err := claude.Park(b.ctx, b.options(bypass))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	dir, more := t.TempDir(), t.TempDir()
	want := func(o *claude.Options) {
		bypass(o)
		o.Dir, o.AddDirs = dir, []string{more}
		o.SystemPrompt, o.AppendSystemPrompt = "CLAIMED-SYSTEM", "CLAIMED-APPEND"
		o.Settings.Model = "claude-haiku-4-5"
		o.Agents = json.RawMessage(`{"critic":{"description":"criticises","prompt":"be strict"}}`)
	}
	for name, edit := range map[string]func(*claude.Options){
		"other tools": func(o *claude.Options) { o.Tools = []string{"Read"} },
		"resume":      func(o *claude.Options) { o.Resume = "11111111-1111-4111-8111-111111111111" },
	} {
		_, err := s.Claim(b.ctx, b.options(bypass, edit))
		if e := errorAs[*claude.ClaimError](t, err); e.Code != "options" {
			t.Errorf("%s: code %s", name, e.Code)
		}
	}
	settings := filepath.Join(more, ".claude")
	if err := os.Mkdir(settings, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(settings, "settings.json"), []byte(`{"env":{"A":"b"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = s.Claim(b.ctx, b.options(want, func(o *claude.Options) { o.Dir = more }))
	if e := errorAs[*claude.ClaimError](t, err); e.Code != "project_settings_not_claimable" {
		t.Errorf("code = %s", e.Code)
	}
	p, err := s.Claim(b.ctx, b.options(want))
	if err != nil {
		t.Fatal(err)
	}
	b.closeLater(p)
	r := b.turn(p, "[[system]]")
	contains(t, "system prompt", r.Text, "CLAIMED-SYSTEM")
	contains(t, "system prompt", r.Text, "CLAIMED-APPEND")
	b.says(p, "[[model]]", "claude-haiku-4-5")
	contains(t, "directory", b.turn(p, "[[bash:pwd]]").Text, dir)
	if i := p.Info(); i.Dir != dir || i.SessionID != r.SessionID {
		t.Errorf("Info = %+v", i)
	}
	_, err = s.Claim(b.ctx, b.options(want))
	errorAs[*claude.ClaimError](t, err)
	b.reset(p, b.options(bypass).Settings)
	contains(t, "system prompt after the reset", b.turn(p, "[[system]]").Text, "CLAIMED-SYSTEM")
}

func TestSessions(t *testing.T) {
	t.Parallel()
	b := realCLI(t, nil)
	id := "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
	p := b.start(func(o *claude.Options) { o.SessionID = id })
	if r := b.says(p, "one", "one"); r.SessionID != id {
		t.Errorf("session = %s", r.SessionID)
	}
	_, err := claude.Start(b.ctx, b.options(func(o *claude.Options) { o.SessionID = id }))
	contains(t, "error", errorAs[*claude.ExitError](t, err).Error(), "already in use")
	if err := p.Close(b.ctx); err != nil {
		t.Fatal(err)
	}
	fork := "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
	q := b.start(func(o *claude.Options) { o.Resume, o.Fork, o.SessionID = id, true, fork })
	if r := b.turn(q, "[[history]]"); r.SessionID != fork || !strings.Contains(r.Text, "one") {
		t.Errorf("fork: session %s, %q", r.SessionID, r.Text)
	}
	_, err = claude.Start(b.ctx, b.options(func(o *claude.Options) { o.Resume = "cccccccc-cccc-4ccc-8ccc-cccccccccccc" }))
	errorAs[*claude.ExitError](t, err)
	if !errors.Is(err, claude.ErrNoSession) {
		t.Errorf("Start = %v, want ErrNoSession", err)
	}
}

func TestStartRefused(t *testing.T) {
	t.Parallel()
	b := realCLI(t, nil)
	_, err := claude.Start(b.ctx, b.options(func(o *claude.Options) { o.JSONSchema = json.RawMessage(`{"type":"nonsense"}`) }))
	e := errorAs[*claude.ExitError](t, err)
	if e.Code != 1 || !strings.Contains(e.Stderr, "chema") {
		t.Errorf("ExitError = %+v", e)
	}
	if os.Getuid() == 0 {
		_, err = claude.Start(b.ctx, b.options(func(o *claude.Options) { o.AllowBypass = true }))
		contains(t, "error", errorAs[*claude.ExitError](t, err).Error(), "root")
	}
}

func TestPromptSizes(t *testing.T) {
	t.Parallel()
	b := realCLI(t, func(r *claudetest.Request) claudetest.Reply { return claudetest.Text("short") })
	p := b.start()
	r := b.turn(p, strings.Repeat("word ", 3_200_000))
	if !r.IsError || r.TerminalReason != "blocking_limit" || r.Cost != 0 {
		t.Errorf("16 MB: error %t, %s, cost %v", r.IsError, r.TerminalReason, r.Cost)
	}
	if b.caps.WarmReuse { // older versions know smaller models only
		b.says(p, strings.Repeat("word ", 200_000), "short")
	}
	if b.caps.WarmReuse {
		b.says(p, "small", "short")
	}
	if rss, err := p.RSS(); err != nil || rss < 50<<20 {
		t.Errorf("RSS = %d, %v", rss, err)
	}
}

func TestImages(t *testing.T) {
	t.Parallel()
	b := realCLI(t, nil)
	p := b.start()
	png := []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89\x00\x00\x00\nIDATx\x9cc\x00\x01\x00\x00\x05\x00\x01\r\n-\xb4\x00\x00\x00\x00IEND\xaeB`\x82")
	r, err := p.Turn(b.ctx, claude.Prompt{Text: "what is this?", Images: []claude.Image{{MediaType: "image/png", Data: png}}}, nil)
	if err != nil || r.IsError {
		t.Fatalf("Turn = %+v, %v", r, err)
	}
	for _, q := range b.api.Requests() {
		for _, m := range q.Messages {
			image := slices.ContainsFunc(m.Content, func(c claudetest.Block) bool { return c.Type == "image" })
			text := slices.ContainsFunc(m.Content, func(c claudetest.Block) bool { return c.Text == "what is this?" })
			if image && text {
				return
			}
		}
	}
	t.Error("no image reached the model")
}

func TestLimits(t *testing.T) {
	t.Parallel()
	b := realCLI(t, nil)
	p := b.start(bypass, func(o *claude.Options) { o.MaxTurns = 2 })
	r := b.turn(p, "[[bash:true]][[bash:true]][[bash:true]]")
	if r.Subtype != "error_max_turns" || !r.IsError || r.TerminalReason != "max_turns" || len(r.Errors) == 0 {
		t.Errorf("result = %+v", r)
	}
	b.says(p, "more", "more")
}

func TestLongPromptsOfTheSystem(t *testing.T) {
	t.Parallel()
	b := realCLI(t, nil)
	long := strings.Repeat("do this. ", 30_000)
	p := b.start(func(o *claude.Options) {
		o.SystemPrompt, o.AppendSystemPrompt = "LONG-ONE "+long, "LONG-TWO "+long
		o.JSONSchema = json.RawMessage(`{"type":"object","description":"` + long + `","properties":{"n":{"type":"integer"}}}`)
	})
	if r := b.turn(p, `[[output:{"n":1}]]`); string(r.Structured) != `{"n":1}` {
		t.Errorf("structured = %s", r.Structured)
	}
	system := b.api.Requests()[0].System
	if !strings.Contains(system, "LONG-ONE") || !strings.Contains(system, "LONG-TWO") || len(system) < 2*len(long) {
		t.Errorf("the system prompt has %d bytes", len(system))
	}
}

func TestRateLimitIsTold(t *testing.T) {
	t.Parallel()
	b := realCLI(t, nil)
	p := b.start(with("ANTHROPIC_API_KEY", ""), with("CLAUDE_CODE_OAUTH_TOKEN", "sk-ant-oat01-fake-token-for-tests"))
	if k := p.Info().KeySource; k != "CLAUDE_CODE_OAUTH_TOKEN" {
		t.Errorf("KeySource = %q", k)
	}
	r := b.turn(p, "[[limit:1h]]")
	if !r.IsError || r.APIError != "rate_limit" || r.APIStatus != 429 || r.RateLimit == nil || r.RateLimit.Status != "rejected" || r.RateLimit.ResetsAt.IsZero() {
		t.Errorf("result = %+v, limit %+v", r, r.RateLimit)
	}
}

func TestKilledInMidTurn(t *testing.T) {
	t.Parallel()
	b := realCLI(t, nil)
	p := b.start(bypass)
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	var ev events
	ev.on = func(e claude.Event) {
		if _, ok := e.(claude.ToolUse); ok {
			proc, err := os.FindProcess(p.Info().PID)
			if err == nil {
				err = proc.Kill()
			}
			if err != nil {
				t.Error(err)
			}
		}
	}
	_, err := p.Turn(ctx, claude.Prompt{Text: "[[bash:sleep 30; true]]"}, ev.emit)
	if e := errorAs[*claude.ExitError](t, err); e.Signal != "killed" {
		t.Errorf("signal = %q", e.Signal)
	}
}
