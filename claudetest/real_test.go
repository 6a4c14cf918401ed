package claudetest_test

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/claudepool/claudepool/claudetest"
)

func TestRealCLISingleShot(t *testing.T) {
	t.Parallel()
	cli := claudetest.CLI(t)
	api := claudetest.NewAPI(t, nil)
	iso := claudetest.Isolate(t, api)
	for _, tt := range []struct{ name, prompt, want string }{
		{"plain", "say this", "say this"},
		{"tool", "[[bash:echo from bash]]", "from bash"},
		{"history", "x [[history]]", "x [[history]]"},
		{"status", "[[status:529:1]][[reply:got through]]", "got through"},
		{"mid", "[[drop:mid]][[reply:whole answer]]", "whole answer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), cli, "-p", "--model", "claude-sonnet-5", "--tools", "Bash", "--allowedTools", "Bash", "--", tt.prompt)
			cmd.Env, cmd.Dir = append(iso.Environ(), "CLAUDE_CODE_MAX_RETRIES=1"), iso.Dir
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %s%s", err, out, stderr.Bytes())
			}
			if got := strings.TrimSpace(string(out)); got != tt.want {
				t.Errorf("answer %q, want %q", got, tt.want)
			}
		})
	}
	for _, r := range api.Requests() {
		t.Logf("%d.%d session %q round %d stream %v prompts %q strays %v", r.Number, r.Attempt, r.SessionID, r.Round, r.Stream, r.Prompts, api.Strays())
	}
}
