package mcp_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/mcp"
)

// route is a decision as the tools show it.
type route struct {
	Route    claudepool.RouteKind
	Prompts  []string
	Steps    []args
	Reason   string
	Fallback string
	TaskID   claudepool.TaskID       `json:"task_id"`
	Cost     claudepool.Microdollars `json:"cost_microdollars"`
	Note     string
}

type auto struct {
	Route   route
	Results []report
	Chain   *chain
	Done    bool
	Success bool
	Cost    claudepool.Microdollars `json:"cost_microdollars"`
}

func TestRouteDecidesAndRunsNothing(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
	got := structured[route](t, f.call(t, "pool_route", args{"prompt": "auto chain say one|say two", "tags": []string{"x"}}))
	if got.Route != claudepool.RouteChain || got.Reason == "" || got.TaskID == "" || got.Cost != turnCost || len(got.Steps) != 2 {
		t.Errorf("got %+v", got)
	}
	tasks := structured[list](t, f.call(t, "pool_list_tasks", args{"owner": mcp.DefaultOwner})).Tasks
	if len(tasks) != 1 || tasks[0].TaskID != got.TaskID || !slices.Contains(tasks[0].Tags, "x") {
		t.Errorf("the tasks are %+v, want the decision alone", tasks)
	}
	// Its steps are as pool_chain takes them.
	if c := structured[chain](t, f.call(t, "pool_chain", args{"steps": got.Steps})); c.Output != "two" {
		t.Errorf("the chain came to %+v", c)
	}
	got = structured[route](t, f.call(t, "pool_route_with_hints", args{"prompt": "auto parallel say a|say b", "max_parallel": 1, "domain": "greetings"}))
	if got.Route != claudepool.RouteSingle || got.Fallback == "" {
		t.Errorf("against the hints: %+v", got)
	}
	for field, in := range map[string]args{
		"prefer": {"prompt": "x", "prefer": "luck"}, "max_parallel": {"prompt": "x", "max_parallel": 65},
		"max_chain_steps": {"prompt": "x", "max_chain_steps": 0}, "prompt": {"prompt": ""},
	} {
		for _, tool := range []string{"pool_route_with_hints", "pool_auto_with_hints"} {
			if msg := f.refused(t, tool, in); !strings.Contains(msg, field) {
				t.Errorf("%s(%v): %q does not name %s", tool, in, msg, field)
			}
		}
	}
}

func TestAutoCarriesTheDecisionOut(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
	for _, c := range []struct {
		prompt  string
		in      args
		outputs []string // of tasks
		chain   string
		cost    claudepool.Microdollars
		success bool
	}{
		{"auto parallel say a|say b|say c", nil, []string{"a", "b", "c"}, "", 4 * turnCost, true},
		{"auto parallel say a|fail", nil, []string{"a", ""}, "", 3 * turnCost, false},
		{"auto chain say a|say {previous_output}b", nil, nil, "ab", 3 * turnCost, true},
		{"auto chain model|model", args{"overrides": args{"model": "opus"}}, nil, "opus", 3 * turnCost, true},
		{"say it", nil, []string{"it"}, "", 2 * turnCost, true}, // what cannot be decided is single
	} {
		in := args{"prompt": c.prompt, "tags": []string{"x"}, "idempotency_key": c.prompt}
		for k, v := range c.in {
			in[k] = v
		}
		res := f.call(t, "pool_auto", in)
		got := structured[auto](t, res)
		if !got.Done || got.Success != c.success || got.Cost != c.cost {
			t.Errorf("%s: %+v", c.prompt, got)
		}
		var outputs []string
		for _, r := range got.Results {
			outputs = append(outputs, r.Output)
		}
		if !slices.Equal(outputs, c.outputs) && c.success {
			t.Errorf("%s: the outputs are %q", c.prompt, outputs)
		}
		if c.chain != "" && (got.Chain == nil || got.Chain.Output != c.chain) {
			t.Errorf("%s: the chain is %+v", c.prompt, got.Chain)
		}
		again := structured[auto](t, f.call(t, "pool_auto", in))
		if diff := cmp.Diff(taskIDs(got), taskIDs(again)); diff != "" {
			t.Errorf("%s: one key gave other tasks the second time:\n%s", c.prompt, diff)
		}
	}
	in := args{"prompt": "auto single", "overrides": args{"permission_mode": string(claude.PermissionBypass)}}
	before := len(structured[list](t, f.call(t, "pool_list_tasks", nil)).Tasks)
	f.refused(t, "pool_auto", in)
	if after := len(structured[list](t, f.call(t, "pool_list_tasks", nil)).Tasks); after != before {
		t.Error("a decision was paid for, though it cannot be carried out")
	}
}

func taskIDs(a auto) []claudepool.TaskID {
	ids := []claudepool.TaskID{a.Route.TaskID}
	for _, r := range a.Results {
		ids = append(ids, r.TaskID)
	}
	if a.Chain != nil {
		ids = append(ids, a.Chain.TaskID)
	}
	return ids
}
