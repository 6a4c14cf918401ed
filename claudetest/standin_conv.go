package claudetest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// conversation is a session: what has been said, and the file that keeps it.
type conversation struct {
	id       string
	messages []Message
	system   string
	file     string // empty: not kept
	bill     bill   // what the session had cost when it was opened
}

// record is a line of a session file.
type record struct {
	Type      string       `json:"type"` // "user", "assistant", "system-prompt" or "cost-state"
	SessionID string       `json:"sessionId"`
	Message   *wireMessage `json:"message,omitempty"`
	System    string       `json:"system,omitempty"`
	Bill      *bill        `json:"bill,omitempty"`
}

var noPathChar = regexp.MustCompile(`[^a-zA-Z0-9]`)

func configDir() (string, error) {
	if d := os.Getenv("CLAUDE_CONFIG_DIR"); d != "" {
		return d, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".claude"), nil
}

// openConversation starts, resumes or forks a session.
func openConversation(a *standInArgs, cwd string) (*conversation, error) {
	root, err := configDir()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(root, "projects", noPathChar.ReplaceAllString(cwd, "-"))
	c := &conversation{id: a.sessionID, system: systemPrompt(a)}
	if c.id == "" {
		c.id = newUUID()
	}
	if a.sessionID != "" {
		if found, err := filepath.Glob(filepath.Join(root, "projects", "*", c.id+".jsonl")); err != nil || len(found) > 0 {
			return nil, usageError("Error: Session ID " + c.id + " is already in use.")
		}
	}
	if a.resume != "" {
		old := a.resume
		if !strings.HasSuffix(old, ".jsonl") {
			found, err := filepath.Glob(filepath.Join(root, "projects", "*", old+".jsonl"))
			if err != nil || len(found) == 0 {
				return nil, noConversation(a.resume)
			}
			old = found[0]
		}
		if err := c.load(old); err != nil {
			return nil, err
		}
		if !a.fork {
			c.id = strings.TrimSuffix(filepath.Base(old), ".jsonl")
			c.file = old
		}
	}
	if a.volatile {
		c.file = ""
		return c, nil
	}
	if c.file == "" {
		c.file = filepath.Join(dir, c.id+".jsonl")
		if err := c.copyOut(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func systemPrompt(a *standInArgs) string {
	base := a.system
	if base == "" {
		base = "You are a stand-in for the Claude CLI."
	}
	if a.appendSystem != "" {
		base += "\n\n" + a.appendSystem
	}
	return base
}

func (c *conversation) load(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return noConversation(strings.TrimSuffix(filepath.Base(file), ".jsonl"))
	}
	defer f.Close()
	r := bufio.NewReader(f)
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return nil // a last line without its end was cut by a crash
		}
		var rec record
		if err := json.Unmarshal(line, &rec); err != nil {
			return fmt.Errorf("session file %s: %w", file, err)
		}
		switch {
		case rec.Message != nil:
			c.messages = append(c.messages, Message{Role: rec.Message.Role, Content: rec.Message.Content})
		case rec.Type == "system-prompt":
			c.system = rec.System
		case rec.Bill != nil:
			c.bill = *rec.Bill
		}
	}
}

// copyOut writes a fork's history into its own file.
func (c *conversation) copyOut() error {
	for _, m := range c.messages {
		if err := c.keep(m); err != nil {
			return err
		}
	}
	return nil
}

// add appends a message to the conversation and its file. Messages of the same
// role join, as the API wants them.
func (c *conversation) add(m Message) error {
	if n := len(c.messages); n > 0 && c.messages[n-1].Role == m.Role && m.Role == "assistant" {
		c.messages[n-1].Content = append(c.messages[n-1].Content, m.Content...)
	} else {
		c.messages = append(c.messages, m)
	}
	return c.keep(m)
}

func (c *conversation) keep(m Message) error {
	blocks := make([]any, len(m.Content))
	for i, b := range m.Content {
		blocks[i] = b.wire()
	}
	return c.write(obj{"type": m.Role, "sessionId": c.id, "message": obj{"role": m.Role, "content": blocks}})
}

// close writes what a graceful end leaves: the costs so far.
func (c *conversation) close(b bill) error {
	return c.write(record{Type: "cost-state", SessionID: c.id, Bill: &b})
}

func (c *conversation) write(v any) error {
	if c.file == "" {
		return nil
	}
	fresh := false
	if _, err := os.Stat(c.file); err != nil {
		fresh = true
		if err := os.MkdirAll(filepath.Dir(c.file), 0o700); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(c.file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if fresh {
		if _, err := f.Write(append(encode(record{Type: "system-prompt", SessionID: c.id, System: c.system}), '\n')); err != nil {
			return err
		}
	}
	_, err = f.Write(append(encode(v), '\n'))
	return err
}

// wire is the block in the form of the Messages API.
func (b Block) wire() obj {
	switch b.Type {
	case "tool_use":
		return obj{"type": b.Type, "id": b.ID, "name": b.Name, "input": b.Input}
	case "tool_result":
		return obj{"type": b.Type, "tool_use_id": b.Result.ToolUseID, "content": b.Result.Content, "is_error": b.Result.IsError}
	case "thinking":
		return obj{"type": b.Type, "thinking": b.Text, "signature": signature}
	}
	return obj{"type": b.Type, "text": b.Text}
}

// noConversation is the CLI's own sentence, capital included.
type noConversation string

func (id noConversation) Error() string {
	return "No conversation found with session ID: " + string(id)
}
