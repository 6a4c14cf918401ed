package claude

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// rpc is what this package reads of a JSON-RPC message.
type rpc struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		RequestID json.RawMessage `json:"requestId"`
	} `json:"params"`
}

// mcpAnswer carries a JSON-RPC message in the answer to mcp_message.
type mcpAnswer struct {
	Response json.RawMessage `json:"mcp_response"`
}

// acknowledged answers a notification: the CLI wants some answer.
var acknowledged = json.RawMessage(`{"jsonrpc":"2.0","result":{}}`)

// serveMCP hands a message of the CLI to the server in this program.
func (p *Process) serveMCP(ctx context.Context, request json.RawMessage) (mcpAnswer, error) {
	var w wireMCP
	if err := decode(request, &w); err != nil {
		return mcpAnswer{}, err
	}
	h := p.opts.Load().Servers[w.ServerName]
	if h == nil {
		return mcpAnswer{}, fmt.Errorf("there is no server %q", w.ServerName)
	}
	var m rpc
	if err := decode(w.Message, &m); err != nil {
		return mcpAnswer{}, fmt.Errorf("the message is no JSON-RPC: %w", err)
	}
	if m.ID != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		key := w.ServerName + "\x00" + string(m.ID)
		p.mu.Lock()
		p.remote[key] = cancel
		p.mu.Unlock()
		defer func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			delete(p.remote, key)
		}()
	}
	if m.Method == "notifications/cancelled" {
		p.mu.Lock()
		cancel := p.remote[w.ServerName+"\x00"+string(m.Params.RequestID)]
		p.mu.Unlock()
		if cancel != nil {
			cancel()
		}
	}
	answer, err := h.HandleMCP(ctx, w.Message)
	if err != nil {
		return mcpAnswer{}, fmt.Errorf("server %s: %w", w.ServerName, err)
	}
	switch {
	case answer != nil && !json.Valid(answer):
		return mcpAnswer{}, fmt.Errorf("server %s: its answer is no JSON", w.ServerName)
	case answer != nil:
		return mcpAnswer{answer}, nil
	case m.ID == nil:
		return mcpAnswer{acknowledged}, nil
	}
	return mcpAnswer{}, fmt.Errorf("server %s: it gave no answer to %s", w.ServerName, m.Method)
}

// SendMCP sends a JSON-RPC message of the server with this name to the CLI,
// such as notifications/tools/list_changed.
func (p *Process) SendMCP(ctx context.Context, server string, message json.RawMessage) error {
	if p.opts.Load().Servers[server] == nil {
		return &OptionError{Field: "Servers", Reason: fmt.Sprintf("there is no server %q", server)}
	}
	if !json.Valid(message) {
		return errors.New("claude: the message is no JSON")
	}
	_, err := p.request(ctx, "mcp_message", map[string]any{"subtype": "mcp_message", "server_name": server, "message": message})
	return err
}
