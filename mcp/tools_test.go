package mcp_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/mcp"
)

func TestRunGivesTheResult(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
	res := f.call(t, "pool_run", args{"prompt": "say hello", "tags": []string{"a"}})
	got := structured[report](t, res)
	if got.Output != "hello" || !got.Success || got.State != claudepool.StateCompleted || got.Cost != turnCost || got.TaskID == "" {
		t.Errorf("got %+v", got)
	}
	if want := "completed, $0.001000"; !strings.Contains(text(res), want) || !strings.HasSuffix(text(res), "\n\nhello") {
		t.Errorf("the text %q lacks %q or the output", text(res), want)
	}
	if len(res.Content) != 1 {
		t.Errorf("there are %d pieces of content, want the text alone", len(res.Content))
	}
}

func TestFailedTaskIsATruthfulResult(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
	res := f.call(t, "pool_run", args{"prompt": "fail"})
	got := structured[report](t, res)
	if got.State != claudepool.StateFailed || got.Success || got.Failure == nil || got.Outcome != claudepool.OutcomeAgentError {
		t.Errorf("got %+v", got)
	}
	if !strings.Contains(text(res), "failed (agent_error)") || !strings.Contains(text(res), got.Failure.Message) {
		t.Errorf("the text %q does not say that it failed, and why", text(res))
	}
}

func TestRefusedToolCallsAreSaidWithTheWayOut(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{}, mcp.Options{MaxPermissionMode: claude.PermissionAcceptEdits})
	got := structured[report](t, f.call(t, "pool_run", args{"prompt": "deny"}))
	if got.Outcome != claudepool.OutcomePartlyDenied || got.Success {
		t.Errorf("the outcome is %s", got.Outcome)
	}
	if !strings.Contains(got.Note, "acceptEdits") {
		t.Errorf("the note %q does not say what may be asked for", got.Note)
	}
	if len(got.Denials) != 1 || got.Denials[0].Tool != "Write" || got.Denials[0].Input != nil {
		t.Errorf("the denials are %+v, want the tool without its long input", got.Denials)
	}
}

func TestSubmitWaitAndList(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := setup(t, claudepool.PoolConfig{Slots: 1}, mcp.Options{})
		submit := func(prompt string, more args) claudepool.TaskID {
			t.Helper()
			in := args{"prompt": prompt}
			for k, v := range more {
				in[k] = v
			}
			return structured[report](t, f.call(t, "pool_submit", in)).TaskID
		}
		held := submit("hold", args{"tags": []string{"x"}})
		next := submit("say two", nil)
		synctest.Wait() // until the first one holds

		got := structured[waited](t, f.call(t, "pool_wait", args{"task_ids": []claudepool.TaskID{next, held}, "timeout_secs": 0}))
		if got.Done || got.Tasks[0].TaskID != next || got.Tasks[0].State != claudepool.StatePending {
			t.Errorf("pool_wait gave %+v", got)
		}
		if why := text(f.call(t, "pool_explain", args{"task_id": next})); !strings.Contains(why, "busy") {
			t.Errorf("pool_explain says %q", why)
		}
		f.release()
		got = structured[waited](t, f.call(t, "pool_wait", args{"task_ids": []claudepool.TaskID{next, held}}))
		if !got.Done || got.Tasks[0].Output != "two" || got.Tasks[1].Output != "held" {
			t.Errorf("pool_wait gave %+v", got)
		}

		third := submit("say three", args{"tags": []string{"x"}})
		f.call(t, "pool_wait", args{"task_ids": []claudepool.TaskID{third}})
		page := structured[list](t, f.call(t, "pool_list_tasks", args{"limit": 2}))
		if len(page.Tasks) != 2 || page.Tasks[0].TaskID != third || page.NextCursor != next {
			t.Errorf("the first page is %+v", page)
		}
		page = structured[list](t, f.call(t, "pool_list_tasks", args{"limit": 2, "cursor": page.NextCursor}))
		if len(page.Tasks) != 1 || page.Tasks[0].TaskID != held || page.NextCursor != "" {
			t.Errorf("the second page is %+v", page)
		}
		page = structured[list](t, f.call(t, "pool_list_tasks", args{"tag": "x", "state": "completed", "owner": mcp.DefaultOwner}))
		if len(page.Tasks) != 2 {
			t.Errorf("with a tag: %+v", page)
		}
		if page = structured[list](t, f.call(t, "pool_list_tasks", args{"owner": "go"})); len(page.Tasks) != 0 {
			t.Errorf("of another owner: %+v", page)
		}
	})
}

func TestWaitForAnyEndsWithTheFirst(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
	held := structured[report](t, f.call(t, "pool_submit", args{"prompt": "hold"})).TaskID
	said := structured[report](t, f.call(t, "pool_submit", args{"prompt": "say now"})).TaskID
	got := structured[waited](t, f.call(t, "pool_wait", args{"task_ids": []claudepool.TaskID{held, said}, "mode": "any"}))
	if !got.Done || got.Tasks[0].State.Terminal() || got.Tasks[1].Output != "now" {
		t.Errorf("pool_wait gave %+v", got)
	}
	f.release()
}

func TestCancelAndRetry(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{Slots: 1}, mcp.Options{})
	id := structured[report](t, f.call(t, "pool_submit", args{"prompt": "hold"})).TaskID
	if msg := f.refused(t, "pool_retry", args{"task_id": id}); !strings.Contains(msg, "only a failed or cancelled") {
		t.Errorf("retrying what runs: %q", msg)
	}
	for range 2 { // cancelling again is no error
		if got := structured[report](t, f.call(t, "pool_cancel", args{"task_id": id})); got.State != claudepool.StateCancelled || got.TaskID != id {
			t.Errorf("pool_cancel gave %+v", got)
		}
	}
	first := structured[report](t, f.call(t, "pool_retry", args{"task_id": id, "idempotency_key": "k"})).TaskID
	again := structured[report](t, f.call(t, "pool_retry", args{"task_id": id, "idempotency_key": "k"})).TaskID
	if first == id || first != again {
		t.Errorf("retries with one key gave %s and %s for %s, want one new task", first, again, id)
	}
	r, err := f.pool.Task(t.Context(), first)
	if err != nil || r.Task.Parent != id || r.Task.Prompt != "hold" {
		t.Errorf("the new task is %+v, %v", r.Task, err)
	}
	f.release()
	f.call(t, "pool_cancel", args{"task_id": first})
}

func TestIdempotencyKeyStartsNothingNew(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
	for tool, in := range map[string]args{
		"pool_submit":  {"prompt": "say one", "idempotency_key": "a"},
		"pool_run":     {"prompt": "say one", "idempotency_key": "b"},
		"pool_fan_out": {"prompts": []string{"say one", "say two"}, "idempotency_key": "c"},
	} {
		ids := func() []claudepool.TaskID {
			res := f.call(t, tool, in)
			if tool != "pool_fan_out" {
				return []claudepool.TaskID{structured[report](t, res).TaskID}
			}
			var out []claudepool.TaskID
			for _, r := range structured[fannedOut](t, res).Results {
				out = append(out, r.TaskID)
			}
			return out
		}
		if diff := cmp.Diff(ids(), ids()); diff != "" {
			t.Errorf("%s gave other tasks the second time:\n%s", tool, diff)
		}
	}
	msg := f.refused(t, "pool_run", args{"prompt": "say other", "idempotency_key": "a"})
	if !strings.Contains(msg, "another prompt") || !strings.Contains(msg, "choose another idempotency_key") {
		t.Errorf("a key with another prompt: %q", msg)
	}
}

func TestP1AKeyNamesItsTaskWhateverHasChanged(t *testing.T) {
	t.Parallel()
	dir, cfg := project(t)
	cfg.Budget = 1_000_000
	f := setup(t, cfg, mcp.Options{})
	write(t, dir, "skills/greet/SKILL.md", "say {who}")
	write(t, dir, "workflows/twice.yaml", "arguments: [who]\nsteps: [{name: a, value: \"say {who}\"}]")
	all := map[string]args{
		"pool_submit":          {"prompt": "say one"},
		"pool_run":             {"prompt": "say one"},
		"pool_fan_out":         {"prompts": []string{"say one", "say two"}},
		"pool_submit_chain":    {"steps": prompts("say one", "say two")},
		"pool_fan_out_chains":  {"chains": [][]args{prompts("say one")}},
		"pool_skill_run":       {"skill": "greet", "arguments": args{"who": "you"}},
		"pool_invoke_workflow": {"workflow": "twice", "arguments": args{"who": "you"}},
	}
	type ids struct {
		TaskID  claudepool.TaskID       `json:"task_id"`
		TaskIDs []claudepool.TaskID     `json:"task_ids"`
		Results []claudepool.TaskResult `json:"results"`
	}
	want := map[string]ids{}
	for tool, in := range all {
		in["idempotency_key"] = tool
		want[tool] = structured[ids](t, f.call(t, tool, in))
	}
	for tool := range all {
		for _, id := range append(want[tool].TaskIDs, want[tool].TaskID) {
			if id != "" {
				f.call(t, "pool_wait", args{"task_ids": []claudepool.TaskID{id}})
			}
		}
	}
	for _, path := range []string{"skills", "workflows"} {
		if err := os.RemoveAll(filepath.Join(dir, ".claude-pool", path)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.pool.SetBudget(1); err != nil {
		t.Fatal(err)
	}
	for tool, in := range all {
		got := structured[ids](t, f.call(t, tool, in))
		if diff := cmp.Diff(want[tool], got); diff != "" {
			t.Errorf("%s gave other tasks the second time (-first +second):\n%s", tool, diff)
		}
		in["idempotency_key"] = "new " + tool
		f.refused(t, tool, in)
	}
}

func TestFanOutKeepsTheOrderAndEveryResult(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{Slots: 3}, mcp.Options{})
	res := f.call(t, "pool_fan_out", args{"prompts": []string{"say 0", "fail", "say 2", "deny", "say 4", "say 5"}})
	got := structured[fannedOut](t, res)
	var outputs []string
	for _, r := range got.Results {
		outputs = append(outputs, r.Output)
	}
	want := []string{"0", got.Results[1].Output, "2", "could not write", "4", "5"}
	if diff := cmp.Diff(want, outputs); diff != "" {
		t.Errorf("outputs (-want +got):\n%s", diff)
	}
	c := got.Census
	if c.Asked != 6 || c.OK != 5 || c.Failed[claudepool.OutcomeAgentError] != 1 || c.Unfinished != 0 || c.Cost != 6*turnCost {
		t.Errorf("the census is %+v", c)
	}
	if !strings.HasPrefix(text(res), "5 of 6 completed, $0.006000, 1 agent_error") {
		t.Errorf("the text begins %.80q", text(res))
	}
}

func TestFanOutFailFastCancelsTheRest(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{Slots: 1}, mcp.Options{})
	got := structured[fannedOut](t, f.call(t, "pool_fan_out", args{"prompts": []string{"fail", "hold", "hold"}, "fail_fast": true}))
	if c := got.Census; c.Failed[claudepool.OutcomeAgentError] != 1 || c.Failed[claudepool.OutcomeCancelled] != 2 {
		t.Errorf("the census is %+v", c)
	}
}

func TestFanOutStartsNothingWhenAPromptIsBad(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
	if msg := f.refused(t, "pool_fan_out", args{"prompts": []string{"say a", " \n"}}); !strings.Contains(msg, "prompts[1] is empty") {
		t.Errorf("got %q", msg)
	}
	if tasks := structured[list](t, f.call(t, "pool_list_tasks", nil)).Tasks; len(tasks) != 0 {
		t.Errorf("%d tasks were started", len(tasks))
	}
}

func TestOverridesReachTheTask(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{Budget: claudepool.USD(10)}, mcp.Options{MaxPermissionMode: claude.PermissionAcceptEdits})
	id := structured[report](t, f.call(t, "pool_submit", args{"prompt": "mode", "priority": 3, "session": "fresh", "overrides": args{
		"model": "haiku", "effort": "low", "permission_mode": "acceptEdits", "system_prompt": "be brief", "max_turns": 7,
		"tools": []string{}, "allowed_tools": []string{"Read"}, "disallowed_tools": []string{"Bash"},
		"mcp_servers": args{"x": args{"command": "true"}}, "json_schema": args{"type": "object"},
		"max_budget_usd": 0.5, "timeout_secs": 90.5,
	}})).TaskID
	r, err := f.pool.Task(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	want := claudepool.TaskOverrides{
		AgentConfig: claudepool.AgentConfig{
			Model: "haiku", Effort: claude.EffortLow, PermissionMode: claude.PermissionAcceptEdits, SystemPrompt: "be brief", MaxTurns: 7,
			Tools: []string{}, AllowedTools: []string{"Read"}, DisallowedTools: []string{"Bash"},
			MCPServers: map[string]claude.MCPServer{"x": claude.MCPServer(`{"command":"true"}`)}, JSONSchema: claudepool.RawJSON(`{"type":"object"}`),
		},
		MaxCost: claudepool.USD(0.5), Timeout: 90500 * time.Millisecond,
	}
	if diff := cmp.Diff(want, r.Task.Overrides); diff != "" {
		t.Errorf("overrides (-want +got):\n%s", diff)
	}
	if r.Task.Priority != 3 || r.Task.Owner != mcp.DefaultOwner {
		t.Errorf("priority %d, owner %q", r.Task.Priority, r.Task.Owner)
	}
}

func TestBadArgumentsNameTheField(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{Budget: claudepool.USD(1)}, mcp.Options{})
	for _, c := range []struct {
		name, tool string
		in         args
		want       []string
	}{
		{"no prompt", "pool_run", args{}, []string{"prompt"}},
		{"empty prompt", "pool_run", args{"prompt": ""}, []string{"prompt"}},
		{"blank prompt", "pool_run", args{"prompt": " "}, []string{"prompt is empty"}},
		{"unknown field", "pool_run", args{"prompt": "x", "promt": "y"}, []string{"promt"}},
		{"effort", "pool_run", args{"prompt": "x", "overrides": args{"effort": "huge"}}, []string{"effort", "huge", "xhigh"}},
		{"permission mode", "pool_run", args{"prompt": "x", "overrides": args{"permission_mode": "yolo"}}, []string{"permission_mode", "yolo", "acceptEdits"}},
		{"ceiling", "pool_run", args{"prompt": "x", "overrides": args{"permission_mode": "acceptEdits"}}, []string{"overrides.permission_mode", "plan at most"}},
		{"isolation", "pool_submit", args{"prompt": "x", "isolation": "container"}, []string{"isolation", "container", "none"}},
		{"session", "pool_submit", args{"prompt": "x", "session": "other"}, []string{"session", "task:ID"}},
		{"budget ceiling", "pool_run", args{"prompt": "x", "overrides": args{"max_budget_usd": 2}}, []string{"overrides.max_budget_usd", "$1.00"}},
		{"tiny budget", "pool_run", args{"prompt": "x", "overrides": args{"max_budget_usd": 1e-9}}, []string{"overrides.max_budget_usd"}},
		{"negative budget", "pool_run", args{"prompt": "x", "overrides": args{"max_budget_usd": -1}}, []string{"max_budget_usd"}},
		{"timeout", "pool_run", args{"prompt": "x", "overrides": args{"timeout_secs": 1e300}}, []string{"overrides.timeout_secs"}},
		{"schema", "pool_run", args{"prompt": "x", "overrides": args{"json_schema": args{"type": 7}}}, []string{"json_schema"}},
		{"slot", "pool_submit", args{"prompt": "x", "slot": "nobody"}, []string{"nobody", "pool_find_slots"}},
		{"task", "pool_result", args{"task_id": "task-nope"}, []string{"unknown task", "pool_list_tasks"}},
		{"task of a wait", "pool_wait", args{"task_ids": []string{"task-nope"}}, []string{"task-nope", "unknown task"}},
		{"no tasks", "pool_wait", args{"task_ids": []string{}}, []string{"task_ids"}},
		{"wait mode", "pool_wait", args{"task_ids": []string{"a"}, "mode": "some"}, []string{"mode", "some"}},
		{"long wait", "pool_wait", args{"task_ids": []string{"a"}, "timeout_secs": 51}, []string{"timeout_secs", "50"}},
		{"state", "pool_list_tasks", args{"state": "lost"}, []string{"state", "lost", "pending_review"}},
		{"limit", "pool_list_tasks", args{"limit": 0}, []string{"limit"}},
		{"slot state", "pool_find_slots", args{"state": "asleep"}, []string{"state", "asleep", "idle"}},
		{"claim", "pool_claim", args{"slot_id": "slot-99"}, []string{"slot-99", "pool_find_slots"}},
		{"scale", "pool_scale_up", args{"count": 0}, []string{"count"}},
		{"key", "context_get", args{"key": "none"}, []string{"none", "context_list"}},
		{"no prompts", "pool_fan_out", args{"prompts": []string{}}, []string{"prompts"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			msg := f.refused(t, c.tool, c.in)
			for _, want := range c.want {
				if !strings.Contains(msg, want) {
					t.Errorf("%q lacks %q", msg, want)
				}
			}
		})
	}
	if tasks := structured[list](t, f.call(t, "pool_list_tasks", nil)).Tasks; len(tasks) != 0 {
		t.Errorf("%d tasks were started all the same", len(tasks))
	}
}

func TestRetryKeepsTheCeiling(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
	id, err := f.pool.Submit(t.Context(), claudepool.Task{Prompt: "fail", Overrides: claudepool.TaskOverrides{
		AgentConfig: claudepool.AgentConfig{PermissionMode: claude.PermissionAcceptEdits},
	}})
	if err != nil {
		t.Fatal(err)
	}
	f.call(t, "pool_wait", args{"task_ids": []claudepool.TaskID{id}})
	if msg := f.refused(t, "pool_retry", args{"task_id": id}); !strings.Contains(msg, "plan at most") {
		t.Errorf("got %q", msg)
	}
}

func TestLongOutputIsCutAndCanBeReadOn(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{}, mcp.Options{MaxOutput: 100})
	res := f.call(t, "pool_run", args{"prompt": "long 250"})
	got := structured[report](t, res)
	if len(got.Output) != 100 || got.NextOffset != 100 || !strings.Contains(got.Note, "100 of 250 characters") {
		t.Fatalf("got %d characters, next %d, note %q", len(got.Output), got.NextOffset, got.Note)
	}
	link, ok := res.Content[len(res.Content)-1].(*sdk.ResourceLink)
	if !ok || link.URI != "pool://results/"+string(got.TaskID) {
		t.Errorf("the last content is %+v, want a link to the whole", res.Content[len(res.Content)-1])
	}
	if len(text(res)) > 400 {
		t.Errorf("the text has %d characters", len(text(res)))
	}
	read := got.Output
	for got.NextOffset > 0 {
		got = structured[report](t, f.call(t, "pool_result", args{"task_id": got.TaskID, "offset": got.NextOffset}))
		read += got.Output
	}
	if read != strings.Repeat("x", 250) {
		t.Errorf("reading on gave %d characters", len(read))
	}
	if got := structured[report](t, f.call(t, "pool_result", args{"task_id": got.TaskID, "offset": 999})); got.Output != "" || got.NextOffset != 0 {
		t.Errorf("beyond the end: %+v", got)
	}

	many := structured[fannedOut](t, f.call(t, "pool_fan_out", args{"prompts": []string{"say short", "long 90", "long 99", "long 250", "long 90", "long 250"}}))
	fits := structured[fannedOut](t, f.call(t, "pool_fan_out", args{"prompts": []string{"long 100", "long 100", "long 90"}}))
	for i, n := range []int{100, 100, 90} {
		if r := fits.Results[i]; len(r.Output) != n || r.NextOffset != 0 {
			t.Errorf("of three outputs that fit, one has %d of %d characters", len(r.Output), n)
		}
	}
	total := 0
	for _, r := range many.Results {
		total += len(r.Output)
	}
	if total > 300 || total < 290 || many.Results[0].Output != "short" {
		t.Errorf("six outputs share %d characters, want nearly 300, and the short one whole", total)
	}
}

func TestLargeStructuredOutputIsLeftToTheResource(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{}, mcp.Options{MaxOutput: 5_000})
	for n, whole := range map[int]bool{5_000: true, 5_001: false} {
		got := structured[report](t, f.call(t, "pool_run", args{
			"prompt": "json " + strconv.Itoa(n), "overrides": args{"json_schema": args{"type": "string"}},
		}))
		if !got.Success || (got.Structured != nil) != whole || strings.Contains(got.Note, "pool://results/"+string(got.TaskID)) == whole {
			t.Errorf("%d characters: %d are in the answer, with the note %q", n, len(got.Structured), got.Note)
		}
		var all report
		if err := json.Unmarshal([]byte(f.read(t, "pool://results/"+string(got.TaskID)).Text), &all); err != nil || len(all.Structured) != n {
			t.Errorf("the resource has %d of %d characters, %v", len(all.Structured), n, err)
		}
	}
}

func TestSlotTools(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{Slots: 2, MaxSlots: 4}, mcp.Options{})
	type slot struct{ ID, Name, Role, Description, State string }
	type slots struct{ Slots []slot }

	got := structured[slot](t, f.call(t, "pool_configure_slot", args{"slot_id": "slot-1", "name": "ann", "role": "reviewer", "description": "reads"}))
	if diff := cmp.Diff(slot{"slot-1", "ann", "reviewer", "reads", got.State}, got); diff != "" {
		t.Errorf("pool_configure_slot (-want +got):\n%s", diff)
	}
	found := structured[slots](t, f.call(t, "pool_find_slots", args{"role": "reviewer"})).Slots
	if len(found) != 1 || found[0].ID != "slot-1" {
		t.Errorf("pool_find_slots gave %+v", found)
	}
	res := structured[report](t, f.call(t, "pool_run", args{"prompt": "say x", "role": "reviewer"}))
	if res.SlotID != "slot-1" {
		t.Errorf("a task for a role ran on %s", res.SlotID)
	}
	count := func(tool string, in args) int {
		t.Helper()
		return structured[struct {
			N int `json:"new_slot_count"`
		}](t, f.call(t, tool, in)).N
	}
	if n := count("pool_scale_up", nil); n != 3 {
		t.Errorf("pool_scale_up gave %d", n)
	}
	if n := count("pool_scale_down", args{"count": 2}); n != 1 {
		t.Errorf("pool_scale_down gave %d", n)
	}
	if n := count("pool_set_target_slots", args{"target": 4}); n != 4 {
		t.Errorf("pool_set_target_slots gave %d", n)
	}
	if msg := f.refused(t, "pool_scale_up", args{"count": 9}); !strings.Contains(msg, "4") {
		t.Errorf("beyond the bound: %q", msg)
	}
}

func TestPauseClaimAndResume(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := setup(t, claudepool.PoolConfig{Slots: 1}, mcp.Options{})
		type claimed struct {
			TaskID *claudepool.TaskID `json:"task_id"`
		}
		synctest.Wait()
		f.call(t, "pool_pause", nil)
		if got := structured[claimed](t, f.call(t, "pool_claim", args{"slot_id": "slot-0"})); got.TaskID != nil {
			t.Errorf("claimed %s out of nothing", *got.TaskID)
		}
		id := structured[report](t, f.call(t, "pool_submit", args{"prompt": "say x"})).TaskID
		time.Sleep(time.Minute)
		if st := structured[report](t, f.call(t, "pool_result", args{"task_id": id})).State; st != claudepool.StatePending {
			t.Errorf("a task is %s while the pool is paused", st)
		}
		if why := text(f.call(t, "pool_explain", args{"task_id": id})); !strings.Contains(why, "paused") {
			t.Errorf("pool_explain says %q", why)
		}
		f.call(t, "pool_resume", nil)
		if got := structured[waited](t, f.call(t, "pool_wait", args{"task_ids": []claudepool.TaskID{id}})); !got.Done {
			t.Errorf("after pool_resume: %+v", got)
		}
	})
}

func TestStatusAndMetrics(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{Slots: 2, Budget: claudepool.USD(3)}, mcp.Options{Version: "v9"})
	f.call(t, "pool_run", args{"prompt": "say x", "tags": []string{"t"}})
	st := structured[struct {
		claudepool.PoolStatus
		Server struct{ Name, Version string }
	}](t, f.call(t, "pool_status", nil))
	if st.TotalSlots != 2 || len(st.Slots) != 2 || st.TotalSpend != turnCost || st.Budget != claudepool.USD(3) || st.Server.Version != "v9" {
		t.Errorf("pool_status gave %+v", st)
	}
	m := structured[claudepool.Metrics](t, f.call(t, "pool_session_metrics", nil))
	if m.Spend != turnCost || m.Total.Count != 1 || m.Outcomes[claudepool.OutcomeOK].Count != 1 || m.Tags["t"].Count != 1 {
		t.Errorf("pool_session_metrics gave %+v", m)
	}
}

func TestRunContext(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
	type runContext struct{ Context map[string]string }
	if got := structured[runContext](t, f.call(t, "context_list", nil)); got.Context == nil || len(got.Context) != 0 {
		t.Errorf("at first: %+v", got)
	}
	f.call(t, "context_set", args{"key": "branch", "value": "main"})
	f.call(t, "context_set", args{"key": "issue", "value": "7"})
	if got := text(f.call(t, "context_get", args{"key": "branch"})); got != "branch = main" {
		t.Errorf("context_get gave %q", got)
	}
	f.call(t, "context_delete", args{"key": "branch"})
	got := structured[runContext](t, f.call(t, "context_list", nil))
	if diff := cmp.Diff(map[string]string{"issue": "7"}, got.Context); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDrainIsFinal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := setup(t, claudepool.PoolConfig{Slots: 1}, mcp.Options{})
		f.call(t, "pool_submit", args{"prompt": "hold"})
		synctest.Wait()
		start := time.Now()
		type drained struct {
			Done bool
			claudepool.DrainSummary
		}
		early := structured[drained](t, f.call(t, "pool_drain", args{"timeout_secs": 120}))
		if took := time.Since(start); early.Done || took != 50*time.Second {
			t.Errorf("answered after %v: %+v", took, early)
		}
		if msg := f.refused(t, "pool_submit", args{"prompt": "say x"}); !strings.Contains(msg, "takes no more work") {
			t.Errorf("submitting to a draining pool: %q", msg)
		}
		f.release()
		late := structured[drained](t, f.call(t, "pool_drain", nil))
		if !late.Done || late.Finished != 1 {
			t.Errorf("in the end: %+v", late)
		}
	})
}

func TestPanicIsAnInternalErrorAndTheServerLives(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
	sdk.AddTool(f.server.MCP(), &sdk.Tool{Name: "boom"}, func(context.Context, *sdk.CallToolRequest, struct{}) (*sdk.CallToolResult, any, error) {
		panic("boom")
	})
	if _, err := f.client.CallTool(t.Context(), &sdk.CallToolParams{Name: "boom"}); err == nil || !strings.Contains(err.Error(), "internal error") {
		t.Errorf("a panic gave %v", err)
	}
	f.call(t, "pool_status", nil)
}

func TestCallsInProgressAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := setup(t, claudepool.PoolConfig{}, mcp.Options{MaxCalls: 1})
		result := later(t, t.Context(), f.client, withToken("pool_run", args{"prompt": "hold"}))
		time.Sleep(time.Second)
		start := time.Now()
		if msg := f.refused(t, "pool_status", nil); !strings.Contains(msg, "1 calls are in progress") {
			t.Errorf("got %q", msg)
		}
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("refused after %v, want 5s", took)
		}
		f.release()
		if _, err := result(); err != nil {
			t.Fatal(err)
		}
		f.call(t, "pool_status", nil)
	})
}

func TestRunAfterCloseIsRefused(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
	for range 2 {
		if err := f.server.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, far := sdk.NewInMemoryTransports()
	if err := f.server.Run(t.Context(), far); err != claudepool.ErrClosed {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		near, far := sdk.NewInMemoryTransports()
		ended := make(chan error, 1)
		go func() { ended <- f.server.Run(ctx, far) }()
		c := sdk.NewClient(&sdk.Implementation{Name: "test", Version: "1"}, nil)
		session, err := c.Connect(t.Context(), near, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer session.Close()
		result := later(t, t.Context(), session, withToken("pool_run", args{"prompt": "hold"}))
		time.Sleep(time.Second)
		cancel()
		if err := <-ended; err != context.Canceled {
			t.Errorf("got %v", err)
		}
		if _, err := result(); err == nil {
			t.Error("the call was answered")
		}
		f.release()
	})
}
