package mcp

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// patientTransport keeps cancellations that are only time-outs from the SDK.
//
// Both arrive as the same notification and end a handler's context in the same
// way, but mean different things: a person who cancels wants the work to stop,
// a client that ran out of patience still wants the result. Without the latter,
// a handler whose context was cancelled while the connection lives knows that
// it was the former.
type patientTransport struct {
	sdk.Transport
	log  *slog.Logger
	conn sdk.Connection // set by Connect
}

func (t *patientTransport) Connect(ctx context.Context) (sdk.Connection, error) {
	c, err := t.Transport.Connect(ctx)
	if err != nil {
		return nil, err
	}
	t.conn = &patientConn{Connection: c, log: t.log}
	return t.conn, nil
}

type patientConn struct {
	sdk.Connection
	log *slog.Logger
}

func (c *patientConn) Read(ctx context.Context) (jsonrpc.Message, error) {
	for {
		m, err := c.Connection.Read(ctx)
		if err != nil {
			return nil, err
		}
		r, ok := m.(*jsonrpc.Request)
		if !ok || r.Method != "notifications/cancelled" {
			return m, nil
		}
		var p sdk.CancelledParams
		if json.Unmarshal(r.Params, &p) != nil || !isTimeout(p.Reason) {
			return m, nil // the SDK judges what cannot be read
		}
		c.log.Debug("caller ran out of patience; its work goes on", "request", p.RequestID, "reason", p.Reason)
	}
}

// isTimeout tells from the reason of a cancellation whether the client has only
// stopped waiting. Clients put the text of their own error there: "Request
// timed out" and its code -32001, "context deadline exceeded", "TimeoutError".
func isTimeout(reason string) bool {
	reason = strings.ToLower(reason)
	for _, sign := range []string{"timed out", "timeout", "time-out", "time out", "deadline", "-32001"} {
		if strings.Contains(reason, sign) {
			return true
		}
	}
	return false
}
