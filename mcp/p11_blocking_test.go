package mcp_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/mcp"
)

// addHeld adds a skill that holds.
func addHeld(t *testing.T, f *fixture) {
	t.Helper()
	f.call(t, "pool_skill_add", args{"name": "held", "prompt": "hold"})
}

// Each blocking tool answers early with what the caller needs to go on.
func TestP11_EveryBlockingToolAnswersEarly(t *testing.T) {
	t.Parallel()
	type early struct {
		report
		Results []report `json:"results"`
		Chain   *chain   `json:"chain"`
		Done    bool     `json:"done"`
	}
	for tool, in := range map[string]args{
		"pool_chain":           {"steps": prompts("hold", "say {previous_output}")},
		"pool_skill_run":       {"skill": "held"},
		"pool_auto":            {"prompt": "auto parallel say a|hold"},
		"pool_auto_with_hints": {"prompt": "auto chain hold|say {previous_output}", "max_parallel": 2},
	} {
		eachProtocol(t, func(t *testing.T, protocol string) {
			f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
			addHeld(t, f)
			f.client = f.connect(t, nil, protocol)
			start := time.Now()
			got := structured[early](t, f.call(t, tool, in))
			if took := time.Since(start); took != 50*time.Second {
				t.Errorf("%s answered after %v, want 50s", tool, took)
			}
			last := got.report
			switch {
			case got.Chain != nil:
				last = report{TaskResult: claudepool.TaskResult{TaskID: got.Chain.TaskID, State: got.Chain.State}}
			case len(got.Results) > 0:
				last = got.Results[1]
			}
			if last.State != claudepool.StateRunning || last.TaskID == "" || got.Note == "" || got.Done {
				t.Errorf("%s answered %+v, want a running task", tool, got)
			}
			f.release()
			end := structured[waited](t, f.call(t, "pool_wait", args{"task_ids": []claudepool.TaskID{last.TaskID}}))
			if !end.Done || end.Tasks[0].Output != "held" {
				t.Errorf("%s: afterwards %+v", tool, end)
			}
		})
	}
}

// While it is not decided what a request becomes, its key leads back to it.
func TestP11_AnUndecidedRequestIsFoundByItsKey(t *testing.T) {
	t.Parallel()
	key := regexp.MustCompile(`idempotency_key "(\w+)"`)
	for tool, done := range map[string]string{"pool_auto": `"done":true`, "pool_route": `"route":"parallel"`} {
		eachProtocol(t, func(t *testing.T, protocol string) {
			f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
			f.client = f.connect(t, nil, protocol)
			in := args{"prompt": "auto slow parallel say a|say b"}
			start := time.Now()
			early := text(f.call(t, tool, in))
			if took := time.Since(start); took != 50*time.Second {
				t.Errorf("%s answered after %v, want 50s", tool, took)
			}
			found := key.FindStringSubmatch(early)
			if found == nil {
				t.Fatalf("%s answered %q, which has no key", tool, early)
			}
			f.release()
			again := args{"prompt": in["prompt"], "idempotency_key": found[1]}
			res := f.call(t, tool, again)
			if got, err := json.Marshal(res.StructuredContent); err != nil || !strings.Contains(string(got), done) {
				t.Errorf("%s, repeated: %s, %v", tool, got, err)
			}
			decisions := structured[list](t, f.call(t, "pool_list_tasks", args{"tag": claudepool.RouteTag})).Tasks
			if len(decisions) != 1 || decisions[0].State != claudepool.StateCompleted {
				t.Errorf("%s: the decisions are %+v, want one", tool, decisions)
			}
		})
	}
}

// A task that needs the coordinator does not keep it waiting.
func TestP11_AReviewEndsTheWait(t *testing.T) {
	t.Parallel()
	eachProtocol(t, func(t *testing.T, protocol string) {
		f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
		var h heard
		f.client = f.connect(t, h.options(), protocol)
		id := structured[report](t, f.call(t, "pool_submit_with_review", args{"prompt": "say draft"})).TaskID
		start := time.Now()
		res, err := f.client.CallTool(t.Context(), withToken("pool_wait", args{"task_ids": []claudepool.TaskID{id}}))
		if err != nil {
			t.Fatal(err)
		}
		got := structured[waited](t, res)
		if took := time.Since(start); took > 5*time.Second || !got.Done {
			t.Errorf("after %v: %+v", took, got)
		}
		if r := got.Tasks[0]; r.State != claudepool.StatePendingReview || r.Output != "draft" || !strings.Contains(r.Note, "pool_approve_result") {
			t.Errorf("the answer is %+v", r)
		}
	})
}
