package claude

import (
	"cmp"
	"maps"
	"strings"
	"time"
	"unicode/utf8"
)

// maxContent bounds [ToolResult.Content].
const maxContent = 4 << 10

// told is what a turn has been told so far. It is used by one goroutine.
type told struct {
	id      string
	start   time.Time
	stopped bool // the caller wanted it to stop

	text       strings.Builder // streamed by the main thread
	firstToken time.Duration
	apiError   string // of the last synthetic message
	apiStatus  int
	denied     *Retry // a retry of a login that was refused
	rateLimit  *RateLimit
	session    string

	res     *finished
	dropped string // how the message ended without a result
	state   string // of the session, after the end of the message
	cost    Microdollars
}

// concluded reports whether the message has come to its end.
func (t *told) concluded() bool { return t.res != nil || t.dropped != "" }

// settled reports whether the process has also become idle.
func (t *told) settled() bool { return t.concluded() && t.state == "idle" }

// aborted reports whether the turn was cut short.
func (t *told) aborted() bool {
	return t.res == nil || t.res.wireResult.Subtype == "error_during_execution"
}

// unfinished says that there will be no result.
func (t *told) unfinished(cost Microdollars) { t.cost = cost }

// take takes one item and passes its events on. It reports whether the turn
// should be interrupted.
func (t *told) take(item any, emit func(Event)) (stop bool) {
	switch item := item.(type) {
	case Event:
		emit(item)
	case finished:
		t.res, t.state = &item, ""
	case noticed:
		return t.system(item, emit)
	case passed:
		t.line(item, emit)
	}
	return false
}

func (t *told) system(n noticed, emit func(Event)) (stop bool) {
	t.session = cmp.Or(n.SessionID, t.session)
	switch n.Subtype {
	case "session_state_changed":
		t.state = n.State
	case "init":
		if !t.concluded() {
			emit(Started{SessionID: n.SessionID, Model: n.Model, Mode: PermissionMode(n.PermissionMode)})
		}
	case "status":
		if n.Status == "requesting" {
			emit(Requesting{})
		}
	case "api_retry":
		r := Retry{Attempt: n.Attempt, Max: n.MaxRetries, Delay: milliseconds(n.RetryDelayMS), Status: n.ErrorStatus, Reason: n.Error}
		emit(r)
		if r.Status == 401 && !t.stopped {
			// The login will not come back by asking ten more times.
			t.denied = &r
			return true
		}
	case "model_fallback":
		emit(Fallback{From: n.OriginalModel, To: n.FallbackModel, Reason: n.Trigger})
	case "permission_denied":
		emit(Denied{ToolUseID: n.ToolUseID, Tool: n.ToolName, Reason: n.wireSystem.Message})
	case "compact_boundary":
		emit(Compacted{Trigger: n.Compact.Trigger})
	case "thinking_tokens":
		emit(ThinkingDelta{})
	}
	return false
}

func (t *told) line(p passed, emit func(Event)) {
	switch p.Type {
	case "stream_event":
		var s wireStream
		if decode(p.line, &s) == nil {
			t.stream(s, emit)
		}
	case "assistant":
		var m wireMessage
		if decode(p.line, &m) == nil {
			t.assistant(m, emit)
		}
	case "user":
		var m wireMessage
		if decode(p.line, &m) == nil {
			toolResults(m, emit)
		}
	case "tool_progress":
		var q wireProgress
		if decode(p.line, &q) == nil {
			emit(ToolProgress{ID: q.ToolUseID, Name: q.ToolName, Elapsed: time.Duration(q.Elapsed * float64(time.Second))})
		}
	case "rate_limit_event":
		var r wireRateLimit
		if decode(p.line, &r) == nil {
			l := r.limit()
			t.rateLimit = &l
			emit(l)
		}
	case "command_lifecycle":
		var l wireLifecycle
		if decode(p.line, &l) == nil && l.CommandUUID == t.id && t.res == nil {
			switch l.State {
			case "cancelled", "discarded", "refused":
				t.dropped = l.State
			}
		}
	}
}

func (t *told) stream(s wireStream, emit func(Event)) {
	e := &s.Event
	if e.Type == "content_block_start" && e.Block.Type == "text" && s.ParentToolUseID == "" && t.text.Len() > 0 {
		t.text.WriteString("\n\n")
	}
	if e.Type != "content_block_delta" {
		return
	}
	if t.firstToken == 0 {
		t.firstToken = time.Since(t.start)
	}
	switch e.Delta.Type {
	case "text_delta":
		if s.ParentToolUseID == "" {
			t.text.WriteString(e.Delta.Text)
		}
		emit(TextDelta{Text: e.Delta.Text, ParentToolUseID: s.ParentToolUseID})
	case "thinking_delta":
		emit(ThinkingDelta{Text: e.Delta.Thinking})
	}
}

func (t *told) assistant(m wireMessage, emit func(Event)) {
	if m.Error != "" && m.ParentToolUseID == "" {
		t.apiError, t.apiStatus = m.Error, m.APIErrorStatus
	}
	for _, b := range blocks(m.Message.Content) {
		if b.Type == "tool_use" {
			emit(ToolUse{ID: b.ID, Name: b.Name, Input: b.Input, ParentToolUseID: m.ParentToolUseID})
		}
	}
}

func toolResults(m wireMessage, emit func(Event)) {
	for _, b := range blocks(m.Message.Content) {
		if b.Type != "tool_result" {
			continue
		}
		var text strings.Builder
		for _, c := range blocks(b.Content) {
			text.WriteString(c.Text)
		}
		emit(ToolResult{ID: b.ToolUseID, Content: clip(text.String(), maxContent), IsError: b.IsError})
	}
}

// clip cuts s to at most n bytes, between two characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

func (w *wireRateLimit) limit() RateLimit {
	i := &w.Info
	l := RateLimit{Status: i.Status, Kind: i.Kind, Utilization: i.Utilization, Overage: i.Overage}
	if l.Utilization == 0 {
		l.Utilization = i.Windows[i.Kind].Utilization
	}
	if i.ResetsAt > 0 {
		l.ResetsAt = time.Unix(i.ResetsAt, 0)
	}
	return l
}

// result makes the Result of what the turn was told.
func (t *turn) result() Result {
	o := &t.told
	r := Result{
		ID: t.id, SessionID: o.session, Text: o.text.String(), RateLimit: o.rateLimit,
		FirstToken: o.firstToken, Duration: time.Since(t.start), Cost: o.cost,
	}
	interrupted := o.stopped || isClosed(t.stop) && o.denied == nil
	if o.res == nil {
		// Nothing but an interrupt cancels a message in the queue.
		r.Interrupted, r.IsError, r.TerminalReason = interrupted, true, o.dropped
		return r
	}
	w := &o.res.wireResult
	r.SessionID = cmp.Or(w.SessionID, r.SessionID)
	r.Subtype, r.IsError, r.TerminalReason, r.StopReason = w.Subtype, w.IsError, w.TerminalReason, w.StopReason
	r.Errors, r.LocalCommand, r.Structured = w.Errors, w.LocalCommand, w.Structured
	r.Interrupted = interrupted && w.IsError && w.Subtype == "error_during_execution"
	r.Turns, r.Duration, r.APIDuration = w.NumTurns, milliseconds(w.DurationMS), o.res.api
	r.Cost, r.Models = o.res.cost, maps.Clone(o.res.models)
	if w.Subtype == "success" {
		r.Text = w.Result
	}
	if w.IsError {
		r.APIError, r.APIStatus = o.apiError, cmp.Or(w.APIErrorStatus, o.apiStatus)
	}
	if o.denied != nil && w.IsError {
		r.APIError, r.APIStatus = "authentication_failed", o.denied.Status
	}
	for _, d := range w.Denials {
		r.Denials = append(r.Denials, Denial{Tool: d.ToolName, ToolUseID: d.ToolUseID, Input: d.ToolInput})
	}
	if string(r.Structured) == "null" {
		r.Structured = nil
	}
	return r
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
