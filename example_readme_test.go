package claudepool_test

import (
	"context"
	"fmt"
	"log"

	"github.com/claudepool/claudepool"
)

// review asks four warm processes of your Claude CLI about some files, for at
// most two dollars, and prints what each of them says.
func review(ctx context.Context, files []string) error {
	pool, err := claudepool.NewPoolBuilder().
		Slots(4).
		Budget(claudepool.USD(2)).
		Build(ctx)
	if err != nil {
		return err // no claude program, one that is too old, a setting that cannot be
	}
	defer pool.Close()

	tasks := make([]claudepool.Task, len(files))
	for i, name := range files {
		tasks[i].Prompt = "Review " + name + ". Name its worst fault, in one sentence."
		tasks[i].Overrides.MaxCost = claudepool.USD(0.20) // reserved before it starts
	}
	out, err := pool.FanOut(ctx, tasks, claudepool.FanOutOptions{})
	if err != nil {
		return err
	}
	for i, r := range out.Results {
		fmt.Printf("%s (%s): %s\n", files[i], r.Outcome, r.Output)
	}
	fmt.Printf("%d of %d done\n", out.Census.OK, out.Census.Asked)
	return nil
}

func Example() {
	if err := review(context.Background(), []string{"main.go", "pool.go"}); err != nil {
		log.Fatal(err)
	}
}
