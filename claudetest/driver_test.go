package claudetest_test

import (
	"context"
	"strings"
	"testing"

	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/claudetest"
)

// The driver must not notice that it drives a stand-in.
func TestDriverDrivesStandIn(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	o := claudetest.StandIn(t)
	o.Dir, o.AllowBypass = t.TempDir(), true
	o.Env["IS_SANDBOX"], o.Env["ANTHROPIC_API_KEY"] = "1", claudetest.FakeKey
	o.Settings = claude.Settings{Model: "claude-sonnet-5", PermissionMode: claude.PermissionBypass}
	o.Tools = []string{"Bash", "Write"}
	p, err := claude.Start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close(context.WithoutCancel(ctx))
	var said strings.Builder
	r, err := p.Turn(ctx, claude.Prompt{Text: "[[bash:echo from the shell]]"}, func(e claude.Event) {
		if d, ok := e.(claude.TextDelta); ok {
			said.WriteString(d.Text)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Text != "from the shell" || said.String() != r.Text || r.Cost != 600 {
		t.Errorf("text %q, streamed %q, cost %v", r.Text, said.String(), r.Cost)
	}
	if err := p.Reset(ctx, claude.Settings{Model: "claude-haiku-4-5", PermissionMode: claude.PermissionDontAsk, AllowedTools: []string{"Bash(touch *)"}}); err != nil {
		t.Fatal(err)
	}
	r, err = p.Turn(ctx, claude.Prompt{Text: "[[bash:touch x]][[bash:rm x]][[model]] [[history]]"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Denials) != 1 || !strings.Contains(r.Text, "[[model]]") || strings.Contains(r.Text, "from the shell") {
		t.Errorf("denials %v, text %q", r.Denials, r.Text)
	}
}
