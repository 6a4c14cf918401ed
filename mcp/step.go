package mcp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
)

const (
	maxSteps   = 100 // in one chain
	maxChains  = 100 // in one call of pool_fan_out_chains
	maxRetries = 10  // of one step
)

// The types of steps.
const (
	stepPrompt = "prompt"
	stepSkill  = "skill"
)

// step is a step of a chain as coordinators write it.
type step struct {
	Name              string            `json:"name"`
	Type              string            `json:"type,omitempty" jsonschema:"default prompt"`
	Value             string            `json:"value" jsonschema:"the prompt or the skill's name"`
	Arguments         map[string]string `json:"arguments,omitempty" jsonschema:"of the skill"`
	Model             string            `json:"model,omitempty"`
	Effort            claude.Effort     `json:"effort,omitempty"`
	Overrides         *overrides        `json:"overrides,omitempty"`
	Retries           *int              `json:"retries,omitempty"`
	RecoveryPrompt    string            `json:"recovery_prompt,omitempty" jsonschema:"run in place of the failed step; may use {error}"`
	ContinueOnFailure bool              `json:"continue_on_failure,omitempty"`
	OutputVars        map[string]string `json:"output_vars,omitempty" jsonschema:"VAR: dot path into the step's JSON output"`
	Needs             []string          `json:"needs,omitempty" jsonschema:"steps that must end before; once any step has needs, the rest run in parallel"`
	ForEach           string            `json:"for_each,omitempty" jsonschema:"a JSON list, such as steps.NAME.output: run once per {item}"`
	When              string            `json:"when,omitempty" jsonschema:"REF, !REF, REF == \"x\", REF != \"x\" or REF contains \"x\"; else skipped"`
	Slot              string            `json:"slot,omitempty"`
	Role              string            `json:"role,omitempty"`
}

// stepsSchema completes the inferred schema of a list of steps.
func stepsSchema(steps *jsonschema.Schema) {
	steps.MinItems, steps.MaxItems = jsonschema.Ptr(1), jsonschema.Ptr(maxSteps)
	in := steps.Items
	in.Properties["type"].Enum = []any{stepPrompt, stepSkill}
	in.Properties["value"].MinLength = jsonschema.Ptr(1)
	bound(in, "retries", 0, maxRetries)
	overridesSchema(in)
}

// chain makes the chain that the steps describe. What w says holds for all of
// them; a step's own wins.
func (s *Server) chain(ctx context.Context, steps []step, w work) (claudepool.Chain, error) {
	c := claudepool.Chain{Steps: make([]claudepool.ChainStep, len(steps))}
	for i, st := range steps {
		var err error
		if c.Steps[i], err = s.chainStep(ctx, st, fmt.Sprintf("steps[%d]", i)); err != nil {
			return c, err
		}
	}
	return c, s.adapt(ctx, &c, w)
}

// chainStep is the only place where a step becomes one of the pool's.
func (s *Server) chainStep(ctx context.Context, st step, field string) (claudepool.ChainStep, error) {
	c := claudepool.ChainStep{
		Name: st.Name, OutputVars: st.OutputVars, Needs: st.Needs, ForEach: st.ForEach, When: st.When, Slot: st.Slot, Role: st.Role,
		OnFailure: claudepool.StepFailurePolicy{RecoveryPrompt: st.RecoveryPrompt, Continue: st.ContinueOnFailure},
	}
	switch cmp.Or(st.Type, stepPrompt) {
	case stepSkill:
		c.Action = claudepool.StepAction{Skill: st.Value, Arguments: st.Arguments}
	default:
		c.Action = claudepool.StepAction{Prompt: st.Value}
		if len(st.Arguments) > 0 {
			return c, invalid(field+".arguments", "are for skills; this step has the type %s", stepPrompt)
		}
	}
	var err error
	if c.Overrides, err = s.overrides(ctx, st.Overrides); err != nil {
		return c, within(field, err)
	}
	c.Overrides.Model = cmp.Or(st.Model, c.Overrides.Model)
	c.Overrides.Effort = cmp.Or(st.Effort, c.Overrides.Effort)
	if st.Retries != nil {
		if c.OnFailure.Retry.Max = *st.Retries; *st.Retries == 0 {
			c.OnFailure.Retry.Max = -1 // zero would be the pool's default
		}
	}
	return c, nil
}

// stepOf is the inverse of chainStep for what a route is made of.
func stepOf(c claudepool.ChainStep) step {
	return step{Name: c.Name, Type: stepPrompt, Value: c.Action.Prompt, Needs: c.Needs}
}

// adapt makes what the caller wants otherwise part of the chain.
func (s *Server) adapt(ctx context.Context, c *claudepool.Chain, w work) error {
	o, err := s.overrides(ctx, w.Overrides)
	if err != nil {
		return err
	}
	c.Overrides = c.Overrides.Merge(o.AgentConfig)
	c.Isolation = cmp.Or(w.Isolation, c.Isolation)
	c.MaxCost = cmp.Or(o.MaxCost, c.MaxCost)
	for i := range c.Steps {
		st := &c.Steps[i]
		st.Overrides.Timeout = cmp.Or(st.Overrides.Timeout, o.Timeout)
		if st.Slot == "" && st.Role == "" {
			st.Slot, st.Role = w.Slot, w.Role
		}
	}
	return nil
}

// within puts the name of the field before those that an error names.
func within(field string, err error) error {
	if bad, ok := errors.AsType[*claudepool.InvalidError](err); ok {
		return &claudepool.InvalidError{Field: field + "." + bad.Field, Reason: bad.Reason}
	}
	return err
}

// stepFields turn the pool's names of a step's fields into the caller's.
var stepFields = strings.NewReplacer(
	".action.prompt", ".value", ".action.skill", ".value", ".action.arguments", ".arguments", ".action", ".value",
	".on_failure.retry.max", ".retries", ".on_failure.recovery_prompt", ".recovery_prompt", ".on_failure.continue", ".continue_on_failure",
)

// inSteps names the fields of an error about a chain as its caller does.
func inSteps(err error) error {
	bad, ok := errors.AsType[*claudepool.InvalidError](err)
	if !ok || !strings.Contains(bad.Field, "steps[") {
		return err
	}
	before, _ := strings.CutSuffix(err.Error(), bad.Error())
	return fmt.Errorf("%s%w", before, &claudepool.InvalidError{Field: stepFields.Replace(bad.Field), Reason: bad.Reason})
}
