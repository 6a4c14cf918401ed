package mcp_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/mcp"
)

// raw is a client that is spoken for word by word.
func (f *fixture) raw(t *testing.T) (say func(message string), hear func()) {
	t.Helper()
	near, far := sdk.NewInMemoryTransports()
	var running sync.WaitGroup
	running.Go(func() {
		if err := f.server.Run(context.WithoutCancel(t.Context()), far); err != nil {
			t.Logf("run: %v", err)
		}
	})
	conn, err := near.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		running.Wait()
	})
	say = func(message string) {
		t.Helper()
		if err := conn.Write(t.Context(), decode(t, message)); err != nil {
			t.Fatal(err)
		}
	}
	hear = func() {
		t.Helper()
		if _, err := conn.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	say(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`)
	hear()
	say(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	return say, hear
}

// The reasons are those of clients in use.
func TestP11_ReasonsOfCancellations(t *testing.T) {
	t.Parallel()
	for reason, want := range map[string]claudepool.TaskState{
		"McpError: MCP error -32001: Request timed out":          claudepool.StateRunning,
		"SdkError: Request timed out":                            claudepool.StateRunning,
		"context deadline exceeded":                              claudepool.StateRunning,
		"TimeoutError: The operation was aborted due to timeout": claudepool.StateRunning,
		"AbortError: The operation was aborted":                  claudepool.StateCancelled,
		"AbortError: This operation was aborted":                 claudepool.StateCancelled,
		"context canceled":                                       claudepool.StateCancelled,
		"User pressed escape":                                    claudepool.StateCancelled,
		"":                                                       claudepool.StateCancelled,
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
				say, _ := f.raw(t)
				say(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"pool_run","arguments":{"prompt":"hold"}}}`)
				time.Sleep(time.Second)
				say(fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2,"reason":%q}}`, reason))
				time.Sleep(time.Second)
				if got := structured[list](t, f.call(t, "pool_list_tasks", nil)).Tasks[0].State; got != want {
					t.Errorf("the task is %s, want %s", got, want)
				}
				f.release()
			})
		})
	}
}
