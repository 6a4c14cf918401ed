package claudetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"net/http"
	"strings"
)

// Request is one request to the Messages API, as a [Script] sees it.
type Request struct {
	// Number counts the requests of the API from one. Attempt counts how often
	// the same conversation has been sent: two and more are retries.
	Number, Attempt int
	Header          http.Header
	Model           string
	MaxTokens       int
	// Stream is false when the CLI falls back to a plain answer.
	Stream bool
	// SessionID is the CLI's session, empty when the client named none.
	SessionID string
	// System is the system prompt, its blocks joined by blank lines.
	System   string
	Tools    []Tool
	Messages []Message

	// Prompt is the last text a person wrote, without what the CLI wraps
	// around it. Prompts are all of them, the oldest first.
	Prompt  string
	Prompts []string
	// Round counts the tool rounds since Prompt: zero for the first request of
	// a turn.
	Round int
	// Results are the tool results the conversation ends with; nil when it
	// ends with a text.
	Results []ToolResult

	done chan struct{}
	gone bool
	key  uint64
}

// Tool is a tool the model may call.
type Tool struct {
	Name        string          `json:"name"`
	Description string          `json:"description"`
	InputSchema json.RawMessage `json:"input_schema"`
}

// Message is one message of the conversation.
type Message struct {
	Role    string // "user" or "assistant"
	Content []Block
}

// Block is one content block of a [Message].
type Block struct {
	Type  string `json:"type"` // "text", "thinking", "tool_use", "tool_result", "image", …
	Text  string `json:"text"`
	ID    string `json:"id"`   // of a tool_use
	Name  string `json:"name"` // of a tool_use
	Input json.RawMessage
	// Result is set in a tool_result.
	Result *ToolResult `json:"-"`
}

// ToolResult is what a tool gave back.
type ToolResult struct {
	ToolUseID string
	Content   string
	IsError   bool
}

// Done is closed when the answer has been written or given up.
func (r *Request) Done() <-chan struct{} { return r.done }

// Abandoned says whether the client hung up before it had the whole answer. It
// is valid after Done.
func (r *Request) Abandoned() bool {
	<-r.done
	return r.gone
}

// ToolNames lists the names of Tools in order.
func (r *Request) ToolNames() []string {
	names := make([]string, len(r.Tools))
	for i, t := range r.Tools {
		names[i] = t.Name
	}
	return names
}

type wireRequest struct {
	Model     string        `json:"model"`
	MaxTokens int           `json:"max_tokens"`
	Stream    bool          `json:"stream"`
	System    content       `json:"system"`
	Tools     []Tool        `json:"tools"`
	Messages  []wireMessage `json:"messages"`
	Metadata  struct {
		UserID string `json:"user_id"`
	} `json:"metadata"`
}

type wireMessage struct {
	Role    string  `json:"role"`
	Content content `json:"content"`
}

// content is a string or a list of blocks; both become blocks.
type content []Block

func (c *content) UnmarshalJSON(b []byte) error {
	if b = bytes.TrimSpace(b); len(b) > 0 && b[0] == '"' {
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		*c = content{{Type: "text", Text: s}}
		return nil
	}
	return json.Unmarshal(b, (*[]Block)(c))
}

// UnmarshalJSON reads a content block of the Messages API.
func (b *Block) UnmarshalJSON(data []byte) error {
	var w struct {
		Type      string          `json:"type"`
		Text      string          `json:"text"`
		Thinking  string          `json:"thinking"`
		ID        string          `json:"id"`
		Name      string          `json:"name"`
		Input     json.RawMessage `json:"input"`
		ToolUseID string          `json:"tool_use_id"`
		Content   content         `json:"content"`
		IsError   bool            `json:"is_error"`
	}
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	*b = Block{Type: w.Type, Text: w.Text + w.Thinking, ID: w.ID, Name: w.Name, Input: w.Input}
	if w.Type == "tool_result" {
		b.Result = &ToolResult{ToolUseID: w.ToolUseID, Content: joinText(w.Content, "\n"), IsError: w.IsError}
	}
	return nil
}

func joinText(blocks []Block, sep string) string {
	var texts []string
	for _, b := range blocks {
		if b.Type == "text" {
			texts = append(texts, b.Text)
		}
	}
	return strings.Join(texts, sep)
}

var keySeed = maphash.MakeSeed()

func parseRequest(h http.Header, body []byte) (*Request, error) {
	var w wireRequest
	if err := json.Unmarshal(body, &w); err != nil {
		return nil, fmt.Errorf("request body: %w", err)
	}
	if len(w.Messages) == 0 {
		return nil, fmt.Errorf("messages: at least one message is required")
	}
	r := &Request{
		Header: h, Model: w.Model, MaxTokens: w.MaxTokens, Stream: w.Stream,
		SessionID: sessionOf(w.Metadata.UserID),
		System:    joinText(w.System, "\n\n"), Tools: w.Tools,
		done: make(chan struct{}),
	}
	var key maphash.Hash
	key.SetSeed(keySeed)
	key.WriteString(r.SessionID)
	for _, m := range w.Messages {
		r.take(Message{Role: m.Role, Content: m.Content})
		for _, b := range m.Content {
			key.WriteString(b.Text)
			key.WriteString(b.ID)
			if b.Result != nil {
				key.WriteString(b.Result.ToolUseID)
			}
			key.WriteByte(0)
		}
	}
	key.WriteString(r.Model)
	r.key = key.Sum64()
	return r, nil
}

// take appends the next message of the conversation.
func (r *Request) take(m Message) {
	r.Messages = append(r.Messages, m)
	if m.Role == "user" {
		r.readUser(m)
	} else if usesTool(m) {
		r.Round++
	}
}

// readUser takes the prompts and results out of the next user message.
func (r *Request) readUser(m Message) {
	r.Results = nil
	for _, b := range m.Content {
		if b.Result != nil {
			r.Results = append(r.Results, *b.Result)
		}
	}
	for _, b := range m.Content {
		if b.Type != "text" {
			continue
		}
		if p := personal(b.Text); p != "" {
			r.Prompt = p
			r.Prompts = append(r.Prompts, p)
			r.Round = 0
			r.Results = nil
		}
	}
}

func usesTool(m Message) bool {
	for _, b := range m.Content {
		if b.Type == "tool_use" {
			return true
		}
	}
	return false
}

// notes are the elements in which the CLI wraps what it adds to a prompt.
var notes = []string{"system-reminder", "command-name", "command-message", "command-args", "local-command-stdout", "local-command-caveat"}

// personal returns what a person wrote in text, or nothing when the CLI wrote
// all of it.
func personal(text string) string {
	for _, n := range notes {
		for {
			before, rest, ok := strings.Cut(text, "<"+n+">")
			if !ok {
				break
			}
			_, after, ok := strings.Cut(rest, "</"+n+">")
			if !ok {
				break
			}
			text = before + after
		}
	}
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "[Request interrupted by user") || strings.HasPrefix(text, "[structured-output-enforce]") {
		return ""
	}
	return text
}

// sessionOf finds the session in metadata.user_id, which the CLI fills with a
// JSON object or, in older versions, with user_…_session_<id>.
func sessionOf(user string) string {
	var o struct {
		SessionID string `json:"session_id"`
	}
	if json.Unmarshal([]byte(user), &o) == nil {
		return o.SessionID
	}
	_, id, _ := strings.Cut(user, "_session_")
	return id
}
