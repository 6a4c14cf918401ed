// Events shows live what two slots say and do, and answers what they ask:
// writing a file is allowed, running a command is not.
package main

import (
	"context"
	"flag"
	"fmt"
	"iter"
	"log"
	"os"
	"sync"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/claudetest"
	"github.com/claudepool/claudepool/examples/internal/demo"
)

func main() {
	claudetest.MainScript(standIn)
	real := flag.Bool("real", false, "use the Claude CLI in PATH and your login; costs some cents")
	flag.Parse()
	if err := run(context.Background(), demo.Claude(*real)); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, program string) error {
	c, cleanup, err := demo.Config(program)
	if err != nil {
		return err
	}
	defer cleanup()
	c.Slots = 2
	if c.WorkDir, err = os.MkdirTemp("", "claudepool-events-"); err != nil {
		return err
	}
	defer os.RemoveAll(c.WorkDir)
	c.Agent.PermissionMode = claude.PermissionDefault // ask before anything is changed
	c.Permission = func(_ context.Context, q claudepool.PermissionQuestion) (claude.PermissionAnswer, error) {
		return claude.PermissionAnswer{Allow: q.Request.Tool == "Write", Message: "only files may be written here"}, nil
	}
	pool, err := claudepool.NewPoolBuilder().Config(c).Build(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()

	watched, stop := context.WithCancel(ctx)
	events := pool.Events(watched, claudepool.EventFilter{Kinds: []claudepool.EventKind{claudepool.EventAgent, claudepool.EventPermission}})
	var wg sync.WaitGroup
	wg.Go(func() { follow(events) })
	out, err := pool.FanOut(ctx, []claudepool.Task{
		{Prompt: "Write a haiku about queues to the file haiku.txt."},
		{Prompt: "Run the command: touch done.txt"},
	}, claudepool.FanOutOptions{})
	stop()
	wg.Wait()
	for _, r := range out.Results {
		fmt.Printf("%s: %s, %d calls refused\n", r.SlotID, r.Outcome, len(r.Denials))
	}
	return err
}

// follow prints what happens, each line with the slot where it does.
func follow(events iter.Seq[claudepool.Event]) {
	for e := range events {
		switch a := e.Agent.(type) {
		case nil:
			fmt.Printf("%-7s %s\n", e.SlotID, e.Message)
		case claude.TextDelta:
			fmt.Printf("%-7s %q\n", e.SlotID, a.Text)
		case claude.ToolUse:
			fmt.Printf("%-7s calls %s(%s)\n", e.SlotID, a.Name, a.Input)
		}
	}
}
