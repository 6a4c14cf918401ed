package mcp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
)

// argument is an argument that a skill or a workflow declares.
type argument struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Required    bool   `json:"required,omitempty"`
	Default     string `json:"default,omitempty"`
}

func argumentsOf(all []claudepool.SkillArgument) []argument {
	var out []argument
	for _, a := range all {
		out = append(out, argument(a))
	}
	return out
}

// signature is what arguments look like in a line.
func signature(all []argument) string {
	names := make([]string, len(all))
	for i, a := range all {
		if names[i] = a.Name; !a.Required {
			names[i] += "?"
		}
	}
	return strings.Join(names, ", ")
}

type skillRunInput struct {
	Skill     string            `json:"skill"`
	Arguments map[string]string `json:"arguments,omitempty"`
	Model     string            `json:"model,omitempty"`
	Effort    claude.Effort     `json:"effort,omitempty"`
	work
}

type skillFilter struct {
	Scope  claudepool.SkillScope `json:"scope,omitempty"`
	Source claudepool.Source     `json:"source,omitempty"`
}

// skillLine is a skill in a list.
type skillLine struct {
	Name        string                `json:"name"`
	Description string                `json:"description"`
	Hint        string                `json:"argument_hint,omitempty"`
	Arguments   []argument            `json:"arguments,omitempty"`
	Scope       claudepool.SkillScope `json:"scope"`
	Source      claudepool.Source     `json:"source"`
}

func lineOfSkill(sk claudepool.RegisteredSkill) skillLine {
	return skillLine{sk.Name, sk.Description, sk.ArgumentHint, argumentsOf(sk.Arguments), sk.Scope, sk.Source}
}

func (o skillLine) text() string {
	return fmt.Sprintf("%s(%s), %s: %s", o.Name, cmp.Or(signature(o.Arguments), o.Hint), o.Source, o.Description)
}

type skillList struct {
	Skills   []skillLine              `json:"skills"`
	Problems []claudepool.FileProblem `json:"problems,omitempty"`
}

func (o skillList) text() string {
	var b strings.Builder
	for _, sk := range o.Skills {
		b.WriteString(sk.text() + "\n")
	}
	return strings.TrimSuffix(b.String()+problemText(o.Problems), "\n")
}

func problemText(all []claudepool.FileProblem) string {
	var b strings.Builder
	for _, p := range all {
		fmt.Fprintf(&b, "problem: %v\n", p)
	}
	return b.String()
}

// skillView is one skill with all that it says.
type skillView struct {
	skillLine
	AllowedTools []string               `json:"allowed_tools,omitempty"`
	Config       claudepool.AgentConfig `json:"config,omitzero"`
	Path         string                 `json:"path,omitempty"`
	// Problem says why a newer or stronger text is not used.
	Problem string `json:"problem,omitempty"`
	Prompt  string `json:"prompt"`
}

func (o skillView) text() string {
	if o.Problem != "" {
		return "problem: " + o.Problem + "\n\n" + o.Prompt
	}
	return o.Prompt
}

type skillName struct {
	Name string `json:"name"`
}

func (o skillName) text() string { return o.Name }

type skillAddInput struct {
	Name         string                `json:"name" jsonschema:"lower-case letters, digits, - and _"`
	Description  string                `json:"description,omitempty"`
	Prompt       string                `json:"prompt" jsonschema:"may use {argument} and $ARGUMENTS"`
	Arguments    []argument            `json:"arguments,omitempty"`
	Scope        claudepool.SkillScope `json:"scope,omitempty"`
	AllowedTools []string              `json:"allowed_tools,omitempty"`
	Config       *overrides            `json:"config,omitempty"`
}

type skillFileInput struct {
	skillName
	Dir string `json:"dir,omitempty" jsonschema:"default the project's folder of skills"`
}

type skillFile struct {
	Name string `json:"name"`
	Path string `json:"path"`
}

func (o skillFile) text() string { return "wrote " + o.Path }

func (s *Server) addSkillTools() {
	add(s, ToolsetSkills, tool{
		name: "pool_skill_run", hints: works, input: overridesSchema,
		about: "Run a skill, a kept prompt with arguments, as a task and wait for its result, like pool_run.",
	}, s.runSkill)
	add(s, ToolsetSkills, tool{
		name: "pool_skill_list", hints: reads, about: "The skills, with their arguments and what is wrong with their files.",
	}, func(_ context.Context, _ *sdk.CallToolRequest, in skillFilter) (skillList, error) {
		out := skillList{Skills: []skillLine{}, Problems: s.pool.Skills().Problems()}
		for _, sk := range s.pool.Skills().Skills(claudepool.SkillFilter(in)) {
			out.Skills = append(out.Skills, lineOfSkill(sk))
		}
		return out, nil
	})
	add(s, ToolsetSkills, tool{
		name: "pool_skill_get", hints: reads, about: "One skill with its prompt.",
	}, func(_ context.Context, _ *sdk.CallToolRequest, in skillName) (skillView, error) {
		sk, err := s.pool.Skills().Skill(in.Name)
		if err != nil {
			return skillView{}, err
		}
		return skillView{lineOfSkill(sk), sk.AllowedTools, sk.Config, sk.Path, sk.Problem, sk.Prompt}, nil
	})
	add(s, ToolsetSkills, tool{
		name: "pool_skill_add", hints: adjusts, about: "Add a skill, or replace one, until the server ends; pool_skill_save keeps it.",
		input: func(in *jsonschema.Schema) {
			in.Properties["prompt"].MinLength = jsonschema.Ptr(1)
			configSchema(in)
		},
	}, s.addSkill)
	add(s, ToolsetSkills, tool{
		name: "pool_skill_remove", hints: destroys, about: "Remove a skill that was added with pool_skill_add.",
	}, func(_ context.Context, _ *sdk.CallToolRequest, in skillName) (skillName, error) {
		err := s.pool.Skills().Remove(in.Name)
		s.syncPrompts()
		return in, err
	})
	for _, t := range []struct {
		tool
		write func(name, dir string) (string, error)
	}{
		{tool{name: "pool_skill_save", hints: adds, about: "Write an added skill to a SKILL.md in a folder of skills."}, s.pool.Skills().Save},
		{tool{name: "pool_skill_eject", hints: adds, about: "Write a built-in skill to a SKILL.md in a folder of skills, to be edited there."}, s.pool.Skills().Eject},
	} {
		add(s, ToolsetSkills, t.tool, func(_ context.Context, _ *sdk.CallToolRequest, in skillFileInput) (skillFile, error) {
			path, err := t.write(in.Name, in.Dir)
			s.syncPrompts()
			return skillFile{in.Name, path}, err
		})
	}
}

// configSchema completes the inferred schema of a skill's config: what overrides
// have, but for what only tasks have.
func configSchema(in *jsonschema.Schema) {
	c := in.Properties["config"]
	delete(c.Properties, "max_budget_usd")
	delete(c.Properties, "timeout_secs")
	c.Properties["max_turns"].Minimum = jsonschema.Ptr(1.0)
}

func (s *Server) runSkill(ctx context.Context, req *sdk.CallToolRequest, in skillRunInput) (report, error) {
	t, err := s.task(ctx, req, "", in.work)
	if err != nil {
		return report{}, err
	}
	t.Overrides.Model = cmp.Or(in.Model, t.Overrides.Model)
	t.Overrides.Effort = cmp.Or(in.Effort, t.Overrides.Effort)
	t.Call = &claudepool.Call{Skill: in.Skill, Arguments: in.Arguments}
	id, known, err := s.pool.Submitted(ctx, t)
	if err != nil {
		return report{}, err
	}
	if known { // also when the skill is gone
		return s.attendReport(ctx, req, id)
	}
	sk, err := s.pool.Skills().Skill(in.Skill)
	if err != nil {
		return report{}, err
	}
	if t, err = sk.Task(in.Arguments, t); err != nil {
		return report{}, err
	}
	if err := s.taskWithinCeilings(ctx, ofSkill(sk.Name), t.Overrides); err != nil {
		return report{}, err
	}
	if id, err = s.submitTask(ctx, t); err != nil {
		return report{}, err
	}
	r, err := s.attendReport(ctx, req, id)
	if err != nil {
		return report{}, err
	}
	if sk.Problem != "" {
		r.note("an older or weaker text of the skill ran, because of %s", sk.Problem)
	}
	if sk.Scope == claudepool.ScopeSkillCoordinator {
		r.note("the skill is meant for the coordinator: a slot has no tools of the pool; to follow it yourself, read it with pool_skill_get")
	}
	return r, nil
}

func (s *Server) addSkill(ctx context.Context, _ *sdk.CallToolRequest, in skillAddInput) (skillLine, error) {
	o, err := s.overrides(ctx, in.Config)
	if bad, ok := errors.AsType[*claudepool.InvalidError](err); ok {
		return skillLine{}, &claudepool.InvalidError{Field: strings.Replace(bad.Field, "overrides.", "config.", 1), Reason: bad.Reason}
	}
	if err != nil {
		return skillLine{}, err
	}
	sk := claudepool.Skill{
		Name: in.Name, Description: in.Description, Prompt: in.Prompt, Scope: in.Scope, AllowedTools: in.AllowedTools, Config: o.AgentConfig,
	}
	for _, a := range in.Arguments {
		sk.Arguments = append(sk.Arguments, claudepool.SkillArgument(a))
	}
	if err := s.pool.Skills().Add(sk); err != nil {
		return skillLine{}, err
	}
	s.syncPrompts()
	now, err := s.pool.Skills().Skill(in.Name)
	return lineOfSkill(now), err
}
