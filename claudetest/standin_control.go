package claudetest

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// line handles one line of the host. An error ends the process with it.
func (s *standIn) line(b []byte) error {
	if len(strings.TrimSpace(string(b))) == 0 {
		return nil
	}
	var kind struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(b, &kind); err != nil {
		if _, array := err.(*json.UnmarshalTypeError); array {
			return nil
		}
		return fmt.Errorf("Error parsing streaming input line (type=unknown, %d chars): SyntaxError: %w", len(b), err)
	}
	switch kind.Type {
	case "user":
		return s.user(b)
	case "control_request":
		return s.control(b)
	case "control_response":
		s.answered(b)
	}
	return nil
}

func (s *standIn) user(b []byte) error {
	var in struct {
		UUID        string      `json:"uuid"`
		Message     wireMessage `json:"message"`
		ShouldQuery *bool       `json:"shouldQuery"`
		Verbatim    bool        `json:"client_composed"`
	}
	if err := json.Unmarshal(b, &in); err != nil {
		return fmt.Errorf("Error parsing streaming input line (type=user, %d chars): %w", len(b), err)
	}
	if in.Message.Role != "user" {
		return fmt.Errorf("Error: Expected message role 'user', got '%s'", in.Message.Role)
	}
	m := &userMessage{uuid: in.UUID, text: joinText(in.Message.Content, "\n"), silent: in.ShouldQuery != nil && !*in.ShouldQuery}
	if !in.Verbatim && strings.HasPrefix(m.text, "/") {
		m.command, _, _ = strings.Cut(m.text[1:], " ")
	}
	s.mu.Lock()
	parked := s.parked
	s.mu.Unlock()
	if parked {
		s.out.emit(obj{"type": "result", "subtype": "error_during_execution", "is_error": true, "num_turns": 0, "total_cost_usd": 0,
			"errors": []string{"not_claimed: this process is a spare waiting for claim_session"}})
		return nil
	}
	s.enqueue(m)
	return nil
}

func (s *standIn) answered(b []byte) {
	var in struct {
		Response struct {
			Subtype   string          `json:"subtype"`
			RequestID string          `json:"request_id"`
			Response  json.RawMessage `json:"response"`
			Error     string          `json:"error"`
		} `json:"response"`
	}
	if json.Unmarshal(b, &in) != nil {
		return // as the CLI does with an answer it cannot read
	}
	s.mu.Lock()
	ch := s.asks[in.Response.RequestID]
	delete(s.asks, in.Response.RequestID)
	s.mu.Unlock()
	if ch != nil {
		a := hostAnswer{body: in.Response.Response}
		if in.Response.Subtype == "error" {
			a.err = in.Response.Error
			if a.err == "" {
				a.err = "unknown error"
			}
		}
		ch <- a
	}
}

// controlRequest has the fields of all requests the stand-in knows.
type controlRequest struct {
	Subtype      string                     `json:"subtype"`
	Model        *string                    `json:"model"`
	Mode         string                     `json:"mode"`
	Settings     map[string]json.RawMessage `json:"settings"`
	Servers      map[string]json.RawMessage `json:"servers"`
	TaskID       string                     `json:"task_id"`
	MessageUUID  string                     `json:"message_uuid"`
	CancelQueued bool                       `json:"cancel_queued"`
	ForMessages  []string                   `json:"for_user_message_uuids"`
	Thinking     *int                       `json:"max_thinking_tokens"`

	SDKServers         []string        `json:"sdkMcpServers"`
	SystemPrompt       []string        `json:"systemPrompt"`
	AppendSystemPrompt string          `json:"appendSystemPrompt"`
	JSONSchema         json.RawMessage `json:"jsonSchema"`

	CWD                string            `json:"cwd"`
	PermissionMode     string            `json:"permission_mode"`
	ClaimSystemPrompt  []string          `json:"system_prompt"`
	ClaimAppend        string            `json:"append_system_prompt"`
	AdditionalDirs     []string          `json:"additional_directories"`
	Env                map[string]string `json:"env"`
	IncludeInitialize  bool              `json:"include_initialize"`
	ServerName         string            `json:"server_name"`
	MCPMessage         json.RawMessage   `json:"message"`
	ClaimSDKMCPServers []string          `json:"sdk_mcp_servers"`
}

// controlError is a refusal with a code.
type controlError struct{ code, text string }

func (e *controlError) Error() string { return e.text }

func (s *standIn) control(b []byte) error {
	var in struct {
		ID      string          `json:"request_id"`
		Request *controlRequest `json:"request"`
	}
	if err := json.Unmarshal(b, &in); err != nil {
		return fmt.Errorf("Error parsing streaming input line (type=control_request, %d chars): %w", len(b), err)
	}
	if in.Request == nil {
		return fmt.Errorf("Error: Missing request on control_request")
	}
	if in.Request.Subtype == "initialize" && s.faults.has(FaultHangInit) {
		return nil
	}
	var after func()
	body, err := s.handle(in.Request, &after)
	resp := obj{"subtype": "success", "request_id": in.ID}
	if err != nil {
		resp["subtype"], resp["error"] = "error", err.Error()
		if e, ok := err.(*controlError); ok && e.code != "" {
			resp["error_code"] = e.code
		}
	} else if body != nil {
		resp["response"] = body
	}
	if in.Request.Subtype == "initialize" {
		resp["pending_permission_requests"], resp["pending_user_dialog_requests"] = []any{}, []any{}
	}
	s.out.emit(obj{"type": "control_response", "response": resp})
	if after != nil {
		after()
	}
	return nil
}

// handle carries out a request. What must come after the answer goes into after.
func (s *standIn) handle(r *controlRequest, after *func()) (any, error) {
	if err := s.claimed(r.Subtype); err != nil {
		return nil, err
	}
	switch r.Subtype {
	case "initialize":
		return s.initialize(r), nil
	case "interrupt":
		return s.interrupt(r, after), nil
	case "end_session":
		if !s.faults.has(FaultIgnoreTerm) {
			*after = func() {
				s.ending = true
				s.stop()
			}
		}
		return nil, nil
	case "set_model":
		return s.setModel(r), nil
	case "set_permission_mode":
		return s.setMode(r.Mode, after)
	case "set_max_thinking_tokens":
		s.mu.Lock()
		defer s.mu.Unlock()
		s.set.thinking = r.Thinking
		return nil, nil
	case "apply_flag_settings":
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.faults.has(FaultDeaf) {
			return nil, nil
		}
		return nil, asError(s.set.apply(r.Settings))
	case "get_settings":
		return s.getSettings(), nil
	case "list_permission_rules":
		return s.listRules(), nil
	case "mcp_status":
		s.mu.Lock()
		defer s.mu.Unlock()
		return obj{"mcpServers": s.serverStatus()}, nil
	case "mcp_set_servers":
		return s.setServers(r.Servers), nil
	case "mcp_message":
		s.mcpFromHost(r.ServerName, r.MCPMessage)
		return nil, nil
	case "get_usage":
		return s.getUsage(), nil
	case "get_session_cost":
		s.mu.Lock()
		defer s.mu.Unlock()
		return obj{"text": s.costText()}, nil
	case "get_binary_version":
		return obj{"version": s.version}, nil
	case "stop_task":
		s.stopJob(r.TaskID)
		return obj{}, nil
	case "cancel_async_message":
		return obj{"cancelled": s.cancelQueued(func(m *userMessage) bool { return m.uuid == r.MessageUUID }) != nil}, nil
	case "claim_session":
		body, err := s.claim(r)
		if err == nil && r.PermissionMode != "" {
			s.out.emit(obj{"type": "system", "subtype": "status", "status": nil, "permissionMode": r.PermissionMode})
		}
		return body, err
	}
	return nil, &controlError{"unsupported_request", "Unsupported control request subtype: " + r.Subtype}
}

// asError keeps a nil error of a concrete type from becoming a non-nil one.
func asError(err error) error {
	if err == nil {
		return nil
	}
	return &controlError{"", err.Error()}
}

func (s *standIn) claimed(subtype string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.parked && slices.Contains([]string{"set_model"}, subtype) {
		return &controlError{"", "not_claimed: this process is a spare waiting for claim_session; send this request after the claim"}
	}
	return nil
}

func (s *standIn) keySource() string {
	if os.Getenv("ANTHROPIC_API_KEY") != "" && !s.faults.has(FaultLoggedOut) {
		return "ANTHROPIC_API_KEY"
	}
	return "none"
}

func (s *standIn) initialize(r *controlRequest) any {
	s.mu.Lock()
	if len(s.conv.messages) == 0 {
		if len(r.SystemPrompt) > 0 {
			s.conv.system = strings.Join(r.SystemPrompt, "\n\n")
		}
		if r.AppendSystemPrompt != "" {
			s.conv.system += "\n\n" + r.AppendSystemPrompt
		}
		if r.JSONSchema != nil && string(r.JSONSchema) != "null" {
			s.set.schema = r.JSONSchema
		}
	}
	s.mu.Unlock()
	for _, name := range r.SDKServers {
		s.addServer(name, sdkServer(name))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.description()
}

// description is the answer to initialize. The caller holds mu.
func (s *standIn) description() obj {
	account := obj{"tokenSource": "none", "apiProvider": "firstParty"}
	switch {
	case s.faults.has(FaultLoggedOut):
	case s.keySource() != "none":
		account["apiKeySource"] = s.keySource()
	default:
		account["tokenSource"] = "CLAUDE_CODE_OAUTH_TOKEN"
	}
	state := "idle"
	if s.busy {
		state = "running"
	}
	return obj{"commands": []obj{{"name": "clear", "description": "Start anew", "argumentHint": "", "builtin": true}}, "agents": []any{},
		"output_style": "default", "available_output_styles": []string{"default"},
		"models":  []obj{{"value": "default", "resolvedModel": "claude-opus-5-5", "displayName": "Default (recommended)"}},
		"account": account, "pid": os.Getpid(), "claude_code_version": s.version, "current_permission_mode": s.set.mode, "session_state": state,
		"capabilities": []string{}, "hooks_applied": true}
}

func (s *standIn) setModel(r *controlRequest) any {
	model := "claude-opus-5-5"
	if r.Model != nil && *r.Model != "" && *r.Model != "default" {
		model = *r.Model
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.faults.has(FaultDeaf) {
		s.set.model = model
	}
	return obj{"model": model}
}

func (s *standIn) setMode(mode string, after *func()) (any, error) {
	switch {
	case !slices.Contains(modes, mode):
		return nil, &controlError{"invalid_mode", "Cannot set permission mode: must be one of " + strings.Join(modes, ", ")}
	case mode == "bypassPermissions" && !s.args.allowBypass:
		return nil, &controlError{"bypass_not_launched", "Cannot set permission mode to bypassPermissions because the session was not launched with --dangerously-skip-permissions"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.faults.has(FaultDeaf) {
		s.set.mode = mode
	}
	*after = func() { s.out.emit(obj{"type": "system", "subtype": "status", "status": nil, "permissionMode": mode}) }
	return obj{"mode": mode}, nil
}

func (s *standIn) getSettings() any {
	s.mu.Lock()
	defer s.mu.Unlock()
	sources := []obj{}
	if len(s.set.flags) > 0 {
		sources = append(sources, obj{"source": "flagSettings", "settings": s.set.flags})
	}
	return obj{"effective": s.set.flags, "sources": sources, "applied": obj{"model": s.set.model, "effort": s.set.effort(s.args)}}
}

func (s *standIn) listRules() any {
	s.mu.Lock()
	defer s.mu.Unlock()
	rules := []obj{}
	list := func(behavior, source, editability string, names []string) {
		for _, n := range names {
			rules = append(rules, obj{"behavior": behavior, "rule": n, "source": source, "editability": editability})
		}
	}
	p := s.set.permissions()
	list("allow", "flagSettings", "readonly", p.Allow)
	list("allow", "cliArg", "session", s.args.allowed)
	list("deny", "flagSettings", "readonly", p.Deny)
	list("deny", "cliArg", "session", s.args.disallowed)
	list("ask", "flagSettings", "readonly", p.Ask)
	return obj{"state": obj{"rules": rules, "workspaceDirectories": append([]string{}, s.set.dirs...), "originalCwd": s.set.cwd, "managedOnly": false}}
}

func (s *standIn) getUsage() any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return obj{"session": obj{"total_cost_usd": s.bill.dollars(), "total_api_duration_ms": s.bill.APIms, "total_duration_ms": time.Since(s.begun).Milliseconds(),
		"model_usage": rows(s.bill.Models), "total_lines_added": 0, "total_lines_removed": 0},
		"subscription_type": nil, "rate_limits": nil, "rate_limits_available": false, "behaviors": nil}
}

// interrupt stops the running turn, unless it is aimed at others.
func (s *standIn) interrupt(r *controlRequest, after *func()) any {
	out := obj{}
	if r.CancelQueued {
		out["cancelled"] = append([]string{}, s.cancelQueued(func(*userMessage) bool { return true })...)
	}
	still := []string{}
	for _, m := range s.queue {
		if m.uuid != "" {
			still = append(still, m.uuid)
		}
	}
	out["still_queued"] = still
	t := s.turn
	if t == nil {
		if len(r.ForMessages) > 0 {
			out["turn"] = "idle"
		}
		return out
	}
	if len(r.ForMessages) > 0 {
		out["turn"] = "stopped"
		if !slices.ContainsFunc(t.uuids(), func(id string) bool { return slices.Contains(r.ForMessages, id) }) {
			out["turn"] = "spared"
			return out
		}
	}
	s.withdraw()
	*after = t.cancel
	return out
}

// cancelQueued takes the messages that fit out of the queue and returns their uuids.
func (s *standIn) cancelQueued(fits func(*userMessage) bool) []string {
	var gone []string
	s.queue = slices.DeleteFunc(s.queue, func(m *userMessage) bool {
		if !fits(m) {
			return false
		}
		if m.uuid != "" {
			gone = append(gone, m.uuid)
		}
		s.lifecycle(m, "cancelled")
		return true
	})
	return gone
}

// claimable are the variables that a claim may set.
var claimable = []string{"CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CODE_SESSION_ACCESS_TOKEN", "CLAUDE_CODE_HOST_SESSION_ID"}

// claim makes a session of a spare. A refusal leaves it parked.
func (s *standIn) claim(r *controlRequest) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.parked {
		return nil, &controlError{"", "not_a_spare: claim_session is only accepted by a process started with --await-claim that has not been claimed yet"}
	}
	if r.CWD == "" {
		return nil, &controlError{"", "invalid_request: cwd is required"}
	}
	if info, err := os.Stat(r.CWD); err != nil || !info.IsDir() {
		return nil, &controlError{"", "cwd_not_found: the claim cwd does not exist or is not accessible"}
	}
	for k := range r.Env {
		if !slices.Contains(claimable, k) {
			return nil, &controlError{"", "env_key_not_claimable: " + k + " is read during start-up; pass it in the spare's spawn env instead"}
		}
	}
	if r.PermissionMode != "" {
		if !slices.Contains(modes, r.PermissionMode) || r.PermissionMode == "bypassPermissions" && !s.args.allowBypass {
			return nil, &controlError{"", "permission_mode_not_claimable: " + r.PermissionMode}
		}
	}
	for k, v := range r.Env {
		if err := os.Setenv(k, v); err != nil {
			return nil, &controlError{"", "invalid_request: env " + err.Error()}
		}
	}
	if r.PermissionMode != "" {
		s.set.mode = r.PermissionMode
	}
	s.set.cwd = r.CWD
	s.set.dirs = append(s.set.dirs, r.AdditionalDirs...)
	if len(r.ClaimSystemPrompt) > 0 {
		s.conv.system = strings.Join(r.ClaimSystemPrompt, "\n\n")
	}
	if r.ClaimAppend != "" {
		s.conv.system += "\n\n" + r.ClaimAppend
	}
	s.parked = false
	out := obj{"status": "ok", "cwd": r.CWD, "session_id": s.conv.id, "parked_ms": time.Since(s.begun).Milliseconds(), "sdk_mcp_settled": true}
	if r.IncludeInitialize {
		out["initialize"] = s.description()
	}
	return out, nil
}
