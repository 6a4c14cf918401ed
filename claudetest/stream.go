package claudetest

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// defaultChunk is the size of a piece of text when the script names none.
const defaultChunk = 16 << 10

// sse writes server-sent events into one buffer, which goes out in one write
// when the script does not ask for pauses.
type sse struct {
	w   http.ResponseWriter
	f   *http.ResponseController
	buf []byte
}

func (s *sse) event(name string, payload ...string) {
	s.buf = append(s.buf, "event: "...)
	s.buf = append(s.buf, name...)
	s.buf = append(s.buf, "\ndata: {\"type\":\""...)
	s.buf = append(s.buf, name...)
	s.buf = append(s.buf, '"')
	for _, p := range payload {
		s.buf = append(s.buf, p...)
	}
	s.buf = append(s.buf, "}\n\n"...)
}

func (s *sse) flush() error {
	if _, err := s.w.Write(s.buf); err != nil {
		return err
	}
	s.buf = s.buf[:0]
	return s.f.Flush()
}

// stream sends r as server-sent events.
func (r Reply) stream(ctx context.Context, w http.ResponseWriter, req *Request) error {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	s := &sse{w: w, f: http.NewResponseController(w), buf: make([]byte, 0, 4096)}
	u := r.Tokens()
	s.event("message_start", `,"message":{"id":"`, messageID(req), `","type":"message","role":"assistant","model":`, quote(req.Model),
		`,"content":[],"stop_reason":null,"stop_sequence":null,"usage":`, mustJSON(Usage{Input: u.Input, Output: 1, CacheRead: u.CacheRead, CacheCreation: u.CacheCreation}), `}`)
	for i, b := range r.blocks {
		last := i == len(r.blocks)-1
		if err := r.block(ctx, s, req, i, b, last); err != nil {
			return err
		}
	}
	if len(r.blocks) == 0 && r.end != whole {
		if err := r.cut(ctx, s); err != nil {
			return err
		}
	}
	if r.end == errorWithin {
		s.event("error", `,"error":{"type":"api_error","message":"Internal server error"}`)
		return s.flush()
	}
	s.event("message_delta", `,"delta":{"stop_reason":"`, r.stopReason(), `","stop_sequence":null},"usage":`, mustJSON(u))
	s.event("message_stop")
	return s.flush()
}

// block sends one content block; the last one is where a script may cut.
func (r Reply) block(ctx context.Context, s *sse, req *Request, i int, b replyBlock, last bool) error {
	index := strconv.Itoa(i)
	var open, kind, field, body string
	switch b.kind {
	case "text":
		open, kind, field, body = `{"type":"text","text":""}`, "text_delta", "text", b.text
	case "thinking":
		open, kind, field, body = `{"type":"thinking","thinking":"","signature":""}`, "thinking_delta", "thinking", b.text
	case "tool_use":
		open = `{"type":"tool_use","id":"` + toolID(req, i) + `","name":` + quote(b.name) + `,"input":{}}`
		kind, field, body = "input_json_delta", "partial_json", string(b.input)
	}
	s.event("content_block_start", `,"index":`, index, `,"content_block":`, open)
	pieces := split(body, r.chunk)
	for n, p := range pieces {
		if n > 0 && r.pause > 0 {
			if err := s.flush(); err != nil {
				return err
			}
			if err := pause(ctx, r.pause); err != nil {
				return err
			}
		}
		if last && r.end != whole && n == len(pieces)/2 {
			// Half of a single piece, so that what was sent is never the whole.
			if half := p[:len(p)/2]; n == 0 && half != "" {
				s.event("content_block_delta", `,"index":`, index, `,"delta":{"type":"`, kind, `","`, field, `":`, quote(half), `}`)
			}
			return r.cut(ctx, s)
		}
		s.event("content_block_delta", `,"index":`, index, `,"delta":{"type":"`, kind, `","`, field, `":`, quote(p), `}`)
	}
	if b.kind == "thinking" {
		s.event("content_block_delta", `,"index":`, index, `,"delta":{"type":"signature_delta","signature":"`, signature, `"}`)
	}
	s.event("content_block_stop", `,"index":`, index)
	return nil
}

// cut ends the stream as the script asks. Nil means that an error event follows.
func (r Reply) cut(ctx context.Context, s *sse) error {
	if err := s.flush(); err != nil {
		return err
	}
	switch r.end {
	case dropWithin:
		// The bytes must reach the client before the connection goes.
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
		return errCut
	case hangWithin:
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

// split cuts s into pieces of n bytes at rune boundaries, or into words when n
// is negative. There is always at least one piece.
func split(s string, n int) []string {
	if n == 0 {
		n = defaultChunk
	}
	if n < 0 {
		return strings.SplitAfter(s, " ")
	}
	var out []string
	for len(s) > n {
		cut := n
		for cut > 0 && s[cut]&0xC0 == 0x80 {
			cut--
		}
		if cut == 0 {
			cut = n
		}
		out = append(out, s[:cut])
		s = s[cut:]
	}
	return append(out, s)
}

func quote(s string) string { return mustJSON(s) }

// mustJSON is for values that always marshal: strings and structs of numbers.
func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return strconv.Quote(err.Error())
	}
	return string(b)
}
