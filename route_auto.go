package claudepool

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// AutoOptions say how a route is carried out. They hold for every task and
// every step of it, and but for Overrides and Isolation for the call that
// decides.
type AutoOptions struct {
	Overrides TaskOverrides
	Isolation Isolation
	Tags      []string
	Priority  int
	Owner     string
	// IdempotencyKey makes a second call with the same request get the first
	// one's decision and results.
	IdempotencyKey string
}

// key returns the idempotency key of a part of what the options are for.
func (o *AutoOptions) key(part string) string {
	if o.IdempotencyKey == "" {
		return ""
	}
	return o.IdempotencyKey + "/" + part
}

// AutoResult is what a route came to. One of Single, Parallel and Chain is set.
type AutoResult struct {
	Route    Route         `json:"route"`
	Single   *TaskResult   `json:"single,omitempty"`
	Parallel *FanOutResult `json:"parallel,omitempty"`
	Chain    *ChainResult  `json:"chain,omitempty"`
	// Success says that everything succeeded.
	Success bool `json:"success"`
	// Cost is that of the decision and of everything that was run.
	Cost Microdollars `json:"cost_microdollars"`
}

// Auto decides how to carry out a request, as [Pool.Route] does, and does so, as
// [Pool.ExecuteRoute] does. The result holds the route also when the error is
// about carrying it out.
func (p *Pool) Auto(ctx context.Context, prompt string, hints RouteHints, o AutoOptions) (AutoResult, error) {
	r, err := p.RouteWith(ctx, prompt, hints, o)
	if err != nil {
		return AutoResult{Route: r, Cost: r.Cost}, err
	}
	return p.ExecuteRoute(ctx, r, o)
}

// ExecuteRoute carries out a route and waits for its end: a single one with
// [Pool.Run], a parallel one with [Pool.FanOut] and a chain with
// [Pool.ExecuteChain], with the errors that each of them has.
func (p *Pool) ExecuteRoute(ctx context.Context, r Route, o AutoOptions) (AutoResult, error) {
	out := AutoResult{Route: r, Cost: r.Cost}
	switch r.Kind {
	case RouteSingle:
		if len(r.Prompts) != 1 {
			return out, invalidField("prompts", "of a single route must be one, not %d", len(r.Prompts))
		}
		res, err := p.Run(ctx, o.task(r.Prompts[0], "single"))
		out.Single, out.Success = &res, res.Success
		out.Cost += res.Cost
		return out, err
	case RouteParallel:
		tasks := make([]Task, len(r.Prompts))
		for i, prompt := range r.Prompts {
			tasks[i] = o.task(prompt, fmt.Sprintf("parallel/%d", i))
		}
		res, err := p.FanOut(ctx, tasks, FanOutOptions{})
		out.Parallel = &res
		out.Success = err == nil && !slices.ContainsFunc(res.Results, func(r TaskResult) bool { return !r.Success })
		out.Cost += res.Census.Cost
		return out, err
	case RouteChain:
		c := Chain{Steps: slices.Clone(r.Steps), Overrides: o.Overrides.AgentConfig, Isolation: o.Isolation}
		for i := range c.Steps {
			s := &c.Steps[i].Overrides
			s.MaxCost, s.Timeout = cmp.Or(s.MaxCost, o.Overrides.MaxCost), cmp.Or(s.Timeout, o.Overrides.Timeout)
		}
		res, err := p.ExecuteChain(ctx, c, ChainOptions{Tags: o.Tags, Priority: o.Priority, Owner: o.Owner, IdempotencyKey: o.key("chain")})
		out.Chain, out.Success = &res, res.Success
		out.Cost += res.Cost
		return out, err
	}
	return out, invalidField("route", "must be one of %v, not %q", RouteKinds(), r.Kind)
}

// task makes one of the tasks of a route.
func (o *AutoOptions) task(prompt, part string) Task {
	return Task{
		Prompt: prompt, Overrides: o.Overrides, Isolation: o.Isolation, Tags: slices.Clone(o.Tags),
		Priority: o.Priority, Owner: o.Owner, IdempotencyKey: o.key(part),
	}
}
