package claude

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// header is what decides where a line goes. It is decoded first: the order of
// keys in a line is not stable, and most lines need no more.
type header struct {
	Type      string `json:"type"`
	Subtype   string `json:"subtype"`
	SessionID string `json:"session_id"`
}

// decode reads line into v. A field of an unexpected type is left out, since
// the CLI's messages change from release to release; text that is no JSON is an
// error.
func decode(line []byte, v any) error {
	err := json.Unmarshal(line, v)
	var typeErr *json.UnmarshalTypeError
	if errors.As(err, &typeErr) {
		return nil
	}
	return err
}

// encode makes one line, end included, of v.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("claude: encode a message: %w", err)
	}
	return b.Bytes(), nil
}

// What goes in.
type (
	userMessage struct {
		Type            string      `json:"type"` // "user"
		UUID            string      `json:"uuid"`
		Message         userContent `json:"message"`
		ParentToolUseID *string     `json:"parent_tool_use_id"`
		ClientComposed  bool        `json:"client_composed,omitempty"`
		ShouldQuery     *bool       `json:"shouldQuery,omitempty"` // false: the model is not asked
	}
	userContent struct {
		Role    string `json:"role"`    // "user"
		Content any    `json:"content"` // string or []any
	}
	controlRequest struct {
		Type      string `json:"type"` // "control_request"
		RequestID string `json:"request_id"`
		Request   any    `json:"request"`
	}
	controlResponse struct {
		Type     string          `json:"type"` // "control_response"
		Response controlEnvelope `json:"response"`
	}
	controlEnvelope struct {
		Subtype   string          `json:"subtype"` // "success" or "error"
		RequestID string          `json:"request_id"`
		Response  json.RawMessage `json:"response,omitempty"`
		Error     string          `json:"error,omitempty"`
		ErrorCode string          `json:"error_code,omitempty"`
	}
)

// What comes out. Each type has the fields this package reads.
type (
	wireControlRequest struct {
		RequestID string          `json:"request_id"`
		Request   json.RawMessage `json:"request"`
	}
	wireAsk struct {
		ToolName       string          `json:"tool_name"`
		ToolUseID      string          `json:"tool_use_id"`
		Input          json.RawMessage `json:"input"`
		Description    string          `json:"description"`
		BlockedPath    string          `json:"blocked_path"`
		DecisionReason string          `json:"decision_reason"`
		AgentID        string          `json:"agent_id"`
		Interactive    bool            `json:"requires_user_interaction"`
	}
	wireMCP struct {
		ServerName string          `json:"server_name"`
		Message    json.RawMessage `json:"message"`
	}
	wireSystem struct {
		Model          string           `json:"model"`
		PermissionMode string           `json:"permissionMode"`
		State          string           `json:"state"`
		Status         string           `json:"status"`
		Tasks          []backgroundTask `json:"tasks"`

		Attempt      int     `json:"attempt"`
		MaxRetries   int     `json:"max_retries"`
		RetryDelayMS float64 `json:"retry_delay_ms"`
		ErrorStatus  int     `json:"error_status"`
		Error        string  `json:"error"`

		OriginalModel string `json:"original_model"`
		FallbackModel string `json:"fallback_model"`
		Trigger       string `json:"trigger"`

		ToolName  string `json:"tool_name"`
		ToolUseID string `json:"tool_use_id"`
		Message   string `json:"message"`

		Compact struct {
			Trigger string `json:"trigger"`
		} `json:"compact_metadata"`
	}
	backgroundTask struct {
		ID          string `json:"task_id"`
		Type        string `json:"task_type"`
		Description string `json:"description"`
	}
	wireLifecycle struct {
		CommandUUID string `json:"command_uuid"`
		State       string `json:"state"`
	}
	wireStream struct {
		ParentToolUseID string `json:"parent_tool_use_id"`
		Event           struct {
			Type  string `json:"type"`
			Block struct {
				Type string `json:"type"`
			} `json:"content_block"`
			Delta struct {
				Type     string `json:"type"`
				Text     string `json:"text"`
				Thinking string `json:"thinking"`
			} `json:"delta"`
		} `json:"event"`
	}
	wireMessage struct {
		ParentToolUseID string `json:"parent_tool_use_id"`
		Error           string `json:"error"`
		APIErrorStatus  int    `json:"api_error_status"`
		Message         struct {
			Content json.RawMessage `json:"content"` // string or blocks
		} `json:"message"`
	}
	wireBlock struct {
		Type      string          `json:"type"`
		Text      string          `json:"text"`
		ID        string          `json:"id"`
		Name      string          `json:"name"`
		Input     json.RawMessage `json:"input"`
		ToolUseID string          `json:"tool_use_id"`
		Content   json.RawMessage `json:"content"` // string or blocks
		IsError   bool            `json:"is_error"`
	}
	wireProgress struct {
		ToolUseID string  `json:"tool_use_id"`
		ToolName  string  `json:"tool_name"`
		Elapsed   float64 `json:"elapsed_time_seconds"`
	}
	wireRateLimit struct {
		Info struct {
			Status      string  `json:"status"`
			Kind        string  `json:"rateLimitType"`
			ResetsAt    int64   `json:"resetsAt"` // epoch seconds
			Utilization float64 `json:"utilization"`
			Overage     bool    `json:"isUsingOverage"`
			Windows     map[string]struct {
				Utilization float64 `json:"utilization"`
			} `json:"unifiedWindows"`
		} `json:"rate_limit_info"`
	}
	wireResult struct {
		Subtype          string               `json:"subtype"`
		SessionID        string               `json:"session_id"`
		IsError          bool                 `json:"is_error"`
		Result           string               `json:"result"`
		Structured       json.RawMessage      `json:"structured_output"`
		StopReason       string               `json:"stop_reason"`
		TerminalReason   string               `json:"terminal_reason"`
		APIErrorStatus   int                  `json:"api_error_status"`
		Errors           []string             `json:"errors"`
		LocalCommand     string               `json:"local_command"`
		NumTurns         int                  `json:"num_turns"`
		DurationMS       float64              `json:"duration_ms"`
		DurationAPIMS    float64              `json:"duration_api_ms"`
		TotalCostUSD     float64              `json:"total_cost_usd"`
		ModelUsage       map[string]wireUsage `json:"modelUsage"`
		Denials          []wireDenial         `json:"permission_denials"`
		UserMessageUUID  string               `json:"user_message_uuid"`
		UserMessageUUIDs []string             `json:"user_message_uuids"`
		Origin           json.RawMessage      `json:"origin"` // of work that nobody asked for
	}
	wireUsage struct {
		Input         int64   `json:"inputTokens"`
		Output        int64   `json:"outputTokens"`
		CacheRead     int64   `json:"cacheReadInputTokens"`
		CacheCreation int64   `json:"cacheCreationInputTokens"`
		CostUSD       float64 `json:"costUSD"`
	}
	wireDenial struct {
		ToolName  string          `json:"tool_name"`
		ToolUseID string          `json:"tool_use_id"`
		ToolInput json.RawMessage `json:"tool_input"`
	}
)

// answers reports whether r is the result of the message with this id. Older
// versions give one id, newer ones all that the turn took up.
func (r *wireResult) answers(id string) bool {
	if r.UserMessageUUID == id {
		return true
	}
	for _, u := range r.UserMessageUUIDs {
		if u == id {
			return true
		}
	}
	return false
}

// anonymous reports whether r names neither a message nor another origin.
func (r *wireResult) anonymous() bool {
	return r.UserMessageUUID == "" && len(r.UserMessageUUIDs) == 0 && r.Origin == nil
}

// blocks reads a content that is a string or a list of blocks.
func blocks(raw json.RawMessage) []wireBlock {
	if len(raw) > 0 && raw[0] == '"' {
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return nil
		}
		return []wireBlock{{Type: "text", Text: s}}
	}
	var bs []wireBlock
	if decode(raw, &bs) != nil {
		return nil
	}
	return bs
}
