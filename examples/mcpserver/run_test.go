package main

import (
	"encoding/json"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/claudetest"
	"github.com/claudepool/claudepool/mcp"
	"github.com/claudepool/claudepool/sqlitestore"
)

type result struct {
	TaskID claudepool.TaskID    `json:"task_id"`
	State  claudepool.TaskState `json:"state"`
	Output string               `json:"output"`
}

type fannedOut struct{ Results []result }

// eventually waits for a condition.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

// busy starts the program and in it a turn that does not end: its tool runs a
// program that runs for ever.
func busy(t *testing.T, env []string, args ...string) *server {
	t.Helper()
	s := start(t, env, append([]string{"-n", "1"}, args...)...)
	call[result](t, s.client, "pool_submit", map[string]any{
		"prompt": "[[bash:sleep 1000]]", "overrides": map[string]any{"allowed_tools": []string{"Bash"}, "permission_mode": "acceptEdits"},
	})
	eventually(t, "the task runs", func() bool {
		if runtime.GOOS != "linux" {
			return call[claudepool.PoolStatus](t, s.client, "pool_status", nil).RunningTasks == 1
		}
		return slices.ContainsFunc(marked(t, s.mark), func(p string) bool { return strings.HasSuffix(p, " sleep 1000 ") })
	})
	return s
}

func TestP11_StdoutCarriesTheProtocolAndNothingElse(t *testing.T) {
	t.Parallel()
	s := start(t, nil, "-demo", "--slots", "3", "--log-level", "debug")
	if got := s.client.InitializeResult().ServerInfo.Name; got != "claudepool" {
		t.Errorf("the server is %q", got)
	}
	tools, err := s.client.ListTools(t.Context(), nil)
	if err != nil || len(tools.Tools) < 24 {
		t.Fatalf("%d tools, %v", len(tools.Tools), err)
	}
	if got := call[result](t, s.client, "pool_run", map[string]any{"prompt": "[[reply:hello]]"}); got.Output != "hello" || got.State != claudepool.StateCompleted {
		t.Errorf("pool_run gave %+v", got)
	}
	var prompts, want, outputs []string
	for _, w := range []string{"one", "two", "three", "four", "five", "six"} {
		prompts, want = append(prompts, "[[reply:"+w+"]]"), append(want, w)
	}
	for _, r := range call[fannedOut](t, s.client, "pool_fan_out", map[string]any{"prompts": prompts}).Results {
		outputs = append(outputs, r.Output)
	}
	if diff := cmp.Diff(want, outputs); diff != "" {
		t.Errorf("pool_fan_out (-want +got):\n%s", diff)
	}
	s.stdin.Close()
	if code := s.wait(t); code != exitOK {
		t.Errorf("exit code %d, want %d", code, exitOK)
	}
	s.noneLeft(t, 0)
	for line := range strings.Lines(s.spoken.String()) {
		var m struct{ JSONRPC string }
		if err := json.Unmarshal([]byte(line), &m); err != nil || m.JSONRPC != "2.0" {
			t.Errorf("stdout carries %q", line)
		}
	}
	if s.stderr.String() == "" {
		t.Error("there is no log, though everything was to be logged")
	}
}

func TestP11_PrintsByMistakeDoNotReachTheClient(t *testing.T) {
	stdout := os.Stdout
	defer func() { os.Stdout = stdout }()
	if got := takeStdout(); got != stdout || os.Stdout != os.Stderr {
		t.Error("standard output still reaches the client")
	}
}

func TestP7_NoProcessIsLeft(t *testing.T) {
	t.Parallel()
	noProcessIsLeft(t, nil, "-demo")
}

func TestP7_NoProcessOfTheRealCLIIsLeft(t *testing.T) {
	t.Parallel()
	cli := claudetest.CLI(t)
	noProcessIsLeft(t, claudetest.Isolate(t, claudetest.NewAPI(t, nil)).Environ(), "--claude", cli, "--model", "claude-sonnet-5")
}

func noProcessIsLeft(t *testing.T, env []string, args ...string) {
	for name, c := range map[string]struct {
		end  func(*server) error
		code int
	}{
		"stdin closes": {func(s *server) error { return s.stdin.Close() }, exitOK},
		"SIGTERM":      {func(s *server) error { return s.cmd.Process.Signal(syscall.SIGTERM) }, exitOK},
		"SIGINT":       {func(s *server) error { return s.cmd.Process.Signal(syscall.SIGINT) }, exitOK},
		"SIGKILL":      {func(s *server) error { return s.cmd.Process.Kill() }, -1},
	} {
		t.Run(name, func(t *testing.T) {
			s := busy(t, env, append([]string{"-p", "acceptEdits", "--drain-timeout", "300ms"}, args...)...)
			if err := c.end(s); err != nil {
				t.Fatal(err)
			}
			if code := s.wait(t); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			within := time.Duration(0)
			if c.code < 0 {
				within = 5 * time.Second // as promised
			}
			s.noneLeft(t, within)
		})
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	s := busy(t, nil, "-demo", "-p", "acceptEdits", "--drain-timeout", "1h")
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first signal drains", func() bool { return strings.Contains(s.stderr.String(), "draining") })
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := s.wait(t); code != exitInterrupted {
		t.Errorf("exit code %d, want %d", code, exitInterrupted)
	}
	s.noneLeft(t, 5*time.Second)
}

// What runs when a signal comes may finish, and its caller gets the result.
func TestDrainAnswersCallsInProgress(t *testing.T) {
	t.Parallel()
	s := start(t, nil, "-demo", "-n", "1", "--drain-timeout", "1m")
	answer := make(chan *sdk.CallToolResult, 1)
	go func() {
		res, err := s.client.CallTool(t.Context(), &sdk.CallToolParams{Name: "pool_run", Arguments: map[string]any{"prompt": "[[sleep:2s]][[reply:finished]]"}})
		if err != nil {
			t.Errorf("pool_run: %v", err)
		}
		answer <- res
	}()
	eventually(t, "the task runs", func() bool {
		return call[claudepool.PoolStatus](t, s.client, "pool_status", nil).RunningTasks == 1
	})
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if res := <-answer; res != nil && !strings.Contains(res.Content[0].(*sdk.TextContent).Text, "finished") {
		t.Errorf("the answer is %+v", res.Content[0])
	}
	if code := s.wait(t); code != exitOK {
		t.Errorf("exit code %d, want %d", code, exitOK)
	}
	s.noneLeft(t, 0)
}

func TestP12_SlotsHaveNoPoolsOfTheirOwn(t *testing.T) {
	t.Parallel()
	s := launch(t, nil, "-demo")
	s.cmd.Env = append(s.cmd.Env, "CLAUDEPOOL_TREE=host.tree")
	out := &syncBuffer{}
	s.cmd.Stdout = out
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if code := s.wait(t); code != exitFailure || !strings.Contains(s.stderr.String(), "slot of a pool already") || out.String() != "" {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, out, s.stderr)
	}
}

func TestMissingCLIIsSaidAtStart(t *testing.T) {
	t.Parallel()
	var stdout, stderr syncBuffer
	if code := run([]string{"--claude", filepath.Join(t.TempDir(), "claude")}, io.NopCloser(strings.NewReader("")), writeCloser{&stdout}, &stderr); code != exitFailure {
		t.Errorf("exit code %d, want %d", code, exitFailure)
	}
	if msg := stderr.String(); !strings.Contains(msg, "start the pool") || !strings.Contains(msg, "claude") || stdout.String() != "" {
		t.Errorf("stdout %q, stderr %q", &stdout, msg)
	}
}

func TestBadFlagsAreNamed(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "mcp.json")
	write := func(text string) string {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for _, c := range []struct {
		args []string
		want string // what the message must name
	}{
		{[]string{"-n", "0"}, "-n"},
		{[]string{"--slots", "-3"}, "-slots"},
		{[]string{"--slots", "many"}, "-slots"},
		{[]string{"--slots", "3", "--max-slots", "2"}, "--slots"},
		{[]string{"--slots", "1", "--min-slots", "2"}, "--slots"},
		{[]string{"--min-slots", "9", "--max-slots", "8"}, "--min-slots"},
		{[]string{"--min-slots", "0"}, "-min-slots"},
		{[]string{"--max-slots", "x"}, "-max-slots"},
		{[]string{"-m", ""}, "-m"},
		{[]string{"--effort", "huge"}, "-effort"},
		{[]string{"-e", ""}, "-e"},
		{[]string{"-b", "0"}, "-b"},
		{[]string{"--budget-usd", "-1"}, "-budget-usd"},
		{[]string{"--task-budget-usd", "0"}, "-task-budget-usd"},
		{[]string{"--task-budget-usd", "3", "--budget-usd", "2"}, "--task-budget-usd"},
		{[]string{"--budget-usd", "NaN"}, "-budget-usd"},
		{[]string{"--budget-usd", "Inf"}, "-budget-usd"},
		{[]string{"--budget-usd", "1e-9"}, "-budget-usd"},
		{[]string{"-p", "yolo"}, "-p"},
		{[]string{"-p", "bypassPermissions"}, "--allow-bypass"},
		{[]string{"--budget-window", "week"}, "-budget-window"},
		{[]string{"--store", ""}, "-store"},
		{[]string{"--peer"}, "--peer"},
		{[]string{"--retain-tasks", "5"}, "--retain-tasks"},
		{[]string{"--retain-days", "5"}, "--retain-days"},
		{[]string{"--store", file, "--retain-tasks", "0"}, "-retain-tasks"},
		{[]string{"--store", file, "--retain-tasks", "none"}, "-retain-tasks"},
		{[]string{"--store", file, "--retain-days", "-1"}, "-retain-days"},
		{[]string{"--store", file, "--retain-days", "200000"}, "-retain-days"},
		{[]string{"--drain-timeout", "-4s"}, "-drain-timeout"},
		{[]string{"--drain-timeout", "soon"}, "-drain-timeout"},
		{[]string{"--mcp-config", file + ".missing"}, "-mcp-config"},
		{[]string{"--mcp-config", write("{")}, "-mcp-config"},
		{[]string{"--working-dir", file + ".missing"}, "-working-dir"},
		{[]string{"--working-dir", file}, "-working-dir"},
		{[]string{"--toolsets", "core,all"}, "-toolsets"},
		{[]string{"--skills-dir", file + ".missing"}, "-skills-dir"},
		{[]string{"--skills-dir", file}, "-skills-dir"},
		{[]string{"--disable-skill", "implement,No Skill"}, "-disable-skill"},
		{[]string{"--disable-skill", ""}, "-disable-skill"},
		{[]string{"--no-builtins=maybe"}, "-no-builtins"},
		{[]string{"--log-level", "loud"}, "-log-level"},
		{[]string{"-demo", "--claude", "x"}, "--claude"},
		{[]string{"--unknown"}, "-unknown"},
		{[]string{"stray"}, "stray"},
	} {
		var stdout, stderr syncBuffer
		code := run(c.args, nil, writeCloser{&stdout}, &stderr)
		if code != exitUsage || !strings.Contains(stderr.String(), c.want) || stdout.String() != "" {
			t.Errorf("%v: exit code %d, stdout %q, stderr %q; want 2 and %q named", c.args, code, &stdout, &stderr, c.want)
		}
		if n := strings.Count(stderr.String(), "\n"); n != 1 {
			t.Errorf("%v: the message has %d lines, want 1:\n%s", c.args, n, &stderr)
		}
	}
	for text, want := range map[string]string{
		`{}`: "mcpServers", `{"mcpServers":{"x":{}}}`: `server "x"`, `{"mcpServers":[1]}`: "-mcp-config",
	} {
		var stderr syncBuffer
		if code := run([]string{"--mcp-config", write(text)}, nil, nil, &stderr); code != exitUsage || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: exit code %d, stderr %q", text, code, &stderr)
		}
	}
}

func TestFlagsHaveShortAndLongForms(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := filepath.Join(dir, "mcp.json")
	if err := os.WriteFile(config, []byte(`{"mcpServers":{"x":{"command":"true","args":["a"]}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	long := []string{"--slots", "3", "--model", "opus", "--effort", "low", "--budget-usd", "2.5", "--system-prompt", "be brief", "--permission-mode", "acceptEdits"}
	short := []string{"-n", "3", "-m", "opus", "-e", "low", "-b", "2.5", "-s", "be brief", "-p", "acceptEdits"}
	rest := []string{
		"--budget-window", "day", "--task-budget-usd", "0.5", "--drain-timeout", "9s", "--min-slots", "2", "--max-slots", "5", "--mcp-config", config,
		"--no-strict-mcp-config", "--working-dir", dir, "--claude", "/bin/claude", "--toolsets", "core, context", "--log-level", "warn",
	}
	want := claudepool.PoolConfig{
		Slots: 3, MinSlots: 2, MaxSlots: 5, Budget: claudepool.USD(2.5), DefaultCap: claudepool.USD(0.5), Window: claudepool.WindowDay, WorkDir: dir, ClaudePath: "/bin/claude", InheritMCP: true,
		Agent: claudepool.AgentConfig{
			Model: "opus", Effort: claude.EffortLow, SystemPrompt: "be brief", PermissionMode: claude.PermissionAcceptEdits,
			MCPServers: map[string]claude.MCPServer{"x": claude.MCPServer(`{"args":["a"],"command":"true"}`)},
		},
	}
	for _, args := range [][]string{long, short} {
		var stderr syncBuffer
		o, err := parse(slices.Concat(args, rest), &stderr)
		if err != nil {
			t.Fatal(err, stderr.String())
		}
		o.pool.Skills, o.pool.Workflows = nil, nil // see TestFlagsSayWhichSkillsThereAre
		if diff := cmp.Diff(want, o.pool); diff != "" {
			t.Errorf("%v (-want +got):\n%s", args, diff)
		}
		if o.drain != 9*time.Second || o.level.String() != "WARN" || !slices.Equal(o.toolsets, []mcp.Toolset{mcp.ToolsetCore, mcp.ToolsetContext}) {
			t.Errorf("%v: %+v", args, o)
		}
		if o.ceiling() != claude.PermissionAcceptEdits {
			t.Errorf("the ceiling is %s", o.ceiling())
		}
	}
	for text, want := range map[string]claudepool.Retention{
		"--retain-tasks 5":                   {Count: 5},
		"--retain-days 2":                    {Age: 48 * time.Hour},
		"--retain-tasks all --retain-days 9": {Count: -1, Age: 9 * 24 * time.Hour},
		"--retain-days all":                  {Age: -1},
	} {
		o, err := parse(append([]string{"--store", "pool.db", "--peer"}, strings.Fields(text)...), io.Discard)
		want := storeOptions{"pool.db", sqlitestore.Options{Peer: true, Retain: want}}
		if diff := cmp.Diff(want, o.store, cmp.AllowUnexported(storeOptions{})); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", text, err, diff)
		}
		if o.pool.Window != "" {
			t.Errorf("the window is %q, want what the pool makes of the store", o.pool.Window)
		}
	}
	for text, want := range map[string][3]claude.PermissionMode{ // of the slots, the loosest, and that in the checkout if it is another
		"":                   {claude.PermissionPlan, claude.PermissionPlan, ""},
		"-w":                 {claude.PermissionAcceptEdits, claude.PermissionAcceptEdits, claude.PermissionPlan},
		"--worktree -p plan": {claude.PermissionPlan, claude.PermissionPlan, ""},
		"-w -p acceptEdits":  {claude.PermissionAcceptEdits, claude.PermissionAcceptEdits, ""},
		"-w --allow-bypass":  {claude.PermissionAcceptEdits, claude.PermissionBypass, claude.PermissionPlan},
		"-p auto":            {claude.PermissionAuto, claude.PermissionAuto, ""},
	} {
		o, err := parse(strings.Fields(text), io.Discard)
		if got := [3]claude.PermissionMode{o.pool.Agent.PermissionMode, o.ceiling(), o.shared}; err != nil || got != want {
			t.Errorf("%q gives %v, %v; want %v", text, got, err, want)
		}
	}
	o, err := parse([]string{"-n", "20", "--allow-bypass"}, io.Discard)
	if err != nil || o.pool.MaxSlots != 20 || o.ceiling() != claude.PermissionBypass || o.pool.Agent.PermissionMode != claude.PermissionPlan {
		t.Errorf("%v, %+v", err, o)
	}
}

func TestHelpNamesEveryFlag(t *testing.T) {
	t.Parallel()
	var stdout, stderr syncBuffer
	if code := run([]string{"-help"}, nil, writeCloser{&stdout}, &stderr); code != exitOK || stdout.String() != "" {
		t.Errorf("exit code %d, stdout %q", code, &stdout)
	}
	for s, l := range maps.All(map[string]string{"-n": "--slots", "-m": "--model", "-e": "--effort", "-b": "--budget-usd", "-s": "--system-prompt", "-p": "--permission-mode"}) {
		if !strings.Contains(stderr.String(), s+", "+l) {
			t.Errorf("the help lacks %s, %s", s, l)
		}
	}
	if !strings.Contains(stderr.String(), "--demo") {
		t.Error("the help lacks --demo")
	}
}

type writeCloser struct{ io.Writer }

func (writeCloser) Close() error { return nil }
