package main

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/claudepool/claudepool/examples/internal/demotest"
)

func TestMain(m *testing.M) { demotest.Main(m, main, standIn) }

func TestStandIn(t *testing.T) {
	t.Parallel()
	out, code := demotest.Output(t, os.Environ())
	if code != 0 {
		t.Fatalf("exit code %d, want 0:\n%s", code, out)
	}
	// Two cents each: after four tasks there is no room for a cap of three.
	if ok, refused := strings.Count(out, "  ok  "), strings.Count(out, "  budget  "); ok != 4 || refused != 6 {
		t.Errorf("%d tasks ok and %d refused, want 4 and 6", ok, refused)
	}
	for _, want := range []string{
		"refused: needs $2.00 of a budget of $0.10", "$0.08 spent and $0.00 reserved of $0.10, $0.03 needed", "spent $0.08 of $0.10, reserved $0.00",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}

// The prices are the real CLI's own, so what is checked is that the budget held.
func TestReal(t *testing.T) {
	t.Parallel()
	out, code := demotest.Output(t, demotest.Real(t, standIn), "-real")
	if code != 0 {
		t.Fatalf("exit code %d, want 0:\n%s", code, out)
	}
	m := regexp.MustCompile(`spent \$([\d.]+) of \$0\.10, reserved \$0\.00`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("the output does not say what was spent:\n%s", out)
	}
	if spent, err := strconv.ParseFloat(m[1], 64); err != nil || spent <= 0 || spent > 0.10 {
		t.Errorf("spent %s, want something within the budget:\n%s", m[1], out)
	}
}
