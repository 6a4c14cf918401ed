//go:build unix

package claudepool_test

import (
	"testing"

	"github.com/claudepool/claudepool"
)

// What the CLI does by itself with a schema, and what is left to the pool.
func TestRealStructuredOutputEndToEnd(t *testing.T) {
	p, api := realPool(t, nil, claudepool.PoolConfig{Retry: claudepool.RetryPolicy{Max: -1}})
	for _, tc := range []struct {
		name, prompt string
		want         claudepool.Outcome
		output       string
		requests     int
	}{
		{"right at once", `[[output:{"n":7}]]`, claudepool.OutcomeOK, `{"n":7}`, 1},
		{"right at the second try", `[[output:{"n":"seven"}]][[output:{"n":7}]]`, claudepool.OutcomeOK, `{"n":7}`, 2},
		{"wrong for ever", `[[output:{"n":0}]][[output:{"n":0}]][[output:{"n":0}]][[output:{"n":0}]][[output:{"n":0}]]`, claudepool.OutcomeSchema, ``, 5},
		{"never", `[[reply:no]]`, claudepool.OutcomeSchema, ``, 2},
	} {
		before := len(api.Requests())
		task := withSchema(numberSchema)
		task.Prompt = tc.prompt
		r := wait(t, p, submit(t, p, task))
		if r.Outcome != tc.want || string(r.Structured) != tc.output {
			t.Errorf("%s: ended %s with %q (%+v); want %s with %q", tc.name, r.Outcome, r.Structured, r.Failure, tc.want, tc.output)
		}
		if n := len(api.Requests()) - before; n != tc.requests {
			t.Errorf("%s: the model was asked %d times, want %d", tc.name, n, tc.requests)
		}
	}
}

// The stand-in checks less than the CLI does: what slips through is found by
// the pool.
func TestStructuredOutputOfACarelessProcess(t *testing.T) {
	t.Parallel()
	p := standInPool(t, claudepool.PoolConfig{Retry: claudepool.RetryPolicy{Max: -1}})
	for prompt, want := range map[string]claudepool.Outcome{
		`[[output:{"n":7}]]`: claudepool.OutcomeOK,
		`[[output:{"n":0}]]`: claudepool.OutcomeSchema, // below the minimum
	} {
		task := withSchema(numberSchema)
		task.Prompt = prompt
		if r := wait(t, p, submit(t, p, task)); r.Outcome != want {
			t.Errorf("%s ended %s (%+v), want %s", prompt, r.Outcome, r.Failure, want)
		}
	}
}
