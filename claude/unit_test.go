package claude

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestArgv(t *testing.T) {
	t.Parallel()
	newest, err := capabilitiesOf("claude", "2.1.330")
	if err != nil {
		t.Fatal(err)
	}
	oldest, err := capabilitiesOf("claude", "2.1.240")
	if err != nil {
		t.Fatal(err)
	}
	const always = "-p --input-format stream-json --output-format stream-json --verbose --include-partial-messages"
	const defaultTools = "--tools Agent,Bash,Edit,Glob,Grep,NotebookEdit,Read,Skill,WebFetch,WebSearch,Write"
	const plain = `--settings {"useAutoModeDuringPlan":false}`
	ask := func(context.Context, PermissionRequest) (PermissionAnswer, error) { return PermissionAnswer{}, nil }
	for _, tc := range []struct {
		name  string
		o     Options
		caps  Capabilities
		file  string
		spare bool
		want  []string
	}{
		{name: "zero", caps: newest, want: []string{defaultTools, "--setting-sources project --permission-mode plan --strict-mcp-config --permission-prompts none", plain}},
		{name: "zero, old", caps: oldest, want: []string{defaultTools, "--setting-sources project --permission-mode plan --strict-mcp-config", plain}},
		{
			name: "somebody to ask", caps: newest, o: Options{Permission: ask},
			want: []string{defaultTools + ",AskUserQuestion,EnterPlanMode,ExitPlanMode", "--setting-sources project --permission-mode plan --strict-mcp-config --permission-prompt-tool stdio", plain},
		},
		{
			name: "tools for persons, but nobody", caps: newest, o: Options{Tools: []string{"AskUserQuestion", "Read"}},
			want: []string{"--tools Read --setting-sources project --permission-mode plan --strict-mcp-config --permission-prompts none", plain},
		},
		{
			name: "everything", caps: newest, file: "/private/settings.json",
			o: Options{
				Settings: Settings{Model: "opus", Effort: EffortHigh, PermissionMode: PermissionBypass, AllowedTools: []string{"x"}, MCPServers: map[string]MCPServer{"s": MCPServer(`{"command":"secret"}`)}},
				Tools:    []string{}, SettingSources: []string{}, SystemPrompt: "system", AppendSystemPrompt: "append", Agents: json.RawMessage(`{}`),
				AddDirs: []string{"/a", "/b"}, SettingsJSON: json.RawMessage(`{"env":{"TOKEN":"secret"}}`), FallbackModel: "haiku",
				JSONSchema: json.RawMessage(`{"type":"object"}`), MaxTurns: 3, MaxCost: 1_500_000, AllowBypass: true, InheritMCP: true,
				Resume: "r", Fork: true, SessionID: "s", NoPersistence: true, Env: map[string]string{"TOKEN": "secret"},
			},
			want: []string{
				"--tools  --setting-sources  --permission-mode bypassPermissions --permission-prompts none --allow-dangerously-skip-permissions",
				`--model opus --fallback-model haiku --json-schema {"type":"object"} --settings /private/settings.json --max-turns 3 --max-budget-usd 1.500000`,
				"--add-dir /a --add-dir /b --resume r --fork-session --session-id s --no-session-persistence",
			},
		},
		{
			name: "spare", caps: newest, spare: true, o: Options{AddDirs: []string{"/a"}, SystemPrompt: "x"},
			want: []string{defaultTools, "--setting-sources project --permission-mode plan --strict-mcp-config --permission-prompts none", plain, "--await-claim"},
		},
		{
			name: "a schema too long", caps: newest, o: Options{JSONSchema: json.RawMessage(`{"description":"` + strings.Repeat("x", maxArg) + `"}`)},
			want: []string{defaultTools, "--setting-sources project --permission-mode plan --strict-mcp-config --permission-prompts none", plain},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := strings.Join(tc.o.argv(tc.caps, tc.file, tc.spare), " ")
			if diff := cmp.Diff(always+" "+strings.Join(tc.want, " "), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	parent := []string{
		"PATH=/bin", "HOME=/home/me", "LC_ALL=C", "EDITOR=vi", "MY_SECRET=x", "HTTPS_PROXY=http://p", "NODE_EXTRA_CA_CERTS=/ca",
		"ANTHROPIC_API_KEY=k", "ANTHROPIC_MODEL=wrong", "CLAUDE_CODE_OAUTH_TOKEN=t", "CLAUDE_CONFIG_DIR=/c", "AWS_REGION=r", "CLAUDE_CODE_USE_VERTEX=1",
		"CLAUDECODE=1", "CLAUDE_CODE_ENTRYPOINT=cli", "CLAUDE_CODE_SESSION_ID=s", "CLAUDE_CODE_MESSAGING_SOCKET=/s", "CLAUDE_EFFORT=low", "AI_AGENT=1",
		"CLAUDE_CODE_SIMPLE=1", "CLAUDE_CODE_REMOTE=1", "MAX_THINKING_TOKENS=0", "TERM=xterm", "=odd", "novalue",
	}
	add := map[string]string{"MINE": "1", "ENABLE_TOOL_SEARCH": "true", "CLAUDECODE": "1", "CLAUDE_CODE_MESSAGING_TOKEN": "t", "ANTHROPIC_MODEL": "wanted", "EMPTY": ""}
	want := []string{
		"ANTHROPIC_API_KEY=k", "ANTHROPIC_MODEL=wanted", "API_TIMEOUT_MS=120000", "AWS_REGION=r",
		"CLAUDE_CODE_DISABLE_AUTO_MEMORY=1", "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS=1", "CLAUDE_CODE_DISABLE_CRON=1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1",
		"CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS=1", "CLAUDE_CODE_OAUTH_TOKEN=t", "CLAUDE_CODE_USE_VERTEX=1", "CLAUDE_CONFIG_DIR=/c",
		"DISABLE_AUTOUPDATER=1", "EMPTY=", "ENABLE_TOOL_SEARCH=true", "HOME=/home/me", "HTTPS_PROXY=http://p", "LC_ALL=C", "MINE=1",
		"NODE_EXTRA_CA_CERTS=/ca", "PATH=/bin", "TERM=dumb",
	}
	if diff := cmp.Diff(want, Environment(parent, add)); diff != "" {
		t.Error(diff)
	}
}

func TestRedactor(t *testing.T) {
	t.Parallel()
	r := newRedactor(
		[]string{"ANTHROPIC_API_KEY=sk-value-one", "GITHUB_TOKEN=ghp_two", "PATH=/usr/bin", "SSH_AUTH_SOCK=/tmp/agent", "DB_PASSWORD=line\n\"two\"", "HTTPS_PROXY=http://me:hunter2x@proxy:1", "SHORT_KEY=1", "LONGER_TOKEN=ghp_two_and_more"},
		json.RawMessage(`{"headers":{"Authorization":"Bearer abcdef123"},"env":{"X_SECRET":"deep-secret"},"args":["--plain"],"url":"https://u:p4ssw0rd@h/"}`),
	)
	for in, want := range map[string]string{
		"key sk-value-one!":            "key [redacted]!",
		"ghp_two and ghp_two_and_more": "[redacted] and [redacted]",
		"/usr/bin /tmp/agent --plain":  "/usr/bin /tmp/agent --plain",
		"line\n\"two\"":                "[redacted]",
		`{"x":"line\n\"two\""}`:        `{"x":"[redacted]"}`,
		"hunter2x p4ssw0rd":            "[redacted] [redacted]",
		"Bearer abcdef123 abcdef123":   "[redacted] [redacted]",
		"deep-secret":                  "[redacted]",
		"sk-ant-api03-unknown_key-1":   "[redacted]",
		"number 1":                     "number 1",
	} {
		if got := r.text(in); got != want {
			t.Errorf("text(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		version      string
		tooOld       bool
		warm, spares bool
	}{
		{"2.1.239", true, false, false}, {"1.0.128", true, false, false}, {"2.0.999", true, false, false},
		{"2.1.240", false, false, false}, {"2.1.279", false, false, false}, {"2.1.280", false, true, false},
		{"2.1.298", false, true, false}, {"2.1.299", false, true, true}, {"2.2.0", false, true, true}, {"3.0.0", false, true, true}, {"2.10.0", false, true, true},
	} {
		c, err := capabilitiesOf("/claude", tc.version)
		var old *VersionError
		if errors.As(err, &old) != tc.tooOld || c.WarmReuse != tc.warm || c.Spares != tc.spares {
			t.Errorf("%s: %+v, %v", tc.version, c, err)
		}
		if tc.tooOld && (old.Found != tc.version || old.Need != floorAny || !strings.Contains(err.Error(), "/claude")) {
			t.Errorf("%s: %v", tc.version, err)
		}
	}
}

func script(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "claude")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestProbe(t *testing.T) {
	t.Parallel()
	env := []string{"PATH=/usr/bin:/bin"}
	count := filepath.Join(t.TempDir(), "count")
	good := script(t, "echo x >>"+count+"; echo '2.1.330 (Claude Code)'")
	for range 2 {
		c, err := Probe(t.Context(), good, env)
		if err != nil || c.Version != "2.1.330" || c.Path != good {
			t.Fatalf("Probe = %+v, %v", c, err)
		}
	}
	if b, err := os.ReadFile(count); err != nil || string(b) != "x\n" {
		t.Errorf("it was asked %q, %v; want once", b, err)
	}
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(good, later, later); err != nil {
		t.Fatal(err)
	}
	if _, err := Probe(t.Context(), good, env); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(count); err != nil || string(b) != "x\nx\n" {
		t.Errorf("a changed file was asked %q, %v", b, err)
	}
	for name, tc := range map[string]struct {
		path string
		want error
	}{
		"missing":        {"/nonexistent/claude", ErrNotFound},
		"not in PATH":    {"claude-that-is-not-there", ErrNotFound},
		"a folder":       {t.TempDir(), ErrNotFound},
		"another":        {script(t, "echo 'GNU something 2.1.330'"), ErrNotClaude},
		"one that fails": {script(t, "exit 3"), ErrNotClaude},
	} {
		if _, err := Probe(t.Context(), tc.path, env); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	var old *VersionError
	if _, err := Probe(t.Context(), script(t, "echo '1.0.128 (Claude Code)'"), env); !errors.As(err, &old) {
		t.Errorf("too old: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Probe(ctx, script(t, "exec sleep 60"), env); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("silent: %v", err)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const id = "11111111-1111-4111-8111-111111111111"
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	server := func(s string) Settings { return Settings{MCPServers: map[string]MCPServer{"s": raw(s)}} }
	for _, tc := range []struct {
		field string
		o     Options
	}{
		{"", Options{}},
		{"", Options{Dir: dir, AddDirs: []string{dir}, SettingSources: []string{"user"}, Settings: Settings{Model: "opus[1m]", Effort: EffortMax, PermissionMode: PermissionPlan, AllowedTools: []string{"Bash(git *)"}}}},
		{"", Options{Resume: "r", Fork: true, SessionID: id, Settings: server(`{"type":"http","url":"http://x"}`), Agents: raw(`{"a":{"description":"d","prompt":"p"}}`)}},
		{"Path", Options{Path: "a\x00b"}},
		{"Dir", Options{Dir: filepath.Join(dir, "missing")}},
		{"Dir", Options{Dir: file}},
		{"Env", Options{Env: map[string]string{"A=B": "x"}}},
		{"Env[A]", Options{Env: map[string]string{"A": "x\x00"}}},
		{"Model", Options{Settings: Settings{Model: "a\nb"}}},
		{"Model", Options{Settings: Settings{Model: "--flag"}}},
		{"Model", Options{Settings: Settings{Model: "\xff"}}},
		{"Effort", Options{Settings: Settings{Effort: "huge"}}},
		{"PermissionMode", Options{Settings: Settings{PermissionMode: "yolo"}}},
		{"PermissionMode", Options{Settings: Settings{PermissionMode: PermissionBypass}}},
		{"AllowedTools[1]", Options{Settings: Settings{AllowedTools: []string{"Read", " "}}}},
		{"DisallowedTools[0]", Options{Settings: Settings{DisallowedTools: []string{"a\x00"}}}},
		{"MCPServers", Options{Settings: Settings{MCPServers: map[string]MCPServer{"a b": raw(`{"command":"x"}`)}}}},
		{"MCPServers.s", Options{Settings: server(`[]`)}},
		{"MCPServers.s", Options{Settings: server(`{}`)}},
		{"MCPServers.s", Options{Settings: server(`{"type":"http"}`)}},
		{"MCPServers.s", Options{Settings: server(`{"type":"sdk","name":"s"}`)}},
		{"SystemPrompt", Options{SystemPrompt: "a\x00"}},
		{"AppendSystemPrompt", Options{AppendSystemPrompt: "\xff"}},
		{"Tools[0]", Options{Tools: []string{"Bash,Read"}}},
		{"AddDirs[0]", Options{AddDirs: []string{""}}},
		{"AddDirs[1]", Options{AddDirs: []string{dir, filepath.Join(dir, "missing")}}},
		{"SettingSources[0]", Options{SettingSources: []string{"global"}}},
		{"SettingsJSON", Options{SettingsJSON: raw(`[1]`)}},
		{"SettingsJSON", Options{SettingsJSON: raw(`null`)}},
		{"Agents", Options{Agents: raw(`"x"`)}},
		{"Agents.a", Options{Agents: raw(`{"a":{"description":"d"}}`)}},
		{"Agents.a", Options{Agents: raw(`{"a":1}`)}},
		{"FallbackModel", Options{FallbackModel: "a b\n"}},
		{"JSONSchema", Options{JSONSchema: raw(`"string"`)}},
		{"JSONSchema", Options{JSONSchema: raw(`{`)}},
		{"MaxTurns", Options{MaxTurns: -1}},
		{"MaxCost", Options{MaxCost: -1}},
		{"SystemPrompt", Options{Resume: "r", SystemPrompt: "new"}},
		{"AppendSystemPrompt", Options{Resume: "r", AppendSystemPrompt: "new"}},
		{"Fork", Options{Fork: true}},
		{"Resume", Options{Resume: "--flag"}},
		{"SessionID", Options{SessionID: "not-a-uuid"}},
		{"SessionID", Options{Resume: "r", SessionID: id}},
		{"Servers", Options{Servers: map[string]MCPHandler{"a\nb": nobody{}}}},
		{"Servers[s]", Options{Servers: map[string]MCPHandler{"s": nil}}},
		{"Servers[s]", Options{Servers: map[string]MCPHandler{"s": nobody{}}, Settings: server(`{"command":"x"}`)}},
		{"MaxLine", Options{MaxLine: -1}},
		{"Grace", Options{Grace: -1}},
	} {
		err := tc.o.Validate()
		var bad *OptionError
		if got := errors.As(err, &bad); got != (tc.field != "") || got && bad.Field != tc.field {
			t.Errorf("Validate = %v, want a fault of %q", err, tc.field)
		}
	}
}

type nobody struct{}

func (nobody) HandleMCP(context.Context, json.RawMessage) (json.RawMessage, error) { return nil, nil }

func TestKeys(t *testing.T) {
	t.Parallel()
	ask := func(context.Context, PermissionRequest) (PermissionAnswer, error) { return PermissionAnswer{}, nil }
	base := Options{Env: map[string]string{"A": "1", "B": "2"}, SettingsJSON: json.RawMessage(`{"a":1,"b":2}`)}
	for _, tc := range []struct {
		name          string
		edit          func(*Options)
		launch, spare bool // whether the key must differ
	}{
		{"nothing", func(*Options) {}, false, false},
		{"settings", func(o *Options) { o.Settings = Settings{Model: "x", PermissionMode: PermissionAuto} }, false, false},
		{"caps and hooks", func(o *Options) { o.MaxCost, o.MaxLine, o.Grace, o.Trace = 1, 1, 1, func(Direction, []byte) {} }, false, false},
		{"order of JSON", func(o *Options) { o.SettingsJSON = json.RawMessage(`{ "b": 2, "a": 1 }`) }, false, false},
		{"named default tools", func(o *Options) { o.Tools = DefaultTools() }, false, false},
		{"named default sources", func(o *Options) { o.SettingSources = []string{"project"} }, false, false},
		{"environment", func(o *Options) { o.Env = map[string]string{"A": "1"} }, true, true},
		{"no tools", func(o *Options) { o.Tools = []string{} }, true, true},
		{"no sources", func(o *Options) { o.SettingSources = []string{} }, true, true},
		{"bypass", func(o *Options) { o.AllowBypass = true }, true, true},
		{"permission", func(o *Options) { o.Permission = ask }, true, true},
		{"servers", func(o *Options) { o.Servers = map[string]MCPHandler{"s": nobody{}} }, true, true},
		{"turns", func(o *Options) { o.MaxTurns = 1 }, true, true},
		{"schema", func(o *Options) { o.JSONSchema = json.RawMessage(`{}`) }, true, true},
		{"config folder", func(o *Options) { o.ConfigDir = "/c" }, true, true},
		{"directory", func(o *Options) { o.Dir = "/d" }, true, false},
		{"system prompt", func(o *Options) { o.SystemPrompt = "x" }, true, false},
		{"append", func(o *Options) { o.AppendSystemPrompt = "x" }, true, false},
		{"more directories", func(o *Options) { o.AddDirs = []string{"/a"} }, true, false},
		{"agents", func(o *Options) { o.Agents = json.RawMessage(`{}`) }, true, false},
		{"resume", func(o *Options) { o.Resume = "r" }, true, false},
	} {
		o := base
		tc.edit(&o)
		if got := o.LaunchKey() != base.LaunchKey(); got != tc.launch {
			t.Errorf("%s: LaunchKey differs %t, want %t", tc.name, got, tc.launch)
		}
		if got := o.SpareKey() != base.SpareKey(); got != tc.spare {
			t.Errorf("%s: SpareKey differs %t, want %t", tc.name, got, tc.spare)
		}
	}
}

func TestVerbatim(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		in, out  string
		composed bool
	}{
		{"hello", "hello", false}, {"/clear", "\n/clear", false}, {" /x", " /x", false}, {"mail a@b.c", "mail a@b.c", false},
		{"@f", "@f", true}, {"see @f", "see @f", true}, {"(@f)", "(@f)", true}, {"/x\n@f", "\n/x\n@f", true}, {"é@f", "é@f", false},
	} {
		if out, composed := verbatim(tc.in); out != tc.out || composed != tc.composed {
			t.Errorf("verbatim(%q) = %q, %t", tc.in, out, composed)
		}
	}
}

func TestMeter(t *testing.T) {
	t.Parallel()
	var m meter
	result := func(total float64, out int64) *wireResult {
		return &wireResult{TotalCostUSD: total, DurationAPIMS: total * 1000, ModelUsage: map[string]wireUsage{"m": {Output: out, CostUSD: total}}}
	}
	m.start(USD(1), time.Second, map[string]ModelUsage{"m": {Output: 10, Cost: USD(1)}})
	for i, tc := range []struct {
		total float64
		out   int64
		want  Microdollars
		dOut  int64
	}{{1.1, 12, 100_000, 2}, {1.1, 12, 0, 0}, {0, 0, 0, 0}, {0.2, 3, 200_000, 3}, {0.1, 1, 100_000, 1}} {
		s := m.result(result(tc.total, tc.out))
		if s.cost != tc.want || s.models["m"].Output != tc.dOut {
			t.Errorf("step %d: %v, %+v; want %v, %d", i, s.cost, s.models, tc.want, tc.dOut)
		}
	}
}

func TestClip(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		in   string
		n    int
		want string
	}{{"abc", 5, "abc"}, {"abc", 2, "ab"}, {"aé", 2, "a"}, {"é", 1, ""}, {"", 0, ""}} {
		if got := clip(tc.in, tc.n); got != tc.want {
			t.Errorf("clip(%q, %d) = %q", tc.in, tc.n, got)
		}
	}
}

func TestMicrodollars(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		usd  float64
		want string
	}{{0.25, "$0.25"}, {0.00026, "$0.000260"}, {-1.5, "-$1.50"}, {1e30, "$9223372036854.775807"}, {0.1 + 0.2, "$0.30"}} {
		if got := USD(tc.usd).String(); got != tc.want {
			t.Errorf("USD(%v) = %s, want %s", tc.usd, got, tc.want)
		}
	}
}

// No line, whatever it is, may do more than be ignored.
func FuzzTold(f *testing.F) {
	for _, s := range []string{
		`{"type":"result","subtype":"success","result":"x","total_cost_usd":0.1,"modelUsage":{"m":{"outputTokens":1}},"user_message_uuid":"id"}`,
		`{"type":"assistant","message":{"content":[{"type":"tool_use","id":"t","name":"n","input":{}}]},"error":"rate_limit"}`,
		`{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"x"}]}]}}`,
		`{"type":"stream_event","event":{"type":"content_block_delta","delta":{"type":"text_delta","text":"x"}}}`,
		`{"type":"system","subtype":"api_retry","error_status":401}`, `{"type":"system","subtype":"session_state_changed","state":"idle"}`,
		`{"type":"rate_limit_event","rate_limit_info":{"resetsAt":1}}`, `{"type":"command_lifecycle","command_uuid":"id","state":"cancelled"}`,
		`{"type":"system","tasks":7,"message":{"a":1}}`, `null`, `[]`, `"x"`, `{`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		var h header
		if decode(line, &h) != nil {
			return
		}
		o := told{id: "id"}
		emit := func(e Event) {
			if e == nil {
				t.Error("an event is nil")
			}
		}
		var sys wireSystem
		if decode(line, &sys) == nil {
			o.take(noticed{h, sys}, emit)
		}
		o.take(passed{h, line}, emit)
		var r wireResult
		if decode(line, &r) == nil {
			var m meter
			o.take(finished{r, m.result(&r)}, emit)
		}
		tn := &turn{id: "id", stop: make(chan struct{}), told: o}
		if got := tn.result(); got.ID != "id" {
			t.Errorf("result of %q", got.ID)
		}
	})
}
