//go:build unix

package claudepool_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claudetest"
)

func TestRealChainRecoversFromAStepThatFails(t *testing.T) {
	p, api := realPool(t, claudetest.Directives, claudepool.PoolConfig{Slots: 2})
	third := prompt("apply", "[[status:400]] apply {previous_output}")
	third.OnFailure.RecoveryPrompt = "[[reply:mended]] {previous_output} went wrong: {error}"
	plan := prompt("plan", `[[reply:{"files":["a.go","b.go"]}]] plan`)
	plan.OutputVars = map[string]string{"first": "files.0"}
	r, err := p.ExecuteChain(t.Context(), claudepool.Chain{Steps: []claudepool.ChainStep{
		plan, prompt("draft", "[[reply:draft of {steps.plan.first}]] write"), third, prompt("sum", "[[reply:{previous_output} after {steps.draft.output}]] sum up"),
	}}, claudepool.ChainOptions{})
	if err != nil || r.Output != "mended after draft of a.go" || !r.Success {
		t.Fatalf("chain = %q (%v, %+v)", r.Output, err, r.Failure)
	}
	if s := r.Steps[2]; !s.Recovered || s.Attempts != 2 {
		t.Errorf("third step: %+v, want it recovered in its second attempt", s)
	}
	if !slices.ContainsFunc(api.Requests(), func(q *claudetest.Request) bool {
		return strings.Contains(q.Prompt, "draft of a.go went wrong: ")
	}) {
		t.Error("the recovery was not told what went wrong")
	}
	if r.Cost == 0 {
		t.Error("the chain has cost nothing")
	}
}

func TestRealGraphOverlapsWhatIsIndependent(t *testing.T) {
	// The three in the middle are answered when all three have been asked.
	var asked sync.WaitGroup
	asked.Add(3)
	middle := []string{"api", "db", "ui"}
	p, _ := realPool(t, func(q *claudetest.Request) claudetest.Reply {
		if slices.Contains(middle, q.Prompt) {
			asked.Done()
			asked.Wait()
		}
		return claudetest.Echo(q)
	}, claudepool.PoolConfig{Slots: 3})
	step := func(name string, needs ...string) claudepool.ChainStep {
		s := prompt(name, name)
		s.Needs = needs
		return s
	}
	r, err := p.ExecuteChain(t.Context(), claudepool.Chain{Steps: []claudepool.ChainStep{
		step("split"), step("api", "split"), step("db", "split"), step("ui", "split"),
		step("join", "api", "db"), step("test", "join", "ui"), step("ship", "test"),
	}}, claudepool.ChainOptions{})
	if err != nil {
		t.Fatal(err)
	}
	start := r.Steps[0].Started
	at := map[string]claudepool.StepResult{}
	for _, s := range r.Steps {
		at[s.Name] = s
		from, to := s.Started.Sub(start), s.Ended.Sub(start)
		t.Logf("%-6s %-7s %6d ms %s%s", s.Name, s.SlotID, from.Milliseconds(), strings.Repeat(" ", int(from/(100*time.Millisecond))), strings.Repeat("=", int((to-from)/(100*time.Millisecond))))
	}
	for _, pair := range [][2]string{{"split", "api"}, {"api", "join"}, {"db", "join"}, {"ui", "test"}, {"join", "test"}, {"test", "ship"}} {
		if at[pair[1]].Started.Before(at[pair[0]].Ended) {
			t.Errorf("%s started before %s had ended", pair[1], pair[0])
		}
	}
}

func TestRealForEachOverTwentyItemsWithOneThatFails(t *testing.T) {
	p, _ := realPool(t, claudetest.Directives, claudepool.PoolConfig{Slots: 3})
	var list []string
	for i := range 20 {
		list = append(list, fmt.Sprintf(`"[[reply:done %d]]"`, i))
	}
	list[7] = `"[[status:400]]"`
	each := prompt("each", "{item} item {index}")
	each.ForEach, each.OnFailure.Continue = "steps.list.output", true
	r, err := p.ExecuteChain(t.Context(), claudepool.Chain{
		Arguments: map[string]string{"list": "[" + strings.Join(list, ",") + "]"},
		Steps:     []claudepool.ChainStep{prompt("list", "[[reply:{list} ]]"), each, prompt("sum", "[[reply:{previous_output} ]]")},
	}, claudepool.ChainOptions{})
	if err != nil || len(r.Steps[1].Items) != 20 {
		t.Fatalf("chain: %v, %+v", err, r.Steps)
	}
	for i, item := range r.Steps[1].Items {
		want := claudepool.StepCompleted
		if i == 7 {
			want = claudepool.StepFailed
		}
		if item.State != want || i != 7 && item.Output != fmt.Sprintf("done %d", i) {
			t.Errorf("item %d is %s: %q %s", i, item.State, item.Output, item.Reason)
		}
	}
	if r.State != claudepool.StateCompleted || !strings.Contains(r.Output, `"done 6",null,"done 8"`) {
		t.Errorf("the chain is %s with %q", r.State, r.Output)
	}
}

func TestRealCancelInTheMiddleOfAChain(t *testing.T) {
	p, _ := realPool(t, claudetest.Directives, claudepool.PoolConfig{Slots: 2})
	id, err := p.SubmitChain(t.Context(), claudepool.Chain{Steps: []claudepool.ChainStep{
		prompt("a", "[[reply:one]]"), prompt("b", "[[stream:2000:20ms]]"), prompt("c", "[[reply:three]]"),
	}}, claudepool.ChainOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for r, err := range p.WatchChain(t.Context(), id) {
		if err != nil {
			t.Fatal(err)
		}
		if r.State.Terminal() {
			break
		}
		if r.Steps[1].Partial != "" { // it answers: the partial output is live
			if _, err := p.Cancel(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	r, err := p.WaitChain(t.Context(), id)
	if err == nil || r.State != claudepool.StateCancelled || r.Steps[1].State != claudepool.StepCancelled || r.Steps[2].State != claudepool.StepSkipped {
		t.Errorf("chain: %s, %v, %v", r.State, states(r), err)
	}
	if next, err := p.Run(t.Context(), claudepool.Task{Prompt: "[[reply:next]]"}); err != nil || next.Output != "next" {
		t.Errorf("next task: %q, %v", next.Output, err)
	}
}
