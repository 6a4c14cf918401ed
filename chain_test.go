package claudepool_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
)

// script answers prompts. It counts how often each was asked.
type script struct {
	mu    sync.Mutex
	asked map[string]int
	reply func(ctx context.Context, prompt string, n int) (claude.Result, error)
}

func newScript(reply func(prompt string, n int) claude.Result) *script {
	return &script{asked: map[string]int{}, reply: func(_ context.Context, prompt string, n int) (claude.Result, error) { return reply(prompt, n), nil }}
}

func (s *script) turn(ctx context.Context, _ *fakeAgent, p claude.Prompt, _ func(claude.Event)) (claude.Result, error) {
	s.mu.Lock()
	s.asked[p.Text]++
	n := s.asked[p.Text]
	s.mu.Unlock()
	return s.reply(ctx, p.Text, n)
}

func (s *script) times() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]int{}
	for k, v := range s.asked {
		out[k] = v
	}
	return out
}

func prompt(name, text string) claudepool.ChainStep {
	return claudepool.ChainStep{Name: name, Action: claudepool.StepAction{Prompt: text}}
}

// states are the states of the steps by name.
func states(r claudepool.ChainResult) map[string]claudepool.StepState {
	m := map[string]claudepool.StepState{}
	for _, s := range r.Steps {
		m[s.Name] = s.State
	}
	return m
}

var once = claudepool.StepFailurePolicy{Retry: claudepool.RetryPolicy{Max: -1}}

func failing(text string) claude.Result {
	return claude.Result{Subtype: "error_during_execution", IsError: true, Errors: []string{text}, Cost: 10}
}

func TestAChainHandsOutputsOn(t *testing.T) {
	t.Parallel()
	s := newScript(func(p string, _ int) claude.Result { return ok("<"+p+">", 10) })
	p := build(t, claudepool.PoolConfig{Slots: 2, Launcher: &fakeLauncher{turn: s.turn}})
	r, err := p.ExecuteChain(t.Context(), claudepool.Chain{
		Arguments: map[string]string{"who": "{previous_output}"},
		Steps: []claudepool.ChainStep{
			prompt("a", "one {who}"),
			prompt("b", "two {previous_output}"),
			prompt("c", "three {steps.a.output} {steps.b.output} {other}"),
		},
	}, claudepool.ChainOptions{Tags: []string{"x"}})
	if err != nil {
		t.Fatal(err)
	}
	want := "<three <one {previous_output}> <two <one {previous_output}>> {other}>"
	if r.Output != want || !r.Success || r.Cost != 30 || r.State != claudepool.StateCompleted {
		t.Errorf("chain = %q (%v, %v), want %q for $0.00003", r.Output, r.State, r.Cost, want)
	}
	for i, step := range r.Steps {
		rec, err := p.Task(t.Context(), step.TaskID)
		if err != nil || rec.Task.Parent != r.TaskID || rec.Task.Tags[0] != "x" || step.State != claudepool.StepCompleted {
			t.Errorf("step %d is %s as task %s of %s (%v)", i, step.State, step.TaskID, rec.Task.Parent, err)
		}
	}
	if res, err := p.Wait(t.Context(), r.TaskID); err != nil || res.Cost != 30 || res.Output != want {
		t.Errorf("the chain's own result = %q for %v (%v)", res.Output, res.Cost, err)
	}
	if m := p.Metrics(); m.Spend != 30 {
		t.Errorf("spent %v, want $0.00003: a chain's cost is that of its steps", m.Spend)
	}
}

func TestAGraphRunsWhatItCanSideBySide(t *testing.T) {
	t.Parallel()
	b := newBlocker()
	p := build(t, claudepool.PoolConfig{Slots: 3, Launcher: &fakeLauncher{turn: b.turn}})
	step := func(name string, needs ...string) claudepool.ChainStep {
		s := prompt(name, name)
		s.Needs = needs
		return s
	}
	id, err := p.SubmitChain(t.Context(), claudepool.Chain{Steps: []claudepool.ChainStep{
		step("end", "l", "m", "r"), step("l", "start"), step("start"), step("m", "start"), step("r", "start"),
	}}, claudepool.ChainOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := <-b.begun; got != "start" {
		t.Fatalf("%q began first", got)
	}
	b.release <- struct{}{}
	got := map[string]bool{<-b.begun: true, <-b.begun: true, <-b.begun: true}
	if diff := gocmp.Diff(map[string]bool{"l": true, "m": true, "r": true}, got); diff != "" {
		t.Errorf("side by side (-want +got):\n%s", diff)
	}
	if r, err := p.ChainProgress(t.Context(), id); err != nil || states(r)["end"] != claudepool.StepWaiting || states(r)["l"] != claudepool.StepRunning {
		t.Errorf("in the middle: %v (%v)", states(r), err)
	}
	close(b.release)
	if r, err := p.WaitChain(t.Context(), id); err != nil || len(r.Steps) != 5 || r.Steps[0].Name != "end" {
		t.Errorf("WaitChain = %v, %v", states(r), err)
	}
}

func TestStepsOfOlderChainsComeFirst(t *testing.T) {
	t.Parallel()
	b := newBlocker()
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: b.turn}})
	busy := submit(t, p, claudepool.Task{Prompt: "busy"})
	<-b.begun
	var ids []claudepool.TaskID
	for n := range 3 {
		id, err := p.SubmitChain(t.Context(), claudepool.Chain{Steps: []claudepool.ChainStep{
			prompt("a", fmt.Sprintf("%da", n)), prompt("b", fmt.Sprintf("%db", n)),
		}}, claudepool.ChainOptions{})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	// All first steps wait or run, and then the second step of the first chain too.
	for _, id := range []claudepool.TaskID{ids[0] + ".a", ids[1] + ".a", ids[2] + ".a"} {
		exists(t, p, id)
	}
	b.release <- struct{}{}
	wait(t, p, busy)
	if got := <-b.begun; got != "0a" {
		t.Errorf("%q began first", got)
	}
	b.release <- struct{}{}
	<-b.begun
	exists(t, p, ids[0]+".b")
	b.release <- struct{}{}
	if got := <-b.begun; got == "2a" {
		t.Errorf("%q began before the first chain had ended", got)
	}
	close(b.release)
	for _, id := range ids {
		if _, err := p.WaitChain(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
}

// exists waits until there is a task with that id.
func exists(t *testing.T, p *claudepool.Pool, id claudepool.TaskID) {
	t.Helper()
	for {
		_, err := p.Task(t.Context(), id)
		if err == nil {
			return
		}
		if !errors.Is(err, claudepool.ErrUnknownTask) {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestAStepThatFailsEndsTheChain(t *testing.T) {
	t.Parallel()
	s := newScript(func(p string, _ int) claude.Result {
		if p == "two" {
			return failing("no luck")
		}
		return ok(p, 10)
	})
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: s.turn}})
	bad := prompt("b", "two")
	bad.OnFailure = once
	r, err := p.ExecuteChain(t.Context(), claudepool.Chain{Steps: []claudepool.ChainStep{prompt("a", "one"), bad, prompt("c", "three")}}, claudepool.ChainOptions{})
	var te *claudepool.TaskError
	if !errors.As(err, &te) || r.State != claudepool.StateFailed || r.Outcome != claudepool.OutcomeAgentError || r.Failure == nil {
		t.Fatalf("ExecuteChain = %+v, %v", r, err)
	}
	contains(t, "failure", r.Failure.Message, `step "b": no luck`)
	want := map[string]claudepool.StepState{"a": claudepool.StepCompleted, "b": claudepool.StepFailed, "c": claudepool.StepSkipped}
	if diff := gocmp.Diff(want, states(r)); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	contains(t, "reason", r.Steps[2].Reason, `"b" had failed`)
	if n := s.times()["three"]; n != 0 {
		t.Errorf("the step after it ran %d times", n)
	}
}

func TestNothingMoreIsStartedAfterAFailure(t *testing.T) {
	t.Parallel()
	s := newScript(func(p string, _ int) claude.Result {
		if p == "bad" {
			return failing("no")
		}
		return ok(p, 10)
	})
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: s.turn}})
	if err := p.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.Pause() // until all three wait in the queue
	bad := prompt("a", "bad")
	bad.OnFailure, bad.Needs = once, []string{}
	last := prompt("z", "z")
	last.Needs = []string{"a", "b", "c"}
	id, err := p.SubmitChain(t.Context(), claudepool.Chain{Steps: []claudepool.ChainStep{bad, prompt("b", "b"), prompt("c", "c"), last}}, claudepool.ChainOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []string{"a", "b", "c"} {
		exists(t, p, id+"."+claudepool.TaskID(step))
	}
	if _, _, err := p.Claim(t.Context(), "slot-0"); err != nil {
		t.Fatal(err)
	}
	r, err := p.WaitChain(t.Context(), id) // though dispatch is paused
	want := map[string]claudepool.StepState{"a": claudepool.StepFailed, "b": claudepool.StepCancelled, "c": claudepool.StepCancelled, "z": claudepool.StepSkipped}
	if diff := gocmp.Diff(want, states(r)); diff != "" || err == nil {
		t.Errorf("steps (%v) (-want +got):\n%s", err, diff)
	}
	if n := len(s.times()); n != 1 {
		t.Errorf("%d prompts were asked, want that of the step that fails", n)
	}
}

func TestFailurePolicies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScript(func(p string, n int) claude.Result {
			switch {
			case p == "flaky" && n < 3, p == "broken":
				return failing("reason {previous_output}")
			}
			return ok("<"+p+">", 10)
		})
		p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: s.turn}})
		flaky, broken, careless := prompt("flaky", "flaky"), prompt("broken", "broken"), prompt("careless", "broken")
		flaky.OnFailure.Retry = claudepool.RetryPolicy{Max: 2}
		broken.OnFailure = claudepool.StepFailurePolicy{Retry: claudepool.RetryPolicy{Max: -1}, RecoveryPrompt: "mend {error} after {previous_output}"}
		careless.OnFailure = claudepool.StepFailurePolicy{Retry: claudepool.RetryPolicy{Max: -1}, Continue: true}
		r, err := p.ExecuteChain(t.Context(), claudepool.Chain{Steps: []claudepool.ChainStep{
			flaky, broken, prompt("after", "after {previous_output}"), careless, prompt("last", "last [{previous_output}]"),
		}}, claudepool.ChainOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Steps[0]; got.Attempts != 3 || got.Cost != 30 || got.State != claudepool.StepCompleted {
			t.Errorf("flaky step: %+v", got)
		}
		if got, want := r.Steps[1], "<mend reason {previous_output} after <flaky>>"; !got.Recovered || got.Output != want || got.Cost != 20 {
			t.Errorf("recovered step: %+v, want the output %q", got, want)
		}
		if got := r.Steps[3]; got.State != claudepool.StepFailed || got.Reason == "" {
			t.Errorf("careless step: %+v", got)
		}
		if r.Output != "<last []>" {
			t.Errorf("output %q, want <last []>: a failed step hands nothing on", r.Output)
		}
	})
}

func TestForEach(t *testing.T) {
	t.Parallel()
	list := `["a",{"n":1},3]`
	s := newScript(func(p string, _ int) claude.Result {
		switch {
		case p == "split":
			return ok("Here you are:\n```json\n"+list+"\n```\n", 1)
		case p == "1: {\"n\":1}":
			return failing("no")
		}
		return ok("<"+p+">", 1)
	})
	p := build(t, claudepool.PoolConfig{Slots: 2, Launcher: &fakeLauncher{turn: s.turn}})
	each := prompt("each", "{index}: {item}")
	each.ForEach = "{steps.split.output}"
	each.OnFailure = once
	chain := claudepool.Chain{Steps: []claudepool.ChainStep{prompt("split", "split"), each, prompt("sum", "sum {previous_output}")}}
	r, err := p.ExecuteChain(t.Context(), chain, claudepool.ChainOptions{})
	if err == nil || r.Outcome != claudepool.OutcomeAgentError || len(r.Steps[1].Items) != 3 {
		t.Errorf("with a failing item: %v, %v", states(r), err)
	}
	contains(t, "reason", r.Steps[1].Reason, "item 1 of 3: no")

	chain.Steps[1].OnFailure.Continue = true
	r, err = p.ExecuteChain(t.Context(), chain, claudepool.ChainOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if want := `<sum ["<0: a>",null,"<2: 3>"]>`; r.Output != want {
		t.Errorf("output %s, want %s", r.Output, want)
	}
	if got := r.Steps[1].Items[1]; got.State != claudepool.StepFailed || got.Name != "each[1]" {
		t.Errorf("failed item: %+v", got)
	}
	list = "[]"
	if r, err = p.ExecuteChain(t.Context(), chain, claudepool.ChainOptions{}); err != nil || r.Output != "<sum []>" {
		t.Errorf("with an empty list: %q, %v", r.Output, err)
	}
	list = `{"not":"a list"}`
	if r, err = p.ExecuteChain(t.Context(), chain, claudepool.ChainOptions{}); err != nil || r.Steps[1].Outcome != claudepool.OutcomeInvalid {
		t.Errorf("without a list: %+v, %v", r.Steps[1], err)
	}
}

func TestConditionsAndVariables(t *testing.T) {
	t.Parallel()
	s := newScript(func(p string, _ int) claude.Result {
		if p == "look" {
			return ok(`{"bugs":[{"file":"x.go","line":7}],"clean":false,"note":"{item}"}`, 1)
		}
		return ok("<"+p+">", 1)
	})
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: s.turn}})
	look := prompt("look", "look")
	look.OutputVars = map[string]string{"file": "bugs.0.file", "line": "bugs.0.line", "clean": "clean", "note": "note", "first": "bugs.0"}
	steps := []claudepool.ChainStep{look}
	for name, when := range map[string]string{
		"yes1": "!steps.look.clean", "no1": "steps.look.clean", "yes2": `steps.look.file == "x.go"`, "no2": `steps.look.file != "x.go"`,
		"yes3": `{steps.look.output} contains "bugs"`, "no3": `steps.look.output contains "nothing"`,
	} {
		step := prompt(name, name)
		step.When, step.Needs = when, []string{"look"}
		steps = append(steps, step)
	}
	last := prompt("zz", "{steps.look.file}:{steps.look.line} {steps.look.note} {steps.look.first} [{steps.no1.output}]")
	for _, s := range steps {
		last.Needs = append(last.Needs, s.Name)
	}
	r, err := p.ExecuteChain(t.Context(), claudepool.Chain{Steps: append(steps, last)}, claudepool.ChainOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if want := `<x.go:7 {item} {"file":"x.go","line":7} []>`; r.Output != want {
		t.Errorf("output %s, want %s", r.Output, want)
	}
	for name, state := range states(r) {
		if want := strings.HasPrefix(name, "no"); want != (state == claudepool.StepSkipped) {
			t.Errorf("step %s is %s", name, state)
		}
	}
	look.OutputVars = map[string]string{"x": "bugs.3.file"}
	r, err = p.ExecuteChain(t.Context(), claudepool.Chain{Steps: []claudepool.ChainStep{look}}, claudepool.ChainOptions{})
	if err == nil || r.Outcome != claudepool.OutcomeSchema {
		t.Errorf("a path that leads nowhere: %s, %v", r.Outcome, err)
	}
	contains(t, "reason", r.Steps[0].Reason, "bugs.3")
}

func TestASkippedStepHandsOnWhatItWasGiven(t *testing.T) {
	t.Parallel()
	s := newScript(func(p string, _ int) claude.Result { return ok("<"+p+">", 1) })
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: s.turn}})
	skipped := prompt("b", "b")
	skipped.When = `previous_output == "x"`
	r, err := p.ExecuteChain(t.Context(), claudepool.Chain{Steps: []claudepool.ChainStep{prompt("a", "a"), skipped, prompt("c", "c{previous_output}")}}, claudepool.ChainOptions{})
	if err != nil || r.Output != "<c<a>>" {
		t.Errorf("output %q, %v", r.Output, err)
	}
}

func TestOneSession(t *testing.T) {
	t.Parallel()
	l := &fakeLauncher{turn: func(_ context.Context, a *fakeAgent, _ claude.Prompt, _ func(claude.Event)) (claude.Result, error) {
		return ok(strings.Join(a.said(), "|"), 1), nil
	}}
	p := build(t, claudepool.PoolConfig{Slots: 2, Launcher: l})
	steps := []claudepool.ChainStep{prompt("a", "1"), prompt("b", "2"), prompt("c", "3")}
	r, err := p.ExecuteChain(t.Context(), claudepool.Chain{Steps: steps, OneSession: true, Overrides: claudepool.AgentConfig{SystemPrompt: "short"}}, claudepool.ChainOptions{})
	if err != nil || r.Output != "1|2|3" {
		t.Errorf("one session: %q, %v", r.Output, err)
	}
	r, err = p.ExecuteChain(t.Context(), claudepool.Chain{Steps: steps}, claudepool.ChainOptions{})
	if err != nil || r.Output != "3" {
		t.Errorf("fresh steps: %q, %v", r.Output, err)
	}
}

func TestCancelAChain(t *testing.T) {
	t.Parallel()
	b := newBlocker()
	p := build(t, claudepool.PoolConfig{Slots: 2, Launcher: &fakeLauncher{turn: b.turn}})
	chain := claudepool.Chain{Steps: []claudepool.ChainStep{prompt("a", "a"), prompt("b", "b"), prompt("c", "c")}}
	id, err := p.SubmitChain(t.Context(), chain, claudepool.ChainOptions{})
	if err != nil {
		t.Fatal(err)
	}
	<-b.begun
	b.release <- struct{}{}
	<-b.begun
	if state, err := p.Cancel(t.Context(), id); err != nil || state != claudepool.StateCancelled {
		t.Fatalf("Cancel = %s, %v", state, err)
	}
	r, err := p.WaitChain(t.Context(), id)
	if err == nil || r.State != claudepool.StateCancelled {
		t.Fatalf("WaitChain = %s, %v", r.State, err)
	}
	want := map[string]claudepool.StepState{"a": claudepool.StepCompleted, "b": claudepool.StepCancelled, "c": claudepool.StepSkipped}
	if diff := gocmp.Diff(want, states(r)); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	next := submit(t, p, claudepool.Task{Prompt: "next"})
	if got := <-b.begun; got != "next" {
		t.Errorf("%q began after the cancellation", got)
	}
	close(b.release)
	wait(t, p, next)
}
