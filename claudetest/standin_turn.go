package claudetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// turn is one run of the model over a prompt. It runs in a goroutine of its
// own; the loop reads its results after done.
type turn struct {
	s        *standIn
	messages []*userMessage
	ctx      context.Context
	cancel   context.CancelFunc
	faults   faultSet
	begun    time.Time
	first    *Reply // the answer to the first request, decided before init

	requests    int
	users       int // lines of type user, which num_turns counts
	usage       Usage
	denials     []obj
	firstToken  time.Duration
	told        bool // the first assistant line carries the uuids
	text        string
	stopReason  any
	structured  []byte
	nudged      bool
	speaking    bool // a message of the model has begun and not ended
	aborted     bool // its messages end as cancelled
	unsolicited bool // another turn follows that nobody asked for
	final       obj  // the result, once it is given
}

func (s *standIn) newTurn(messages []*userMessage) *turn {
	t := &turn{s: s, messages: messages, begun: time.Now(), faults: s.faults}
	t.ctx, t.cancel = context.WithCancel(s.ctx)
	return t
}

func (t *turn) uuids() []string {
	var out []string
	for _, m := range t.messages {
		if m.uuid != "" {
			out = append(out, m.uuid)
		}
	}
	return out
}

// tag adds the uuids of the turn's messages, as the first lines carry them.
func (t *turn) tag(m obj) obj {
	if ids := t.uuids(); len(ids) > 0 {
		m["user_message_uuid"], m["user_message_uuids"] = ids[len(ids)-1], ids
	}
	return m
}

func (t *turn) run() {
	if c := t.messages[0].command; c != "" {
		t.command(c)
		return
	}
	if err := t.converse(); err != nil {
		// The session file cannot be written, or the like: say so and end.
		t.result(obj{"subtype": "error_during_execution", "is_error": true, "errors": []string{err.Error()}})
	}
}

// errAborted says that the turn was interrupted; stop tells where.
type errAborted struct{ tools bool }

func (errAborted) Error() string { return "interrupted" }

// converse runs the model until it has nothing more to do, and gives the result.
func (t *turn) converse() error {
	s := t.s
	s.settleServers(t.ctx)
	if err := t.open(); err != nil {
		return err
	}
	if t.messages[0].silent {
		t.result(obj{"subtype": "success", "result": ""})
		return nil
	}
	if t.faults.has(FaultLoggedOut) {
		return t.apiError(&apiFailure{kind: "authentication_failed", text: "Not logged in · Please run /login"})
	}
	for {
		if s.overBudget() {
			return t.limit("error_max_budget_usd", "budget_exhausted", fmt.Sprintf("Reached maximum budget ($%v)", s.args.maxCost))
		}
		blocks, fail, err := t.complete()
		switch {
		case err != nil:
			return t.stopped(err)
		case fail != nil:
			return t.apiError(fail)
		}
		t.stopReason = "end_turn"
		if s.overBudget() {
			return t.limit("error_max_budget_usd", "budget_exhausted", fmt.Sprintf("Reached maximum budget ($%v)", s.args.maxCost))
		}
		calls := 0
		for _, b := range blocks {
			switch b.Type {
			case "text":
				t.text = b.Text
			case "tool_use":
				calls++
			}
		}
		if calls == 0 {
			if again, err := t.nudge(); again || err != nil {
				if err != nil {
					return err
				}
				continue
			}
			break
		}
		t.stopReason = "tool_use"
		if err := t.callTools(blocks); err != nil {
			return t.stopped(err)
		}
		if t.structured != nil {
			break
		}
		if s.args.maxTurns > 0 && t.requests >= s.args.maxTurns {
			return t.limit("error_max_turns", "max_turns", fmt.Sprintf("Reached maximum number of turns (%d)", s.args.maxTurns))
		}
	}
	fields := obj{"subtype": "success", "result": t.text, "terminal_reason": "completed", "api_error_status": nil}
	if t.structured != nil {
		fields["structured_output"], fields["result"] = rawJSON(t.structured), string(t.structured)
	}
	t.result(fields)
	return nil
}

// open takes the prompt into the conversation and says that the turn begins.
func (t *turn) open() error {
	s := t.s
	var texts []string
	for _, m := range t.messages {
		texts = append(texts, m.text)
	}
	text := strings.Join(texts, "\n")
	if !t.messages[0].unasked {
		text = s.prefix + text
	}
	if err := s.conv.add(Message{Role: "user", Content: []Block{{Type: "text", Text: text}}}); err != nil {
		return err
	}
	if !t.messages[0].silent {
		r := s.script(s.request(1))
		t.first = &r
		t.faults = append(t.faults[:len(t.faults):len(t.faults)], r.faults...)
	}
	if t.faults.has(FaultResultFirst) {
		t.result(obj{"subtype": "success", "result": "", "terminal_reason": "completed", "api_error_status": nil})
	}
	t.init()
	if s.args.replay {
		for _, m := range t.messages {
			s.out.emit(obj{"type": "user", "message": obj{"role": "user", "content": m.text}, "parent_tool_use_id": nil, "isReplay": true, "uuid": m.uuid})
		}
	}
	return nil
}

// nudge asks for structured output that the model has not given, once.
func (t *turn) nudge() (bool, error) {
	t.s.mu.Lock()
	wanted := t.s.set.schema != nil
	t.s.mu.Unlock()
	if !wanted || t.nudged {
		return false, nil
	}
	t.nudged = true
	t.users++
	const text = "[structured-output-enforce] You MUST call the StructuredOutput tool to complete this request. Call this tool now."
	t.s.out.emit(obj{"type": "user", "message": obj{"role": "user", "content": []obj{{"type": "text", "text": text}}}, "parent_tool_use_id": nil, "isSynthetic": true})
	return true, t.s.conv.add(Message{Role: "user", Content: []Block{{Type: "text", Text: text}}})
}

// stopped ends an interrupted turn. Other errors it passes on.
func (t *turn) stopped(err error) error {
	a, ok := errors.AsType[errAborted](err)
	if !ok {
		return err
	}
	t.aborted = true
	marker, reason, stop := "[Request interrupted by user]", "aborted_streaming", any(nil)
	if a.tools {
		marker, reason, stop = "[Request interrupted by user for tool use]", "aborted_tools", "tool_use"
	}
	if err := t.say(marker); err != nil {
		return err
	}
	if t.speaking {
		t.streamEvent(obj{"type": "content_block_stop", "index": 0})
		t.streamEvent(obj{"type": "message_delta", "delta": obj{"stop_reason": nil, "stop_sequence": nil}, "usage": Usage{}})
		t.streamEvent(obj{"type": "message_stop"})
	}
	t.stopReason = stop
	shown := "null"
	if a.tools {
		shown = "tool_use"
	}
	t.result(obj{"subtype": "error_during_execution", "is_error": true, "terminal_reason": reason,
		"errors": []string{"[ede_diagnostic] result_type=user last_content_type=n/a stop_reason=" + shown}})
	return nil
}

// say adds a user text of the CLI's own.
func (t *turn) say(text string) error {
	t.users++
	t.s.out.emit(obj{"type": "user", "message": obj{"role": "user", "content": []obj{{"type": "text", "text": text}}}, "parent_tool_use_id": nil, "timestamp": now()})
	return t.s.conv.add(Message{Role: "user", Content: []Block{{Type: "text", Text: text}}})
}

func (t *turn) limit(subtype, reason, text string) error {
	t.aborted = subtype == "error_max_budget_usd" // so the CLI calls it
	t.result(obj{"subtype": subtype, "is_error": true, "terminal_reason": reason, "errors": []string{text}})
	return nil
}

// apiError ends a turn whose request failed for good.
func (t *turn) apiError(f *apiFailure) error {
	s := t.s
	m := obj{"type": "assistant", "parent_tool_use_id": nil, "timestamp": now(), "error": f.kind, "is_api_error_message": true,
		"message": obj{"id": newUUID(), "type": "message", "role": "assistant", "model": "<synthetic>", "stop_reason": "stop_sequence", "stop_sequence": "",
			"usage": Usage{}, "content": []obj{{"type": "text", "text": f.text}}}}
	fields := obj{"subtype": "success", "is_error": true, "result": f.text, "terminal_reason": "api_error", "api_error_status": nil}
	if f.status != 0 {
		m["api_error_status"], m["api_error_type"] = f.status, f.errType
		fields["api_error_status"], fields["api_error_type"] = f.status, f.errType
	}
	t.aborted = true // so the CLI calls the fate of the message
	if f.limit != nil {
		m["api_error"], m["api_error_params"] = "usage_limit_reached", obj{"rate_limit_info": f.limit}
	}
	if !t.told {
		t.tag(m)
	}
	s.out.emit(m)
	t.stopReason = "stop_sequence"
	t.result(fields)
	return nil
}

// result gives the result, and what the faults make of it.
func (t *turn) result(fields obj) {
	if t.final != nil { // the fault result-first has given it
		return
	}
	m := t.s.resultLine(t, fields)
	t.final = m
	t.beforeResult(m)
	t.s.out.emit(m)
	t.afterResult(m)
}

// resultLine completes a result with everything that is counted.
func (s *standIn) resultLine(t *turn, fields obj) obj {
	s.mu.Lock()
	defer s.mu.Unlock()
	took := time.Since(t.begun).Milliseconds()
	m := obj{"type": "result", "is_error": false, "stop_reason": t.stopReason, "duration_ms": took, "duration_api_ms": s.bill.APIms,
		"num_turns": 1 + t.users, "total_cost_usd": s.bill.dollars(), "modelUsage": rows(s.bill.Models), "model_usage_since_last_result": rows(s.bill.since),
		"usage": t.usage, "permission_denials": append([]obj{}, t.denials...), "safety_stops": 0, "queued_turn_count": 0, "result_index": s.results,
		"fast_mode_state": "off", "uuid": newUUID(), "session_id": s.conv.id}
	if t.messages[0].command != "" || t.messages[0].silent {
		m["num_turns"] = 0
	} else if t.firstToken > 0 {
		m["ttft_ms"] = t.firstToken.Milliseconds()
	}
	if o := t.messages[0].origin; o != nil {
		m["origin"] = o
	}
	for k, v := range fields {
		m[k] = v
	}
	s.bill.since = nil
	s.results++
	s.failed = m["is_error"] == true
	return t.tag(m)
}

func (s *standIn) overBudget() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.args.maxCost > 0 && s.bill.dollars() >= s.args.maxCost
}

func now() string { return time.Now().UTC().Format("2006-01-02T15:04:05.000Z") }

// init says what the turn runs with.
func (t *turn) init() {
	s := t.s
	tools := s.toolNames()
	s.mu.Lock()
	m := obj{"type": "system", "subtype": "init", "cwd": s.set.cwd, "original_cwd": s.set.cwd, "tools": tools, "mcp_servers": s.serverList(),
		"model": s.set.model, "permissionMode": s.set.mode, "slash_commands": []string{"clear", "cost", "model"}, "apiKeySource": s.keySource(),
		"claude_code_version": s.version, "output_style": "default", "agents": []string{}, "skills": []string{}, "plugins": []any{},
		"capabilities": capabilities, "additional_directories": append([]string{}, s.set.dirs...), "session_id": s.conv.id}
	s.mu.Unlock()
	if ids := t.uuids(); len(ids) > 0 && t.messages[0].command == "" {
		m["user_message_uuids"] = ids
	}
	s.out.emit(m)
}

var capabilities = []string{"interrupt_receipt_v1", "interrupt_cancel_queued_v1", "msg_lifecycle_v1", "sdk_mcp_tools_list_changed"}
