package claude

import (
	"context"
	"encoding/json"
)

// PermissionRequest is a tool call that waits for leave.
type PermissionRequest struct {
	ToolUseID string          `json:"tool_use_id"`
	Tool      string          `json:"tool"`
	Input     json.RawMessage `json:"input"`
	// Description, BlockedPath and Reason are the CLI's own words, if any.
	Description string `json:"description,omitempty"`
	BlockedPath string `json:"blocked_path,omitempty"`
	Reason      string `json:"reason,omitempty"`
	// AgentID is set when a subagent asks.
	AgentID string `json:"agent_id,omitempty"`
	// Interactive says that the tool needs a person whatever the mode
	// (AskUserQuestion, ExitPlanMode).
	Interactive bool `json:"interactive,omitempty"`
}

// PermissionAnswer is the answer to a [PermissionRequest]. The zero value refuses.
type PermissionAnswer struct {
	Allow bool
	// Message is what the model reads after a refusal.
	Message string
	// Input replaces the call's input when set, with Allow.
	Input json.RawMessage
	// Stop also ends the turn, with a refusal.
	Stop bool
}

// PermissionFunc answers permission requests. It is called from a goroutine of
// its own for each request. ctx ends when the request is withdrawn or the turn
// ends; an answer after that is dropped. An error refuses, with its text.
type PermissionFunc func(ctx context.Context, r PermissionRequest) (PermissionAnswer, error)

// MCPHandler is an MCP server inside this program. HandleMCP gets one JSON-RPC
// message and returns the answer to it, or nil for a notification. ctx ends
// when the call is cancelled.
type MCPHandler interface {
	HandleMCP(ctx context.Context, message json.RawMessage) (json.RawMessage, error)
}
