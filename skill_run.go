package claudepool

import "context"

// Skills returns the registry of the skills of this pool.
func (p *Pool) Skills() *SkillRegistry { return p.cfg.Skills }

// Task returns the task that runs the skill: t with the skill's prompt, and
// with what the skill sets below t's overrides. It checks nothing but the
// arguments; see [Skill.Expand]. The prompt of t must be empty.
func (s Skill) Task(args map[string]string, t Task) (Task, error) {
	if t.Prompt != "" {
		return Task{}, invalidField("prompt", "must be empty: the skill %q brings its own", s.Name)
	}
	prompt, err := s.Expand(args)
	if err != nil {
		return Task{}, err
	}
	t.Prompt = prompt
	t.Overrides.AgentConfig = s.agentConfig().Merge(t.Overrides.AgentConfig)
	return t, nil
}

// SubmitSkill submits a task that runs a skill as it is now, and returns at
// once. t says all but the prompt. What the skill sets is checked as if t set
// it: a skill can do nothing that a task of this pool cannot. Unknown names are
// [ErrUnknownSkill], wrong arguments [*InvalidError]; for the rest see
// [Pool.Submit].
func (p *Pool) SubmitSkill(ctx context.Context, name string, args map[string]string, t Task) (TaskID, error) {
	t, err := p.skillTask(name, args, t)
	if err != nil {
		return "", err
	}
	return p.Submit(ctx, t)
}

// RunSkill runs a skill as [Pool.SubmitSkill] does, and waits for the result as
// [Pool.Run] does.
func (p *Pool) RunSkill(ctx context.Context, name string, args map[string]string, t Task) (TaskResult, error) {
	t, err := p.skillTask(name, args, t)
	if err != nil {
		return TaskResult{}, err
	}
	return p.Run(ctx, t)
}

func (p *Pool) skillTask(name string, args map[string]string, t Task) (Task, error) {
	s, err := p.cfg.Skills.Skill(name)
	if err != nil {
		return Task{}, err
	}
	return s.Task(args, t)
}
