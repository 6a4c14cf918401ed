package claudepool_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
)

const numberSchema = `{"type":"object","properties":{"n":{"type":"integer","minimum":1}},"required":["n"]}`

// structured is a turn that gives these outputs, one after the other, the last
// one for ever. An empty one is a turn without structured output.
func structured(outputs ...string) *fakeLauncher {
	var turns atomic.Int64
	return &fakeLauncher{turn: func(context.Context, *fakeAgent, claude.Prompt, func(claude.Event)) (claude.Result, error) {
		res := ok("said", 1000)
		if out := outputs[min(int(turns.Add(1)), len(outputs))-1]; out != "" {
			res.Structured = json.RawMessage(out)
		}
		return res, nil
	}}
}

func withSchema(schema string) claudepool.Task {
	return claudepool.Task{Prompt: "x", Overrides: claudepool.TaskOverrides{AgentConfig: claudepool.AgentConfig{JSONSchema: []byte(schema)}}}
}

func TestStructuredOutputMustFit(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		output string
		want   claudepool.Outcome
		says   string
	}{
		"fits":       {`{"n":1}`, claudepool.OutcomeOK, ""},
		"wrong type": {`{"n":"1"}`, claudepool.OutcomeSchema, "at /n: type"},
		"too small":  {`{"n":0}`, claudepool.OutcomeSchema, "at /n: minimum"},
		"lacks it":   {`{}`, claudepool.OutcomeSchema, `at the root: required: missing properties: ["n"]`},
		"null":       {`null`, claudepool.OutcomeSchema, "at the root: type"},
		"none":       {``, claudepool.OutcomeSchema, "gave no structured output"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for where, p := range map[string]*claudepool.Pool{
				"task": build(t, claudepool.PoolConfig{Launcher: structured(tc.output), Retry: claudepool.RetryPolicy{Max: -1}}),
				"slot": build(t, claudepool.PoolConfig{Launcher: structured(tc.output), Retry: claudepool.RetryPolicy{Max: -1},
					SlotConfigs: []claudepool.SlotConfig{{AgentConfig: claudepool.AgentConfig{JSONSchema: []byte(numberSchema)}}}}),
				"pool": build(t, claudepool.PoolConfig{Launcher: structured(tc.output), Retry: claudepool.RetryPolicy{Max: -1},
					Agent: claudepool.AgentConfig{JSONSchema: []byte(numberSchema)}}),
			} {
				task := claudepool.Task{Prompt: "x"}
				if where == "task" {
					task = withSchema(numberSchema)
				}
				r := wait(t, p, submit(t, p, task))
				if r.Outcome != tc.want || r.Success != (tc.want == claudepool.OutcomeOK) {
					t.Errorf("schema of the %s: ended %s, success %t; want %s", where, r.Outcome, r.Success, tc.want)
				}
				if string(r.Structured) != tc.output {
					t.Errorf("schema of the %s: structured output %s, want what the agent gave, %s", where, r.Structured, tc.output)
				}
				if tc.says != "" && (r.Failure == nil || !strings.Contains(r.Failure.Message, tc.says)) {
					t.Errorf("schema of the %s: failure %+v, want a message with %q", where, r.Failure, tc.says)
				}
			}
		})
	}
}

func TestStructuredOutputOfTheTaskWinsOverTheSlots(t *testing.T) {
	t.Parallel()
	p := build(t, claudepool.PoolConfig{Launcher: structured(`{"s":"x"}`), Retry: claudepool.RetryPolicy{Max: -1},
		Agent: claudepool.AgentConfig{JSONSchema: []byte(numberSchema)}})
	if r := wait(t, p, submit(t, p, withSchema(`{"required":["s"]}`))); r.Outcome != claudepool.OutcomeOK {
		t.Errorf("ended %s (%+v), want ok: the task's own schema counts", r.Outcome, r.Failure)
	}
}

func TestStructuredOutputIsAskedForAgain(t *testing.T) {
	t.Parallel()
	p := build(t, claudepool.PoolConfig{Launcher: structured(`{"n":0}`, ``, `{"n":7}`), Retry: claudepool.RetryPolicy{Max: 2, First: time.Millisecond, Most: time.Millisecond}})
	r := wait(t, p, submit(t, p, withSchema(numberSchema)))
	if r.Outcome != claudepool.OutcomeOK || r.Attempts != 3 || string(r.Structured) != `{"n":7}` {
		t.Errorf("ended %s with %s after %d attempts; want ok with 7 after 3", r.Outcome, r.Structured, r.Attempts)
	}
}

// A schema that the CLI would refuse at the start of a process is refused when
// the task is submitted.
func TestStructuredOutputNeedsAUsableSchema(t *testing.T) {
	t.Parallel()
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}})
	for schema, says := range map[string]string{
		`{"type":"nonsense"}`: `"type" must be one or more of`,
		`{"prefixItems":[]}`:  `"prefixItems" is no keyword`,
		`{"$ref":"#"}`:        "refers back to itself",
		`{"$schema":"https://json-schema.org/draft/2020-12/schema"}`: "draft-07 only",
	} {
		_, err := p.Submit(t.Context(), withSchema(schema))
		var bad *claudepool.InvalidError
		if !errors.As(err, &bad) || bad.Field != "overrides.json_schema" || !strings.Contains(bad.Reason, says) {
			t.Errorf("Submit with %s = %v, want an InvalidError of overrides.json_schema with %q", schema, err, says)
		}
	}
	_, err := claudepool.NewPoolBuilder().Config(claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo},
		Agent: claudepool.AgentConfig{JSONSchema: []byte(`{"type":"nonsense"}`)}}).Build(t.Context())
	var bad *claudepool.InvalidError
	if !errors.As(err, &bad) || bad.Field != "agent.json_schema" {
		t.Errorf("Build = %v, want an InvalidError of agent.json_schema", err)
	}
}
