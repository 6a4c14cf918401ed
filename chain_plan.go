package claudepool

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/claudepool/claudepool/internal/template"
)

// Bounds of a chain.
const (
	MaxSteps = 256   // steps of a chain
	MaxItems = 1_000 // items of a step with ForEach
)

// chainPlan is a chain that was found to be sound, and how its steps hang together.
type chainPlan struct {
	chain *Chain
	steps []planStep // in the order of the chain
	order []int      // every step after all it needs
	index map[string]int
	graph bool // a step says what it needs
}

// planStep is a step of a plan.
type planStep struct {
	*ChainStep
	needs  []int
	before []bool // the steps that have ended when this one begins
	when   *condition
	each   string // reference of ForEach, or empty
}

var (
	stepName     = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	argumentName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,63}$`)
)

// reservedNames are those of placeholders that mean something in every chain.
var reservedNames = []string{refPrevious, refError, refItem, refIndex, "steps"}

// Names of placeholders.
const (
	refPrevious = "previous_output"
	refError    = "error"
	refItem     = "item"
	refIndex    = "index"
)

// Validate checks what can be said of a chain without a pool: that it has
// steps, that their names are sound and different, that what they need and
// refer to is there and runs before them, and that no step waits for itself.
// The error is an [*InvalidError] that names the step.
func (c *Chain) Validate() error {
	_, err := c.plan()
	return err
}

// plan checks the chain and finds out how its steps hang together.
func (c *Chain) plan() (*chainPlan, error) {
	switch {
	case len(c.Steps) == 0:
		return nil, invalidField("steps", "is empty; a chain needs at least one step")
	case len(c.Steps) > MaxSteps:
		return nil, invalidField("steps", "has %d steps, more than %d", len(c.Steps), MaxSteps)
	case c.Isolation != "" && !slices.Contains(Isolations(), c.Isolation):
		return nil, invalidField("isolation", "must be one of %v, not %q", Isolations(), c.Isolation)
	case c.MaxCost < 0:
		return nil, invalidField("max_budget_usd", "must not be negative")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Arguments)) {
		if !argumentName.MatchString(name) || slices.Contains(reservedNames, name) {
			return nil, invalidField("arguments", "has the name %q; use letters, digits, _ and - , and none of %s", name, strings.Join(reservedNames, ", "))
		}
	}
	p := &chainPlan{chain: c, steps: make([]planStep, len(c.Steps)), index: make(map[string]int, len(c.Steps))}
	for i := range c.Steps {
		s := &c.Steps[i]
		p.steps[i] = planStep{ChainStep: s, before: make([]bool, len(c.Steps))}
		p.graph = p.graph || len(s.Needs) > 0
		switch other, taken := p.index[s.Name]; {
		case !stepName.MatchString(s.Name):
			return nil, invalidField(field(i, "name"), "must be 1 to 64 letters, digits, _ or -, not %q", s.Name)
		case taken:
			return nil, invalidField(field(i, "name"), "is %q like that of steps[%d]; every step needs a name of its own", s.Name, other)
		}
		p.index[s.Name] = i
	}
	if err := p.connect(); err != nil {
		return nil, err
	}
	if err := p.sort(); err != nil {
		return nil, err
	}
	for i := range p.steps {
		if err := p.check(i); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// field names a field of a step.
func field(i int, name string) string { return fmt.Sprintf("steps[%d].%s", i, name) }

// bad is an error about a field of a step that names the step.
func (p *chainPlan) bad(i int, name, format string, args ...any) error {
	return invalidField(field(i, name), "of step %q %s", p.steps[i].Name, fmt.Sprintf(format, args...))
}

// connect finds the steps that each step needs directly.
func (p *chainPlan) connect() error {
	for i := range p.steps {
		s := &p.steps[i]
		if !p.graph {
			if i > 0 {
				s.needs = []int{i - 1}
			}
			continue
		}
		for n, name := range s.Needs {
			at, known := p.index[name]
			switch {
			case !known:
				return p.bad(i, fmt.Sprintf("needs[%d]", n), "names %q, which is no step of the chain; there are %s", name, p.names())
			case at == i:
				return p.bad(i, fmt.Sprintf("needs[%d]", n), "names the step itself")
			case !slices.Contains(s.needs, at):
				s.needs = append(s.needs, at)
			}
		}
	}
	return nil
}

func (p *chainPlan) names() string {
	var names []string
	for i := range p.steps {
		names = append(names, p.steps[i].Name)
	}
	return strings.Join(names, ", ")
}

// sort orders the steps so that each follows all it needs, the earlier listed
// first.
func (p *chainPlan) sort() error {
	done := make([]bool, len(p.steps))
	for len(p.order) < len(p.steps) {
		next := slices.IndexFunc(p.steps, func(s planStep) bool {
			return !done[p.index[s.Name]] && !slices.ContainsFunc(s.needs, func(n int) bool { return !done[n] })
		})
		if next < 0 {
			i, cycle := p.cycle(done)
			return p.bad(i, "needs", "make a cycle: %s", cycle)
		}
		done[next] = true
		p.order = append(p.order, next)
		s := &p.steps[next]
		for _, n := range s.needs {
			s.before[n] = true
			for m, before := range p.steps[n].before {
				s.before[m] = s.before[m] || before
			}
		}
	}
	return nil
}

// cycle describes a cycle among the steps that are not done, and names one in it.
func (p *chainPlan) cycle(done []bool) (int, string) {
	at := slices.Index(done, false)
	var path []int
	for !slices.Contains(path, at) {
		path = append(path, at)
		needs := p.steps[at].needs
		at = needs[slices.IndexFunc(needs, func(n int) bool { return !done[n] })]
	}
	var names []string
	for _, i := range append(path[slices.Index(path, at):], at) {
		names = append(names, p.steps[i].Name)
	}
	return at, strings.Join(names, " needs ")
}

// check checks one step by itself and what it refers to.
func (p *chainPlan) check(i int) error {
	s := &p.steps[i]
	a := &s.Action
	switch {
	case strings.TrimSpace(a.Prompt) == "" && a.Skill == "":
		return p.bad(i, "action", "is empty; give a prompt or a skill")
	case a.Prompt != "" && a.Skill != "":
		return p.bad(i, "action", "has both a prompt and a skill")
	case a.Skill == "" && len(a.Arguments) > 0:
		return p.bad(i, "action.arguments", "are those of a skill, and there is none")
	case p.chain.OneSession && (p.graph || s.ForEach != ""):
		return p.bad(i, "needs", "or for_each cannot be given in a chain with one session, whose steps follow one another")
	case i > 0 && p.chain.OneSession && (s.Overrides.SystemPrompt != "" || s.Overrides.AppendPrompt != ""):
		return p.bad(i, "overrides.system_prompt", "cannot be given: the step continues a session, which keeps its own")
	case s.Overrides.MaxCost < 0:
		return p.bad(i, "overrides.max_budget_usd", "must not be negative")
	case s.Overrides.Timeout < 0:
		return p.bad(i, "overrides.timeout_secs", "must not be negative")
	}
	for _, name := range slices.Sorted(maps.Keys(s.OutputVars)) {
		if !stepName.MatchString(name) || name == "output" {
			return p.bad(i, "output_vars", "has the name %q; use letters, digits, _ and -, and not output", name)
		}
		if s.OutputVars[name] == "" {
			return p.bad(i, "output_vars", "has no path for %q", name)
		}
	}
	if s.When != "" {
		c, err := parseCondition(s.When)
		if err == nil {
			err = p.known(i, c.ref, "")
		}
		if err != nil {
			return p.bad(i, "when", "%v; a condition is %s", err, conditionForms)
		}
		s.when = &c
	}
	if s.ForEach != "" {
		ref, err := parseRef(s.ForEach)
		if err == nil {
			err = p.known(i, ref, "")
		}
		if err != nil {
			return p.bad(i, "for_each", "%v", err)
		}
		s.each = ref
	}
	texts := map[string]string{"action.prompt": a.Prompt}
	for name, text := range a.Arguments {
		texts["action.arguments."+name] = text
	}
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		if err := p.checkText(i, name, texts[name], ""); err != nil {
			return err
		}
	}
	return p.checkText(i, "on_failure.recovery_prompt", s.OnFailure.RecoveryPrompt, refError)
}

// checkText checks the placeholders of a text. also is one that it may have
// beside those of every text.
func (p *chainPlan) checkText(i int, name, text, also string) error {
	_, err := template.Expand(text, func(ref string) (string, bool, error) {
		err := p.known(i, ref, also)
		if errors.Is(err, errNoRef) {
			return "", false, nil
		}
		if (ref == refItem || ref == refIndex) && p.steps[i].ForEach != "" {
			err = nil
		}
		return "", err == nil, err
	})
	if err != nil {
		return p.bad(i, name, "cannot be used: %v; a text that is to hold such braces can come as an argument", err)
	}
	return nil
}

// errNoRef says that something is no reference at all.
var errNoRef = errors.New("names nothing the chain knows")

// known reports why a step cannot refer to something.
func (p *chainPlan) known(i int, ref, also string) error {
	name, isStep := strings.CutPrefix(ref, "steps.")
	_, isArgument := p.chain.Arguments[ref]
	switch {
	case ref == also && also != "" || isArgument:
		return nil
	case ref == refPrevious:
		switch needs := len(p.steps[i].needs); {
		case needs == 0:
			return errors.New("no step comes before this one")
		case needs > 1:
			return errors.New("the step needs several others; say which one, as in steps.NAME.output")
		}
		return nil
	case ref == refError:
		return errors.New("it is known in a recovery prompt only")
	case ref == refItem, ref == refIndex:
		return errors.New("it is known in the texts of a step with for_each only")
	case !isStep:
		return fmt.Errorf("%q %w", ref, errNoRef)
	}
	step, part, _ := strings.Cut(name, ".")
	at, exists := p.index[step]
	switch {
	case !exists:
		return fmt.Errorf("there is no step %q; there are %s", step, p.names())
	case at == i:
		return errors.New("the step refers to itself")
	case !p.steps[i].before[at] && p.graph:
		return fmt.Errorf("the step does not need %q, so that may not have ended; add it to needs", step)
	case !p.steps[i].before[at]:
		return fmt.Errorf("step %q comes later", step)
	case part == "output":
		return nil
	}
	if _, ok := p.steps[at].OutputVars[part]; !ok {
		return fmt.Errorf("step %q has no output variable %q; there are output%s", step, part, strings.Join(append([]string{""}, slices.Sorted(maps.Keys(p.steps[at].OutputVars))...), ", "))
	}
	return nil
}
