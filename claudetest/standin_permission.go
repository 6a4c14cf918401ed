package claudetest

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
)

// verdict is what the permission rules say of a call.
type verdict int

const (
	allow verdict = iota
	deny
	ask
)

// call is a tool call with what the rules look at.
type call struct {
	id      string
	tool    string
	input   json.RawMessage
	command string // of Bash
	path    string // of Read, Write and Edit
}

func newCall(b Block) call {
	c := call{id: b.ID, tool: b.Name, input: b.Input}
	var in struct {
		Command string `json:"command"`
		Path    string `json:"file_path"`
	}
	if json.Unmarshal(b.Input, &in) == nil {
		c.command, c.path = in.Command, in.Path
	}
	return c
}

// subject is what a rule's parentheses are compared with.
func (c call) subject() string {
	if c.tool == "Bash" {
		return c.command
	}
	return c.path
}

// matches says whether a rule such as "Bash(git *)" or "mcp__host" fits c.
func (c call) matches(rule string) bool {
	name, pattern, narrow := strings.Cut(strings.TrimSuffix(rule, ")"), "(")
	if name != c.tool && !strings.HasPrefix(c.tool, name+"__") {
		return false
	}
	if !narrow {
		return true
	}
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		prefix = strings.TrimRight(prefix, ": ")
		return c.subject() == prefix || strings.HasPrefix(c.subject(), prefix+" ") || c.tool != "Bash" && strings.HasPrefix(c.subject(), prefix)
	}
	return c.subject() == pattern
}

func (c call) any(rules []string) bool { return slices.ContainsFunc(rules, c.matches) }

// harmless are the commands that run without asking.
var harmless = []string{"ls", "cat", "echo", "pwd", "head", "tail", "wc", "grep", "which", "true", "sleep", "date", "printf", "test"}

// readsOnly says whether c does nothing but look.
func (c call) readsOnly() bool {
	if strings.ContainsAny(c.command, "<>`$") {
		return false
	}
	for part := range strings.FieldsFuncSeq(c.command, func(r rune) bool { return strings.ContainsRune("|&;\n", r) }) {
		words := strings.Fields(part)
		if len(words) > 0 && !slices.Contains(harmless, words[0]) {
			return false
		}
	}
	return true
}

// judge applies rules and mode, and names the reason in the CLI's word.
func (s *standIn) judge(c call, faults faultSet) (verdict, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lists := s.set.permissions()
	if tool, ok := faults.find(FaultDeny); ok && (tool == "" || tool == c.tool) {
		return deny, "rule"
	}
	switch {
	case c.tool == "StructuredOutput":
		return allow, "mode"
	case c.tool == "AskUserQuestion" || c.tool == "ExitPlanMode":
		return ask, ""
	case c.any(lists.Deny) || c.any(s.args.disallowed):
		return deny, "rule"
	case c.any(lists.Allow) || c.any(s.args.allowed):
		return allow, "rule"
	case s.set.mode == "bypassPermissions":
		return allow, "mode"
	}
	return s.judgeMode(c)
}

// judgeMode is the table of what each mode asks for.
func (s *standIn) judgeMode(c call) (verdict, string) {
	mode := s.set.mode
	inside := c.path == "" || s.inside(c.path)
	switch {
	case c.tool == "Bash" && c.readsOnly(), c.tool == "Read" && inside:
		return allow, "subcommandResults"
	case mode == "dontAsk":
		return deny, "mode"
	case c.tool == "Read" && (mode == "plan" || mode == "auto"):
		return allow, "mode"
	case mode == "plan" && c.tool == "Bash":
		return deny, "classifier"
	case mode == "auto" && !inside:
		return deny, "classifier"
	case mode == "auto", mode == "acceptEdits" && inside && slices.Contains([]string{"Bash", "Write", "Edit"}, c.tool):
		return allow, "mode"
	}
	return ask, ""
}

// inside says whether path lies in the working directory or one that was added.
func (s *standIn) inside(path string) bool {
	path = s.absolute(path)
	for _, d := range append([]string{s.set.cwd}, s.set.dirs...) {
		if rel, err := filepath.Rel(d, path); err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
			return true
		}
	}
	return false
}

func (s *standIn) absolute(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(s.set.cwd, path)
}

// hostAnswer is a control_response of the host.
type hostAnswer struct {
	body json.RawMessage
	err  string
}

// question is a control request to the host that waits for its answer.
type question struct {
	id      string
	request obj
	answer  chan hostAnswer // capacity one
	rpc     int             // the JSON-RPC id in it, if it is a call
}

// question makes a control request that can be answered, and is yet to be sent.
func (s *standIn) question(request obj) question {
	q := question{id: newUUID(), request: request, answer: make(chan hostAnswer, 1)}
	s.mu.Lock()
	s.asks[q.id] = q.answer
	s.mu.Unlock()
	return q
}

// pose sends q to the host.
func (s *standIn) pose(q question) {
	s.out.emit(obj{"type": "control_request", "request_id": q.id, "request": q.request})
}

// await waits for the answer to q, or for done.
func (s *standIn) await(done <-chan struct{}, q question) (hostAnswer, bool) {
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.asks, q.id)
	}()
	select {
	case a := <-q.answer:
		return a, true
	case <-done:
		return hostAnswer{}, false
	}
}

// pending names what must be told to the host when the turn is interrupted
// while q is open. Nil means that nothing is. It comes before q is sent: the host
// may interrupt as soon as it has read q.
func (s *standIn) pending(q question, tell func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takeBack = nil
	if tell != nil {
		s.takeBack = func() {
			s.mu.Lock()
			delete(s.asks, q.id) // a late answer is ignored
			s.mu.Unlock()
			tell()
		}
	}
}

// withdraw takes back what is pending: once, before an interrupt is answered.
func (s *standIn) withdraw() {
	s.mu.Lock()
	f := s.takeBack
	s.takeBack = nil
	s.mu.Unlock()
	if f != nil {
		f()
	}
}

// withdrawAsks answers what is open when the host has closed its side.
func (s *standIn) withdrawAsks() {
	s.mu.Lock()
	var open []chan hostAnswer
	for id, ch := range s.asks {
		open = append(open, ch)
		delete(s.asks, id)
	}
	s.mu.Unlock()
	for _, ch := range open {
		ch <- hostAnswer{err: "stream closed"}
	}
}

// permission is the host's answer to can_use_tool.
type permission struct {
	Behavior  string          `json:"behavior"`
	Message   string          `json:"message"`
	Input     json.RawMessage `json:"updatedInput"`
	Interrupt bool            `json:"interrupt"`
}

// permit decides a call. A refusal has the text for the model. The error is
// errAborted.
func (t *turn) permit(c *call) (refusal string, meta obj, err error) {
	s := t.s
	v, reason := s.judge(*c, t.faults)
	if v == ask && s.args.promptTool != "stdio" {
		v, reason = deny, "asyncAgent"
	}
	switch v {
	case allow:
		return "", obj{"decision": "accept", "source": "config", "reason_type": reason}, nil
	case deny:
		text := "Permission to use " + c.tool + " has been denied."
		s.out.emit(obj{"type": "system", "subtype": "permission_denied", "tool_name": c.tool, "tool_use_id": c.id, "decision_reason_type": reason, "message": text})
		return text, obj{"decision": "reject", "source": "config", "reason_type": reason}, nil
	}
	s.state("requires_action")
	request := obj{"subtype": "can_use_tool", "tool_name": c.tool, "display_name": c.tool, "input": c.input, "tool_use_id": c.id, "permission_suggestions": []any{}}
	if c.path != "" {
		request["blocked_path"] = c.path
	}
	if c.tool == "AskUserQuestion" || c.tool == "ExitPlanMode" {
		request["requires_user_interaction"] = true
	}
	q := s.question(request)
	s.pending(q, func() { s.out.emit(obj{"type": "control_cancel_request", "request_id": q.id}) })
	s.pose(q)
	answer, ok := s.await(t.ctx.Done(), q)
	if !ok {
		s.withdraw()
	}
	s.pending(q, nil)
	s.state("running")
	if !ok {
		t.denied(*c)
		return "", nil, errAborted{tools: true}
	}
	rejected := obj{"decision": "reject", "source": "user_reject"}
	if answer.err != "" {
		return "Tool permission request failed: Error: " + answer.err, rejected, nil
	}
	var p permission
	if json.Unmarshal(answer.body, &p) != nil || p.Behavior != "allow" && (p.Behavior != "deny" || p.Message == "") {
		return "Tool permission request failed: the answer must be {behavior: allow} or {behavior: deny, message}", rejected, nil
	}
	switch {
	case p.Behavior == "allow":
		if p.Input != nil && string(p.Input) != "null" {
			*c = newCall(Block{ID: c.id, Name: c.tool, Input: p.Input})
		}
		return "", obj{"decision": "accept", "source": "user_temporary"}, nil
	case p.Interrupt:
		t.denied(*c)
		t.cancel()
		return "", nil, errAborted{tools: true}
	}
	return p.Message, rejected, nil
}

// denied counts a refusal for the result.
func (t *turn) denied(c call) {
	t.denials = append(t.denials, obj{"tool_name": c.tool, "tool_use_id": c.id, "tool_input": c.input})
}
