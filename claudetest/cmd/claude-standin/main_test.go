package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claudepool/claudepool/claudetest"
)

func TestCommand(t *testing.T) {
	t.Parallel()
	bin := filepath.Join(t.TempDir(), "claude")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, tt := range []struct{ args, want string }{
		{"--version", claudetest.StandInVersion + " (Claude Code)"},
		{"-p [[reply:x]]", "x"},
	} {
		cmd := exec.Command(bin, strings.Fields(tt.args)...)
		cmd.Env = []string{"HOME=" + t.TempDir()}
		out, err := cmd.Output()
		if err != nil || strings.TrimSpace(string(out)) != tt.want {
			t.Errorf("%s: %q %v", tt.args, out, err)
		}
	}
}
