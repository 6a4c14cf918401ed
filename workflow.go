package claudepool

import (
	"context"
	"maps"
	"slices"
	"unicode/utf8"
)

// Workflow is a chain that is kept in a file, and that takes arguments.
type Workflow struct {
	// Name is lower-case letters, digits, "-" and "_", at most 64.
	Name        string             `json:"name"`
	Description string             `json:"description"`
	Arguments   []WorkflowArgument `json:"arguments,omitempty"`
	Steps       []ChainStep        `json:"steps"`
	// Config holds for all steps; a step's own wins.
	Config AgentConfig `json:"config,omitzero"`
	// OneSession, Isolation and MaxCost are those of the [Chain].
	OneSession bool           `json:"one_session,omitempty"`
	Isolation  ChainIsolation `json:"isolation,omitempty"`
	MaxCost    Microdollars   `json:"max_cost_microdollars,omitempty"`
}

// WorkflowArgument is an argument that a workflow declares.
type WorkflowArgument = SkillArgument

// Chain returns the chain that the workflow is with these arguments. They become
// the chain's own: a text of a step that names one gets its value when the step
// runs, and what the value holds is never taken for a placeholder. One that is
// neither given nor has a default is empty.
//
// The error is an [*InvalidError] for a required argument that is missing and
// for one that the workflow does not declare.
func (w Workflow) Chain(args map[string]string) (Chain, error) {
	c := w.chain()
	var declared []string
	for _, a := range w.Arguments {
		declared = append(declared, a.Name)
		value, given := args[a.Name]
		switch {
		case !given && a.Required:
			return Chain{}, invalidField("arguments."+a.Name, "is required by the workflow %q%s", w.Name, described(a.Description))
		case !given:
			value = a.Default
		case !utf8.ValidString(value):
			return Chain{}, invalidField("arguments."+a.Name, "is not valid UTF-8")
		}
		c.Arguments[a.Name] = value
	}
	for _, name := range slices.Sorted(maps.Keys(args)) {
		if !slices.Contains(declared, name) {
			return Chain{}, invalidField("arguments."+name, "is no argument of the workflow %q%s", w.Name, nearest(name, declared))
		}
	}
	return c, nil
}

// chain returns the chain with its arguments empty. It shares nothing with w.
func (w *Workflow) chain() Chain {
	c := Chain{
		Steps: w.Steps, Arguments: map[string]string{}, Overrides: w.Config,
		OneSession: w.OneSession, Isolation: w.Isolation, MaxCost: w.MaxCost,
	}
	for _, a := range w.Arguments {
		c.Arguments[a.Name] = ""
	}
	return *c.clone()
}

// clone returns a copy that shares nothing with w.
func (w Workflow) clone() Workflow {
	w.Arguments = slices.Clone(w.Arguments)
	w.Config = w.Config.clone()
	w.Steps = w.chain().Steps
	return w
}

// validate checks a workflow that was put together in whatever way, its chain
// included. The error is an [*InvalidError].
func (w Workflow) validate() error {
	switch {
	case !catalogName.MatchString(w.Name):
		return badCatalogName(w.Name)
	case !utf8.ValidString(w.Description):
		return invalidField("description", "is not valid UTF-8")
	}
	if err := validArguments(w.Arguments, reservedNames...); err != nil {
		return err
	}
	if err := w.Config.validate("config."); err != nil {
		return err
	}
	c := w.chain()
	if err := c.Validate(); err != nil {
		return err
	}
	for i, s := range w.Steps {
		if err := s.Overrides.validate(field(i, "overrides.")); err != nil {
			return err
		}
	}
	return nil
}

// Workflows returns the registry of the workflows of this pool.
func (p *Pool) Workflows() *WorkflowRegistry { return p.cfg.Workflows }

// InvokeWorkflow submits the chain that a workflow is now with these arguments,
// as [Pool.SubmitChain] does. An unknown name is [ErrUnknownWorkflow]. An
// idempotency key that was used for this workflow with these arguments gets the
// first one's task, also when the workflow has been edited or removed since.
func (p *Pool) InvokeWorkflow(ctx context.Context, name string, args map[string]string, o ChainOptions) (TaskID, error) {
	o.Call = &Call{Workflow: name, Arguments: args}
	return p.accept(ctx, TaskRecord{Task: o.task("")}, func() (TaskRecord, error) {
		w, err := p.cfg.Workflows.Workflow(name)
		if err != nil {
			return TaskRecord{}, err
		}
		c, err := w.Chain(args)
		if err != nil {
			return TaskRecord{}, err
		}
		return p.newChain(ctx, c, o)
	})
}
