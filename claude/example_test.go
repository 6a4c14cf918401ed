package claude_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/claudetest"
)

// exampleOptions start the stand-in of package claudetest, so that the examples
// run without an account. Leave them out to start the real CLI.
func exampleOptions() claude.Options {
	o, err := claudetest.StandInOptions(claudetest.StandInConfig{})
	if err != nil {
		log.Fatal(err)
	}
	o.Env["ANTHROPIC_API_KEY"] = claudetest.FakeKey
	o.NoPersistence = true
	o.Settings.Model = "claude-sonnet-5"
	return o
}

func ExampleStart() {
	ctx := context.Background()
	p, err := claude.Start(ctx, exampleOptions())
	switch {
	case errors.Is(err, claude.ErrNotFound):
		log.Fatal("install the CLI first: ", err)
	case err != nil:
		log.Fatal(err)
	}
	defer p.Close(ctx)
	fmt.Println("version", p.Info().Version, "paid with", p.Info().KeySource)
	// Output: version 2.1.330 paid with ANTHROPIC_API_KEY
}

func ExampleProcess_Turn() {
	ctx := context.Background()
	p, err := claude.Start(ctx, exampleOptions())
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close(ctx)

	// The stand-in does what the prompt says between double brackets.
	prompt := claude.Prompt{Text: "[[bash:echo 42]][[reply:The answer is 42.]]"}
	r, err := p.Turn(ctx, prompt, func(e claude.Event) {
		switch e := e.(type) {
		case claude.ToolUse:
			fmt.Println("calls", e.Name)
		case claude.ToolResult:
			fmt.Println("gets", e.Content)
		}
	})
	switch {
	case err != nil:
		log.Fatal(err) // there is no result
	case r.IsError:
		log.Fatal(r.APIError, r.Errors, r.Text) // there is one, and it is a failure
	}
	fmt.Println("says", r.Text)
	fmt.Println("for", r.Cost)
	// Output:
	// calls Bash
	// gets 42
	// says The answer is 42.
	// for $0.000600
}

func ExampleProcess_Reset() {
	ctx := context.Background()
	o := exampleOptions()
	p, err := claude.Start(ctx, o)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { p.Close(ctx) }()
	for _, task := range []string{"[[reply:first]]", "[[reply:second]]"} {
		r, err := p.Turn(ctx, claude.Prompt{Text: task}, nil)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(r.Text)

		// The next task must not see this one. If that cannot be proven, it
		// gets another process.
		var unproven *claude.ResetError
		if err := p.Reset(ctx, o.Settings); errors.As(err, &unproven) {
			p.Close(ctx)
			if p, err = claude.Start(ctx, o); err != nil {
				log.Fatal(err)
			}
		} else if err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println("resets:", p.Info().Resets)
	// Output:
	// first
	// second
	// resets: 2
}

func ExampleOptions_permission() {
	ctx := context.Background()
	o := exampleOptions()
	o.Settings.PermissionMode = claude.PermissionDefault
	o.Permission = func(ctx context.Context, r claude.PermissionRequest) (claude.PermissionAnswer, error) {
		if r.Tool == "Write" {
			return claude.PermissionAnswer{Message: "read only, please"}, nil
		}
		return claude.PermissionAnswer{Allow: true}, nil
	}
	p, err := claude.Start(ctx, o)
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close(ctx)
	r, err := p.Turn(ctx, claude.Prompt{Text: "[[write:notes.txt:hello]]"}, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("refused:", r.Denials[0].Tool)
	// Output: refused: Write
}
