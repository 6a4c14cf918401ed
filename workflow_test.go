package claudepool_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
)

// putWorkflow writes a workflow of a project.
func putWorkflow(t *testing.T, base, name, content string) string {
	t.Helper()
	return put(t, content, base, ".claude-pool", "workflows", name)
}

func newWorkflows(t *testing.T, o claudepool.SourceOptions) *claudepool.WorkflowRegistry {
	t.Helper()
	r, err := claudepool.NewWorkflowRegistry(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const wholeWorkflow = `# all there is
name: whole
description: Everything.
arguments:
  - {name: list, required: true, description: A list.}
  - {name: tone, default: calm}
  - note
config: {model: sonnet, append_system_prompt: Be brief.}
isolation: none
max_budget_usd: 1.5
steps:
  - name: split
    value: Split {list} in a {tone} way. {note}
    output_vars: {first: "0"}
    model: opus
    effort: low
    config: {effort: high, tools: []}
    max_budget_usd: 0.25
    timeout_secs: 90.5
    retries: 3
    recovery_prompt: "After {error}."
  - name: each
    type: skill
    value: code_review
    arguments: {target: "{item}", focus: 7}
    needs: [split]
    for_each: steps.split.output
    when: steps.split.first != "none"
    continue_on_failure: true
    retries: 0
    slot: best
    role: reviewer
`

func TestWorkflowFile(t *testing.T) {
	t.Parallel()
	project := t.TempDir()
	file := putWorkflow(t, project, "whole.yaml", wholeWorkflow)
	r := newWorkflows(t, claudepool.SourceOptions{Project: project, NoBuiltins: true})
	for _, p := range r.Problems() {
		t.Error(p)
	}
	got, err := r.Workflow("whole")
	want := claudepool.RegisteredWorkflow{Source: claudepool.SourceProject, Path: file, Workflow: claudepool.Workflow{
		Name: "whole", Description: "Everything.",
		Arguments: []claudepool.WorkflowArgument{{Name: "list", Description: "A list.", Required: true}, {Name: "tone", Default: "calm"}, {Name: "note"}},
		Config:    claudepool.AgentConfig{Model: "sonnet", AppendPrompt: "Be brief."}, Isolation: claudepool.IsolationNone, MaxCost: 1_500_000,
		Steps: []claudepool.ChainStep{
			{
				Name: "split", Action: claudepool.StepAction{Prompt: "Split {list} in a {tone} way. {note}"}, OutputVars: map[string]string{"first": "0"},
				Overrides: claudepool.TaskOverrides{
					AgentConfig: claudepool.AgentConfig{Model: "opus", Effort: claude.EffortLow, Tools: []string{}}, MaxCost: 250_000, Timeout: 90*time.Second + 500*time.Millisecond,
				},
				OnFailure: claudepool.StepFailurePolicy{Retry: claudepool.RetryPolicy{Max: 3}, RecoveryPrompt: "After {error}."},
			},
			{
				Name: "each", Action: claudepool.StepAction{Skill: "code_review", Arguments: map[string]string{"target": "{item}", "focus": "7"}},
				Needs: []string{"split"}, ForEach: "steps.split.output", When: `steps.split.first != "none"`, Slot: "best", Role: "reviewer",
				OnFailure: claudepool.StepFailurePolicy{Retry: claudepool.RetryPolicy{Max: -1}, Continue: true},
			},
		},
	}}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" || err != nil {
		t.Fatalf("workflow (-want +got):\n%s%v", diff, err)
	}

	c, err := got.Chain(map[string]string{"list": "{tone}", "note": ""})
	chain := claudepool.Chain{
		Steps: want.Steps, Overrides: want.Config, Isolation: want.Isolation, MaxCost: want.MaxCost,
		Arguments: map[string]string{"list": "{tone}", "tone": "calm", "note": ""},
	}
	if diff := cmp.Diff(chain, c, cmpopts.EquateEmpty()); diff != "" || err != nil {
		t.Errorf("chain (-want +got):\n%s%v", diff, err)
	}
	c.Steps[0].Overrides.Model = "other"
	c.Steps[1].Action.Arguments["target"] = "other"
	again, err := r.Workflow("whole")
	if diff := cmp.Diff(want, again, cmpopts.EquateEmpty()); diff != "" || err != nil {
		t.Errorf("the workflow has changed with its chain (-want +got):\n%s%v", diff, err)
	}

	_, err = got.Chain(nil)
	invalid(t, err, "arguments.list", `is required by the workflow "whole": A list.`)
	_, err = got.Chain(map[string]string{"list": "x", "tune": "y"})
	invalid(t, err, "arguments.tune", "did you mean tone")
	_, err = got.Chain(map[string]string{"list": "\xff"})
	invalid(t, err, "arguments.list", "UTF-8")
}

func TestWorkflowMistakesHaveLines(t *testing.T) {
	t.Parallel()
	step := func(lines string) string {
		return "steps:\n  - name: a\n    value: x\n  - name: b\n    value: y\n" + lines
	}
	for _, tt := range []struct {
		name, file string
		want       []string
	}{
		{"empty", "", []string{"0: steps is empty; a chain needs at least one step"}},
		{"no steps", "name: w\nsteps: []\n", []string{"2: steps is empty; a chain needs at least one step"}},
		{"unknown key", "nam: w\n" + step(""), []string{`1: the workflow has no key "nam"; there are arguments, config, description, isolation, max_budget_usd, name, one_session, steps`}},
		{"unknown key of a step", step("    need: [a]\n"), []string{`6: steps[1] has no key "need"; there are arguments, config, continue_on_failure, effort, for_each, max_budget_usd, model, name, needs, output_vars, recovery_prompt, retries, role, slot, timeout_secs, type, value, when`}},
		{"a key twice", step("    value: z\n"), []string{`6: steps[1] has the key "value" twice, first in line 5`}},
		{"wrong types", step("    needs: a\n    retries: often\n    timeout_secs: -1\n    output_vars: [a]\n    continue_on_failure: 1\n"), []string{
			`6: steps[1].needs must be a list, not the text "a"`,
			`7: steps[1].retries must be a whole number, zero or more, not the text "often"`,
			"8: steps[1].timeout_secs must be a number above zero, not -1",
			"9: steps[1].output_vars must be keys with values, not a list",
			"10: steps[1].continue_on_failure must be true or false, not 1",
		}},
		{"unknown step", step("    needs:\n      - a\n      - c\n"), []string{`8: steps[1].needs[1] of step "b" names "c", which is no step of the chain; there are a, b`}},
		{"unknown type", step("    type: shell\n"), []string{`6: steps[1].type must be "prompt" or "skill", not "shell"`}},
		{"no value", "steps:\n  - name: a\n", []string{`2: steps[0].value of step "a" is empty; give a prompt or a skill`}},
		{"cycle", step("    needs: [b]\n"), []string{`6: steps[1].needs[0] of step "b" names the step itself`}},
		{"bad effort", step("    effort: huge\n"), []string{`6: steps[1].effort must be one of [low medium high xhigh max], not "huge"`}},
		{"bad effort in the config", step("    config:\n      effort: huge\n"), []string{`7: steps[1].config.effort must be one of [low medium high xhigh max], not "huge"`}},
		{"placeholder", "steps:\n  - name: a\n    value: Use {steps.b.output}.\n", []string{`3: steps[0].value of step "a" cannot be used: placeholder {steps.b.output}: there is no step "b"; there are a; a text that is to hold such braces can come as an argument`}},
		{"placeholder in a later line", "steps:\n  - name: a\n    value: |\n      Use\n      {steps.b.output}.\n", []string{`3: steps[0].value of step "a" cannot be used: placeholder {steps.b.output} in line 2 of the text: there is no step "b"; there are a; a text that is to hold such braces can come as an argument`}},
		{"settings", "config: {settings: {hooks: {}}}\n" + step(""), []string{"1: config.settings cannot be set by a file, as it could run commands without asking; set it in the pool's configuration"}},
		{"settings of a step", step("    config:\n      settings: {}\n"), []string{"7: steps[1].config.settings cannot be set by a file, as it could run commands without asking; set it in the pool's configuration"}},
		{"reserved argument", "arguments:\n  - item\n" + step(""), []string{`2: arguments[0].name is "item", which means something else already`}},
		{"bad name", "description: x\nname: W\n" + step(""), []string{`2: name must be 1 to 64 of a-z, 0-9, _ and -, and begin with a letter or a digit, not "W"`}},
		{"no money", "max_budget_usd: 0.0000001\n" + step(""), []string{"1: max_budget_usd must be at least a millionth of a dollar"}},
		{"bad YAML", "name: w\ndescription: Use when: always\n" + step(""), []string{`2: is not valid YAML: mapping values are not allowed in this context; put a value that holds ": " in quotes`}},
		{"two documents", step("") + "---\n" + step(""), []string{"6: begins a second document; there can be only one"}},
		{"alias", "steps:\n  - &a {name: a, value: x}\n  - *a\n", []string{"3: steps[1] must be keys with values, not an alias, which cannot be used here"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			project := t.TempDir()
			file := putWorkflow(t, project, "w.yml", tt.file)
			putWorkflow(t, project, "good.yaml", "steps: [{name: a, value: x}]")
			r := newWorkflows(t, claudepool.SourceOptions{Project: project, NoBuiltins: true})
			var got []string
			for _, p := range r.Problems() {
				got = append(got, fmt.Sprintf("%d: %s", p.Line, p.Message))
				if p.Path != file {
					t.Errorf("the problem is one of %s, want %s", p.Path, file)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if _, err := r.Workflow("w"); !errors.Is(err, claudepool.ErrUnknownWorkflow) || !strings.Contains(err.Error(), r.Problems()[0].String()) {
				t.Errorf("the workflow: %v, want ErrUnknownWorkflow with the first problem", err)
			}
			if _, err := r.Workflow("good"); err != nil {
				t.Errorf("the workflow beside it: %v", err)
			}
		})
	}
}

func TestWorkflowRegistry(t *testing.T) {
	t.Parallel()
	project := t.TempDir()
	r := newWorkflows(t, claudepool.SourceOptions{Project: project})
	w := claudepool.Workflow{Name: "mine", Steps: []claudepool.ChainStep{{Name: "a", Action: claudepool.StepAction{Prompt: "x"}}}}
	before := r.Generation()
	if err := r.Add(w); err != nil {
		t.Fatal(err)
	}
	if r.Generation() == before {
		t.Error("the generation is the same though a workflow has come")
	}
	w.Steps[0].Name = "changed"
	if got, err := r.Workflow("mine"); err != nil || got.Source != claudepool.SourceRuntime || got.Steps[0].Name != "a" {
		t.Errorf("Workflow = %+v, %v", got, err)
	}
	w.Steps[0].Needs = []string{"nothing"}
	invalid(t, r.Add(w), "steps[0].needs[0]", "nothing")
	invalid(t, r.Add(claudepool.Workflow{Name: "A"}), "name", "a-z")
	if err := r.Remove("mine"); err != nil {
		t.Fatal(err)
	}
	invalid(t, r.Remove("review_and_fix"), "name", "builtin")

	file, err := r.Eject("review_and_fix", "")
	if want := filepath.Join(project, ".claude-pool/workflows/review_and_fix.yaml"); file != want || err != nil {
		t.Fatalf("Eject = %q, %v; want %q", file, err, want)
	}
	source := func() claudepool.Source {
		w, err := r.Workflow("review_and_fix")
		if err != nil {
			t.Fatal(err)
		}
		return w.Source
	}
	if got := source(); got != claudepool.SourceProject {
		t.Errorf("after Eject it comes from %s", got)
	}
	put(t, strings.Replace(readFile(t, file), "name: review_and_fix", "name: renamed", 1), file)
	if got := source(); got != claudepool.SourceBuiltin {
		t.Errorf("after the file was given another name, it comes from %s", got)
	}
	if len(r.Problems()) != 1 {
		t.Errorf("problems = %v, want one about the name", r.Problems())
	}
	if _, err := r.Workflow("renamed"); err != nil {
		t.Error(err)
	}
}

func TestInvokeWorkflow(t *testing.T) {
	t.Parallel()
	project := t.TempDir()
	putWorkflow(t, project, "w.yaml", "arguments: [{name: who, required: true}]\nsteps:\n  - {name: one, value: \"Hello {who}\"}\n  - {name: two, value: \"Then {previous_output}\"}\n")
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}, Workflows: newWorkflows(t, claudepool.SourceOptions{Project: project})})
	id, err := p.InvokeWorkflow(t.Context(), "w", map[string]string{"who": "{previous_output}"}, claudepool.ChainOptions{Tags: []string{"x"}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.WaitChain(t.Context(), id)
	if want := "Then Hello {previous_output}"; r.Output != want || err != nil {
		t.Errorf("output = %q, %v; want %q", r.Output, err, want)
	}
	_, err = p.InvokeWorkflow(t.Context(), "w", nil, claudepool.ChainOptions{})
	invalid(t, err, "arguments.who", "required")
	if _, err := p.InvokeWorkflow(t.Context(), "v", nil, claudepool.ChainOptions{}); !errors.Is(err, claudepool.ErrUnknownWorkflow) {
		t.Errorf("an unknown workflow: %v", err)
	}
}
