package claude_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/claudepool/claudepool/claude"
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

// mcpCommand is a configuration that starts this test program as an MCP server,
// and a count of how often that happened.
func mcpCommand(t *testing.T) (claude.MCPServer, func() int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(t.TempDir(), "starts")
	config, err := json.Marshal(map[string]any{"command": self, "env": map[string]string{envMCP: log}})
	if err != nil {
		t.Fatal(err)
	}
	return config, func() int {
		b, err := os.ReadFile(log)
		if err != nil {
			t.Error(err)
		}
		return bytes.Count(b, []byte("start\n"))
	}
}

const envMCP = "CLAUDE_TEST_MCP"

// serveMCP turns this program into an MCP server with the tool ping, if it was
// started as one.
func serveMCP() {
	log := os.Getenv(envMCP)
	if log == "" {
		return
	}
	f, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString("start\n")
	}
	if err != nil {
		panic(err)
	}
	in := json.NewDecoder(os.Stdin)
	for {
		var m struct {
			ID     json.RawMessage
			Method string
			Params struct{ ProtocolVersion string }
		}
		if in.Decode(&m) != nil {
			os.Exit(0)
		}
		result := `{"content":[{"type":"text","text":"pong"}]}`
		switch m.Method {
		case "initialize":
			result = fmt.Sprintf(`{"protocolVersion":%q,"capabilities":{"tools":{}},"serverInfo":{"name":"own","version":"1"}}`, m.Params.ProtocolVersion)
		case "tools/list":
			result = `{"tools":[{"name":"ping","inputSchema":{"type":"object"}}]}`
		}
		if m.ID != nil {
			fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":%s}`+"\n", m.ID, result)
		}
	}
}
