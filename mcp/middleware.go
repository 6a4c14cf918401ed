package mcp

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// seatWait is how long a call waits for others to end before it is refused.
const seatWait = 5 * time.Second

// guard turns a panic into an internal error, since the SDK has no recover and
// one bad handler would end every slot, and bounds the tool calls in progress,
// since the SDK runs each on a goroutine of its own.
func guard(log *slog.Logger, maxCalls int) sdk.Middleware {
	seats := make(chan struct{}, maxCalls)
	return func(next sdk.MethodHandler) sdk.MethodHandler {
		return func(ctx context.Context, method string, req sdk.Request) (res sdk.Result, err error) {
			start := time.Now()
			defer func() {
				if r := recover(); r != nil {
					log.ErrorContext(ctx, "handler panicked", "method", method, "panic", r, "stack", string(debug.Stack()))
					res, err = nil, &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: "internal error; the server's log has the details"}
				}
				log.DebugContext(ctx, "request", "method", method, "took", time.Since(start), "err", err)
			}()
			if method == "tools/call" {
				if err := sit(ctx, seats); err != nil {
					refused := &sdk.CallToolResult{}
					refused.SetError(err)
					return refused, nil
				}
				defer func() { <-seats }()
			}
			return next(ctx, method, req)
		}
	}
}

// sit takes a seat, waiting a while for one.
func sit(ctx context.Context, seats chan struct{}) error {
	select {
	case seats <- struct{}{}:
		return nil
	default:
	}
	late := time.NewTimer(seatWait)
	defer late.Stop()
	select {
	case seats <- struct{}{}:
		return nil
	case <-late.C:
		return fmt.Errorf("%d calls are in progress; let some end, or hand work over with pool_submit, which answers at once, then call again", cap(seats))
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
