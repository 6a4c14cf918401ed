package claudepool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// SubmitChain stores a chain and returns at once; the task that stands for it
// cannot be lost from then on. Each run of a step is a task of its own, with
// that one as its parent. A chain that cannot work is refused before anything
// runs, as an [*InvalidError] that names the step.
//
// Skills are taken as they are now. After a crash or a restart the chain goes
// on: steps that have completed are not run again.
//
// An idempotency key that was used for the same chain gets the first one's task,
// also when its skills have been edited or removed since; for the rest see
// [Pool.Submit].
func (p *Pool) SubmitChain(ctx context.Context, c Chain, o ChainOptions) (TaskID, error) {
	return p.accept(ctx, TaskRecord{Task: o.task(c.String()), Chain: &c}, func() (TaskRecord, error) { return p.newChain(ctx, c, o) })
}

// ExecuteChain submits a chain and waits for its end. If ctx ends first, the
// chain is cancelled. The result is complete whatever became of it; if it has
// not completed, the error is a [*TaskError].
func (p *Pool) ExecuteChain(ctx context.Context, c Chain, o ChainOptions) (ChainResult, error) {
	id, err := p.SubmitChain(ctx, c, o)
	if err != nil {
		return ChainResult{}, err
	}
	r, err := p.WaitChain(ctx, id)
	if ctx.Err() != nil {
		p.abandon(ctx, id)
	}
	return r, err
}

// WaitChain waits for the end of a chain and returns its result. If it has not
// completed, the error is a [*TaskError]. The end of ctx ends the wait, not the
// chain.
func (p *Pool) WaitChain(ctx context.Context, id TaskID) (ChainResult, error) {
	_, err := p.Wait(ctx, id)
	if _, ended := errors.AsType[*TaskError](err); err != nil && !ended {
		return ChainResult{TaskID: id}, err
	}
	// What the caller waited for is there, also when ctx has just ended.
	r, lerr := p.ChainProgress(context.WithoutCancel(ctx), id)
	if lerr != nil {
		return r, lerr
	}
	return r, err
}

// FanOutChains submits several chains, all or none, and returns the tasks that
// stand for them, in order. If o has an idempotency key, each chain gets one of
// its own from it.
func (p *Pool) FanOutChains(ctx context.Context, all []Chain, o ChainOptions) ([]TaskID, error) {
	if len(all) == 0 {
		return nil, invalidField("chains", "is empty")
	}
	in := make([]admitted, len(all))
	for i, c := range all {
		each := o
		if each.IdempotencyKey != "" {
			each.IdempotencyKey += fmt.Sprintf("/%d", i)
		}
		var err error
		in[i], err = p.admit(ctx, TaskRecord{Task: each.task(c.String()), Chain: &c}, func() (TaskRecord, error) { return p.newChain(ctx, c, each) })
		if err != nil {
			return nil, fmt.Errorf("chain %d of %d: %w", i, len(all), err)
		}
	}
	return p.createAll(ctx, "chain", in)
}

// task returns the task that stands for a chain.
func (o *ChainOptions) task(prompt string) Task {
	return Task{
		Prompt: prompt, Tags: slices.Clone(o.Tags), Priority: o.Priority, IdempotencyKey: o.IdempotencyKey,
		Owner: o.Owner, Call: o.Call, NotBefore: o.NotBefore, QueueTimeout: o.QueueTimeout,
	}
}

// newChain checks a chain that somebody submits, and that the budget can pay for
// it, and makes the record to store.
func (p *Pool) newChain(ctx context.Context, c Chain, o ChainOptions) (TaskRecord, error) {
	stored := c.clone()
	plan, err := stored.plan()
	if err != nil {
		return TaskRecord{}, err
	}
	for i := range stored.Steps {
		if err := p.define(i, &stored.Steps[i]); err != nil {
			return TaskRecord{}, err
		}
	}
	if o.Admit != nil {
		if err := o.Admit(*stored.clone()); err != nil {
			return TaskRecord{}, err
		}
	}
	resumed, err := p.resumed(ctx, &c)
	if err != nil {
		return TaskRecord{}, err
	}
	now := time.Now()
	r := TaskRecord{
		ID: TaskID(p.ids.Next("task", now)), Chain: stored, State: StatePending, Submitted: now, NotBefore: o.NotBefore,
		Task: o.task(stored.String()),
	}
	if r.Task.Owner == "" {
		r.Task.Owner = defaultOwner
	}
	r.Lane = string(r.ID)
	if err := r.Task.validate(); err != nil {
		return TaskRecord{}, err
	}
	// Not stored with the chain, which is to be the same as the one it resumes.
	r.Task.Isolation = cmp.Or(stored.Isolation, resumed.Task.Isolation)
	if err := p.checkIsolation(ctx, &r.Task); err != nil {
		return TaskRecord{}, err
	}
	if err := p.checkSteps(plan, &r); err != nil {
		return TaskRecord{}, err
	}
	return r, p.checkBudget(ctx, Task{Overrides: TaskOverrides{MaxCost: stored.MaxCost}})
}

// String names the steps of the chain.
func (c *Chain) String() string {
	names := make([]string, len(c.Steps))
	for i := range c.Steps {
		names[i] = c.Steps[i].Name
	}
	return "chain: " + strings.Join(names, ", ")
}

// define puts the skill of a step into it, as it is now.
func (p *Pool) define(i int, s *ChainStep) error {
	s.Action.Definition = nil
	if s.Action.Skill == "" {
		return nil
	}
	skill, err := p.cfg.Skills.Skill(s.Action.Skill)
	if err != nil {
		return &InvalidError{Field: field(i, "action.skill"), Reason: fmt.Sprintf("of step %q: %v", s.Name, err)}
	}
	// Arguments are known by name only, until the step runs.
	if _, err := skill.Expand(s.Action.Arguments); err != nil {
		return &InvalidError{Field: field(i, "action.arguments"), Reason: fmt.Sprintf("of step %q: %v", s.Name, err)}
	}
	s.Action.Definition = new(skill.Skill.clone())
	return nil
}

// resumed returns the chain that c resumes, if it resumes one. It refuses to go on
// with something else than the same chain.
func (p *Pool) resumed(ctx context.Context, c *Chain) (TaskRecord, error) {
	if c.Resume == "" {
		return TaskRecord{}, nil
	}
	r, err := p.store.Task(ctx, c.Resume)
	if err != nil {
		return r, fmt.Errorf("resume: %w", err)
	}
	if r.Chain == nil || !r.State.Terminal() {
		return r, invalidField("resume", "names task %s, which is %s; only a chain that has ended can be gone on with", r.ID, r.State)
	}
	was, now := *r.Chain, *c
	was.Resume, now.Resume, was.MaxCost, now.MaxCost = "", "", 0, 0
	if !was.same(&now) {
		return r, invalidField("resume", "names chain %s, which has other steps or arguments", r.ID)
	}
	return r, nil
}

// checkSteps checks the tasks that the steps will be, as far as they are known.
func (p *Pool) checkSteps(plan *chainPlan, r *TaskRecord) error {
	l := &chainLook{plan: plan, rec: r, steps: make([]StepResult, len(plan.steps)), taken: make([]bool, len(plan.steps)), find: func(TaskID) (TaskRecord, bool) { return TaskRecord{}, false }}
	for i := range plan.steps {
		t, err := stepScope{l: l, step: i, item: &stepItem{}}.task(plan.steps[i].Action, "")
		if d := plan.steps[i].Action.Definition; err == nil && d != nil && plan.chain.OneSession && i > 0 && d.Config.SystemPrompt+d.Config.AppendPrompt != "" {
			err = invalidField("action.skill", "has a system prompt, and the step continues a session, which keeps its own")
		}
		if err == nil {
			t.Prompt = "." // what it will be is not known
			err = t.validate()
		}
		if err == nil {
			_, err = p.checkOptions(&t)
		}
		if err == nil {
			err = p.checkSlot(t)
		}
		if bad, ok := errors.AsType[*InvalidError](err); ok {
			return plan.bad(i, bad.Field, "%s", bad.Reason)
		}
		if err != nil {
			return fmt.Errorf("step %q: %w", plan.steps[i].Name, err)
		}
	}
	return nil
}

// retryChain submits an ended chain again, to go on where it was.
func (p *Pool) retryChain(ctx context.Context, r TaskRecord) (TaskID, error) {
	c := *r.Chain
	c.Resume = r.ID
	t := &r.Task
	return p.SubmitChain(ctx, c, ChainOptions{Tags: t.Tags, Priority: t.Priority, Owner: t.Owner, QueueTimeout: t.QueueTimeout})
}
