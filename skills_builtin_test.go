package claudepool_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/google/go-cmp/cmp"
)

// What is built in, with the arguments that are required.
var (
	builtinSkills = map[string][]string{
		"code_review": nil, "implement": {"task"}, "write_tests": {"target"}, "refactor": {"target"}, "summarize": {"target"},
		"pre_push": nil, "create_pr": nil, "rebase_onto_main": nil, "issue_triage": {"issue"}, "plan_then_execute": {"task"},
		"pool_dashboard": nil, "chain_watcher": {"task_id"}, "issue_watcher": nil,
	}
	builtinCoordinator = []string{"chain_watcher", "issue_watcher", "pool_dashboard"}
	builtinReaders     = []string{"code_review", "issue_triage", "summarize"}
	builtinWorkflows   = map[string][]string{
		"issue_to_pr": {"issue_url"}, "refactor_and_test": {"target_file", "refactor_goal"}, "review_and_fix": {"review_target"},
		"review_panel": {"review_target"}, "map_reduce": {"task"},
	}
)

// builtins are the registries with nothing but what is built in.
func builtins(t *testing.T) (*claudepool.SkillRegistry, *claudepool.WorkflowRegistry) {
	t.Helper()
	skills, err := claudepool.NewSkillRegistry(claudepool.SourceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	workflows, err := claudepool.NewWorkflowRegistry(claudepool.SourceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return skills, workflows
}

// given makes values for arguments.
func given(names []string) map[string]string {
	args := map[string]string{}
	for _, n := range names {
		args[n] = "<value of " + n + ">"
	}
	return args
}

func TestBuiltinSkillsAreSound(t *testing.T) {
	t.Parallel()
	skills, _ := builtins(t)
	for _, p := range skills.Problems() {
		t.Error(p)
	}
	var names, coordinator []string
	for _, s := range skills.Skills(claudepool.SkillFilter{}) {
		names = append(names, s.Name)
		if s.Scope == claudepool.ScopeSkillCoordinator {
			coordinator = append(coordinator, s.Name)
		}
		var required, all []string
		for _, a := range s.Arguments {
			all = append(all, a.Name)
			if a.Required {
				required = append(required, a.Name)
			}
			if a.Description == "" {
				t.Errorf("%s: the argument %s has no description", s.Name, a.Name)
			}
			if !a.Required && a.Default == "" {
				t.Errorf("%s: the argument %s is not required and has no default", s.Name, a.Name)
			}
			if !strings.Contains(s.Prompt, "{"+a.Name+"}") {
				t.Errorf("%s: the argument %s has no place in the prompt", s.Name, a.Name)
			}
			if !strings.Contains(s.ArgumentHint, a.Name) {
				t.Errorf("%s: the hint %q lacks %s", s.Name, s.ArgumentHint, a.Name)
			}
		}
		if diff := cmp.Diff(builtinSkills[s.Name], required); diff != "" {
			t.Errorf("%s requires other arguments than it should (-want +got):\n%s", s.Name, diff)
		}
		if n := strings.Count(s.Prompt, "\n") + 1; n < 20 || n > 60 {
			t.Errorf("%s has %d lines, want 20 to 60", s.Name, n)
		}
		if len(s.Description) < 60 || len(s.Description) > 300 {
			t.Errorf("%s: the description has %d characters, want 60 to 300", s.Name, len(s.Description))
		}
		if !strings.Contains(s.Prompt, "Answer in this shape") {
			t.Errorf("%s does not say how to answer", s.Name)
		}
		if len(s.AllowedTools) == 0 {
			t.Errorf("%s names no tools", s.Name)
		}
		for value, args := range map[string]map[string]string{"required": given(required), "all": given(all)} {
			prompt, err := s.Expand(args)
			if err != nil {
				t.Errorf("%s with %s arguments: %v", s.Name, value, err)
			}
			for _, v := range args {
				if !strings.Contains(prompt, v) {
					t.Errorf("%s: the prompt lacks %q", s.Name, v)
				}
			}
			if left := regexp.MustCompile(`\{[a-z_]+\}|\$[A-Z0-9{]`).FindString(prompt); left != "" {
				t.Errorf("%s: %s is left in the prompt", s.Name, left)
			}
		}
		if len(required) > 0 {
			if _, err := s.Expand(nil); err == nil {
				t.Errorf("%s can be expanded without %v", s.Name, required)
			}
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(builtinSkills)), names); diff != "" {
		t.Errorf("other skills are built in (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(builtinCoordinator, coordinator); diff != "" {
		t.Errorf("other skills are for the coordinator (-want +got):\n%s", diff)
	}
}

// A skill that only reads is given nothing to write with, and none goes past
// what protects other people's work.
func TestBuiltinSkillsDoNoHarm(t *testing.T) {
	t.Parallel()
	skills, _ := builtins(t)
	for _, name := range builtinReaders {
		s, err := skills.Skill(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, rule := range s.AllowedTools {
			if !regexp.MustCompile(`^(Read|Grep|Glob|Bash\(git (status|(diff|log|show|blame) \*)\)|Bash\(gh (issue|pr|label) (view|list) \*\))$`).MatchString(rule) {
				t.Errorf("%s, which is to read only, may use %s", name, rule)
			}
		}
		if s.Config.PermissionMode != "" {
			t.Errorf("%s, which is to read only, has the permission mode %s", name, s.Config.PermissionMode)
		}
	}
	for _, s := range skills.Skills(claudepool.SkillFilter{}) {
		if s.Config.PermissionMode != "" && s.Config.PermissionMode != claude.PermissionAcceptEdits {
			t.Errorf("%s has the permission mode %s", s.Name, s.Config.PermissionMode)
		}
	}
	pr, err := skills.Skill("create_pr")
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range pr.AllowedTools {
		if strings.Contains(rule, "push") && rule != "Bash(git push -u origin HEAD)" || rule == "Bash" || strings.Contains(rule, "git *") {
			t.Errorf("create_pr may push otherwise than plainly: %s", rule)
		}
	}
	for name, words := range map[string][]string{"rebase_onto_main": {"backup/", "Never push", "git reset --hard"}, "create_pr": {"Never force"}} {
		s, err := skills.Skill(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range words {
			if !strings.Contains(s.Prompt, w) {
				t.Errorf("%s does not say %q", name, w)
			}
		}
	}
}

func TestBuiltinWorkflowsAreSound(t *testing.T) {
	t.Parallel()
	_, workflows := builtins(t)
	for _, p := range workflows.Problems() {
		t.Error(p)
	}
	var names []string
	for _, w := range workflows.Workflows() {
		names = append(names, w.Name)
		var required []string
		for _, a := range w.Arguments {
			if a.Required {
				required = append(required, a.Name)
			}
			if a.Description == "" || !a.Required && a.Default == "" {
				t.Errorf("%s: the argument %s lacks a description or a default", w.Name, a.Name)
			}
		}
		if diff := cmp.Diff(builtinWorkflows[w.Name], required); diff != "" {
			t.Errorf("%s requires other arguments than it should (-want +got):\n%s", w.Name, diff)
		}
		if w.Description == "" {
			t.Errorf("%s has no description", w.Name)
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(builtinWorkflows)), names); diff != "" {
		t.Errorf("other workflows are built in (-want +got):\n%s", diff)
	}
}

// every gives structured output whenever it is asked for: true, a text, or a
// list of three texts, as the schema wants it.
func every(yes bool) *fakeLauncher {
	return &fakeLauncher{turn: func(_ context.Context, a *fakeAgent, p claude.Prompt, _ func(claude.Event)) (claude.Result, error) {
		res := ok("answer to: "+p.Text, 1000)
		if a.opts.JSONSchema == nil {
			return res, nil
		}
		var schema struct {
			Properties map[string]struct{ Type string }
		}
		if err := json.Unmarshal(a.opts.JSONSchema, &schema); err != nil {
			return res, err
		}
		out := map[string]any{}
		for name, p := range schema.Properties {
			out[name] = map[string]any{"boolean": yes, "string": "text of " + name, "array": []string{"part 0", "part 1", "part 2"}}[p.Type]
		}
		b, err := json.Marshal(out)
		res.Structured, res.Text = b, string(b)
		return res, err
	}}
}

func TestBuiltinWorkflowsRunToTheirEnd(t *testing.T) {
	t.Parallel()
	skipped := map[string]string{ // when the agent says that there is nothing to do
		"issue_to_pr": "review finish check pull_request", "review_and_fix": "verify",
	}
	for name, required := range builtinWorkflows {
		for _, yes := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/%t", name, yes), func(t *testing.T) {
				t.Parallel()
				skills, workflows := builtins(t)
				l := every(yes)
				p := build(t, claudepool.PoolConfig{Slots: 3, Launcher: l, Skills: skills, Workflows: workflows})
				id, err := p.InvokeWorkflow(t.Context(), name, given(required), claudepool.ChainOptions{})
				if err != nil {
					t.Fatal(err)
				}
				r, err := p.WaitChain(t.Context(), id)
				if err != nil {
					t.Fatalf("%v\n%+v", err, r.Steps)
				}
				var left []string
				for _, s := range r.Steps {
					if s.State != claudepool.StepCompleted {
						left = append(left, s.Name)
					}
				}
				want := ""
				if !yes {
					want = skipped[name]
				}
				if got := strings.Join(left, " "); got != want {
					t.Errorf("the steps %q did not run, want %q", got, want)
				}
				if r.Output == "" || r.Cost == 0 {
					t.Errorf("output %q, cost %v", r.Output, r.Cost)
				}
				var said strings.Builder
				for _, a := range l.agents() {
					said.WriteString(strings.Join(a.said(), "\n"))
				}
				if left := regexp.MustCompile(`\{(steps\.|item\}|error\}|previous_output\})[^"]*`).FindString(said.String()); left != "" {
					t.Errorf("a placeholder was left: %s", left)
				}
			})
		}
	}
}

// The panel has as many reviewers as lenses, and the judge sees all of them.
func TestBuiltinReviewPanel(t *testing.T) {
	t.Parallel()
	skills, workflows := builtins(t)
	p := build(t, claudepool.PoolConfig{Slots: 3, Launcher: every(true), Skills: skills, Workflows: workflows})
	id, err := p.InvokeWorkflow(t.Context(), "review_panel", map[string]string{"review_target": "all of it", "lenses": `["lens A","lens B"]`}, claudepool.ChainOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.WaitChain(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(r.Steps[0].Items); n != 2 {
		t.Errorf("%d reviewers, want 2", n)
	}
	for _, want := range []string{"lens A. Other reviewers", "lens B. Other reviewers", "You are the judge"} {
		if !strings.Contains(r.Output, want) {
			t.Errorf("the judge did not see %q", want)
		}
	}
}
