package claudetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Usage is the token count of an answer, from which the CLI works out its cost.
type Usage struct {
	Input         int `json:"input_tokens"`
	Output        int `json:"output_tokens"`
	CacheRead     int `json:"cache_read_input_tokens"`
	CacheCreation int `json:"cache_creation_input_tokens"`
}

func (u *Usage) add(o Usage) {
	u.Input += o.Input
	u.Output += o.Output
	u.CacheRead += o.CacheRead
	u.CacheCreation += o.CacheCreation
}

// DefaultUsage is what an answer costs unless [Reply.Usage] says otherwise.
var DefaultUsage = Usage{Input: 100, Output: 10}

// Reply is an answer of the API: made by [Text], [ToolUse], [Thinking], [Huge],
// [Words], [Status], [Drop] or [Hang], and changed by its methods, each of
// which returns the changed copy. The zero value is an empty text.
type Reply struct {
	blocks []replyBlock
	usage  *Usage
	header http.Header
	status int
	msg    string
	wait   time.Duration
	pause  time.Duration
	chunk  int
	gate   <-chan struct{}
	end    ending
	faults []Fault // for the stand-in
}

type replyBlock struct {
	kind  string // "text", "thinking", "tool_use"
	text  string
	name  string
	input json.RawMessage
}

// ending says how an answer that is cut short ends.
type ending int

const (
	whole ending = iota
	dropBefore
	dropWithin
	hangBefore
	hangWithin
	errorWithin
)

// Text answers with s.
func Text(s string) Reply { return Reply{blocks: []replyBlock{{kind: "text", text: s}}} }

// Thinking lets the model think s before what is added with [Reply.And].
func Thinking(s string) Reply { return Reply{blocks: []replyBlock{{kind: "thinking", text: s}}} }

// ToolUse calls a tool. Input is a value that marshals to a JSON object, or a
// [json.RawMessage]; nil means the empty object. A value that does not marshal
// becomes an error text, so that the test sees why.
func ToolUse(name string, input any) Reply {
	raw := json.RawMessage("{}")
	if input != nil {
		b, err := json.Marshal(input)
		if err != nil {
			return Text(fmt.Sprintf("claudetest: input of tool %s: %v", name, err))
		}
		raw = b
	}
	return Reply{blocks: []replyBlock{{kind: "tool_use", name: name, input: raw}}}
}

// Huge answers with n bytes of text.
func Huge(n int) Reply { return Text(strings.Repeat("0123456789abcde ", n/16+1)[:max(n, 0)]) }

// Words answers with n words, one at a time, with a pause before each but the first.
func Words(n int, pause time.Duration) Reply {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "word%d", i+1)
	}
	r := Text(b.String())
	r.chunk, r.pause = -1, pause
	return r
}

// Status refuses the request with an HTTP status, such as 401, 429 or 529.
func Status(code int) Reply { return Reply{status: code} }

// RateLimited refuses the request as the API does when a subscription's limit
// is reached: 429 with the unified headers, free again at reset.
func RateLimited(reset time.Time) Reply {
	at := fmt.Sprint(reset.Unix())
	wait := fmt.Sprint(max(int(time.Until(reset).Seconds()), 1))
	return Status(http.StatusTooManyRequests).Message("This request would exceed your account's rate limit.").
		Header("retry-after", wait).
		Header("anthropic-ratelimit-unified-status", "rejected").
		Header("anthropic-ratelimit-unified-reset", at).
		Header("anthropic-ratelimit-unified-representative-claim", "five_hour").
		Header("anthropic-ratelimit-unified-5h-status", "rejected").
		Header("anthropic-ratelimit-unified-5h-utilization", "1").
		Header("anthropic-ratelimit-unified-5h-reset", at)
}

// Drop closes the connection without an answer.
func Drop() Reply { return Reply{end: dropBefore} }

// Hang accepts the request and sends nothing, until the client gives up or the
// [API] is closed.
func Hang() Reply { return Reply{end: hangBefore} }

// And appends the content of others: a text before a tool call, or several tool
// calls at once. Everything but the content is r's.
func (r Reply) And(others ...Reply) Reply {
	blocks := append([]replyBlock(nil), r.blocks...)
	for _, o := range others {
		blocks = append(blocks, o.blocks...)
	}
	r.blocks = blocks
	return r
}

// Usage sets the token counts.
func (r Reply) Usage(u Usage) Reply { r.usage = &u; return r }

// Header sets a header of the answer.
func (r Reply) Header(name, value string) Reply {
	if r.header = r.header.Clone(); r.header == nil {
		r.header = http.Header{}
	}
	r.header.Set(name, value)
	return r
}

// Message sets the error message of a [Status].
func (r Reply) Message(s string) Reply { r.msg = s; return r }

// After waits before the first byte.
func (r Reply) After(d time.Duration) Reply { r.wait = d; return r }

// Chunks cuts texts into pieces of n bytes with a pause before each but the first.
func (r Reply) Chunks(n int, pause time.Duration) Reply { r.chunk, r.pause = n, pause; return r }

// Gate waits, before the first byte, until ch is closed or receives.
func (r Reply) Gate(ch <-chan struct{}) Reply { r.gate = ch; return r }

// DropMidStream closes the connection in the middle of the content.
func (r Reply) DropMidStream() Reply { r.end = dropWithin; return r }

// HangMidStream sends half of the content and then nothing, until the client
// gives up or the [API] is closed.
func (r Reply) HangMidStream() Reply { r.end = hangWithin; return r }

// FailMidStream ends the stream with an error event in the middle of the content.
func (r Reply) FailMidStream() Reply { r.end = errorWithin; return r }

// Text returns the text of r, without thinking and tool calls.
func (r Reply) Text() string {
	var b strings.Builder
	for _, rb := range r.blocks {
		if rb.kind == "text" {
			b.WriteString(rb.text)
		}
	}
	return b.String()
}

var errCut = errors.New("cut by the script")

// write sends r. An error means that the connection must be cut.
func (r Reply) write(ctx context.Context, w http.ResponseWriter, req *Request) error {
	if len(r.faults) > 0 {
		r = Text("claudetest: [[fault:" + string(r.faults[0]) + "]]: only the stand-in can do that")
	}
	if err := pause(ctx, r.wait); err != nil {
		return err
	}
	if r.gate != nil {
		select {
		case <-r.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for k, v := range r.header {
		w.Header()[k] = v
	}
	w.Header().Set("request-id", fmt.Sprintf("req_%06d", req.Number))
	switch {
	case r.end == dropBefore:
		return errCut
	case r.end == hangBefore:
		<-ctx.Done()
		return ctx.Err()
	case r.status >= 300:
		return r.writeError(w)
	case req.Stream:
		return r.stream(ctx, w, req)
	}
	return r.writeWhole(w, req)
}

// errorTypes are the API's names for HTTP statuses; the others are "api_error".
var errorTypes = map[int]string{
	400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
	413: "request_too_large", 429: "rate_limit_error", 529: "overloaded_error",
}

// problem is what a refusal says.
func (r Reply) problem() (kind, msg string) {
	kind, msg = errorTypes[r.status], r.msg
	if kind == "" {
		kind = "api_error"
	}
	if msg == "" {
		if msg = http.StatusText(r.status); r.status == 529 {
			msg = "Overloaded"
		}
	}
	return kind, msg
}

func (r Reply) writeError(w http.ResponseWriter) error {
	kind, msg := r.problem()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(r.status)
	return json.NewEncoder(w).Encode(map[string]any{"type": "error", "error": map[string]string{"type": kind, "message": msg}})
}

// Tokens returns the token counts.
func (r Reply) Tokens() Usage {
	if r.usage != nil {
		return *r.usage
	}
	return DefaultUsage
}

func (r Reply) stopReason() string {
	for _, b := range r.blocks {
		if b.kind == "tool_use" {
			return "tool_use"
		}
	}
	return "end_turn"
}

// writeWhole sends the non-streaming form.
func (r Reply) writeWhole(w http.ResponseWriter, req *Request) error {
	blocks := []any{}
	for i, b := range r.blocks {
		switch b.kind {
		case "text":
			blocks = append(blocks, map[string]any{"type": "text", "text": b.text})
		case "thinking":
			blocks = append(blocks, map[string]any{"type": "thinking", "thinking": b.text, "signature": signature})
		case "tool_use":
			blocks = append(blocks, map[string]any{"type": "tool_use", "id": toolID(req, i), "name": b.name, "input": b.input})
		}
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(map[string]any{
		"id": messageID(req), "type": "message", "role": "assistant", "model": req.Model, "content": blocks,
		"stop_reason": r.stopReason(), "stop_sequence": nil, "usage": r.Tokens(),
	})
}

// signature stands for the API's proof of its own thinking.
const signature = "c2lnbmF0dXJl"

func messageID(r *Request) string         { return fmt.Sprintf("msg_%06d", r.Number) }
func toolID(r *Request, block int) string { return fmt.Sprintf("toolu_%06d_%d", r.Number, block) }

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
