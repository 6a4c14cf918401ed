package claudepool

import (
	"context"
	"maps"
)

// Skills returns the registry of the skills of this pool.
func (p *Pool) Skills() *SkillRegistry { return p.cfg.Skills }

// Task returns the task that runs the skill: t with the skill's prompt, with
// what the skill sets below t's overrides, and with its Call. It checks nothing
// but the arguments; see [Skill.Expand]. The prompt of t must be empty.
func (s Skill) Task(args map[string]string, t Task) (Task, error) {
	if t.Prompt != "" {
		return Task{}, invalidField("prompt", "must be empty: the skill %q brings its own", s.Name)
	}
	prompt, err := s.Expand(args)
	if err != nil {
		return Task{}, err
	}
	t.Prompt = prompt
	t.Call = &Call{Skill: s.Name, Arguments: maps.Clone(args)}
	t.Overrides.AgentConfig = s.agentConfig().Merge(t.Overrides.AgentConfig)
	return t, nil
}

// SubmitSkill submits a task that runs a skill as it is now, and returns at
// once. t says all but the prompt. What the skill sets is checked as if t set
// it: a skill can do nothing that a task of this pool cannot. Unknown names are
// [ErrUnknownSkill], wrong arguments [*InvalidError]; for the rest see
// [Pool.Submit]. An idempotency key that was used for this skill with these
// arguments gets the first task, also when the skill has been edited or removed
// since.
func (p *Pool) SubmitSkill(ctx context.Context, name string, args map[string]string, t Task) (TaskID, error) {
	asked := t
	asked.Call = &Call{Skill: name, Arguments: args}
	return p.accept(ctx, TaskRecord{Task: asked}, func() (TaskRecord, error) {
		s, err := p.cfg.Skills.Skill(name)
		if err != nil {
			return TaskRecord{}, err
		}
		t, err := s.Task(args, t)
		if err != nil {
			return TaskRecord{}, err
		}
		return p.newTask(ctx, t)
	})
}

// RunSkill runs a skill as [Pool.SubmitSkill] does, and waits for the result as
// [Pool.Run] does.
func (p *Pool) RunSkill(ctx context.Context, name string, args map[string]string, t Task) (TaskResult, error) {
	id, err := p.SubmitSkill(ctx, name, args, t)
	if err != nil {
		return TaskResult{}, err
	}
	return p.attend(ctx, id)
}
