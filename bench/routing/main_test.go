package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claudetest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	claudetest.MainScript(decide) // when this program is started as a stand-in for the CLI
	goleak.VerifyTestMain(m)
}

// decide decides that everything is single, but for what is to be translated.
func decide(r *claudetest.Request) claudetest.Reply {
	if strings.Contains(r.Prompt, "Translate") {
		return claudetest.ToolUse("StructuredOutput", map[string]any{"route": "parallel", "reason": "languages", "prompts": []string{"a", "b"}})
	}
	return claudetest.ToolUse("StructuredOutput", map[string]any{"route": "single", "reason": "why not"})
}

func TestTable(t *testing.T) {
	t.Parallel()
	all, err := samples()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 40 {
		t.Errorf("%d requests, want at least 40", len(all))
	}
	seen, classes := map[string]bool{}, map[claudepool.RouteKind]int{}
	for i, s := range all {
		if strings.TrimSpace(s.Request) == "" || seen[s.Request] {
			t.Errorf("request %d is empty or there twice: %q", i, s.Request)
		}
		seen[s.Request] = true
		classes[s.Expect]++
		for _, kind := range append(s.Accept, s.Expect) {
			if kind != claudepool.RouteSingle && kind != claudepool.RouteParallel && kind != claudepool.RouteChain {
				t.Errorf("request %d: there is no route %q", i, kind)
			}
		}
		for _, kind := range s.Accept {
			if kind == s.Expect {
				t.Errorf("request %d accepts what it expects", i)
			}
		}
	}
	for _, kind := range claudepool.RouteKinds() {
		if classes[kind] < 8 {
			t.Errorf("%d requests are %s, want at least 8", classes[kind], kind)
		}
	}
}

func TestEvaluate(t *testing.T) {
	t.Parallel()
	all := []sample{
		{Request: "a", Expect: claudepool.RouteSingle},
		{Request: "b", Expect: claudepool.RouteParallel},
		{Request: "c", Expect: claudepool.RouteChain, Accept: []claudepool.RouteKind{claudepool.RouteParallel}},
		{Request: "d", Expect: claudepool.RouteSingle},
		{Request: "e", Expect: claudepool.RouteChain},
	}
	routes := map[string]claudepool.Route{
		"a": {Kind: claudepool.RouteSingle, Prompts: []string{"a"}},
		"b": {Kind: claudepool.RouteSingle, Reason: "looked small"},
		"c": {Kind: claudepool.RouteParallel, Prompts: []string{"x", "y"}},
		"d": {Kind: claudepool.RouteSingle, Fallback: "no answer"},
		"e": {Kind: claudepool.RouteChain, Steps: make([]claudepool.ChainStep, 3)},
	}
	answers, err := evaluate(t.Context(), all, 2, func(_ context.Context, request string) (claudepool.Route, error) {
		r := routes[request]
		r.Cost = 1000
		return r, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	classes, total := scores(answers)
	for name, tc := range map[string]struct{ got, want score }{
		"single":   {classes[claudepool.RouteSingle], score{asked: 2, exact: 1, right: 1, fallbacks: 1}},
		"parallel": {classes[claudepool.RouteParallel], score{asked: 1}},
		"chain":    {classes[claudepool.RouteChain], score{asked: 2, exact: 1, right: 2}},
		"all":      {total, score{asked: 5, exact: 2, right: 3, fallbacks: 1}},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: %+v, want %+v", name, tc.got, tc.want)
		}
	}
	var out bytes.Buffer
	if err := report(&out, answers); err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{
		"ok single single 1 a", "WRONG parallel single 0 b", "because: looked small", "accepted chain parallel 2 c",
		"FALLBACK single single 0 d", "ok chain chain 3 e", "all 5 3 (60 %) 2 (40 %) 1", "cost $0.005000, $0.001000 per request",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, out.String())
		}
	}

	broken := errors.New("no money")
	if _, err := evaluate(t.Context(), all, 2, func(context.Context, string) (claudepool.Route, error) { return claudepool.Route{}, broken }); !errors.Is(err, broken) {
		t.Errorf("evaluate = %v, want the router's error", err)
	}
}

// The command works, here with the stand-in for the CLI.
func TestRun(t *testing.T) {
	t.Parallel()
	o := claudetest.StandIn(t)
	c := claudepool.PoolConfig{Env: o.Env, ConfigDir: o.ConfigDir, WorkDir: t.TempDir(), SlotMemory: -1}
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-claude", o.Path, "-slots", "2", "-model", "some-model"}, &out, c); err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{"ok parallel parallel 2 Translate docs/guide.md", "single 18 18 (100 %)", "parallel 12 2 (17 %) 1 (8 %) 0", "cost $"} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, out.String())
		}
	}
	if err := run(t.Context(), []string{"-effort", "huge"}, os.Stdout, c); err == nil || !strings.Contains(err.Error(), "route.effort") {
		t.Errorf("run with a bad effort = %v", err)
	}
}
