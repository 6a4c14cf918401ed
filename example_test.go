package claudepool_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claudetest"
)

// offline returns a builder whose slots run the stand-in of package claudetest,
// which does as the prompt says: to [[reply:4]] it answers 4. With the Claude
// CLI one starts with NewPoolBuilder() alone.
func offline() (b *claudepool.PoolBuilder, cleanup func()) {
	dir, err := os.MkdirTemp("", "claudepool-example-")
	if err != nil {
		log.Fatal(err)
	}
	o, err := claudetest.StandInOptions(claudetest.StandInConfig{ConfigDir: dir})
	if err != nil {
		log.Fatal(err)
	}
	c := claudepool.PoolConfig{ClaudePath: o.Path, Env: o.Env, ConfigDir: o.ConfigDir}
	return claudepool.NewPoolBuilder().Config(c), func() { os.RemoveAll(dir) }
}

// open returns a pool with one slot that is offline.
func open(ctx context.Context) (pool *claudepool.Pool, cleanup func()) {
	b, remove := offline()
	pool, err := b.Build(ctx)
	if err != nil {
		log.Fatal(err)
	}
	return pool, func() {
		if err := pool.Close(); err != nil {
			log.Fatal(err)
		}
		remove()
	}
}

// All mistakes in the settings are told at once.
func ExamplePoolBuilder() {
	_, err := claudepool.NewPoolBuilder().
		Slots(-1).
		Budget(0).
		PermissionMode("yolo").
		Build(context.Background())
	fmt.Println(err)
	// Output:
	// slots must be at least 1
	// agent.permission_mode must be one of [plan dontAsk default acceptEdits auto bypassPermissions], not "yolo"
	// budget must be more than zero; leave it out for no limit
}

func ExamplePoolBuilder_Build() {
	ctx := context.Background()
	builder, cleanup := offline()
	defer cleanup()

	pool, err := builder.Slots(2).Budget(claudepool.USD(5)).Build(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	if err := pool.Ready(ctx); err != nil {
		log.Fatal(err) // such as: not logged in
	}
	status, err := pool.Status(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(status.TotalSlots, "slots, budget", status.Budget)
	// Output: 2 slots, budget $5.00
}

func ExamplePool_Run() {
	ctx := context.Background()
	pool, cleanup := open(ctx)
	defer cleanup()

	r, err := pool.Run(ctx, claudepool.Task{Prompt: "What is 2+2? [[reply:4]]"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Outcome, r.Output)
	// Output: ok 4
}

// Submit returns as soon as the task is stored. Whoever has its id can wait for
// it, as often as they like.
func ExamplePool_Submit() {
	ctx := context.Background()
	pool, cleanup := open(ctx)
	defer cleanup()

	id, err := pool.Submit(ctx, claudepool.Task{
		Prompt:         "Summarise the change. [[reply:It renames a field.]]",
		Tags:           []string{"nightly"},
		IdempotencyKey: "summary of 1f3e", // submitted twice, it runs once
	})
	if err != nil {
		log.Fatal(err)
	}
	r, err := pool.Wait(ctx, id)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Output)
	// Output: It renames a field.
}

// One failure takes nothing from the others.
func ExamplePool_FanOut() {
	ctx := context.Background()
	builder, cleanup := offline()
	defer cleanup()
	pool, err := builder.Slots(2).Build(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	out, err := pool.FanOut(ctx, []claudepool.Task{
		{Prompt: "[[reply:one]]"},
		{Prompt: "[[status:400]]"}, // the API refuses this request
		{Prompt: "[[reply:three]]"},
	}, claudepool.FanOutOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range out.Results {
		if r.State == claudepool.StateCompleted {
			fmt.Println(r.Output)
		} else {
			fmt.Println("failed:", r.Outcome)
		}
	}
	fmt.Println(out.Census.OK, "of", out.Census.Asked)
	// Output:
	// one
	// failed: invalid
	// three
	// 2 of 3
}

// Events that happen after the call to Events are not missed, wherever the loop
// runs.
func ExamplePool_Events() {
	ctx := context.Background()
	pool, cleanup := open(ctx)
	defer cleanup()

	events := pool.Events(ctx, claudepool.EventFilter{Kinds: []claudepool.EventKind{claudepool.EventTask}})
	if _, err := pool.Submit(ctx, claudepool.Task{Prompt: "[[reply:done]]"}); err != nil {
		log.Fatal(err)
	}
	for e := range events {
		fmt.Println(e.TaskState)
		if e.TaskState.Terminal() {
			break
		}
	}
	// Output:
	// pending
	// running
	// completed
}

// A follow-up goes on in the conversation of an earlier task.
func ExampleSession() {
	ctx := context.Background()
	pool, cleanup := open(ctx)
	defer cleanup()

	first, err := pool.Run(ctx, claudepool.Task{Prompt: "Remember the number 7."})
	if err != nil {
		log.Fatal(err)
	}
	followUp := claudepool.Task{
		Prompt:  "[[history]]",
		Session: claudepool.Session{Task: first.TaskID},
	}
	r, err := pool.Run(ctx, followUp)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Output)
	// Output:
	// Remember the number 7.
	// [[history]]
}

// A task that does not complete gives a *TaskError, and its result all the same.
func ExampleTaskError() {
	ctx := context.Background()
	pool, cleanup := open(ctx)
	defer cleanup()

	r, err := pool.Run(ctx, claudepool.Task{Prompt: "[[status:401]]"})
	if failure, ok := errors.AsType[*claudepool.TaskError](err); ok {
		fmt.Println(failure.Result.Outcome, r.Failure.Class.Retryable())
	}
	// Output: auth false
}

// A task whose cap the budget can never pay is refused before it is stored.
func ExampleBudgetExhausted() {
	ctx := context.Background()
	builder, cleanup := offline()
	defer cleanup()
	pool, err := builder.Budget(claudepool.USD(0.50)).Build(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	_, err = pool.Submit(ctx, claudepool.Task{
		Prompt:    "Rewrite the whole repository.",
		Overrides: claudepool.TaskOverrides{MaxCost: claudepool.USD(20)},
	})
	if refusal, ok := errors.AsType[*claudepool.BudgetExhausted](err); ok {
		fmt.Printf("%v needed, %v spent of %v\n", refusal.Needed, refusal.Spent, refusal.Limit)
	}
	// Output: $20.00 needed, $0.00 spent of $0.50
}

func ExamplePool_Explain() {
	ctx := context.Background()
	pool, cleanup := open(ctx)
	defer cleanup()

	pool.Pause()
	id, err := pool.Submit(ctx, claudepool.Task{Prompt: "[[reply:at last]]"})
	if err != nil {
		log.Fatal(err)
	}
	why, err := pool.Explain(ctx, id)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(why.State, "-", why.Reason)

	pool.Resume()
	r, err := pool.Wait(ctx, id)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Output)
	// Output:
	// pending - dispatch is paused; resume it
	// at last
}
