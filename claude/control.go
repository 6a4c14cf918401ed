package claude

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strconv"
)

// call is a control request on its way.
type call struct {
	name, id string
	answer   chan controlEnvelope // room for one
}

// post sends a control request and does not wait for the answer, so that
// several can be under way. Whoever posts must await, or drop.
func (p *Process) post(ctx context.Context, name string, request any) (*call, error) {
	p.mu.Lock()
	p.nextID++
	c := &call{name: name, id: "h" + strconv.Itoa(p.nextID), answer: make(chan controlEnvelope, 1)}
	p.calls[c.id] = c
	p.mu.Unlock()
	line, err := encode(controlRequest{Type: "control_request", RequestID: c.id, Request: request})
	if err == nil {
		err = p.send(ctx.Done(), line)
	}
	if err != nil {
		p.drop(c)
		if errors.Is(err, errNotSent) {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	return c, nil
}

func (p *Process) drop(c *call) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.calls, c.id)
}

// await waits for the answer. The error is a [*ControlError] when the CLI
// refused.
func (p *Process) await(ctx context.Context, c *call) (json.RawMessage, error) {
	defer p.drop(c)
	var e controlEnvelope
	select {
	case e = <-c.answer:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-p.ended:
		select {
		case e = <-c.answer:
		default:
			return nil, p.Err()
		}
	}
	if e.Subtype != "success" {
		return nil, &ControlError{Request: c.name, Code: e.ErrorCode, Message: p.secrets.Load().text(e.Error)}
	}
	return e.Response, nil
}

func (p *Process) request(ctx context.Context, name string, request any) (json.RawMessage, error) {
	c, err := p.post(ctx, name, request)
	if err != nil {
		return nil, err
	}
	return p.await(ctx, c)
}

// receive takes one line of the process and reports whether it was a message.
func (p *Process) receive(line []byte) bool {
	if len(bytes.TrimSpace(line)) == 0 {
		return true
	}
	var h header
	if err := decode(line, &h); err != nil {
		p.log.Warn("claude: a line of the process is no JSON; it is left out", "bytes", len(line), "err", err)
		return false
	}
	switch h.Type {
	case "control_response":
		p.answered(line)
	case "control_request":
		p.asked(line)
	case "control_cancel_request":
		p.withdrawn(line)
	default:
		p.happened(h, line)
	}
	return true
}

func (p *Process) answered(line []byte) {
	var r controlResponse
	if err := decode(line, &r); err != nil {
		return
	}
	p.mu.Lock()
	c := p.calls[r.Response.RequestID]
	delete(p.calls, r.Response.RequestID)
	p.mu.Unlock()
	if c != nil {
		c.answer <- r.Response // the only answer: the call is no longer known
	}
}

// asked serves a request of the CLI, each in a goroutine of its own: one that
// takes its time must not hold up the others.
func (p *Process) asked(line []byte) {
	var r wireControlRequest
	if err := decode(line, &r); err != nil {
		return
	}
	var sub struct {
		Subtype string `json:"subtype"`
	}
	if err := decode(r.Request, &sub); err != nil {
		sub.Subtype = "" // refused below, by its empty name
	}
	p.mu.Lock()
	ctx := p.life
	t := p.turn
	if t != nil && sub.Subtype == "can_use_tool" {
		ctx = t.asks
	}
	ctx, cancel := context.WithCancel(ctx)
	p.serving[r.RequestID] = cancel
	p.mu.Unlock()
	p.work.Go(func() {
		defer cancel()
		p.reply(r.RequestID, p.serve(ctx, t, sub.Subtype, r.Request))
	})
}

// serve makes the answer to a request of the CLI.
func (p *Process) serve(ctx context.Context, t *turn, subtype string, request json.RawMessage) controlEnvelope {
	var answer any
	var err error
	switch subtype {
	case "can_use_tool":
		answer, err = p.permit(ctx, t, request)
	case "mcp_message":
		answer, err = p.serveMCP(ctx, request)
	case "elicitation":
		answer = map[string]string{"action": "decline"}
	default:
		err = errors.New("unsupported request " + strconv.Quote(subtype))
	}
	if err != nil {
		return controlEnvelope{Subtype: "error", Error: err.Error()}
	}
	raw, err := json.Marshal(answer)
	if err != nil {
		return controlEnvelope{Subtype: "error", Error: err.Error()}
	}
	return controlEnvelope{Subtype: "success", Response: raw}
}

// reply answers a request of the CLI, unless it was withdrawn.
func (p *Process) reply(id string, e controlEnvelope) {
	p.mu.Lock()
	_, open := p.serving[id]
	delete(p.serving, id)
	p.mu.Unlock()
	if !open {
		return
	}
	e.RequestID = id
	line, err := encode(controlResponse{Type: "control_response", Response: e})
	if err != nil {
		p.log.Error("claude: answer a request of the process", "err", err)
		return
	}
	// The only failure is the end of the process: then nobody waits.
	_ = p.send(nil, line)
}

// withdrawn ends the request that the CLI no longer wants answered.
func (p *Process) withdrawn(line []byte) {
	var r wireControlRequest
	if err := decode(line, &r); err != nil {
		return
	}
	p.mu.Lock()
	cancel := p.serving[r.RequestID]
	delete(p.serving, r.RequestID)
	p.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// happened takes everything that is not control: it keeps the state of the
// process, and passes on what belongs to the turn.
func (p *Process) happened(h header, line []byte) {
	switch h.Type {
	case "result":
		p.concluded(line)
		return
	case "system":
		p.told(h, line)
		return
	case "command_lifecycle", "stream_event", "assistant", "user", "tool_progress", "rate_limit_event":
	default:
		return // unknown types are to be left alone
	}
	var l wireLifecycle
	if h.Type == "command_lifecycle" && decode(line, &l) != nil {
		return
	}
	p.mu.Lock()
	t := p.turn
	if t != nil && l.CommandUUID == t.id && l.State == "started" {
		t.begun = true
	}
	p.sessionIs(h.SessionID)
	p.mu.Unlock()
	if t != nil {
		t.mail.put(passed{h, bytes.Clone(line)})
	}
}

// told takes a line of the type "system".
func (p *Process) told(h header, line []byte) {
	var s wireSystem
	if err := decode(line, &s); err != nil {
		return
	}
	p.mu.Lock()
	t := p.turn
	p.sessionIs(h.SessionID)
	switch h.Subtype {
	case "session_state_changed":
		p.idle = s.State == "idle"
		if p.idle {
			p.stuck = false
		}
	case "background_tasks_changed":
		p.tasks = s.Tasks
	case "init", "status":
		p.modeIs(PermissionMode(s.PermissionMode))
	}
	p.mu.Unlock()
	if t != nil {
		t.mail.put(noticed{h, s})
	}
}

// concluded takes a result: it is the turn's, or nobody's.
func (p *Process) concluded(line []byte) {
	var r wireResult
	if err := decode(line, &r); err != nil {
		return
	}
	p.mu.Lock()
	t := p.turn
	p.sessionIs(r.SessionID)
	spent := p.meter.result(&r)
	mine := t != nil && (r.answers(t.id) || !p.caps.echoesAlways && t.begun && r.anonymous())
	if mine && t.answered {
		mine = false // a second result for the same message is nobody's
	}
	if mine {
		t.answered = true
	} else {
		p.meter.strayCost += spent.cost
		p.meter.strayCount++
		if t != nil && !t.begun {
			t.disturbed = true // it ran before t, in the same conversation
		}
	}
	p.mu.Unlock()
	if mine {
		t.mail.put(finished{r, spent})
	}
}

// modeIs notes the mode that the CLI tells of. The caller holds mu.
func (p *Process) modeIs(m PermissionMode) {
	if m == "" || m == p.mode {
		return
	}
	p.farewell = p.farewell || takesLeave(p.mode)
	p.mode = m
}

// takesLeave reports whether the CLI tells the model, in the next prompt, that
// this mode has ended.
func takesLeave(m PermissionMode) bool { return m == PermissionPlan || m == PermissionAuto }

// sessionIs notes the session of a line. The caller holds mu.
func (p *Process) sessionIs(id string) {
	if id != "" {
		p.session = id
	}
}
