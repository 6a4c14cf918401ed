package mcp_test

import (
	"context"
	"fmt"
	"log"
	"os"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claudetest"
	"github.com/claudepool/claudepool/mcp"
)

// A client calls pool_run over a connection within the program. What works
// behind the slot is the stand-in of package claudetest.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "claudepool-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	agent, err := claudetest.StandInOptions(claudetest.StandInConfig{ConfigDir: dir})
	if err != nil {
		log.Fatal(err)
	}
	pool, err := claudepool.NewPoolBuilder().Config(claudepool.PoolConfig{
		ClaudePath: agent.Path, Env: agent.Env, ConfigDir: agent.ConfigDir,
	}).Build(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	server, err := mcp.NewServer(pool, mcp.Options{Toolsets: []mcp.Toolset{mcp.ToolsetCore}})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	near, far := sdk.NewInMemoryTransports()
	go server.Run(ctx, far)

	client, err := sdk.NewClient(&sdk.Implementation{Name: "example", Version: "1"}, nil).Connect(ctx, near, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	res, err := client.CallTool(ctx, &sdk.CallToolParams{
		Name:      "pool_run",
		Arguments: map[string]any{"prompt": "[[reply:forty-two]]"},
	})
	if err != nil {
		log.Fatal(err)
	}
	result := res.StructuredContent.(map[string]any)
	fmt.Println(result["state"], result["output"])
	// Output: completed forty-two
}

// A server for the client that has started this program, with a ceiling for
// what its tasks may ask for.
func ExampleServer_Run() {
	pool, err := claudepool.NewPoolBuilder().Config(claudepool.PoolConfig{Slots: 3, Budget: claudepool.USD(5)}).Build(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	server, err := mcp.NewServer(pool, mcp.Options{MaxPermissionMode: "acceptEdits"})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	// Nothing else may print to standard output from here on.
	if err := server.Run(context.Background(), &sdk.StdioTransport{}); err != nil {
		log.Print(err)
	}
}
