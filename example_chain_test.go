package claudepool_test

import (
	"context"
	"fmt"
	"log"

	"github.com/claudepool/claudepool"
)

// Later steps see what earlier ones gave. A step is a prompt, or a skill.
func ExamplePool_ExecuteChain() {
	ctx := context.Background()
	pool, cleanup := open(ctx)
	defer cleanup()

	chain, err := pool.ExecuteChain(ctx, claudepool.Chain{
		Arguments: map[string]string{"file": "cache.go"},
		Steps: []claudepool.ChainStep{
			{Name: "plan", Action: claudepool.StepAction{Prompt: "Plan how to speed up {file}."}},
			{Name: "work", Action: claudepool.StepAction{Prompt: "Do this: {previous_output}"}},
			{Name: "check", Action: claudepool.StepAction{
				Skill:     "code_review",
				Arguments: map[string]string{"target": "{file}, after: {steps.work.output}"},
			}},
		},
	}, claudepool.ChainOptions{})
	if err != nil {
		log.Fatal(err) // a *TaskError when the chain has not completed; chain says which step and why
	}
	fmt.Println(chain.Output)
}

// What does not wait for another step runs side by side, here once for each
// item of a list.
func ExampleChainStep() {
	ctx := context.Background()
	pool, cleanup := open(ctx)
	defer cleanup()

	chain, err := pool.ExecuteChain(ctx, claudepool.Chain{
		Arguments: map[string]string{"names": `["Ada", "Alan"]`},
		Steps: []claudepool.ChainStep{
			{Name: "greet", ForEach: "names", Action: claudepool.StepAction{Prompt: "[[reply:Hello {item}!]]"}},
			{Name: "count", Needs: []string{}, Action: claudepool.StepAction{Prompt: "[[reply:two]]"}},
			{Name: "join", Needs: []string{"greet", "count"}, Action: claudepool.StepAction{
				Prompt: "[[reply:{steps.count.output} of them: {steps.greet.output} ]]",
			}},
		},
	}, claudepool.ChainOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(chain.Output)
	// Output: two of them: ["Hello Ada!","Hello Alan!"]
}

// WatchChain tells how a chain stands whenever that changes.
func ExamplePool_WatchChain() {
	ctx := context.Background()
	pool, cleanup := open(ctx)
	defer cleanup()

	id, err := pool.SubmitChain(ctx, claudepool.Chain{Steps: []claudepool.ChainStep{
		{Name: "one", Action: claudepool.StepAction{Prompt: "[[reply:1]]"}},
		{Name: "two", Action: claudepool.StepAction{Prompt: "[[reply:{previous_output}2]]"}},
	}}, claudepool.ChainOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for chain, err := range pool.WatchChain(ctx, id) {
		if err != nil {
			log.Fatal(err)
		}
		if chain.State.Terminal() {
			fmt.Println(chain.State, chain.Output)
		}
	}
	// Output: completed 12
}
