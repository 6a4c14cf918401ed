package claudepool

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/claudepool/claudepool/claude"
)

// RouteKind is a way to carry out a request.
type RouteKind string

// The kinds of routes.
const (
	RouteSingle   RouteKind = "single"   // one task
	RouteParallel RouteKind = "parallel" // independent tasks at the same time
	RouteChain    RouteKind = "chain"    // steps of which later ones see what earlier ones gave
)

// RouteKinds lists every kind.
func RouteKinds() []RouteKind { return []RouteKind{RouteSingle, RouteParallel, RouteChain} }

// Route is a decision about how to carry out a request.
type Route struct {
	Kind RouteKind `json:"route"`
	// Prompts are the tasks: the request itself for a single one, its parts
	// when they run in parallel.
	Prompts []string `json:"prompts,omitempty"`
	// Steps are those of a chain.
	Steps []ChainStep `json:"steps,omitempty"`
	// Reason is the model's, in a sentence.
	Reason string `json:"reason,omitempty"`
	// Fallback says why the route is single although that was not decided: the
	// decision could not be used. Empty means that it could.
	Fallback string `json:"fallback,omitempty"`
	// TaskID is the task that decided, Cost what it has cost. Both are zero
	// when there was nothing to decide.
	TaskID TaskID       `json:"task_id,omitempty"`
	Cost   Microdollars `json:"cost_microdollars"`
}

// RouteHints say what the caller knows. The zero value leaves everything open.
type RouteHints struct {
	// MaxParallel and MaxChainSteps bound the parts. Zero means
	// [DefaultRouteParts]; 1 rules the kind out. A decision for more is not
	// used.
	MaxParallel   int `json:"max_parallel,omitempty"`
	MaxChainSteps int `json:"max_chain_steps,omitempty"`
	// Prefer is what to choose when two kinds fit about equally.
	Prefer RouteKind `json:"prefer,omitempty"`
	// Domain is what the request is about, such as "a React front end".
	Domain string `json:"domain,omitempty"`
	// DecompositionHints say how the request falls into parts.
	DecompositionHints []string `json:"decomposition_hints,omitempty"`
}

// DefaultRouteParts is the default bound of [RouteHints], MaxRouteParts the highest.
const (
	DefaultRouteParts = 8
	MaxRouteParts     = 64
)

// RouteConfig says how routes are decided.
type RouteConfig struct {
	// Model and Effort of the one call. Default haiku and low.
	Model  string
	Effort claude.Effort
	// Timeout bounds the call. Default 2 min.
	Timeout time.Duration
	// MaxCost caps the call. Zero means the pool's default cap.
	MaxCost Microdollars
}

func (c RouteConfig) withDefaults() RouteConfig {
	c.Model = cmp.Or(c.Model, "haiku")
	c.Effort = cmp.Or(c.Effort, claude.EffortLow)
	c.Timeout = cmp.Or(c.Timeout, 2*time.Minute)
	return c
}

func (c RouteConfig) validate() error {
	switch {
	case c.Timeout < 0:
		return invalidField("route.timeout", "must not be negative")
	case c.MaxCost < 0:
		return invalidField("route.max_cost", "must not be negative")
	}
	return AgentConfig{Effort: c.Effort}.validate("route.")
}

// RouteTag is the tag of the tasks that decide routes.
const RouteTag = "claudepool/route"

// maxRouted bounds the requests that are looked at, in bytes. A longer one is
// mostly material, and a part of it would have to hold it all.
const maxRouted = 64 << 10

// routePrompt is the system prompt of the call.
//
//go:embed route.md
var routePrompt string

// Route decides how to carry out a request, by one cheap call without tools
// ([PoolConfig].Route). It carries nothing out; see [Pool.ExecuteRoute].
//
// When the call fails or its answer cannot be used, the route is single and
// Fallback says why. Errors are: wrong hints and an empty prompt
// ([*InvalidError]), the end of ctx, [ErrClosed], a budget that does not allow
// the call ([*BudgetExhausted], or a [*TaskError] of that class), a call that
// somebody cancelled, and a store that fails.
func (p *Pool) Route(ctx context.Context, prompt string, hints RouteHints) (Route, error) {
	return p.RouteWith(ctx, prompt, hints, AutoOptions{})
}

// RouteWith decides as [Pool.Route] does. The call has the tags, the priority,
// the owner and the idempotency key of o, with which [Pool.Auto] finds it again.
func (p *Pool) RouteWith(ctx context.Context, prompt string, hints RouteHints, o AutoOptions) (Route, error) {
	if err := p.open(); err != nil {
		return Route{}, err
	}
	switch {
	case strings.TrimSpace(prompt) == "":
		return Route{}, invalidField("prompt", "is empty")
	case !utf8.ValidString(prompt):
		return Route{}, invalidField("prompt", "is not valid UTF-8")
	}
	if err := hints.validate(); err != nil {
		return Route{}, err
	}
	single := Route{Kind: RouteSingle, Prompts: []string{prompt}}
	hints = hints.withDefaults()
	switch {
	case hints.MaxParallel == 1 && hints.MaxChainSteps == 1:
		single.Reason = "the hints allow nothing else"
		return single, nil
	case len(prompt) > maxRouted:
		single.Fallback = fmt.Sprintf("the request has more than %d bytes, which is too much to take apart", maxRouted)
		return single, nil
	}
	t, err := p.routeTask(prompt, hints, o)
	if err != nil {
		return Route{}, err
	}
	res, err := p.Run(ctx, t)
	single.TaskID, single.Cost = res.TaskID, res.Cost
	if err != nil {
		if _, ended := errors.AsType[*TaskError](err); !ended || res.Outcome == OutcomeBudget || res.Outcome == OutcomeCancelled {
			return Route{TaskID: res.TaskID, Cost: res.Cost}, cmp.Or(p.open(), err)
		}
		single.Fallback = fmt.Sprintf("the call that decides has failed (%s): %s", res.Outcome, res.Failure.Message)
		return single, nil
	}
	r, err := readRoute(res.Structured)
	if err != nil {
		single.Reason, single.Fallback = r.Reason, err.Error()
		return single, nil
	}
	r.TaskID, r.Cost = single.TaskID, single.Cost
	if r.Kind == RouteSingle {
		r.Prompts = single.Prompts
	}
	return r, nil
}

// routeTask makes the task that decides.
func (p *Pool) routeTask(prompt string, hints RouteHints, o AutoOptions) (Task, error) {
	schema, err := hints.schema()
	if err != nil {
		return Task{}, fmt.Errorf("make the schema of a route: %w", err)
	}
	c := p.cfg.Route
	return Task{
		Prompt: hints.message(prompt),
		Tags:   append(slices.Clone(o.Tags), RouteTag), Priority: o.Priority, Owner: o.Owner, IdempotencyKey: o.key("route"),
		Retry: RetryPolicy{Max: -1}, // the fallback is better than a second bill
		Overrides: TaskOverrides{
			AgentConfig: AgentConfig{
				Model: c.Model, Effort: c.Effort, SystemPrompt: routePrompt, JSONSchema: schema,
				Tools: []string{}, PermissionMode: claude.PermissionDontAsk,
				MaxTurns: 2, // the second for an answer that the CLI has sent back
			},
			Timeout: c.Timeout, MaxCost: c.MaxCost,
		},
	}, nil
}

func (h RouteHints) validate() error {
	for field, n := range map[string]int{"max_parallel": h.MaxParallel, "max_chain_steps": h.MaxChainSteps} {
		if n < 0 || n > MaxRouteParts {
			return invalidField(field, "must be 1 to %d, or left out for %d; not %d", MaxRouteParts, DefaultRouteParts, n)
		}
	}
	if h.Prefer != "" && !slices.Contains(RouteKinds(), h.Prefer) {
		return invalidField("prefer", "must be one of %v, not %q", RouteKinds(), h.Prefer)
	}
	if !utf8.ValidString(h.Domain) {
		return invalidField("domain", "is not valid UTF-8")
	}
	for i, d := range h.DecompositionHints {
		if !utf8.ValidString(d) {
			return invalidField(fmt.Sprintf("decomposition_hints[%d]", i), "is not valid UTF-8")
		}
	}
	return nil
}

func (h RouteHints) withDefaults() RouteHints {
	h.MaxParallel = cmp.Or(h.MaxParallel, DefaultRouteParts)
	h.MaxChainSteps = cmp.Or(h.MaxChainSteps, DefaultRouteParts)
	return h
}

// message is what the model is asked. The request stands between tags that do
// not occur in it, so that it cannot end its own block.
func (h RouteHints) message(request string) string {
	var b strings.Builder
	limit := func(kind RouteKind, n int, what string) {
		if n == 1 {
			fmt.Fprintf(&b, "The route %q is not allowed.\n", kind)
			return
		}
		fmt.Fprintf(&b, "A route %q has at most %d %s.\n", kind, n, what)
	}
	limit(RouteParallel, h.MaxParallel, "prompts")
	limit(RouteChain, h.MaxChainSteps, "steps")
	if h.Prefer != "" {
		fmt.Fprintf(&b, "The caller prefers %q when it fits about as well.\n", h.Prefer)
	}
	if h.Domain != "" {
		fmt.Fprintf(&b, "The request is about: %s\n", h.Domain)
	}
	for _, hint := range h.DecompositionHints {
		fmt.Fprintf(&b, "A hint about its parts: %s\n", hint)
	}
	tag := "request"
	for strings.Contains(request, tag+">") {
		tag += "_"
	}
	fmt.Fprintf(&b, "\n<%s>\n%s\n</%s>\n", tag, request, tag)
	return b.String()
}

// schema is what a decision must fit.
func (h RouteHints) schema() (json.RawMessage, error) {
	kinds := []RouteKind{RouteSingle}
	text := map[string]any{"type": "string", "minLength": 1}
	properties := map[string]any{"reason": map[string]any{"type": "string", "description": "why this route, in one sentence"}}
	if h.MaxParallel > 1 {
		kinds = append(kinds, RouteParallel)
		properties["prompts"] = map[string]any{"type": "array", "items": text, "maxItems": h.MaxParallel, "description": "for parallel only"}
	}
	if h.MaxChainSteps > 1 {
		kinds = append(kinds, RouteChain)
		properties["steps"] = map[string]any{
			"type": "array", "maxItems": h.MaxChainSteps, "description": "for chain only",
			"items": map[string]any{
				"type": "object", "additionalProperties": false, "required": []string{"name", "prompt"},
				"properties": map[string]any{
					"name":   map[string]any{"type": "string", "pattern": stepName.String()},
					"prompt": text,
					"needs":  map[string]any{"type": "array", "items": text, "description": "names of the steps that must have ended before"},
				},
			},
		}
	}
	properties["route"] = map[string]any{"enum": kinds}
	return json.Marshal(map[string]any{
		"type": "object", "additionalProperties": false, "required": []string{"route", "reason"}, "properties": properties,
	})
}

// readRoute makes a decision that fits the schema into a route. With an error
// it returns the reason that the model gave.
func readRoute(decision json.RawMessage) (Route, error) {
	var d struct {
		Route   RouteKind
		Reason  string
		Prompts []string
		Steps   []struct {
			Name, Prompt string
			Needs        []string
		}
	}
	if err := json.Unmarshal(decision, &d); err != nil {
		return Route{}, fmt.Errorf("the decision cannot be read: %w", err)
	}
	r := Route{Kind: d.Route, Reason: d.Reason}
	switch d.Route {
	case RouteParallel:
		r.Prompts = d.Prompts
		switch blank := slices.IndexFunc(d.Prompts, func(s string) bool { return strings.TrimSpace(s) == "" }); {
		case len(d.Prompts) < 2:
			return r, fmt.Errorf("the decision was parallel, but with %d prompts", len(d.Prompts))
		case blank >= 0:
			return r, fmt.Errorf("the decision was parallel, but prompt %d is empty", blank)
		}
	case RouteChain:
		for _, s := range d.Steps {
			r.Steps = append(r.Steps, ChainStep{Name: s.Name, Action: StepAction{Prompt: s.Prompt}, Needs: s.Needs})
		}
		if len(r.Steps) < 2 {
			return r, fmt.Errorf("the decision was a chain, but with %d steps", len(r.Steps))
		}
		if err := (&Chain{Steps: r.Steps}).Validate(); err != nil {
			return r, fmt.Errorf("the decision was a chain that cannot work: %w", err)
		}
	}
	return r, nil
}
