package claudetest

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
)

// mcpServer is a server of the host's, or one that only has a name: the
// stand-in starts no programs, and shows those as connected without tools.
type mcpServer struct {
	name   string
	config json.RawMessage
	sdk    bool
	status string
	info   json.RawMessage
	tools  []string // guarded by standIn.mu
	ready  chan struct{}
	nextID int // guarded by standIn.mu
}

func sdkServer(name string) json.RawMessage { return encode(obj{"type": "sdk", "name": name}) }

// addServer registers a server and, when the host serves it, starts the
// handshake in the background.
func (s *standIn) addServer(name string, config json.RawMessage) {
	var c struct {
		Type string `json:"type"`
	}
	m := &mcpServer{name: name, config: config, status: "connected", ready: make(chan struct{})}
	if json.Unmarshal(config, &c) != nil {
		m.status = "failed"
	}
	m.sdk = c.Type == "sdk"
	s.mu.Lock()
	s.mcp[name] = m
	if m.sdk {
		m.status = "pending"
	}
	s.mu.Unlock()
	if !m.sdk {
		close(m.ready)
		return
	}
	// The CLI asks before it answers what made it ask.
	hello := s.call(m, "initialize", obj{"protocolVersion": "2025-11-25", "capabilities": obj{}, "clientInfo": obj{"name": "claude-code", "version": s.version}})
	go func() { // ends with the host's answers, or with the process
		defer close(m.ready)
		s.handshake(m, hello)
	}()
}

func (s *standIn) handshake(m *mcpServer, hello question) {
	// The CLI gives each step this long, and goes on without the server then.
	ctx, cancel := context.WithTimeout(s.ctx, 2*time.Duration(envNumber("MCP_TIMEOUT", 30_000))*time.Millisecond)
	defer cancel()
	info, err := s.returned(ctx, hello)
	status := "connected"
	if err != "" {
		status = "failed"
	}
	var i struct {
		ServerInfo json.RawMessage `json:"serverInfo"`
	}
	if json.Unmarshal(info, &i) != nil {
		status = "failed"
	}
	s.mu.Lock()
	m.status, m.info = status, i.ServerInfo
	s.mu.Unlock()
	if status == "failed" {
		return
	}
	s.await(ctx.Done(), s.notify(m, "notifications/initialized", nil))
	s.listTools(ctx, m)
}

func (s *standIn) listTools(ctx context.Context, m *mcpServer) {
	list, err := s.rpc(ctx, m, "tools/list", nil)
	var l struct {
		Tools []struct {
			Name string `json:"name"`
		} `json:"tools"`
	}
	if err != "" || json.Unmarshal(list, &l) != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m.tools = nil
	for _, t := range l.Tools {
		m.tools = append(m.tools, t.Name)
	}
}

// mcpFromHost handles a message that the host's server sends by itself.
func (s *standIn) mcpFromHost(name string, message json.RawMessage) {
	var n struct {
		Method string `json:"method"`
	}
	s.mu.Lock()
	m := s.mcp[name]
	s.mu.Unlock()
	if m != nil && m.sdk && json.Unmarshal(message, &n) == nil && n.Method == "notifications/tools/list_changed" {
		go s.listTools(s.ctx, m) // ends with the host's answer, or with the process
	}
}

// rpc calls the host's server. The second value is what went wrong, or empty.
func (s *standIn) rpc(ctx context.Context, m *mcpServer, method string, params any) (json.RawMessage, string) {
	return s.returned(ctx, s.call(m, method, params))
}

// call sends the call of a method.
func (s *standIn) call(m *mcpServer, method string, params any) question {
	q := s.rpcQuestion(m, method, params)
	s.pose(q)
	return q
}

// rpcQuestion is the call of a method, yet to be sent.
func (s *standIn) rpcQuestion(m *mcpServer, method string, params any) question {
	s.mu.Lock()
	id := m.nextID
	m.nextID++
	s.mu.Unlock()
	msg := obj{"jsonrpc": "2.0", "id": id, "method": method}
	if params != nil {
		msg["params"] = params
	}
	q := s.question(obj{"subtype": "mcp_message", "server_name": m.name, "message": msg})
	q.rpc = id
	return q
}

func (s *standIn) notify(m *mcpServer, method string, params any) question {
	msg := obj{"jsonrpc": "2.0", "method": method}
	if params != nil {
		msg["params"] = params
	}
	q := s.question(obj{"subtype": "mcp_message", "server_name": m.name, "message": msg})
	s.pose(q)
	return q
}

func (s *standIn) returned(ctx context.Context, q question) (json.RawMessage, string) {
	a, ok := s.await(ctx.Done(), q)
	switch {
	case !ok:
		return nil, "cancelled"
	case a.err != "":
		return nil, a.err
	}
	var r struct {
		Response struct {
			Result json.RawMessage `json:"result"`
			Error  *struct {
				Message string `json:"message"`
			} `json:"error"`
		} `json:"mcp_response"`
	}
	if err := json.Unmarshal(a.body, &r); err != nil {
		return nil, err.Error()
	}
	if r.Response.Error != nil {
		return nil, r.Response.Error.Message
	}
	return r.Response.Result, ""
}

// callMCP calls mcp__server__tool.
func (s *standIn) callMCP(ctx context.Context, c call) output {
	server, tool, _ := strings.Cut(strings.TrimPrefix(c.tool, "mcp__"), "__")
	s.mu.Lock()
	m := s.mcp[server]
	s.mu.Unlock()
	if m == nil {
		return failed("MCP server %q is not connected", server)
	}
	q := s.rpcQuestion(m, "tools/call", obj{"name": tool, "arguments": c.input, "_meta": obj{"claudecode/toolUseId": c.id}})
	s.pending(q, func() { s.notify(m, "notifications/cancelled", obj{"requestId": q.rpc, "reason": "interrupted"}) })
	s.pose(q)
	result, wrong := s.returned(ctx, q)
	if ctx.Err() != nil {
		s.withdraw()
	}
	s.pending(q, nil)
	if wrong != "" {
		return failed("%s", wrong)
	}
	var r struct {
		Content content `json:"content"`
		IsError bool    `json:"isError"`
	}
	if err := json.Unmarshal(result, &r); err != nil {
		return failed("MCP server %q answered %v", server, err)
	}
	text := joinText(r.Content, "\n")
	if r.IsError {
		return failed("%s", text)
	}
	blocks := []obj{}
	for _, b := range r.Content {
		blocks = append(blocks, b.wire())
	}
	return output{text: text, host: blocks, content: blocks}
}

// setServers declares the whole set of servers.
func (s *standIn) setServers(servers map[string]json.RawMessage) any {
	added, removed := []string{}, []string{}
	s.mu.Lock()
	if !s.faults.has(FaultDeaf) {
		for name := range s.mcp {
			if servers[name] == nil {
				removed = append(removed, name)
				delete(s.mcp, name)
			}
		}
		for name := range servers {
			if s.mcp[name] == nil {
				added = append(added, name)
			}
		}
	}
	s.mu.Unlock()
	slices.Sort(added)
	slices.Sort(removed)
	for _, name := range added {
		s.addServer(name, servers[name])
	}
	return obj{"added": added, "removed": removed, "errors": obj{}}
}

// sortedServers, serverList and serverStatus need mu.

func (s *standIn) sortedServers() []*mcpServer {
	return slices.SortedFunc(maps.Values(s.mcp), func(a, b *mcpServer) int { return strings.Compare(a.name, b.name) })
}

func (s *standIn) serverList() []obj {
	out := []obj{}
	for _, m := range s.sortedServers() {
		out = append(out, obj{"name": m.name, "status": m.status, "source": m.source()})
	}
	return out
}

func (s *standIn) serverStatus() []obj {
	out := []obj{}
	for _, m := range s.sortedServers() {
		tools := []obj{}
		for _, t := range m.tools {
			tools = append(tools, obj{"name": t})
		}
		out = append(out, obj{"name": m.name, "status": m.status, "source": m.source(), "transport": m.source(), "scope": "dynamic", "serverInfo": m.info, "tools": tools})
	}
	return out
}

func (m *mcpServer) source() string {
	if m.sdk {
		return "sdk"
	}
	return "dynamic"
}

// settleServers waits for handshakes that are under way, as the first turn does.
func (s *standIn) settleServers(ctx context.Context) {
	s.mu.Lock()
	all := s.sortedServers()
	s.mu.Unlock()
	for _, m := range all {
		select {
		case <-m.ready:
		case <-ctx.Done():
			return
		}
	}
}
