package mcp

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/claudepool/claudepool"
)

// hintsInput is what a caller may know about a request.
type hintsInput struct {
	MaxParallel   int                  `json:"max_parallel,omitempty"`
	MaxChainSteps int                  `json:"max_chain_steps,omitempty"`
	Prefer        claudepool.RouteKind `json:"prefer,omitempty"`
	Domain        string               `json:"domain,omitempty"`
	Decomposition []string             `json:"decomposition_hints,omitempty" jsonschema:"how it falls into parts"`
}

func (h hintsInput) hints() claudepool.RouteHints {
	return claudepool.RouteHints{
		MaxParallel: h.MaxParallel, MaxChainSteps: h.MaxChainSteps, Prefer: h.Prefer, Domain: h.Domain, DecompositionHints: h.Decomposition,
	}
}

func hintsSchema(in *jsonschema.Schema) {
	for _, name := range []string{"max_parallel", "max_chain_steps"} {
		bound(in, name, 1, claudepool.MaxRouteParts)
	}
	in.Properties["prefer"].Enum = enum(claudepool.RouteKinds())
}

// routeInput is a request to decide about.
type routeInput struct {
	Prompt string   `json:"prompt"`
	Tags   []string `json:"tags,omitempty"`
	Key    string   `json:"idempotency_key,omitempty" jsonschema:"a call repeated with it starts nothing new"`
}

type autoInput struct {
	Prompt string `json:"prompt"`
	work
}

// route is a decision, with steps as pool_chain takes them.
type route struct {
	Route    claudepool.RouteKind    `json:"route,omitempty"` // empty while it is not decided
	Prompts  []string                `json:"prompts,omitempty"`
	Steps    []step                  `json:"steps,omitempty"`
	Reason   string                  `json:"reason,omitempty"`
	Fallback string                  `json:"fallback,omitempty"`
	TaskID   claudepool.TaskID       `json:"task_id,omitempty"`
	Cost     claudepool.Microdollars `json:"cost_microdollars"`
	Note     string                  `json:"note,omitempty"`
}

func routeOf(r claudepool.Route) route {
	out := route{Route: r.Kind, Prompts: r.Prompts, Reason: r.Reason, Fallback: r.Fallback, TaskID: r.TaskID, Cost: r.Cost}
	for _, st := range r.Steps {
		out.Steps = append(out.Steps, stepOf(st))
	}
	return out
}

func (o route) text() string {
	var b strings.Builder
	b.WriteString(cmp.Or(string(o.Route), "not decided yet"))
	for _, more := range []string{o.Reason, o.Fallback, o.Note} {
		if more != "" {
			b.WriteString("; " + more)
		}
	}
	for i, p := range o.Prompts {
		fmt.Fprintf(&b, "\n%d. %s", i+1, p)
	}
	for _, st := range o.Steps {
		fmt.Fprintf(&b, "\n%s %v: %s", st.Name, st.Needs, st.Value)
	}
	return b.String()
}

// auto is a route and what came of it: the results of tasks, or a chain.
type auto struct {
	Route   route        `json:"route"`
	Results []report     `json:"results,omitempty"`
	Chain   *chainReport `json:"chain,omitempty"`
	// Done says that all has ended.
	Done    bool                    `json:"done"`
	Success bool                    `json:"success"`
	Cost    claudepool.Microdollars `json:"cost_microdollars"`
	Note    string                  `json:"note,omitempty"`
}

func (o auto) text() string {
	parts := []string{fmt.Sprintf("route: %s, %v", o.Route.text(), o.Cost)}
	if o.Note != "" {
		parts = append(parts, o.Note)
	}
	if len(o.Results) > 0 {
		parts = append(parts, textOf(o.Results))
	}
	if o.Chain != nil {
		parts = append(parts, o.Chain.text())
	}
	return strings.Join(parts, "\n\n")
}

func (o auto) links() []*sdk.ResourceLink {
	if o.Chain != nil {
		return o.Chain.links()
	}
	return linksOf(o.Results)
}

// autoSchema leaves to other tools what they say already.
func autoSchema(out *jsonschema.Schema) {
	out.Properties["route"] = &jsonschema.Schema{Type: "object"}
	out.Properties["chain"] = &jsonschema.Schema{Type: "object", Description: "as pool_chain gives"}
	out.Properties["results"].Items = &jsonschema.Schema{Type: "object", Description: "as pool_result gives"}
}

func (s *Server) addAutoTools() {
	prompt := func(in *jsonschema.Schema) { in.Properties["prompt"].MinLength = jsonschema.Ptr(1) }
	add(s, ToolsetChains, tool{
		name: "pool_auto", hints: works, output: autoSchema,
		about: "Let a cheap call decide whether a request is one task, several at once or a chain, run that, and wait for the end. If the answer is not done, the work goes on: collect it with pool_wait.",
		input: func(in *jsonschema.Schema) { prompt(in); overridesSchema(in) },
	}, func(ctx context.Context, req *sdk.CallToolRequest, in autoInput) (auto, error) {
		return s.auto(ctx, req, in, claudepool.RouteHints{})
	})
	add(s, ToolsetChains, tool{
		name: "pool_auto_with_hints", hints: works, output: autoSchema, about: "pool_auto for a request that you know more about.",
		input: func(in *jsonschema.Schema) { prompt(in); overridesSchema(in); hintsSchema(in) },
	}, func(ctx context.Context, req *sdk.CallToolRequest, in struct {
		autoInput
		hintsInput
	}) (auto, error) {
		return s.auto(ctx, req, in.autoInput, in.hints())
	})
	add(s, ToolsetChains, tool{
		name: "pool_route", hints: works, about: "Only the decision of pool_auto; steps are as pool_chain takes them.", input: prompt,
	}, func(ctx context.Context, req *sdk.CallToolRequest, in routeInput) (route, error) {
		return s.route(ctx, req, in, claudepool.RouteHints{})
	})
	add(s, ToolsetChains, tool{
		name: "pool_route_with_hints", hints: works, about: "pool_route for a request that you know more about.",
		input: func(in *jsonschema.Schema) { prompt(in); hintsSchema(in) },
	}, func(ctx context.Context, req *sdk.CallToolRequest, in struct {
		routeInput
		hintsInput
	}) (route, error) {
		return s.route(ctx, req, in.routeInput, in.hints())
	})
}
