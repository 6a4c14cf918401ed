package claudepool_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/claudepool/claudepool"
)

// A result that is too long is rejected; the next one is approved.
func ExamplePool_RejectResult() {
	ctx := context.Background()
	pool, cleanup := open(ctx)
	defer cleanup()

	id, err := pool.Submit(ctx, claudepool.Task{
		Prompt:      "Write the release notes.",
		Review:      &claudepool.ReviewPolicy{MaxRejections: 3},
		KeepSession: 10 * time.Minute, // a rejected task goes on in the process that knows it
	})
	if err != nil {
		log.Fatal(err)
	}
	atRest := func(s claudepool.TaskState) bool {
		return s == claudepool.StatePendingReview || s.Terminal()
	}
	draft, err := pool.WaitFor(ctx, id, atRest)
	if err != nil {
		log.Fatal(err)
	}
	if len(draft.Result.Output) > 20 {
		if _, err := pool.RejectResult(ctx, id, "Shorter."); err != nil {
			log.Fatal(err)
		}
		if draft, err = pool.WaitFor(ctx, id, atRest); err != nil {
			log.Fatal(err)
		}
	}
	state, err := pool.ApproveResult(ctx, id)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(state, "with rejections:", draft.Rejections)
	// Output: completed with rejections: 1
}

// The stand-in answers with its prompt, so one sees what the slot was given.
func ExamplePool_SendMessage() {
	ctx := context.Background()
	pool, cleanup := open(ctx)
	defer cleanup()

	if _, err := pool.SendMessage(ctx, claudepool.Coordinator, "slot-0", "The schema has changed: read it again."); err != nil {
		log.Fatal(err)
	}
	waiting, err := pool.PeekMessages(ctx, "slot-0") // leaves them; ReadMessages takes them
	if err != nil {
		log.Fatal(err)
	}
	r, err := pool.Run(ctx, claudepool.Task{Prompt: "Write the migration."})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(waiting), "waited, from", waiting[0].From)
	fmt.Println(r.Outcome)
	// Output:
	// 1 waited, from coordinator
	// ok
}
