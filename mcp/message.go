package mcp

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/claudepool/claudepool"
)

type broadcastInput struct {
	From    string `json:"from" jsonschema:"who you are, such as coordinator"`
	Content string `json:"content"`
}

type sendInput struct {
	broadcastInput
	To string `json:"to" jsonschema:"id or name of a slot, or coordinator"`
}

type mailboxInput struct {
	SlotID string `json:"slot_id" jsonschema:"id or name, or coordinator"`
}

// sent is what was sent, without the text, which the caller has.
type sent struct {
	Sent []sentMessage `json:"sent"`
}

type sentMessage struct {
	ID string `json:"id"`
	To string `json:"to"`
}

func (o sent) text() string {
	if len(o.Sent) == 0 {
		return "there is no slot to send it to"
	}
	to := make([]string, len(o.Sent))
	for i, m := range o.Sent {
		to[i] = m.To
	}
	return "sent to " + strings.Join(to, ", ")
}

func sentOf(all ...claudepool.Message) sent {
	out := sent{Sent: []sentMessage{}}
	for _, m := range all {
		out.Sent = append(out.Sent, sentMessage{m.ID, m.To})
	}
	return out
}

type messages struct {
	Messages []claudepool.Message `json:"messages"`
}

func (o messages) text() string {
	if len(o.Messages) == 0 {
		return "no messages"
	}
	lines := make([]string, len(o.Messages))
	for i, m := range o.Messages {
		lines[i] = fmt.Sprintf("%s: %s", m.From, m.Content)
	}
	return strings.Join(lines, "\n")
}

func (s *Server) addMessageTools() {
	content := func(in *jsonschema.Schema) { in.Properties["content"].MinLength = jsonschema.Ptr(1) }
	add(s, ToolsetMessages, tool{
		name: "pool_send_message", hints: adds, input: content,
		about: "Leave a message for a slot, which gets it at the start of its next task.",
	}, func(ctx context.Context, _ *sdk.CallToolRequest, in sendInput) (sent, error) {
		m, err := s.pool.SendMessage(ctx, in.From, in.To, in.Content)
		return sentOf(m), err
	})
	add(s, ToolsetMessages, tool{
		name: "pool_broadcast", hints: adds, input: content, about: "Leave a message for every slot that is alive now.",
	}, func(ctx context.Context, _ *sdk.CallToolRequest, in broadcastInput) (sent, error) {
		all, err := s.pool.Broadcast(ctx, in.From, in.Content)
		if err != nil && len(all) > 0 {
			err = fmt.Errorf("%w; but %s", err, sentOf(all...).text())
		}
		return sentOf(all...), err
	})
	for _, t := range []struct {
		tool
		read func(context.Context, string) ([]claudepool.Message, error)
	}{
		{tool{name: "pool_read_messages", hints: takes, about: "Take the messages that wait for a slot or the coordinator; nobody else gets them then."}, s.pool.ReadMessages},
		{tool{name: "pool_peek_messages", hints: reads, about: "Look at the messages that wait, and leave them."}, s.pool.PeekMessages},
	} {
		add(s, ToolsetMessages, t.tool, func(ctx context.Context, _ *sdk.CallToolRequest, in mailboxInput) (messages, error) {
			all, err := t.read(ctx, in.SlotID)
			if all == nil {
				all = []claudepool.Message{}
			}
			return messages{all}, err
		})
	}
}
