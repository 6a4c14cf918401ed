// Budget gives ten tasks ten cents between them. What cannot be paid for any
// more is not started, and its result says why.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claudetest"
	"github.com/claudepool/claudepool/examples/internal/demo"
)

func main() {
	claudetest.MainScript(standIn)
	real := flag.Bool("real", false, "use the Claude CLI in PATH and your login; costs up to ten cents")
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
	c.Slots = 4
	c.Agent.Tools = []string{}
	c.Budget = claudepool.USD(0.10)
	c.DefaultCap = claudepool.USD(0.03) // reserved before a task starts
	pool, err := claudepool.NewPoolBuilder().Config(c).Build(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()

	// What can never fit is refused at once.
	dear := claudepool.Task{Prompt: "Write a novel.", Overrides: claudepool.TaskOverrides{MaxCost: claudepool.USD(2)}}
	_, err = pool.Submit(ctx, dear)
	if refusal, ok := errors.AsType[*claudepool.BudgetExhausted](err); ok {
		fmt.Printf("refused: needs %v of a budget of %v\n", refusal.Needed, refusal.Limit)
	}

	tasks := make([]claudepool.Task, 10)
	for i := range tasks {
		tasks[i].Prompt = fmt.Sprintf("In one line: a fact about the number %d.", i+1)
	}
	out, err := pool.FanOut(ctx, tasks, claudepool.FanOutOptions{})
	if err != nil {
		return err
	}
	for i, r := range out.Results {
		text := r.Output
		if r.Failure != nil {
			text = r.Failure.Message
		}
		fmt.Printf("%2d  %-7s %-9v %s\n", i+1, r.Outcome, r.Cost, text)
	}
	status, err := pool.Status(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("spent %v of %v, reserved %v\n", status.TotalSpend, status.Budget, status.Reserved)
	return nil
}

// standIn takes two cents for an answer, at the price of its default model.
func standIn(r *claudetest.Request) claudetest.Reply {
	return claudetest.Text("(a fact)").Usage(claudetest.Usage{Input: 2_500, Output: 500})
}
