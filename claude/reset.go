package claude

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// outliving are tools whose work goes on after a turn, where the CLI neither
// lists nor stops it: a process that offers one cannot be proven clean.
var outliving = []string{"CronCreate", "Monitor", "RemoteTrigger", "ScheduleWakeup", "SendMessage", "Workflow"}

// strayTime is how long commands of the turn before may take to vanish.
const strayTime = 500 * time.Millisecond

// Reset makes the process as if it had just been started with these settings,
// and proves it: a new session with no cost, no task in the background, no
// other process of its tree, the settings, rules and MCP servers as wanted.
// MCP servers that are commands are started anew.
//
// What cannot be proven is a [*ResetError]: close the process and take another.
// A CLI that cannot be proven clean at all ([Capabilities.WarmReuse]) gives a
// [*VersionError], bad settings an [*OptionError]; then nothing was done.
//
// Files are not touched, nor what they hold: a process works where it was
// started.
func (p *Process) Reset(ctx context.Context, s Settings) error {
	o := p.opts.Load()
	if !p.caps.WarmReuse {
		return &VersionError{Path: p.caps.Path, Found: p.caps.Version, Need: floorReuse, For: "a proven reset"}
	}
	if err := s.validate(o.AllowBypass); err != nil {
		return err
	}
	if err := p.acquire(); err != nil {
		return err
	}
	defer p.release()
	for _, t := range o.tools() {
		if slices.Contains(outliving, t) {
			return &ResetError{Reason: "the tool " + t + " may have left work behind"}
		}
	}
	_, strangers := p.Unsolicited()
	if err := p.reset(ctx, s); err != nil {
		var reset *ResetError
		if errors.As(err, &reset) {
			return err
		}
		return &ResetError{Reason: "a step failed", Err: err}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resets++
	p.clean, p.strangers = true, strangers
	return nil
}

func (p *Process) reset(ctx context.Context, s Settings) error {
	if err := p.stopTasks(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	before, commands := p.session, hasCommands(p.live.MCPServers)
	farewell := p.farewell || takesLeave(p.mode) && p.mode != s.mode()
	stuck := p.stuck
	p.mu.Unlock()
	if stuck {
		return &ResetError{Reason: "it did not become idle after the last turn"}
	}

	// Everything is sent at once, the settings first: what the CLI tells of
	// itself at the start of the new session then proves the mode. Commands
	// that serve MCP are left out at first, so that what then still runs in the
	// tree is a stray.
	first := s
	if commands || hasCommands(s.MCPServers) {
		first.MCPServers = withoutCommands(s.MCPServers)
	}
	q, err := p.postSettings(ctx, first)
	if err != nil {
		return err
	}
	if farewell {
		// The old conversation gets the note about the mode that has ended, not the new one.
		no := false
		if _, err := p.exchange(ctx, userMessage{Message: userContent{Content: "."}, ShouldQuery: &no}); err != nil {
			return err
		}
		p.mu.Lock()
		p.farewell = false
		p.mu.Unlock()
	}
	r, err := p.exchange(ctx, userMessage{Message: userContent{Content: "/clear"}})
	if err != nil {
		return err
	}
	if err := p.checkCleared(r, before, s.mode()); err != nil {
		return err
	}
	if err := p.awaitSettings(ctx, q); err != nil {
		return err
	}
	if err := p.checkInherited(ctx, s); err != nil {
		return err
	}
	if err := p.awaitNoStrays(ctx); err != nil {
		return err
	}
	if len(first.MCPServers) != len(s.MCPServers) {
		return p.put(ctx, s)
	}
	return nil
}

// exchange sends a message and waits for its result.
func (p *Process) exchange(ctx context.Context, m userMessage) (Result, error) {
	t := p.newTurn(newUUID())
	m.Type, m.UUID, m.Message.Role = "user", t.id, "user"
	line, err := encode(m)
	if err != nil {
		return Result{}, err
	}
	err = p.converse(ctx, t, line, func(Event) {})
	return t.result(), err
}

// stopTasks ends what runs in the background.
func (p *Process) stopTasks(ctx context.Context) error {
	p.mu.Lock()
	tasks := p.tasks
	p.mu.Unlock()
	if len(tasks) == 0 {
		return nil
	}
	watch := p.newTurn(newUUID()) // to be woken by what the CLI says
	defer watch.close()
	for _, t := range tasks {
		if _, err := p.request(ctx, "stop_task", map[string]any{"subtype": "stop_task", "task_id": t.ID}); err != nil {
			return &ResetError{Reason: fmt.Sprintf("background task %s (%s) does not stop", t.ID, t.Description), Err: err}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, p.opts.Load().grace())
	defer cancel()
	for {
		p.mu.Lock()
		tasks = p.tasks
		p.mu.Unlock()
		if len(tasks) == 0 {
			return nil
		}
		select {
		case <-watch.mail.wake:
		case <-ctx.Done():
			return &ResetError{Reason: fmt.Sprintf("background task %s (%s) is still there", tasks[0].ID, tasks[0].Description)}
		case <-p.ended:
			return p.Err()
		}
	}
}

// checkCleared proves the new conversation.
func (p *Process) checkCleared(r Result, before string, mode PermissionMode) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case r.LocalCommand != "clear" || r.IsError:
		return &ResetError{Reason: fmt.Sprintf("/clear was not carried out: %s", strings.Join(append(r.Errors, r.Text, r.TerminalReason), " "))}
	case r.SessionID == "" || r.SessionID == before:
		return &ResetError{Reason: "the session is still " + before}
	case r.SessionID != p.session:
		return &ResetError{Reason: fmt.Sprintf("the session is %s, not the new one %s", p.session, r.SessionID)}
	case p.meter.total != 0:
		return &ResetError{Reason: fmt.Sprintf("the cost is %v, not zero", p.meter.total)}
	case len(p.tasks) > 0:
		return &ResetError{Reason: fmt.Sprintf("background task %s (%s) is still there", p.tasks[0].ID, p.tasks[0].Description)}
	case !p.idle:
		return &ResetError{Reason: "it did not become idle"}
	case p.mode != mode:
		return &ResetError{Reason: fmt.Sprintf("the PermissionMode is %q, not %q", p.mode, mode)}
	}
	return nil
}

// checkInherited refuses MCP servers of the person's own that are commands:
// they live on, and cannot be told from strays.
func (p *Process) checkInherited(ctx context.Context, s Settings) error {
	if !p.opts.Load().InheritMCP {
		return nil
	}
	answer, err := p.request(ctx, "mcp_status", map[string]any{"subtype": "mcp_status"})
	if err != nil {
		return err
	}
	servers, err := readStatus(answer)
	if err != nil {
		return err
	}
	for name, w := range servers {
		if s.MCPServers[name] == nil && (w.Transport == "stdio" || w.Config.Type == "stdio") {
			return &ResetError{Reason: "the inherited MCP server " + name + " cannot be started anew"}
		}
	}
	return nil
}

// awaitNoStrays proves that nothing else runs in the tree.
func (p *Process) awaitNoStrays(ctx context.Context) error {
	deadline := time.Now().Add(strayTime)
	for pause := time.Millisecond; ; pause *= 2 {
		strays, err := p.Strays()
		if err != nil {
			return &ResetError{Reason: "its processes cannot be listed", Err: err}
		}
		if len(strays) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return &ResetError{Reason: "still running in its tree: " + strings.Join(strays, ", ")}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func hasCommands(servers map[string]MCPServer) bool {
	for _, s := range servers {
		if isCommand(s) {
			return true
		}
	}
	return false
}

func withoutCommands(servers map[string]MCPServer) map[string]MCPServer {
	rest := map[string]MCPServer{}
	for name, s := range servers {
		if !isCommand(s) {
			rest[name] = s
		}
	}
	return rest
}
