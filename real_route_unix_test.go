//go:build unix

package claudepool_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claudetest"
)

// decisions answers requests for a decision by what the request contains, and
// does as the prompt says for everything else.
func decisions(m map[string]string) claudetest.Script {
	return func(r *claudetest.Request) claudetest.Reply {
		if !strings.HasPrefix(r.Prompt, "A route ") && !strings.HasPrefix(r.Prompt, "The route ") {
			return claudetest.Directives(r)
		}
		for word, decision := range m {
			if strings.Contains(r.Prompt, word) {
				return claudetest.ToolUse("StructuredOutput", json.RawMessage(decision))
			}
		}
		return claudetest.Text("I would rather talk about it.")
	}
}

func TestRealAuto(t *testing.T) {
	p, api := realPool(t, decisions(map[string]string{
		"both":  `{"route":"parallel","reason":"two of a kind","prompts":["[[reply:one]]","[[reply:two]]"]}`,
		"after": `{"route":"chain","reason":"one needs the other","steps":[{"name":"find","prompt":"[[reply:the cause]]"},{"name":"mend","prompt":"mend {previous_output}","needs":["find"]}]}`,
		"maze":  `{"route":"chain","reason":"lost","steps":[{"name":"a","prompt":"a","needs":["b"]},{"name":"b","prompt":"b","needs":["a"]}]}`,
		"many":  `{"route":"parallel","reason":"a lot","prompts":["1","2","3","4"]}`,
	}), claudepool.PoolConfig{Slots: 2})
	t.Run("parallel", func(t *testing.T) {
		r, err := p.Auto(t.Context(), "do both", claudepool.RouteHints{}, claudepool.AutoOptions{})
		if err != nil || r.Route.Kind != claudepool.RouteParallel || !r.Success {
			t.Fatalf("Auto = %+v, %v; want a parallel route that succeeds", r.Route, err)
		}
		if got := r.Parallel.Results[0].Output + " " + r.Parallel.Results[1].Output; got != "one two" {
			t.Errorf("outputs = %q", got)
		}
		if r.Route.Cost == 0 || r.Cost != r.Route.Cost+r.Parallel.Census.Cost {
			t.Errorf("cost %v, of which %v for the decision", r.Cost, r.Route.Cost)
		}
	})
	t.Run("chain", func(t *testing.T) {
		r, err := p.Auto(t.Context(), "one after the other", claudepool.RouteHints{}, claudepool.AutoOptions{})
		if err != nil || r.Route.Kind != claudepool.RouteChain || r.Chain.Output != "mend the cause" || !r.Success {
			t.Errorf("Auto = %+v, %+v, %v; want a chain whose second step has the first one's output", r.Route, r.Chain, err)
		}
	})
	t.Run("unusable", func(t *testing.T) {
		for request, why := range map[string]string{
			"[[reply:alone]] maze":     "make a cycle",
			"[[reply:alone]] chat":     "gave no structured output",
			"[[reply:alone]] many now": "max_turns", // sent back by the CLI, and given once more
		} {
			r, err := p.Auto(t.Context(), request, claudepool.RouteHints{MaxParallel: 3}, claudepool.AutoOptions{})
			if err != nil || r.Route.Kind != claudepool.RouteSingle || !strings.Contains(r.Route.Fallback, why) || r.Single.Output != "alone" {
				t.Errorf("%s: Auto = %+v, %v; want single because of %q", request, r.Route, err, why)
			}
		}
	})
	for _, req := range api.Requests() {
		if !strings.Contains(req.System, "You decide how a request is given") {
			continue
		}
		if !strings.Contains(req.Model, "haiku") {
			t.Errorf("%s decided, want haiku", req.Model)
		}
		if names := strings.Join(req.ToolNames(), " "); names != "StructuredOutput" {
			t.Errorf("the tools %s were offered to the one who decides", names)
		}
	}
}
