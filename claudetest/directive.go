package claudetest

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Directives is the [Script] that obeys the prompt. A prompt may contain
// directives of the form [[name:argument]]; the text around them is ignored. A
// prompt without any is answered with itself. A malformed directive is answered
// with a text that starts with "claudetest:" and says what is wrong.
//
// Directives that call a tool end an answer; what follows them shapes the next
// answer, after the tool's result. When nothing is left to say, the answer is
// the last tool's output.
//
//	[[reply:text]]           say text
//	[[think:text]]           think text first
//	[[history]]              say all prompts of this conversation, one a line
//	[[system]] [[tools]]     say the system prompt, or the names of the tools
//	[[model]]                say the model's name
//	[[stream:n:pause]]       say n words with a pause before each, such as 20:50ms
//	[[huge:n]]               say n bytes
//	[[bash:command]]         run a command
//	[[background:command]]   run a command that outlives the turn
//	[[write:file:content]]   write a file
//	[[read:file]]            read a file
//	[[tool:name:{json}]]     call any tool
//	[[output:{json}]]        give structured output
//	[[and]]                  call the next tool together with the one before
//	[[sleep:500ms]]          wait before the answer
//	[[usage:in,out]]         token counts of this answer and those after it
//	[[status:code]]          refuse with an HTTP status, at each attempt
//	[[status:code:n]]        the same, but only at the first n attempts
//	[[limit:duration]]       refuse as a reached rate limit that ends after duration
//	[[drop]] [[hang]]        close the connection, or stay silent, without an answer
//	[[drop:mid]] [[hang:mid]]  the same after half of the answer
//	[[drop:n]] [[drop:mid:n]]  the same, but only at the first n attempts; hang too
//	[[fault:name:argument]]  misbehave; in the stand-in only, see [Fault]
//
// Brackets nest: [[bash:if [[ -e x ]]; then echo y; fi]] is one directive. The
// first two brackets in a row that close it end it, so an argument that ends in
// a bracket needs a space after that: [[reply:["a"] ]].
func Directives(r *Request) Reply {
	p, err := parsePlan(r.Prompt)
	if err != nil {
		return Text("claudetest: " + err.Error())
	}
	if p == nil {
		return Echo(r)
	}
	if r.Round >= len(p) {
		return Text(lastOutput(r))
	}
	return p[r.Round].reply(r)
}

// directive is one [[name:argument]] of a prompt.
type directive struct {
	name string
	arg  string
	has  bool // whether there was a colon
}

// parseDirectives finds the directives of a prompt. "[[" opens one only when a
// lower-case letter follows, so shell tests and wiki links in prose are safe
// unless they look exactly like one.
func parseDirectives(text string) ([]directive, error) {
	var out []directive
	for {
		at := opening(text)
		if at < 0 {
			return out, nil
		}
		body, rest, ok := balanced(text[at+2:])
		if !ok {
			return nil, fmt.Errorf("directive %q has no closing ]]", clip(text[at:]))
		}
		name, arg, has := strings.Cut(body, ":")
		if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz") != "" {
			return nil, fmt.Errorf("directive %q: the name must be lower-case letters, followed by ':' or ']]'", clip("[["+body+"]]"))
		}
		out = append(out, directive{name, arg, has})
		text = rest
	}
}

func opening(s string) int {
	for i := 0; i+2 < len(s); i++ {
		if s[i] == '[' && s[i+1] == '[' && s[i+2] >= 'a' && s[i+2] <= 'z' {
			return i
		}
	}
	return -1
}

// balanced cuts s at the "]]" that closes what was opened before s.
func balanced(s string) (body, rest string, ok bool) {
	depth := 1
	for i := 0; i+1 < len(s); i++ {
		switch s[i : i+2] {
		case "[[":
			depth++
			i++
		case "]]":
			if depth--; depth == 0 {
				return s[:i], s[i+2:], true
			}
			i++
		}
	}
	return "", "", false
}

func clip(s string) string {
	if len(s) > 40 {
		return strings.ToValidUTF8(s[:40], "") + "…"
	}
	return s
}

// plan is what a prompt asks for, one entry for each answer of the turn.
type plan []answer

// answer is one answer: a text, or tool calls, and what goes wrong with it.
type answer struct {
	say    []func(*Request) Reply
	tools  []Reply
	stream *Reply
	sleep  time.Duration
	usage  *Usage
	status int
	limit  *time.Duration
	end    ending
	// times and endTimes bound the attempts at which status and end hold; zero
	// means all.
	times, endTimes int
	faults          []Fault
	joining         bool // [[and]] was read: the next tool belongs to these
}

// parsePlan returns nil when the prompt has no directives.
func parsePlan(prompt string) (plan, error) {
	ds, err := parseDirectives(prompt)
	if err != nil || len(ds) == 0 {
		return nil, err
	}
	var p plan
	cur := &answer{}
	for _, d := range ds {
		// A tool call closes its answer, unless [[and]] adds another to it.
		if len(cur.tools) > 0 && !cur.joining && d.name != "and" {
			p = append(p, *cur)
			cur = &answer{usage: cur.usage}
		}
		if err := cur.add(d); err != nil {
			return nil, fmt.Errorf("directive [[%s]]: %w", d.name, err)
		}
	}
	if cur.joining {
		return nil, fmt.Errorf("directive [[and]]: a tool must follow")
	}
	return append(p, *cur), nil
}

// add puts d into a.
func (a *answer) add(d directive) error {
	def, ok := directives[d.name]
	if !ok {
		return fmt.Errorf("unknown; see the documentation of Directives")
	}
	if d.has != (def.arg != "") && def.arg != "?" {
		if def.arg == "" {
			return fmt.Errorf("takes no argument")
		}
		return fmt.Errorf("wants [[%s:%s]]", d.name, def.arg)
	}
	if a.joining && !def.tool {
		return fmt.Errorf("a tool must follow [[and]]")
	}
	if err := def.set(a, d.arg); err != nil {
		return fmt.Errorf("wants [[%s:%s]]: %w", d.name, def.arg, err)
	}
	if def.tool {
		a.joining = false
	}
	return nil
}

// definition is how a directive is read. arg shows the argument's form; empty
// means none, "?" an optional one.
type definition struct {
	arg  string
	tool bool
	set  func(a *answer, arg string) error
}

func saying(f func(*Request) string) definition {
	return definition{set: func(a *answer, _ string) error {
		a.say = append(a.say, func(r *Request) Reply { return Text(f(r)) })
		return nil
	}}
}

func calling(arg string, f func(arg string) (Reply, error)) definition {
	return definition{arg: arg, tool: true, set: func(a *answer, arg string) error {
		r, err := f(arg)
		if err == nil {
			a.tools = append(a.tools, r)
		}
		return err
	}}
}

var directives = map[string]definition{
	"reply": {arg: "text", set: func(a *answer, arg string) error {
		a.say = append(a.say, func(*Request) Reply { return Text(arg) })
		return nil
	}},
	"think": {arg: "text", set: func(a *answer, arg string) error {
		a.say = append(a.say, func(*Request) Reply { return Thinking(arg) })
		return nil
	}},
	"history": saying(func(r *Request) string { return strings.Join(r.Prompts, "\n") }),
	"system":  saying(func(r *Request) string { return r.System }),
	"tools":   saying(func(r *Request) string { return strings.Join(r.ToolNames(), "\n") }),
	"model":   saying(func(r *Request) string { return r.Model }),
	"stream": {arg: "n:pause", set: func(a *answer, arg string) error {
		n, pause, ok := strings.Cut(arg, ":")
		count, err := number(n, 1, 100_000)
		if err != nil {
			return err
		}
		var d time.Duration
		if ok {
			if d, err = duration(pause); err != nil {
				return err
			}
		}
		r := Words(count, d)
		a.stream = &r
		return nil
	}},
	"huge": {arg: "bytes", set: func(a *answer, arg string) error {
		n, err := number(arg, 1, 256<<20)
		a.say = append(a.say, func(*Request) Reply { return Huge(n) })
		return err
	}},
	"bash": calling("command", func(arg string) (Reply, error) {
		if strings.TrimSpace(arg) == "" {
			return Reply{}, fmt.Errorf("the command is empty")
		}
		return ToolUse("Bash", map[string]string{"command": arg, "description": "run a command"}), nil
	}),
	"background": calling("command", func(arg string) (Reply, error) {
		return ToolUse("Bash", map[string]any{"command": arg, "description": "run a command", "run_in_background": true}), nil
	}),
	"write": calling("file:content", func(arg string) (Reply, error) {
		file, content, ok := strings.Cut(arg, ":")
		if !ok || file == "" {
			return Reply{}, fmt.Errorf("file and content are separated by a colon")
		}
		return ToolUse("Write", map[string]string{"file_path": file, "content": content}), nil
	}),
	"read": calling("file", func(arg string) (Reply, error) {
		if arg == "" {
			return Reply{}, fmt.Errorf("the file is empty")
		}
		return ToolUse("Read", map[string]string{"file_path": arg}), nil
	}),
	"tool": calling("name:{json}", func(arg string) (Reply, error) {
		name, input, _ := strings.Cut(arg, ":")
		raw, err := object(input)
		if err == nil && name == "" {
			err = fmt.Errorf("the name is empty")
		}
		return ToolUse(name, raw), err
	}),
	"output": calling("{json}", func(arg string) (Reply, error) {
		raw, err := object(arg)
		return ToolUse("StructuredOutput", raw), err
	}),
	"and": {set: func(a *answer, _ string) error {
		if len(a.tools) == 0 || a.joining {
			return fmt.Errorf("a tool must come before it")
		}
		a.joining = true
		return nil
	}},
	"sleep": {arg: "duration", set: func(a *answer, arg string) error {
		d, err := duration(arg)
		a.sleep += d
		return err
	}},
	"usage": {arg: "in,out", set: func(a *answer, arg string) error {
		in, out, _ := strings.Cut(arg, ",")
		i, err := number(in, 0, 1<<40)
		if err != nil {
			return err
		}
		o, err := number(out, 0, 1<<40)
		a.usage = &Usage{Input: i, Output: o}
		return err
	}},
	"status": {arg: "code[:times]", set: func(a *answer, arg string) error {
		code, times, limited := strings.Cut(arg, ":")
		var err error
		if a.status, err = number(code, 400, 599); err == nil && limited {
			a.times, err = number(times, 1, 1000)
		}
		return err
	}},
	"limit": {arg: "duration", set: func(a *answer, arg string) error {
		d, err := duration(arg)
		a.limit = &d
		return err
	}},
	"drop": {arg: "?", set: cutting(dropBefore, dropWithin)},
	"hang": {arg: "?", set: cutting(hangBefore, hangWithin)},
	"fault": {arg: "name[:argument]", set: func(a *answer, arg string) error {
		f, err := ParseFault(arg)
		a.faults = append(a.faults, f)
		return err
	}},
}

// cutting reads [mid][:times].
func cutting(before, within ending) func(*answer, string) error {
	return func(a *answer, arg string) (err error) {
		a.end = before
		if rest, mid := strings.CutPrefix(arg, "mid"); mid {
			a.end, arg = within, strings.TrimPrefix(rest, ":")
			if rest == ":" {
				return fmt.Errorf("a number must follow mid")
			}
		}
		if arg != "" {
			a.endTimes, err = number(arg, 1, 1000)
		}
		return err
	}
}

func number(s string, low, high int) (int, error) {
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("%q is not a whole number from %d to %d", clip(s), low, high)
	}
	return n, nil
}

func duration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(strings.TrimSpace(s))
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a duration such as 500ms", clip(s))
	}
	return d, nil
}

func object(s string) (json.RawMessage, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(s), &m); err != nil {
		return nil, fmt.Errorf("%q is not a JSON object: %w", clip(s), err)
	}
	return json.RawMessage(s), nil
}

// reply makes a into an answer to r.
func (a answer) reply(r *Request) Reply {
	if a.limit != nil {
		return RateLimited(time.Now().Add(*a.limit)).After(a.sleep)
	}
	if a.status != 0 && (a.times == 0 || r.Attempt <= a.times) {
		return Status(a.status).After(a.sleep)
	}
	var out Reply
	for _, say := range a.say {
		out = out.And(say(r))
	}
	if a.stream != nil {
		out = out.And(*a.stream)
		out.chunk, out.pause = a.stream.chunk, a.stream.pause
	}
	out = out.And(a.tools...)
	if len(out.blocks) == 0 {
		out = Text(lastOutput(r))
	}
	out.wait, out.usage, out.faults = a.sleep, a.usage, a.faults
	if a.endTimes == 0 || r.Attempt <= a.endTimes {
		out.end = a.end
	}
	return out
}

// lastOutput is what the last tool said, or a default for a prompt that only
// had directives without words.
func lastOutput(r *Request) string {
	if n := len(r.Results); n > 0 {
		return r.Results[n-1].Content
	}
	return "ok"
}
