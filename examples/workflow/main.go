// Workflow keeps its prompts in files: a workflow whose middle step runs a skill
// for each item of a list. Then the skill is edited while the pool is running,
// and the next run does as the file says now.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
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

const workflow = `
description: Explains the parts of something, each by itself, and puts the explanations together.
arguments:
  - {name: thing, description: What to explain., required: true}
  - {name: parts, description: How many parts there may be., default: 3}
steps:
  - name: split
    value: |
      Name at most {parts} parts of {thing}. Answer with a JSON list of texts and nothing else.
  - name: explain
    type: skill
    value: explain
    arguments: {what: "{item}"}
    needs: [split]
    for_each: steps.split.output
    retries: 1
    continue_on_failure: true
  - name: join
    needs: [explain]
    value: "Put these into two sentences about {thing}: {steps.explain.output}"
`

const skill = `---
description: Explains something.
metadata:
  arguments:
    - {name: what, required: true}
    - {name: reader, default: a child}
---
Explain %s to {reader}: {what}
`

func run(ctx context.Context, claude string) error {
	dir, err := os.MkdirTemp("", "claudepool-workflow-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	workflowFile := filepath.Join(dir, ".claude-pool", "workflows", "explain_parts.yaml")
	skillFile := filepath.Join(dir, ".claude-pool", "skills", "explain", "SKILL.md")
	if err := write(workflowFile, workflow); err != nil {
		return err
	}
	if err := write(skillFile, fmt.Sprintf(skill, "in five words")); err != nil {
		return err
	}

	c, cleanup, err := demo.Config(claude)
	if err != nil {
		return err
	}
	defer cleanup()
	c.Slots = 3
	c.WorkDir = dir            // whose .claude-pool is read
	c.Agent.Tools = []string{} // words need none
	pool, err := claudepool.NewPoolBuilder().Config(c).Build(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	for _, p := range append(pool.Skills().Problems(), pool.Workflows().Problems()...) {
		fmt.Println("cannot be used:", p)
	}

	id, err := pool.InvokeWorkflow(ctx, "explain_parts", map[string]string{"thing": "a bicycle"}, claudepool.ChainOptions{})
	if err != nil {
		return err
	}
	chain, err := pool.WaitChain(ctx, id)
	if err != nil {
		return err
	}
	for _, s := range chain.Steps {
		fmt.Printf("%-8s %s\n", s.Name, s.State)
		for _, item := range s.Items {
			fmt.Printf("           %s\n", item.Output)
		}
	}
	fmt.Println(chain.Output)

	fmt.Println("\nThe skill by itself, and after an edit:")
	for _, how := range []string{"in five words", "in one word"} {
		if err := write(skillFile, fmt.Sprintf(skill, how)); err != nil {
			return err
		}
		r, err := pool.RunSkill(ctx, "explain", map[string]string{"what": "a bell"}, claudepool.Task{})
		if err != nil {
			return err
		}
		fmt.Printf("  %s\n", r.Output)
	}
	return nil
}

// write writes a file and the folders it is in.
func write(path, content string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(content), 0o644)
}

// standIn splits everything into the same parts, and else tells what it was asked.
func standIn(r *claudetest.Request) claudetest.Reply {
	if strings.HasPrefix(r.Prompt, "Name at most") {
		return claudetest.Text(`["the frame", "the wheels", "the chain"]`)
	}
	return claudetest.Text("(answer to: " + r.Prompt + ")")
}
