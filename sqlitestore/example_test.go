package sqlitestore_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/sqlitestore"
)

// shouter is an agent in this program: it answers in capitals.
type shouter struct{ done chan struct{} }

func (a shouter) Launch(context.Context, claude.Options) (claudepool.Agent, error) { return a, nil }

func (a shouter) Turn(_ context.Context, p claude.Prompt, _ func(claude.Event)) (claude.Result, error) {
	return claude.Result{Subtype: "success", TerminalReason: "completed", Text: strings.ToUpper(p.Text), Cost: 1500, Turns: 1}, nil
}

func (a shouter) Apply(context.Context, claude.Settings) error          { return nil }
func (a shouter) Reset(context.Context, claude.Settings) error          { return nil }
func (a shouter) Cost(context.Context) (claudepool.Microdollars, error) { return 0, nil }
func (a shouter) Close(context.Context) error                           { return nil }
func (a shouter) Done() <-chan struct{}                                 { return a.done }
func (a shouter) Info() claude.Info                                     { return claude.Info{} }

// A pool on a file, and what is there when it has gone.
func ExampleOpen() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "claudepool-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "pool.db")

	store, err := sqlitestore.Open(ctx, path, sqlitestore.Options{})
	if err != nil {
		log.Fatal(err)
	}
	// Without Config it is the Claude CLI that answers.
	pool, err := claudepool.NewPoolBuilder().
		Config(claudepool.PoolConfig{Launcher: shouter{make(chan struct{})}}).
		Store(store).
		Build(ctx)
	if err != nil {
		log.Fatal(err)
	}
	result, err := pool.Run(ctx, claudepool.Task{Prompt: "hello", IdempotencyKey: "greeting"})
	if err != nil {
		log.Fatal(err)
	}
	if err := pool.Close(); err != nil {
		log.Fatal(err)
	}
	if err := store.Close(); err != nil { // after the pool
		log.Fatal(err)
	}

	store, err = sqlitestore.Open(ctx, path, sqlitestore.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	r, err := store.Task(ctx, result.TaskID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.State, r.Result.Output, r.Cost)
	// Output: completed HELLO $0.001500
}
