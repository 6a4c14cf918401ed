package mcp_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/mcp"
)

// chain is a chain as the tools show it.
type chain struct {
	claudepool.ChainResult
	Note string `json:"note"`
}

type ids struct {
	TaskIDs []claudepool.TaskID `json:"task_ids"`
}

// prompts are steps with these prompts, one after the other.
func prompts(values ...string) []args {
	steps := make([]args, len(values))
	for i, v := range values {
		steps[i] = args{"name": fmt.Sprintf("s%d", i), "value": v}
	}
	return steps
}

func TestChainGivesItsResultAndThoseOfItsSteps(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
	res := f.call(t, "pool_chain", args{"steps": prompts("say one", "say {previous_output} two"), "tags": []string{"x"}})
	got := structured[chain](t, res)
	if !got.Success || got.State != claudepool.StateCompleted || got.Output != "one two" || got.Cost != 2*turnCost || len(got.Steps) != 2 {
		t.Errorf("got %+v", got)
	}
	if s := got.Steps[0]; s.Name != "s0" || s.State != claudepool.StepCompleted || s.Output != "one" {
		t.Errorf("the first step is %+v", s)
	}
	for _, want := range []string{"completed, $0.002000", "- s0 completed", "one two"} {
		if !strings.Contains(text(res), want) {
			t.Errorf("the text %q lacks %q", text(res), want)
		}
	}
	if len(res.Content) != 1 {
		t.Errorf("there are %d pieces of content, want the text alone", len(res.Content))
	}
	// The tools for tasks know it too.
	in := args{"task_id": got.TaskID}
	if r := structured[report](t, f.call(t, "pool_result", in)); r.Output != "one two" || len(r.Steps) != 2 || r.Steps[0].Output != "" || !strings.Contains(r.Note, "pool_chain_result") {
		t.Errorf("pool_result gave %+v", r)
	}
	if w := structured[waited](t, f.call(t, "pool_wait", args{"task_ids": []claudepool.TaskID{got.TaskID}})); !w.Done || w.Tasks[0].Output != "one two" {
		t.Errorf("pool_wait gave %+v", w)
	}
	tasks := structured[list](t, f.call(t, "pool_list_tasks", nil)).Tasks
	if len(tasks) != 3 || tasks[0].Parent != got.TaskID || tasks[2].TaskID != got.TaskID || tasks[2].Parent != "" {
		t.Errorf("the tasks are %+v", tasks)
	}
	step := string(got.Steps[1].TaskID)
	if r := structured[report](t, f.call(t, "pool_result", args{"task_id": step})); r.Output != "one two" {
		t.Errorf("the step's own result is %+v", r)
	}
	for _, uri := range []string{"pool://results/" + step, "pool://tasks/" + step, "pool://chains/" + string(got.TaskID)} {
		f.read(t, uri)
	}
}

// Each field of a step reaches the pool's.
func TestStepsAreConverted(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{}, mcp.Options{MaxPermissionMode: claude.PermissionAcceptEdits})
	f.call(t, "pool_skill_add", args{"name": "greet", "prompt": "say {who}", "arguments": []args{{"name": "who"}}})
	f.call(t, "pool_pause", nil)
	id := structured[report](t, f.call(t, "pool_submit_chain", args{
		"steps": []args{
			{"name": "a", "value": "say [1]", "model": "haiku", "effort": "low", "retries": 0, "recovery_prompt": "say {error}", "output_vars": args{"V": "0"}, "slot": "slot-1"},
			{"name": "b", "type": "prompt", "value": "say {item}", "needs": []string{"a"}, "for_each": "steps.a.output", "when": "steps.a.V", "retries": 2, "continue_on_failure": true,
				"overrides": args{"permission_mode": "acceptEdits", "model": "opus", "timeout_secs": 7}},
			{"name": "c", "type": "skill", "value": "greet", "arguments": args{"who": "{steps.a.V}"}, "needs": []string{"a"}},
		},
		"tags": []string{"x"}, "priority": 4, "isolation": "none", "idempotency_key": "k",
		"overrides": args{"model": "sonnet", "max_budget_usd": 0.25, "timeout_secs": 60},
	})).TaskID
	r, err := f.pool.Task(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	c := r.Chain
	if d := c.Steps[2].Action.Definition; d == nil || d.Name != "greet" {
		t.Errorf("the skill is %+v", d)
	}
	c.Steps[2].Action.Definition = nil
	minute := 60 * time.Second
	want := &claudepool.Chain{
		Steps: []claudepool.ChainStep{
			{
				Name: "a", Action: claudepool.StepAction{Prompt: "say [1]"}, OutputVars: map[string]string{"V": "0"}, Slot: "slot-1",
				OnFailure: claudepool.StepFailurePolicy{RecoveryPrompt: "say {error}", Retry: claudepool.RetryPolicy{Max: -1}},
				Overrides: claudepool.TaskOverrides{AgentConfig: claudepool.AgentConfig{Model: "haiku", Effort: claude.EffortLow}, Timeout: minute},
			},
			{
				Name: "b", Action: claudepool.StepAction{Prompt: "say {item}"}, Needs: []string{"a"}, ForEach: "steps.a.output", When: "steps.a.V",
				OnFailure: claudepool.StepFailurePolicy{Continue: true, Retry: claudepool.RetryPolicy{Max: 2}},
				Overrides: claudepool.TaskOverrides{AgentConfig: claudepool.AgentConfig{Model: "opus", PermissionMode: claude.PermissionAcceptEdits}, Timeout: 7 * time.Second},
			},
			{
				Name: "c", Action: claudepool.StepAction{Skill: "greet", Arguments: map[string]string{"who": "{steps.a.V}"}}, Needs: []string{"a"},
				Overrides: claudepool.TaskOverrides{Timeout: minute},
			},
		},
		Overrides: claudepool.AgentConfig{Model: "sonnet"}, Isolation: claudepool.IsolationNone, MaxCost: claudepool.USD(0.25),
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("the chain (-want +got):\n%s", diff)
	}
	if r.Task.Priority != 4 || r.Task.Owner != mcp.DefaultOwner || r.Task.IdempotencyKey != "k" || !cmp.Equal(r.Task.Tags, []string{"x"}) {
		t.Errorf("the task is %+v", r.Task)
	}
}

func TestBadStepsAreRefusedByName(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{Budget: claudepool.USD(1)}, mcp.Options{})
	one := func(more args) []args {
		step := args{"name": "a", "value": "say x"}
		for k, v := range more {
			step[k] = v
		}
		return []args{step}
	}
	for _, c := range []struct {
		name  string
		steps []args
		want  []string
	}{
		{"none", []args{}, []string{"length 0"}},
		{"unknown field", one(args{"valeu": "x"}), []string{"valeu"}},
		{"unknown field of overrides", one(args{"overrides": args{"modell": "x"}}), []string{"modell"}},
		{"type", one(args{"type": "shell"}), []string{"type", "shell", "skill"}},
		{"no value", []args{{"name": "a"}}, []string{"value"}},
		{"blank value", one(args{"value": " "}), []string{"steps[0].value", `"a"`}},
		{"no name", one(args{"name": ""}), []string{"steps[0].name"}},
		{"arguments of a prompt", one(args{"arguments": args{"x": "y"}}), []string{"steps[0].arguments", "skills"}},
		{"unknown skill", one(args{"type": "skill", "value": "nothing"}), []string{"steps[0].value", "nothing"}},
		{"missing argument", one(args{"type": "skill", "value": "implement"}), []string{"steps[0].arguments", "implement"}},
		{"retries", one(args{"retries": -1}), []string{"retries"}},
		{"many retries", one(args{"retries": 11}), []string{"retries", "10"}},
		{"effort", one(args{"effort": "huge"}), []string{"effort", "huge"}},
		{"needs", one(args{"needs": []string{"b"}}), []string{"steps[0].needs", `"b"`}},
		{"cycle", one(args{"needs": []string{"a"}}), []string{"steps[0].needs"}},
		{"placeholder", one(args{"value": "{steps.b.output}"}), []string{"steps[0].value", "b"}},
		{"condition", one(args{"when": "a b c"}), []string{"steps[0].when"}},
		{"slot", one(args{"slot": "nobody"}), []string{"nobody", `"a"`}},
		{"ceiling", one(args{"overrides": args{"permission_mode": "acceptEdits"}}), []string{"steps[0].overrides.permission_mode", "plan at most"}},
		{"budget", one(args{"overrides": args{"max_budget_usd": 2}}), []string{"steps[0].overrides.max_budget_usd", "$1.00"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for tool, in := range map[string]args{
				"pool_chain": {"steps": c.steps}, "pool_submit_chain": {"steps": c.steps}, "pool_fan_out_chains": {"chains": []any{prompts("say x"), c.steps}},
			} {
				msg := f.refused(t, tool, in)
				for _, want := range c.want {
					if !strings.Contains(msg, want) {
						t.Errorf("%s: %q lacks %q", tool, msg, want)
					}
				}
			}
		})
	}
	for _, tool := range []string{"pool_chain", "pool_submit_chain"} {
		if msg := f.refused(t, tool, args{"steps": prompts("x"), "isolation": "container"}); !strings.Contains(msg, "isolation") || !strings.Contains(msg, "worktree") || !strings.Contains(msg, "none") {
			t.Errorf("isolation: %q", msg)
		}
	}
	if tasks := structured[list](t, f.call(t, "pool_list_tasks", nil)).Tasks; len(tasks) != 0 {
		t.Errorf("%d tasks were started all the same", len(tasks))
	}
}

// Whatever the permission mode or the cap of a step comes from, they stay below
// the server's ceilings.
func TestNothingRaisesTheCeilings(t *testing.T) {
	t.Parallel()
	skills, err := claudepool.NewSkillRegistry(claudepool.SourceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	loose := claudepool.AgentConfig{PermissionMode: claude.PermissionAcceptEdits}
	if err := skills.Add(claudepool.Skill{Name: "loose", Prompt: "mode", Config: loose}); err != nil {
		t.Fatal(err)
	}
	workflows, err := claudepool.NewWorkflowRegistry(claudepool.SourceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	step := claudepool.ChainStep{Name: "a", Action: claudepool.StepAction{Prompt: "mode"}}
	looseStep, dear, looseSkill := step, step, step
	looseStep.Overrides.AgentConfig = loose
	dear.Overrides.MaxCost = claudepool.USD(2)
	looseSkill.Action = claudepool.StepAction{Skill: "loose"}
	for name, w := range map[string]claudepool.Workflow{
		"config": {Config: loose, Steps: []claudepool.ChainStep{step}},
		"step":   {Steps: []claudepool.ChainStep{looseStep}},
		"skill":  {Steps: []claudepool.ChainStep{looseSkill}},
		"cap":    {Steps: []claudepool.ChainStep{dear}},
		"all":    {Steps: []claudepool.ChainStep{step}, MaxCost: claudepool.USD(2)},
	} {
		w.Name, w.Description = name, name
		if err := workflows.Add(w); err != nil {
			t.Fatal(err)
		}
	}
	f := setup(t, claudepool.PoolConfig{Budget: claudepool.USD(1), Skills: skills, Workflows: workflows}, mcp.Options{})
	ended, err := f.pool.SubmitChain(t.Context(), claudepool.Chain{Steps: []claudepool.ChainStep{looseStep}}, claudepool.ChainOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.pool.Cancel(t.Context(), ended); err != nil {
		t.Fatal(err)
	}
	before := len(structured[list](t, f.call(t, "pool_list_tasks", nil)).Tasks)
	mode, money := "this server allows plan at most, until a person starts the server with --permission-mode acceptEdits", "$1.00"
	for _, c := range []struct {
		tool string
		in   args
		want string
	}{
		{"pool_skill_run", args{"skill": "loose"}, `skill "loose": permission_mode is acceptEdits; ` + mode},
		{"pool_skill_run", args{"skill": "implement", "arguments": args{"task": "x"}, "overrides": args{"permission_mode": "acceptEdits"}}, mode},
		{"pool_skill_add", args{"name": "x", "prompt": "x", "config": args{"permission_mode": "acceptEdits"}}, "config.permission_mode is acceptEdits; " + mode},
		{"pool_chain", args{"steps": []args{{"name": "a", "type": "skill", "value": "loose"}}}, mode},
		{"pool_chain", args{"steps": prompts("mode"), "overrides": args{"permission_mode": "acceptEdits"}}, mode},
		{"pool_chain", args{"steps": prompts("mode"), "overrides": args{"max_budget_usd": 2}}, money},
		{"pool_submit_chain", args{"steps": []args{{"name": "a", "type": "skill", "value": "loose"}}}, `step "a": skill "loose": permission_mode is acceptEdits; ` + mode},
		{"pool_fan_out_chains", args{"chains": []any{[]args{{"name": "a", "type": "skill", "value": "loose"}}}}, mode},
		{"pool_invoke_workflow", args{"workflow": "config"}, `workflow "config": permission_mode is acceptEdits; ` + mode},
		{"pool_invoke_workflow", args{"workflow": "step"}, `workflow "step": step "a": permission_mode is acceptEdits; ` + mode},
		{"pool_invoke_workflow", args{"workflow": "skill"}, `workflow "skill": step "a": skill "loose": permission_mode is acceptEdits; ` + mode},
		{"pool_invoke_workflow", args{"workflow": "cap"}, `workflow "cap": step "a": max_budget_usd is $2.00`},
		{"pool_invoke_workflow", args{"workflow": "all"}, money},
		{"pool_auto", args{"prompt": "auto single", "overrides": args{"permission_mode": "acceptEdits"}}, mode},
		{"pool_submit_with_review", args{"prompt": "mode", "overrides": args{"permission_mode": "acceptEdits"}}, mode},
		{"pool_retry", args{"task_id": ended}, mode},
	} {
		if msg := f.refused(t, c.tool, c.in); !strings.Contains(msg, c.want) {
			t.Errorf("%s(%v): %q lacks %q", c.tool, c.in, msg, c.want)
		}
	}
	if after := len(structured[list](t, f.call(t, "pool_list_tasks", nil)).Tasks); after != before {
		t.Errorf("%d tasks were started all the same", after-before)
	}
	// A caller who stays below is not hindered.
	below := args{"workflow": "skill", "overrides": args{"permission_mode": "plan"}}
	id := structured[report](t, f.call(t, "pool_invoke_workflow", below)).TaskID
	if w := structured[waited](t, f.call(t, "pool_wait", args{"task_ids": []claudepool.TaskID{id}})); w.Tasks[0].Output != "plan" {
		t.Errorf("the workflow came to %+v", w)
	}
	got := structured[report](t, f.call(t, "pool_skill_run", args{"skill": "loose", "overrides": args{"permission_mode": "plan"}}))
	if got.Output != "plan" {
		t.Errorf("got %+v", got)
	}
}

func TestLongOutputsOfStepsAreCut(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{}, mcp.Options{MaxOutput: 100})
	res := f.call(t, "pool_chain", args{"steps": prompts("long 90", "long 250", "long 250", "long 250")})
	got := structured[chain](t, res)
	var sizes []int
	for _, s := range got.Steps {
		sizes = append(sizes, len(s.Output))
	}
	if !slices.Equal(sizes, []int{75, 75, 75, 75}) || len(got.Output) != 100 {
		t.Errorf("the outputs have %v characters, that of the chain %d", sizes, len(got.Output))
	}
	link, ok := res.Content[len(res.Content)-1].(*sdk.ResourceLink)
	if !ok || link.URI != "pool://chains/"+string(got.TaskID) || !strings.Contains(got.Note, link.URI) {
		t.Fatalf("the last content is %+v, the note %q; want a link to the whole", res.Content[len(res.Content)-1], got.Note)
	}
	var whole claudepool.ChainResult
	if err := json.Unmarshal([]byte(f.read(t, link.URI).Text), &whole); err != nil || len(whole.Steps[1].Output) != 250 || len(whole.Output) != 250 {
		t.Errorf("the resource is %+v, %v", whole, err)
	}
	next := structured[report](t, f.call(t, "pool_result", args{"task_id": got.Steps[1].TaskID, "offset": sizes[1]}))
	if len(next.Output) != 100 {
		t.Errorf("reading on in a step gave %d characters", len(next.Output))
	}
}

// Of many items those that failed are shown; what the others gave is in the
// step's output.
func TestManyItemsAreShownInBrief(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{Slots: 4}, mcp.Options{})
	items := make([]string, 60)
	for i := range items {
		items[i] = fmt.Sprintf(`"say %d"`, i)
	}
	items[7] = `"fail"`
	got := structured[chain](t, f.call(t, "pool_chain", args{"steps": []args{
		{"name": "split", "value": "say [" + strings.Join(items, ",") + "]"},
		{"name": "each", "value": "{item}", "for_each": "steps.split.output", "continue_on_failure": true, "retries": 0},
	}}))
	each := got.Steps[1]
	if len(each.Items) != 1 || each.Items[0].Name != "each[7]" || each.Items[0].State != claudepool.StepFailed || each.Items[0].Reason == "" {
		t.Errorf("the items are %+v", each.Items)
	}
	var outputs []any
	if err := json.Unmarshal([]byte(each.Output), &outputs); err != nil || len(outputs) != 60 {
		t.Errorf("the output is %q, %v", each.Output, err)
	}
	if want := "left out are 59 completed items of step each, whose outputs are in the step's; pool://chains/"; !strings.Contains(got.Note, want) || strings.Contains(got.Note, "cut to") {
		t.Errorf("the note is %q, want %q and nothing that was not cut", got.Note, want)
	}
}

// No more items are shown than there is room for, however many have failed.
func TestManyFailedItemsAreCounted(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{Slots: 4}, mcp.Options{})
	items := strings.TrimSuffix(strings.Repeat(`"fail",`, 55), ",")
	got := structured[chain](t, f.call(t, "pool_chain", args{"steps": []args{
		{"name": "split", "value": "say [" + items + "]"},
		{"name": "each", "value": "{item}", "for_each": "steps.split.output", "continue_on_failure": true, "retries": 0},
	}}))
	if n := len(got.Steps[1].Items); n != 50 {
		t.Errorf("%d items are shown, want 50", n)
	}
	if !strings.Contains(got.Note, "left out are 5 more items of step each; pool://chains/") {
		t.Errorf("the note is %q", got.Note)
	}
}

func TestChainsAreSubmittedFannedOutCancelledAndTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := setup(t, claudepool.PoolConfig{Slots: 3}, mcp.Options{})
		submit := func() claudepool.TaskID {
			return structured[report](t, f.call(t, "pool_submit_chain", args{"steps": prompts("say one", "hold", "say {previous_output}"), "idempotency_key": "a"})).TaskID
		}
		id := submit()
		if again := submit(); again != id {
			t.Errorf("the same key gave %s and %s", id, again)
		}
		all := structured[ids](t, f.call(t, "pool_fan_out_chains", args{"chains": []any{prompts("say x"), prompts("say y", "say {previous_output}!")}})).TaskIDs
		got := structured[waited](t, f.call(t, "pool_wait", args{"task_ids": all}))
		if !got.Done || got.Tasks[0].Output != "x" || got.Tasks[1].Output != "y!" {
			t.Errorf("the fan-out came to %+v", got)
		}
		synctest.Wait()
		in := args{"task_id": id}
		c := structured[chain](t, f.call(t, "pool_chain_result", in))
		if c.State != claudepool.StateRunning || c.Steps[0].Output != "one" || c.Steps[1].State != claudepool.StepRunning || c.Steps[2].State != claudepool.StepWaiting {
			t.Errorf("in the middle: %+v", c)
		}
		if msg := f.refused(t, "pool_cancel_chain", args{"task_id": c.Steps[0].TaskID}); !strings.Contains(msg, "no chain") {
			t.Errorf("cancelling a step as a chain: %q", msg)
		}
		if st := structured[report](t, f.call(t, "pool_cancel_chain", in)); st.State != claudepool.StateCancelled || st.TaskID != id {
			t.Errorf("pool_cancel_chain gave %+v", st)
		}
		c = structured[chain](t, f.call(t, "pool_chain_result", in))
		if c.State != claudepool.StateCancelled || c.Steps[1].State != claudepool.StepCancelled || c.Steps[2].State != claudepool.StepSkipped || !strings.Contains(c.Note, "pool_retry") {
			t.Errorf("after the cancellation: %+v", c)
		}
		next := structured[report](t, f.call(t, "pool_retry", args{"task_id": id, "idempotency_key": "b"})).TaskID
		synctest.Wait()
		f.release()
		got = structured[waited](t, f.call(t, "pool_wait", args{"task_ids": []claudepool.TaskID{next}}))
		if got.Tasks[0].Output != "held" {
			t.Errorf("the second try came to %+v", got)
		}
		c = structured[chain](t, f.call(t, "pool_chain_result", args{"task_id": next}))
		if c.Steps[0].TaskID == "" || !strings.HasPrefix(string(c.Steps[0].TaskID), string(id)) {
			t.Errorf("the first step was run again: %+v", c.Steps[0])
		}
	})
}

func TestSubscribersHearOfTheStepsOfAChain(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := setup(t, claudepool.PoolConfig{Slots: 1}, mcp.Options{})
				id := structured[report](t, f.call(t, "pool_submit_chain", args{"steps": prompts("hold", "hold")})).TaskID
				uri := "pool://chains/" + string(id)
				var mu sync.Mutex
				updates := 0
				c := f.connect(t, &sdk.ClientOptions{ResourceUpdatedHandler: func(_ context.Context, r *sdk.ResourceUpdatedNotificationRequest) {
					mu.Lock()
					defer mu.Unlock()
					if r.Params.URI == uri {
						updates++
					}
				}}, protocol)
				if err := c.Subscribe(t.Context(), &sdk.SubscribeParams{URI: uri}); err != nil {
					t.Fatal(err)
				}
				take := func() int {
					time.Sleep(2 * time.Second)
					mu.Lock()
					defer mu.Unlock()
					n := updates
					updates = 0
					return n
				}
				take()
				if n := take(); n != 0 {
					t.Errorf("%d updates while nothing happened", n)
				}
				for _, what := range []string{"the end of the first step", "the end of the chain"} {
					f.release()
					if n := take(); n < 1 {
						t.Errorf("no update at %s", what)
					}
				}
			})
		})
	}
}
