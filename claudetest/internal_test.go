package claudetest

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func FuzzParseRequest(f *testing.F) {
	f.Add(`{"messages":[{"role":"user","content":"x"}]}`)
	f.Add(`{"messages":[{"role":"user","content":[{"type":"text","text":"<system-reminder>x</system-reminder>y"}]}],"system":"s","metadata":{"user_id":"u_session_1"}}`)
	f.Add(`{"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"1","name":"B","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":[]}]}]}`)
	f.Fuzz(func(t *testing.T, body string) {
		r, err := parseRequest(http.Header{}, []byte(body))
		if (r == nil) == (err == nil) {
			t.Errorf("%v, %v", r, err)
		}
		if err == nil && len(r.Prompts) > 0 && r.Prompt != r.Prompts[len(r.Prompts)-1] {
			t.Errorf("prompt %q of %q", r.Prompt, r.Prompts)
		}
	})
}

func FuzzStandInArgs(f *testing.F) {
	f.Add("-p", "--tools", "Bash(git *),Read", "--")
	f.Add("--mcp-config", "{}", "--json-schema", "{}")
	f.Fuzz(func(t *testing.T, a, b, c, d string) {
		if args, err := parseStandInArgs([]string{a, b, c, d}); args == nil && err == nil {
			t.Error("neither arguments nor an error")
		}
	})
}

func TestToolList(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ in, want []string }{
		{[]string{""}, []string{}},
		{[]string{"Bash,Read Edit"}, []string{"Bash", "Read", "Edit"}},
		{[]string{"Bash(git log, status *)", "Read"}, []string{"Bash(git log, status *)", "Read"}},
	} {
		if d := cmp.Diff(tt.want, toolList(tt.in)); d != "" {
			t.Errorf("%q: %s", tt.in, d)
		}
	}
}

func TestRulesMatch(t *testing.T) {
	t.Parallel()
	bash := func(command string) call {
		return newCall(Block{Name: "Bash", Input: encode(obj{"command": command})})
	}
	for _, tt := range []struct {
		rule string
		call call
		want bool
	}{
		{"Bash", bash("ls"), true},
		{"Bash(git *)", bash("git status"), true},
		{"Bash(git *)", bash("git"), true},
		{"Bash(git *)", bash("gitk"), false},
		{"Bash(git:*)", bash("git status"), true},
		{"Bash(ls)", bash("ls"), true},
		{"Bash(ls)", bash("ls -l"), false},
		{"Read", bash("ls"), false},
		{"mcp__host", call{tool: "mcp__host__add"}, true},
		{"mcp__host__add", call{tool: "mcp__host__add"}, true},
		{"mcp__ho", call{tool: "mcp__host__add"}, false},
	} {
		if got := tt.call.matches(tt.rule); got != tt.want {
			t.Errorf("%s on %s: %v", tt.rule, tt.call.subject(), got)
		}
	}
}

// The table of what asks in which mode, as measured on the CLI with a host
// that answers.
func TestModes(t *testing.T) {
	t.Parallel()
	write := call{tool: "Write", path: "/place/f"}
	bashWrites, bashReads := call{tool: "Bash", command: "touch f"}, call{tool: "Bash", command: "ls | head"}
	writeOut, readOut := call{tool: "Write", path: "/etc/f"}, call{tool: "Read", path: "/etc/f"}
	calls := []call{write, bashWrites, bashReads, writeOut, readOut}
	for mode, want := range map[string][]verdict{
		"default":           {ask, ask, allow, ask, ask},
		"acceptEdits":       {allow, allow, allow, ask, ask},
		"plan":              {ask, deny, allow, ask, allow},
		"dontAsk":           {deny, deny, allow, deny, deny},
		"auto":              {allow, allow, allow, deny, allow},
		"bypassPermissions": {allow, allow, allow, allow, allow},
	} {
		s := &standIn{args: &standInArgs{}, set: &settings{cwd: "/place", mode: mode}}
		var got []verdict
		for _, c := range calls {
			v, _ := s.judge(c, nil)
			got = append(got, v)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", mode, d)
		}
	}
}

func TestSchema(t *testing.T) {
	t.Parallel()
	const s = `{"type":"object","properties":{"n":{"type":"integer"},"kind":{"enum":["a","b"]},"list":{"type":"array","items":{"type":"string"}}},"required":["n"],"additionalProperties":false}`
	for value, want := range map[string]string{
		`{"n":1}`:                         "",
		`{"n":1,"kind":"b","list":["x"]}`: "",
		`{"n":1.5}`:                       "/n: must be integer",
		`{}`:                              ": must have required property 'n'",
		`{"n":1,"x":2}`:                   ": must NOT have additional property 'x'",
		`{"n":1,"kind":"c"}`:              "/kind: must be equal to one of the allowed values",
		`{"n":1,"list":[1]}`:              "/list/0: must be string",
		`[]`:                              ": must be object",
	} {
		err := checkSchema(json.RawMessage(s), json.RawMessage(value))
		if got := ""; err != nil && err.Error() != want || err == nil && want != got {
			t.Errorf("%s: %v, want %q", value, err, want)
		}
	}
	var parsed schema
	if err := json.Unmarshal([]byte(s), &parsed); err != nil {
		t.Fatal(err)
	}
	if err := checkSchema(json.RawMessage(s), encode(parsed.sample("text"))); err != nil {
		t.Errorf("a sample does not fit: %v", err)
	}
}
