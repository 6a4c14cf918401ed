package claudepool

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// randomChain makes a sound chain.
func randomChain(r *rand.Rand) *Chain {
	c := &Chain{Arguments: map[string]string{"list": `["x","y",{"z":1}]`, "flag": "true"}}
	graph := r.IntN(3) > 0
	for i := range 1 + r.IntN(8) {
		s := ChainStep{Name: fmt.Sprintf("s%d", i), Action: StepAction{Prompt: "do"}}
		if graph {
			for j := range i {
				if r.IntN(3) == 0 {
					s.Needs = append(s.Needs, fmt.Sprintf("s%d", j))
				}
			}
		}
		if r.IntN(4) == 0 {
			s.ForEach = "list"
		}
		if r.IntN(5) == 0 {
			s.When = []string{"flag", "!flag", `flag == "true"`}[r.IntN(3)]
		}
		s.OnFailure.Continue = r.IntN(3) == 0
		if r.IntN(3) == 0 {
			s.OnFailure.RecoveryPrompt = "mend {error}"
		}
		c.Steps = append(c.Steps, s)
	}
	r.Shuffle(len(c.Steps), func(i, j int) {
		if graph {
			c.Steps[i], c.Steps[j] = c.Steps[j], c.Steps[i]
		}
	})
	return c
}

// TestChainsAlwaysEnd plays random chains with random ends of their tasks, in
// random order, and checks what must hold whatever happens.
func TestChainsAlwaysEnd(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 1))
		c := randomChain(r)
		plan, err := c.plan()
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		playChain(t, seed, r, plan)
		if t.Failed() {
			return
		}
	}
}

func playChain(t *testing.T, seed uint64, r *rand.Rand, plan *chainPlan) {
	tasks := map[string]TaskRecord{}
	rec := &TaskRecord{ID: "task-1", State: StateRunning, Chain: plan.chain}
	look := func() *chainLook {
		l := &chainLook{plan: plan, rec: rec, find: func(id TaskID) (TaskRecord, bool) {
			t, ok := tasks[strings.TrimPrefix(string(id), string(rec.ID)+".")]
			return t, ok
		}}
		l.look()
		return l
	}
	for range 1000 {
		l := look()
		if diff := gocmp.Diff(l.steps, look().steps); diff != "" {
			t.Fatalf("seed %d: two looks at the same tasks differ:\n%s", seed, diff)
		}
		if l.over() {
			checkEnd(t, seed, plan, l)
			return
		}
		if l.failed >= 0 && len(l.ready) > 0 {
			t.Fatalf("seed %d: %d tasks are ready after a failure", seed, len(l.ready))
		}
		for _, next := range l.ready {
			if _, twice := tasks[next.key]; twice {
				t.Fatalf("seed %d: %s would be run twice", seed, next.key)
			}
			name, _, _ := strings.Cut(next.key, ".")
			for _, n := range plan.steps[plan.index[name]].needs {
				if s := l.steps[n].State; s == StepWaiting || s == StepRunning {
					t.Fatalf("seed %d: %s would start while %s is %s", seed, next.key, l.steps[n].Name, s)
				}
			}
		}
		// Some of what is ready is submitted; a crash may come in between.
		for _, next := range l.ready {
			if r.IntN(4) > 0 {
				tasks[next.key] = TaskRecord{ID: stepID(rec.ID, next.key), State: StateRunning}
			}
		}
		var running []string
		for _, key := range slices.Sorted(maps.Keys(tasks)) {
			if tasks[key].State == StateRunning {
				running = append(running, key)
			}
		}
		if len(running) == 0 {
			continue
		}
		key := running[r.IntN(len(running))]
		end := tasks[key]
		end.Outcome = []Outcome{OutcomeOK, OutcomeOK, OutcomeOK, OutcomePartlyDenied, OutcomeAgentError, OutcomeCancelled}[r.IntN(6)]
		end.State, end.Cost = end.Outcome.State(), 1
		end.Result = &TaskResult{Output: "out of " + key}
		tasks[key] = end
	}
	t.Fatalf("seed %d: the chain does not end", seed)
}

// checkEnd checks that everything has ended, and that the outcome is true.
func checkEnd(t *testing.T, seed uint64, plan *chainPlan, l *chainLook) {
	outcome, res := l.end()
	bad := false
	for i, s := range res.Steps {
		switch s.State {
		case StepWaiting, StepRunning:
			t.Errorf("seed %d: step %s is %s at the end", seed, s.Name, s.State)
		case StepFailed, StepCancelled:
			bad = bad || !plan.steps[i].OnFailure.Continue
			if s.Output != "" {
				t.Errorf("seed %d: the failed step %s has the output %q", seed, s.Name, s.Output)
			}
		case StepCompleted:
			if s.Outcome != OutcomeOK && s.Outcome != OutcomePartlyDenied {
				t.Errorf("seed %d: step %s is completed with the outcome %q", seed, s.Name, s.Outcome)
			}
		}
	}
	if completed := outcome.State() == StateCompleted; completed == bad || completed != (res.Failure == nil) || outcome == OutcomeCancelled {
		t.Errorf("seed %d: outcome %s with the failure %+v, and steps %+v", seed, outcome, res.Failure, res.Steps)
	}
}

func TestConditionsAreParsed(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]condition{
		"steps.a.output":                       {ref: "steps.a.output"},
		" { steps.a.output } ":                 {ref: "steps.a.output"},
		"!flag":                                {ref: "flag", op: "!"},
		`steps.a.v == "x == \"y\""`:            {ref: "steps.a.v", op: "==", arg: `x == "y"`},
		`{previous_output} != ""`:              {ref: "previous_output", op: "!="},
		`previous_output contains "a != b"`:    {ref: "previous_output", op: "contains", arg: "a != b"},
		`steps.1-a.b_c contains "two\nlines"`:  {ref: "steps.1-a.b_c", op: "contains", arg: "two\nlines"},
		`previous_output contains " == true "`: {ref: "previous_output", op: "contains", arg: " == true "},
	} {
		got, err := parseCondition(text)
		if err != nil || got != want {
			t.Errorf("parseCondition(%q) = %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "!", "a b", "a == b", "a == 'b'", "a == `b`", "a > \"3\"", `a == "b" extra`, "a && b", "!a == \"b\""} {
		if got, err := parseCondition(text); err == nil {
			t.Errorf("parseCondition(%q) = %+v, want an error", text, got)
		}
	}
}

func FuzzCondition(f *testing.F) {
	for _, s := range []string{"a", "!a", `a == "b"`, `{a.b} contains "\n"`, "a == ", `a != "`, "!!a"} {
		f.Add(s, "value")
	}
	f.Fuzz(func(t *testing.T, text, value string) {
		c, err := parseCondition(text)
		if err != nil {
			return
		}
		if c.ref == "" {
			t.Fatalf("%q refers to nothing", text)
		}
		yes, not := c, c
		switch c.op {
		case "==", "!=":
			yes.op, not.op = "==", "!="
		case "", "!":
			yes.op, not.op = "", "!"
		default:
			return
		}
		if yes.holds(value) == not.holds(value) {
			t.Fatalf("%q and its opposite are both %v for %q", text, yes.holds(value), value)
		}
	})
}

// FuzzReadJSON: reading what agents answer never panics, and what is found at a
// path can be read again.
func FuzzReadJSON(f *testing.F) {
	f.Add(`{"a":[1,{"b":"c"}]}`, "a.1.b")
	f.Add("text\n```json\n[1]\n```", "0")
	f.Add("```\n```", "")
	f.Fuzz(func(t *testing.T, text, path string) {
		v, err := readJSON(text)
		if err != nil {
			return
		}
		if again, err := decodeJSON(asText(v)); err != nil {
			if _, isText := v.(string); !isText {
				t.Fatalf("%q was read as %v, which cannot be read again: %v", text, again, err)
			}
		}
		if _, err := atPath(v, path); err != nil && errors.Is(err, errNoRef) {
			t.Fatal(err)
		}
	})
}
