package claude_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// adder is an MCP server with one tool, add. Two negative numbers block it
// until the call is cancelled.
type adder struct {
	slow      time.Duration // before the answer to initialize
	mu        sync.Mutex
	seen      []string
	cancelled int
}

func (a *adder) methods() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.seen...)
}

func (a *adder) HandleMCP(ctx context.Context, message json.RawMessage) (json.RawMessage, error) {
	var m struct {
		ID     json.RawMessage
		Method string
		Params struct {
			ProtocolVersion string
			Arguments       struct{ A, B int }
		}
	}
	if err := json.Unmarshal(message, &m); err != nil {
		return nil, err
	}
	a.mu.Lock()
	a.seen = append(a.seen, m.Method)
	a.mu.Unlock()
	var result string
	switch m.Method {
	case "initialize":
		time.Sleep(a.slow)
		result = fmt.Sprintf(`{"protocolVersion":%q,"capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"host","version":"1"}}`, m.Params.ProtocolVersion)
	case "tools/list":
		result = `{"tools":[{"name":"add","description":"Add two numbers","inputSchema":{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}}}}]}`
	case "tools/call":
		x, y := m.Params.Arguments.A, m.Params.Arguments.B
		if x < 0 && y < 0 {
			<-ctx.Done()
			a.mu.Lock()
			a.cancelled++
			a.mu.Unlock()
			return nil, context.Cause(ctx)
		}
		result = fmt.Sprintf(`{"content":[{"type":"text","text":"%d"}]}`, x+y)
	default:
		return nil, nil
	}
	return json.RawMessage(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result)), nil
}
