package mcp

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

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
	conn *patientConn // set by Connect
}

func (t *patientTransport) Connect(ctx context.Context) (sdk.Connection, error) {
	c, err := t.Transport.Connect(ctx)
	if err != nil {
		return nil, err
	}
	t.conn = &patientConn{Connection: c, log: t.log, open: map[jsonrpc.ID]bool{}, answered: make(chan struct{}, 1)}
	return t.conn, nil
}

type patientConn struct {
	sdk.Connection
	log *slog.Logger
	eof atomic.Bool // the client has closed the connection

	mu       sync.Mutex
	open     map[jsonrpc.ID]bool // tool calls without an answer
	answered chan struct{}       // holds a token after an answer
}

func (c *patientConn) Read(ctx context.Context) (jsonrpc.Message, error) {
	for {
		m, err := c.Connection.Read(ctx)
		if err != nil {
			c.eof.Store(errors.Is(err, io.EOF))
			return nil, err
		}
		r, ok := m.(*jsonrpc.Request)
		switch {
		case ok && r.Method == "tools/call":
			c.mu.Lock()
			c.open[r.ID] = true
			c.mu.Unlock()
		case ok && r.Method == "notifications/cancelled":
			var p sdk.CancelledParams
			if json.Unmarshal(r.Params, &p) == nil && isTimeout(p.Reason) {
				c.log.Debug("caller ran out of patience; its work goes on", "request", p.RequestID, "reason", p.Reason)
				continue
			}
		}
		return m, nil
	}
}

func (c *patientConn) Write(ctx context.Context, m jsonrpc.Message) error {
	err := c.Connection.Write(ctx, m)
	if r, ok := m.(*jsonrpc.Response); ok {
		c.mu.Lock()
		delete(c.open, r.ID)
		c.mu.Unlock()
		select {
		case c.answered <- struct{}{}:
		default:
		}
	}
	return err
}

// settle waits until all tool calls are answered, but not for long. The SDK
// itself sends no answers once a session is being closed.
func (c *patientConn) settle(over <-chan struct{}) {
	late := time.NewTimer(closeGrace)
	defer late.Stop()
	for {
		c.mu.Lock()
		left := len(c.open)
		c.mu.Unlock()
		if left == 0 {
			return
		}
		select {
		case <-c.answered:
		case <-over:
			return
		case <-late.C:
			return
		}
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
