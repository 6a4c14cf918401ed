package claudepool_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"

	"github.com/claudepool/claudepool"
)

// The model that decides is the stand-in here, which does as the request says.
func ExamplePool_Auto() {
	ctx := context.Background()
	pool, cleanup := open(ctx)
	defer cleanup()

	request := `[[output:{"route":"parallel","reason":"two files","prompts":["[[reply:a.go is fine]]","[[reply:b.go leaks]]"]}]]`
	hints := claudepool.RouteHints{MaxParallel: 4, Domain: "a Go service"}
	r, err := pool.Auto(ctx, request, hints, claudepool.AutoOptions{Tags: []string{"review"}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Route.Kind, "because:", r.Route.Reason)
	switch {
	case r.Single != nil:
		fmt.Println(r.Single.Output)
	case r.Parallel != nil:
		for _, part := range r.Parallel.Results {
			fmt.Println(part.Output)
		}
	case r.Chain != nil:
		fmt.Println(r.Chain.Output)
	}
	// Output:
	// parallel because: two files
	// a.go is fine
	// b.go leaks
}

// A decision that cannot be used costs nothing but itself: the request runs as
// one task, and the route says why.
func ExamplePool_Route_fallback() {
	ctx := context.Background()
	pool, cleanup := open(ctx)
	defer cleanup()

	r, err := pool.Route(ctx, `[[output:{"route":"parallel","reason":"unsure","prompts":["only one"]}]]`, claudepool.RouteHints{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Kind, "because", r.Fallback)
	// Output: single because the decision was parallel, but with 1 prompts
}

func Example_structuredOutput() {
	ctx := context.Background()
	pool, cleanup := open(ctx)
	defer cleanup()

	task := claudepool.Task{Prompt: `Rate this: "good enough". [[output:{"stars":4,"why":"it works"}]]`}
	task.Overrides.JSONSchema = json.RawMessage(`{
		"type": "object",
		"properties": {"stars": {"type": "integer", "minimum": 1, "maximum": 5}, "why": {"type": "string"}},
		"required": ["stars", "why"],
		"additionalProperties": false
	}`)
	r, err := pool.Run(ctx, task)
	if err != nil {
		log.Fatal(err) // such as: … does not fit the JSON schema at /stars: …
	}
	var rating struct {
		Stars int
		Why   string
	}
	if err := json.Unmarshal(r.Structured, &rating); err != nil {
		log.Fatal(err)
	}
	fmt.Println(rating.Stars, rating.Why)
	// Output: 4 it works
}
