package claudetest

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// apiFailure is a request that the model's side refused.
type apiFailure struct {
	status  int
	kind    string // in assistant lines, such as "rate_limit"
	event   string // in api_retry lines, when it differs
	errType string // the API's own
	text    string
	retry   bool
	limit   obj // rate_limit_info
}

// request is the conversation as the model gets it.
func (s *standIn) request(attempt int) *Request {
	tools := s.toolNames()
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &Request{Attempt: attempt, Header: http.Header{}, Model: s.set.model, Stream: true, SessionID: s.conv.id, System: s.conv.system, done: make(chan struct{})}
	for _, name := range tools {
		r.Tools = append(r.Tools, Tool{Name: name})
		if name == "StructuredOutput" {
			r.Tools[len(r.Tools)-1].InputSchema = s.set.schema
		}
	}
	for _, m := range s.conv.messages {
		r.take(m)
	}
	return r
}

// complete sends one model request, again when it fails in a way that passes,
// and says what came. The error is errAborted or one of the session file.
func (t *turn) complete() ([]Block, *apiFailure, error) {
	s := t.s
	t.requests++
	retries := envNumber("CLAUDE_CODE_MAX_RETRIES", 10)
	for attempt := 1; ; attempt++ {
		req := s.request(attempt)
		req.Number = t.requests
		var reply Reply
		if t.first != nil {
			reply, t.first = *t.first, nil
		} else {
			reply = s.script(req)
		}
		if s.args.partials {
			s.out.emit(obj{"type": "system", "subtype": "status", "status": "requesting"})
		}
		blocks, fail, err := t.play(req, reply)
		if fail == nil || err != nil {
			return blocks, nil, err
		}
		if !fail.retry || attempt > retries {
			return nil, fail, nil
		}
		delay := min(20*time.Millisecond<<min(attempt-1, 10), time.Second)
		event := obj{"type": "system", "subtype": "api_retry", "attempt": attempt, "max_retries": retries, "retry_delay_ms": delay.Milliseconds(),
			"error_status": nil, "error": fail.kind}
		if fail.status != 0 {
			event["error_status"] = fail.status
		}
		if fail.event != "" {
			event["error"] = fail.event
		}
		s.out.emit(event)
		if pause(t.ctx, delay) != nil {
			return nil, nil, errAborted{}
		}
	}
}

func envNumber(name string, def int) int {
	n, err := strconv.Atoi(os.Getenv(name))
	if err != nil || n < 0 {
		return def
	}
	return n
}

// play lets the model say r.
func (t *turn) play(req *Request, r Reply) ([]Block, *apiFailure, error) {
	s := t.s
	sent := time.Now()
	if pause(t.ctx, r.wait) != nil {
		return nil, nil, errAborted{}
	}
	if r.gate != nil {
		select {
		case <-r.gate:
		case <-t.ctx.Done():
			return nil, nil, errAborted{}
		}
	}
	switch {
	case r.end == dropBefore:
		return nil, &apiFailure{kind: "server_error", event: "unknown", text: "API Error: Connection dropped (ECONNRESET)", retry: true}, nil
	case r.end == hangBefore:
		ctx, cancel := context.WithTimeout(t.ctx, time.Duration(envNumber("API_TIMEOUT_MS", 600_000))*time.Millisecond)
		defer cancel()
		<-ctx.Done()
		if t.ctx.Err() != nil {
			return nil, nil, errAborted{}
		}
		return nil, &apiFailure{kind: "server_error", event: "unknown", text: "API Error: Request timed out.", retry: true}, nil
	case r.status >= 300:
		return nil, s.refusal(r, req.Model), nil
	}
	id := fmt.Sprintf("msg_%s_%d", s.conv.id[:8], len(s.conv.messages))
	t.speaking = true
	t.streamEvent(obj{"type": "message_start", "message": obj{"id": id, "type": "message", "role": "assistant", "model": req.Model, "content": []any{},
		"stop_reason": nil, "stop_sequence": nil, "usage": Usage{Input: r.Tokens().Input, Output: 1}}})
	blocks := make([]Block, 0, len(r.blocks))
	for i, rb := range r.blocks {
		b := Block{Type: rb.kind, Text: rb.text, Name: rb.name, Input: rb.input}
		if rb.kind == "tool_use" {
			b.ID = fmt.Sprintf("toolu_%s_%d_%d", s.conv.id[:8], len(s.conv.messages), i)
		}
		said, err := t.sayBlock(i, b, r, i == len(r.blocks)-1)
		if t.firstToken == 0 {
			t.firstToken = max(time.Since(t.begun), time.Millisecond)
		}
		if err != nil {
			return nil, nil, t.cutShort(req, id, b, said, r.Tokens())
		}
		if err := t.assistant(req, id, b, false); err != nil {
			return nil, nil, err
		}
		t.streamEvent(obj{"type": "content_block_stop", "index": i})
		blocks = append(blocks, b)
	}
	t.streamEvent(obj{"type": "message_delta", "delta": obj{"stop_reason": r.stopReason(), "stop_sequence": nil}, "usage": r.Tokens()})
	t.streamEvent(obj{"type": "message_stop"})
	t.speaking = false
	t.charge(req.Model, r.Tokens(), time.Since(sent))
	t.usage.add(r.Tokens())
	return blocks, nil, nil
}

func (t *turn) streamEvent(e obj) {
	if t.s.args.partials {
		t.s.out.emit(obj{"type": "stream_event", "event": e, "parent_tool_use_id": nil})
	}
}

// sayBlock streams a block. A mid-stream cut that the CLI recovers from is no
// cut here; one that hangs waits for the interrupt. It returns what was said.
func (t *turn) sayBlock(i int, b Block, r Reply, last bool) (string, error) {
	kind, field, body, open := "text_delta", "text", b.Text, obj{"type": "text", "text": ""}
	switch b.Type {
	case "thinking":
		kind, field, open = "thinking_delta", "thinking", obj{"type": "thinking", "thinking": "", "signature": ""}
	case "tool_use":
		kind, field, body, open = "input_json_delta", "partial_json", string(b.Input), obj{"type": "tool_use", "id": b.ID, "name": b.Name, "input": obj{}}
	}
	t.streamEvent(obj{"type": "content_block_start", "index": i, "content_block": open})
	pieces := split(body, r.chunk)
	var said strings.Builder
	for n, p := range pieces {
		if n > 0 && r.pause > 0 && pause(t.ctx, r.pause) != nil {
			return said.String(), errAborted{}
		}
		hangs := last && r.end == hangWithin && n == len(pieces)/2
		if hangs && n == 0 {
			p = p[:len(p)/2]
		}
		if hangs && n > 0 || t.ctx.Err() != nil {
			<-t.ctx.Done()
			return said.String(), errAborted{}
		}
		t.streamEvent(obj{"type": "content_block_delta", "index": i, "delta": obj{"type": kind, field: p}})
		said.WriteString(p)
		if hangs {
			<-t.ctx.Done()
			return said.String(), errAborted{}
		}
	}
	if b.Type == "thinking" {
		t.streamEvent(obj{"type": "content_block_delta", "index": i, "delta": obj{"type": "signature_delta", "signature": signature}})
	}
	return said.String(), nil
}

// assistant tells the host of a block and keeps it.
func (t *turn) assistant(req *Request, id string, b Block, aborted bool) error {
	m := obj{"type": "assistant", "parent_tool_use_id": nil, "timestamp": now(), "request_id": "req_standin",
		"message": obj{"id": id, "type": "message", "role": "assistant", "model": req.Model, "content": []obj{b.wire()}, "stop_reason": nil, "stop_sequence": nil,
			"usage": Usage{Input: DefaultUsage.Input, Output: 1}, "context_management": nil}}
	if aborted {
		m["aborted"] = true
	}
	if !t.told {
		t.told = true
		t.tag(m)
	}
	t.s.out.emit(m)
	return t.s.conv.add(Message{Role: "assistant", Content: []Block{b}})
}

// cutShort keeps what the model had said when it was interrupted. The cost is
// an estimate, as the CLI's is.
func (t *turn) cutShort(req *Request, id string, b Block, said string, u Usage) error {
	if said == "" || b.Type == "tool_use" {
		return errAborted{}
	}
	u.Output = (len(said) + 1) / 3
	t.charge(req.Model, u, 0)
	b.Text = said
	if err := t.assistant(req, id, b, true); err != nil {
		return err
	}
	return errAborted{}
}

func (t *turn) charge(model string, u Usage, took time.Duration) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	t.s.bill.add(model, u)
	t.s.bill.APIms += int(took.Milliseconds())
}

// refusal is what the CLI makes of an HTTP status.
func (s *standIn) refusal(r Reply, model string) *apiFailure {
	errType, msg := r.problem()
	f := &apiFailure{status: r.status, errType: errType, text: fmt.Sprintf("API Error: %d %s", r.status, msg), kind: "unknown"}
	switch {
	case r.status == 401:
		f.kind, f.text, f.retry = "authentication_failed", "Invalid API key · Fix external API key", true
	case r.status == 403:
		f.kind, f.text = "authentication_failed", "Failed to authenticate. "+f.text
	case r.status == 404:
		f.kind, f.text = "model_not_found", fmt.Sprintf("There's an issue with the selected model (%s). It may not exist or you may not have access to it.", model)
	case r.status == 413:
		f.kind, f.text = "invalid_request", "Request too large (max 32MB). Double press esc to go back and try with a smaller file."
	case r.status == 429:
		f.kind, f.text, f.retry = "rate_limit", "API Error: Request rejected (429) · "+msg, true
		if r.header.Get("anthropic-ratelimit-unified-status") == "rejected" {
			f.retry = false
			s.limited(f, r.header)
		}
	case r.status >= 500:
		f.kind, f.retry = "server_error", true
		f.text += ". This is a server-side issue, usually temporary — try again in a moment."
		if r.status == 529 {
			f.event = "overloaded"
		}
	}
	return f
}

// limited tells of a reached limit, which only a subscription has.
func (s *standIn) limited(f *apiFailure, h http.Header) {
	if os.Getenv("ANTHROPIC_API_KEY") != "" {
		return
	}
	reset, err := strconv.ParseInt(h.Get("anthropic-ratelimit-unified-reset"), 10, 64)
	if err != nil {
		return
	}
	f.limit = obj{"status": "rejected", "resetsAt": reset, "rateLimitType": h.Get("anthropic-ratelimit-unified-representative-claim"),
		"overageStatus": "rejected", "isUsingOverage": false, "unifiedWindows": obj{"five_hour": obj{"utilization": 1, "resetsAt": reset, "status": "rejected"}}}
	f.text = "You've hit your 5-hour limit · resets " + time.Unix(reset, 0).UTC().Format("3:04pm (MST)")
	s.out.emit(obj{"type": "rate_limit_event", "rate_limit_info": f.limit})
}
