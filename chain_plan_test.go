package claudepool_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/claudepool/claudepool"
)

func TestChainsThatCannotWorkAreRefused(t *testing.T) {
	t.Parallel()
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}})
	type step = claudepool.ChainStep
	text := func(s string) claudepool.StepAction { return claudepool.StepAction{Prompt: s} }
	many := make([]step, claudepool.MaxSteps+1)
	for i := range many {
		many[i] = prompt(fmt.Sprint("s", i), "x")
	}
	for name, tc := range map[string]struct {
		chain claudepool.Chain
		field string
		says  string
	}{
		"no steps":          {claudepool.Chain{}, "steps", "empty"},
		"too many":          {claudepool.Chain{Steps: many}, "steps", "more than"},
		"no name":           {claudepool.Chain{Steps: []step{prompt("", "x")}}, "steps[0].name", "letters"},
		"a name with a dot": {claudepool.Chain{Steps: []step{prompt("a.b", "x")}}, "steps[0].name", `"a.b"`},
		"a name twice":      {claudepool.Chain{Steps: []step{prompt("a", "x"), prompt("a", "y")}}, "steps[1].name", `"a"`},
		"no action":         {claudepool.Chain{Steps: []step{{Name: "a"}}}, "steps[0].action", "prompt or a skill"},
		"two actions":       {claudepool.Chain{Steps: []step{{Name: "a", Action: claudepool.StepAction{Prompt: "x", Skill: "summarize"}}}}, "steps[0].action", "both"},
		"unknown skill":     {claudepool.Chain{Steps: []step{{Name: "a", Action: claudepool.StepAction{Skill: "no_such"}}}}, "steps[0].action.skill", `"no_such"`},
		"cycle": {claudepool.Chain{Steps: []step{
			{Name: "a", Action: text("x"), Needs: []string{"c"}}, {Name: "b", Action: text("x"), Needs: []string{"a"}},
			{Name: "c", Action: text("x"), Needs: []string{"b"}}, {Name: "d", Action: text("x")}}}, "steps[0].needs", "a needs c needs b needs a"},
		"needs itself":    {claudepool.Chain{Steps: []step{{Name: "a", Action: text("x"), Needs: []string{"a"}}}}, "steps[0].needs[0]", "itself"},
		"needs a nobody":  {claudepool.Chain{Steps: []step{prompt("a", "x"), {Name: "b", Action: text("x"), Needs: []string{"a", "z"}}}}, "steps[1].needs[1]", `"z"`},
		"unknown step":    {claudepool.Chain{Steps: []step{prompt("a", "x"), prompt("b", "one\n{steps.z.output}")}}, "steps[1].action.prompt", "line 2 of the text: there is no step \"z\""},
		"later step":      {claudepool.Chain{Steps: []step{prompt("a", "{steps.b.output}"), prompt("b", "x")}}, "steps[0].action.prompt", "later"},
		"own output":      {claudepool.Chain{Steps: []step{prompt("a", "{steps.a.output}")}}, "steps[0].action.prompt", "itself"},
		"not needed":      {claudepool.Chain{Steps: []step{prompt("a", "x"), prompt("b", "x"), {Name: "c", Action: text("{steps.b.output}"), Needs: []string{"a"}}}}, "steps[2].action.prompt", "add it to needs"},
		"unknown var":     {claudepool.Chain{Steps: []step{prompt("a", "x"), prompt("b", "{steps.a.files}")}}, "steps[1].action.prompt", `variable "files"`},
		"nothing before":  {claudepool.Chain{Steps: []step{prompt("a", "{previous_output}")}}, "steps[0].action.prompt", "no step comes before"},
		"several before":  {claudepool.Chain{Steps: []step{prompt("a", "x"), prompt("b", "x"), {Name: "c", Action: text("{previous_output}"), Needs: []string{"a", "b"}}}}, "steps[2].action.prompt", "say which"},
		"item":            {claudepool.Chain{Steps: []step{prompt("a", "{item}")}}, "steps[0].action.prompt", "for_each"},
		"error":           {claudepool.Chain{Steps: []step{prompt("a", "{error}")}}, "steps[0].action.prompt", "recovery"},
		"recovery":        {claudepool.Chain{Steps: []step{{Name: "a", Action: text("x"), OnFailure: claudepool.StepFailurePolicy{RecoveryPrompt: "{error} {steps.q.output}"}}}}, "steps[0].on_failure.recovery_prompt", `"q"`},
		"for_each":        {claudepool.Chain{Steps: []step{{Name: "a", Action: text("x"), ForEach: "steps.q.output"}}}, "steps[0].for_each", `"q"`},
		"when":            {claudepool.Chain{Steps: []step{prompt("a", "x"), {Name: "b", Action: text("x"), When: "steps.a.output > 3"}}}, "steps[1].when", "a condition is"},
		"when unquoted":   {claudepool.Chain{Steps: []step{prompt("a", "x"), {Name: "b", Action: text("x"), When: "steps.a.output == yes"}}}, "steps[1].when", "double quotes"},
		"var name":        {claudepool.Chain{Steps: []step{{Name: "a", Action: text("x"), OutputVars: map[string]string{"output": "a"}}}}, "steps[0].output_vars", "output"},
		"var path":        {claudepool.Chain{Steps: []step{{Name: "a", Action: text("x"), OutputVars: map[string]string{"v": ""}}}}, "steps[0].output_vars", "path"},
		"argument name":   {claudepool.Chain{Arguments: map[string]string{"item": "x"}, Steps: []step{prompt("a", "x")}}, "arguments", `"item"`},
		"session and dag": {claudepool.Chain{OneSession: true, Steps: []step{prompt("a", "x"), {Name: "b", Action: text("x"), Needs: []string{"a"}}}}, "steps[0].needs", "one session"},
		"isolation":       {claudepool.Chain{Isolation: "moon", Steps: []step{prompt("a", "x")}}, "isolation", `"moon"`},
		"effort":          {claudepool.Chain{Steps: []step{{Name: "a", Action: text("x"), Overrides: claudepool.TaskOverrides{AgentConfig: claudepool.AgentConfig{Effort: "extreme"}}}}}, "steps[0].overrides.effort", "extreme"},
		"bypass":          {claudepool.Chain{Overrides: claudepool.AgentConfig{PermissionMode: "bypassPermissions"}, Steps: []step{prompt("a", "x")}}, "steps[0].overrides.permission_mode", "AllowBypass"},
		"cap":             {claudepool.Chain{MaxCost: -1, Steps: []step{prompt("a", "x")}}, "max_budget_usd", "negative"},
		"slot":            {claudepool.Chain{Steps: []step{{Name: "a", Action: text("x"), Slot: "slot-99"}}}, "", "slot-99"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id, err := p.SubmitChain(t.Context(), tc.chain, claudepool.ChainOptions{})
			if err == nil {
				t.Fatalf("SubmitChain took it as %s", id)
			}
			var bad *claudepool.InvalidError
			if tc.field != "" && (!errors.As(err, &bad) || bad.Field != tc.field) {
				t.Errorf("error about %+v (%v), want one about %s", bad, err, tc.field)
			}
			contains(t, "error", err.Error(), tc.says)
			if strings.HasPrefix(tc.field, "steps[") && !strings.HasSuffix(tc.field, ".name") {
				contains(t, "error names the step", err.Error(), `step "`)
			}
		})
	}
}
