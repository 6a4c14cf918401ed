// Fanout hands six tasks to three slots at once. One of them cannot work; the
// results come in order all the same, with a census. A second fan-out stops at
// its first failure, and what had not ended by then is cancelled.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"time"

	"github.com/claudepool/claudepool"
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

func run(ctx context.Context, claude string) error {
	c, cleanup, err := demo.Config(claude)
	if err != nil {
		return err
	}
	defer cleanup()
	c.Slots = 3
	c.Agent.Tools = []string{} // a question needs none
	pool, err := claudepool.NewPoolBuilder().Config(c).Build(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()

	tasks := make([]claudepool.Task, 6)
	for i := range tasks {
		tasks[i].Prompt = fmt.Sprintf("In one word: what is %d squared?", i+1)
	}
	tasks[4].Overrides.Timeout = time.Millisecond // nobody answers that fast

	fmt.Println("All of them:")
	all, err := pool.FanOut(ctx, tasks, claudepool.FanOutOptions{})
	if err != nil {
		return err
	}
	show(all)

	fmt.Println("\nUntil the first failure:")
	some, err := pool.FanOut(ctx, tasks, claudepool.FanOutOptions{StopAfter: 1})
	if err != nil {
		return err
	}
	show(some)
	if some.Census.OK == some.Census.Asked {
		return errors.New("nothing has failed")
	}
	return nil
}

func show(out claudepool.FanOutResult) {
	for i, r := range out.Results {
		fmt.Printf("  %d  %-10s %s\n", i+1, r.Outcome, r.Output)
	}
	c := out.Census
	fmt.Printf("  asked %d, ok %d, failed %v, cost %v\n", c.Asked, c.OK, c.Failed, c.Cost)
}

// standIn takes half a second for an answer.
func standIn(r *claudetest.Request) claudetest.Reply {
	return claudetest.Text("(answer to: " + r.Prompt + ")").After(500 * time.Millisecond)
}
