// Chain runs four steps one after another. Later steps see what earlier ones
// gave; when the third fails its recovery prompt takes its place, and the fourth
// is skipped unless the first has found something. How it goes is shown live.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"strings"

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

// facts is what the first step must answer, so that others can use its parts.
const facts = `{
	"type": "object",
	"properties": {"animal": {"type": "string"}, "can_fly": {"type": "boolean"}},
	"required": ["animal", "can_fly"]
}`

func run(ctx context.Context, claude string) error {
	c, cleanup, err := demo.Config(claude)
	if err != nil {
		return err
	}
	defer cleanup()
	c.Slots = 2
	c.Agent.Tools = []string{} // words need none
	pool, err := claudepool.NewPoolBuilder().Config(c).Build(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()

	pick := claudepool.ChainStep{
		Name:       "pick",
		Action:     claudepool.StepAction{Prompt: "Pick an animal that lives in {place}."},
		OutputVars: map[string]string{"animal": "animal", "can_fly": "can_fly"},
	}
	pick.Overrides.JSONSchema = []byte(facts)
	verse := claudepool.ChainStep{
		Name:   "verse",
		Action: claudepool.StepAction{Prompt: "Write one line of verse about {steps.describe.output}"},
		OnFailure: claudepool.StepFailurePolicy{
			Retry:          claudepool.RetryPolicy{Max: -1},
			RecoveryPrompt: "A poet gave up ({error}). Write one plain sentence instead about {previous_output}",
		},
	}
	id, err := pool.SubmitChain(ctx, claudepool.Chain{
		Arguments: map[string]string{"place": "the Arctic"},
		Steps: []claudepool.ChainStep{
			pick,
			{Name: "describe", Action: claudepool.StepAction{Prompt: "Describe the {steps.pick.animal} in five words."}},
			verse,
			{Name: "wings", When: "steps.pick.can_fly", Action: claudepool.StepAction{Prompt: "Add its wings: {previous_output}"}},
		},
	}, claudepool.ChainOptions{})
	if err != nil {
		return err
	}
	for chain, err := range pool.WatchChain(ctx, id) {
		if err != nil {
			return err
		}
		var steps []string
		for _, s := range chain.Steps {
			steps = append(steps, fmt.Sprintf("%s %s", s.Name, s.State))
		}
		fmt.Println(strings.Join(steps, " · "))
	}
	chain, err := pool.WaitChain(ctx, id)
	if err != nil {
		return err
	}
	for _, s := range chain.Steps {
		how := string(s.State)
		if s.Recovered {
			how += " by its recovery prompt"
		}
		fmt.Printf("%-9s %s: %s%s\n", s.Name, how, s.Output, s.Reason)
	}
	fmt.Printf("The chain is %s for %v: %s\n", chain.State, chain.Cost, chain.Output)
	return nil
}

// standIn knows one animal, and is no poet.
func standIn(r *claudetest.Request) claudetest.Reply {
	switch {
	case strings.HasPrefix(r.Prompt, "Write one line of verse"):
		return claudetest.Status(400).Message("no verses today") // so that the step fails
	case strings.HasPrefix(r.Prompt, "Pick"):
		return claudetest.ToolUse("StructuredOutput", map[string]any{"animal": "walrus", "can_fly": false})
	case strings.HasPrefix(r.Prompt, "Describe the walrus"):
		return claudetest.Text("large, whiskered, tusked, loud, social")
	}
	return claudetest.Text("The walrus is " + r.Prompt[strings.LastIndex(r.Prompt, "about ")+len("about "):] + ".")
}
