// Review asks for a text and looks at what comes back: a draft of more than
// twelve words is sent back, with what is wrong with it, until one is short
// enough or the reviewer has lost patience. The agent keeps its conversation, so
// it knows what it wrote.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claudetest"
	"github.com/claudepool/claudepool/examples/internal/demo"
)

func main() {
	claudetest.MainScript(standIn)
	real := flag.Bool("real", false, "use the Claude CLI in PATH and your login; costs some cents")
	most := flag.Int("words", 12, "the most words that a text may have")
	flag.Parse()
	if err := run(context.Background(), demo.Claude(*real), *most); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, claude string, most int) error {
	c, cleanup, err := demo.Config(claude)
	if err != nil {
		return err
	}
	defer cleanup()
	c.Agent.Tools = []string{} // a text needs none
	pool, err := claudepool.NewPoolBuilder().Config(c).Build(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()

	id, err := pool.Submit(ctx, claudepool.Task{
		Prompt:      "Say what a pool of processes is good for. Answer with the text alone.",
		Review:      &claudepool.ReviewPolicy{MaxRejections: 3},
		KeepSession: time.Minute, // the rework goes on in the warm process
	})
	if err != nil {
		return err
	}
	state := claudepool.StatePending
	for !state.Terminal() {
		task, err := pool.WaitFor(ctx, id, func(s claudepool.TaskState) bool {
			return s == claudepool.StatePendingReview || s.Terminal()
		})
		if err != nil {
			return err
		}
		if state = task.State; state.Terminal() {
			break
		}
		text := task.Result.Output
		words := len(strings.Fields(text))
		fmt.Printf("draft %d, %d words: %s\n", task.Attempts, words, text)
		if words <= most {
			state, err = pool.ApproveResult(ctx, id)
		} else {
			state, err = pool.RejectResult(ctx, id, fmt.Sprintf("%d words are too many. Use at most %d.", words, most))
		}
		if err != nil {
			return err
		}
	}
	result, err := pool.Wait(ctx, id)
	if err != nil {
		return err // such as: rejected too often
	}
	fmt.Printf("%s after %d drafts, %v: %s\n", result.State, result.Attempts, result.Cost, result.Output)
	return nil
}

// standIn writes twenty words, and half as many each time that a reviewer complains.
func standIn(r *claudetest.Request) claudetest.Reply {
	words := 20
	for _, p := range r.Prompts {
		if strings.Contains(p, "too many") {
			words /= 2
		}
	}
	return claudetest.Text(strings.TrimSpace(strings.Repeat("reuse ", words)))
}
