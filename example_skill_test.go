package claudepool_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/claudepool/claudepool"
)

// project makes a folder with one file in it.
func project(file, content string) (dir string) {
	dir, err := os.MkdirTemp("", "claudepool-example-")
	if err != nil {
		log.Fatal(err)
	}
	path := filepath.Join(dir, file)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		log.Fatal(err)
	}
	return dir
}

// A skill is a prompt in a file, with places for arguments.
func ExamplePool_RunSkill() {
	ctx := context.Background()
	dir := project(".claude-pool/skills/greet/SKILL.md", `---
name: greet
description: Greets somebody.
metadata:
  arguments:
    - {name: who, description: Whom to greet., required: true}
    - {name: tone, default: friendly}
---
[[reply:{who} was greeted]] Greet {who} in a {tone} way.
`)
	defer os.RemoveAll(dir)
	builder, cleanup := offline()
	defer cleanup()
	skills, err := claudepool.NewSkillRegistry(claudepool.StandardSources(dir))
	if err != nil {
		log.Fatal(err)
	}
	pool, err := builder.Skills(skills).Build(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	r, err := pool.RunSkill(ctx, "greet", map[string]string{"who": "Ada"}, claudepool.Task{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Output)
	_, err = pool.RunSkill(ctx, "greet", map[string]string{"whom": "Ada"}, claudepool.Task{})
	fmt.Println(err)
	// Output:
	// Ada was greeted
	// arguments.who is required by the skill "greet": Whom to greet.
}

// A skill can be added while the program runs, tried, and kept as a file.
func ExampleSkillRegistry_Save() {
	dir := project("README.md", "An empty project.\n")
	defer os.RemoveAll(dir)
	skills, err := claudepool.NewSkillRegistry(claudepool.SourceOptions{Project: dir})
	if err != nil {
		log.Fatal(err)
	}
	err = skills.Add(claudepool.Skill{
		Name:        "explain",
		Description: "Explains a file.",
		Arguments:   []claudepool.SkillArgument{{Name: "file", Required: true}},
		Prompt:      "Explain {file} to somebody new to this project.",
	})
	if err != nil {
		log.Fatal(err)
	}
	file, err := skills.Save("explain", "")
	if err != nil {
		log.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(text))
	// Output:
	// ---
	// name: explain
	// description: Explains a file.
	// metadata:
	//   scope: task
	//   arguments:
	//     - name: file
	//       required: true
	// ---
	//
	// Explain {file} to somebody new to this project.
}

// A workflow is a chain in a file, with arguments.
func ExamplePool_InvokeWorkflow() {
	ctx := context.Background()
	dir := project(".claude-pool/workflows/name_it.yaml", `
description: Finds a name for something, and a slogan.
arguments:
  - {name: thing, required: true}
steps:
  - name: name
    value: "[[reply:Gopher Tea]] Find a name for {thing}."
  - name: slogan
    value: "[[reply:Drink {previous_output}!]] Find a slogan for {previous_output}."
`)
	defer os.RemoveAll(dir)
	builder, cleanup := offline()
	defer cleanup()
	workflows, err := claudepool.NewWorkflowRegistry(claudepool.StandardSources(dir))
	if err != nil {
		log.Fatal(err)
	}
	pool, err := builder.Workflows(workflows).Build(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	id, err := pool.InvokeWorkflow(ctx, "name_it", map[string]string{"thing": "a tea"}, claudepool.ChainOptions{})
	if err != nil {
		log.Fatal(err)
	}
	chain, err := pool.WaitChain(ctx, id)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(chain.Output)
	// Output: Drink Gopher Tea!
}
