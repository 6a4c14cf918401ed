package main

import (
	"testing"

	"github.com/claudepool/claudepool/examples/internal/demotest"
)

func TestMain(m *testing.M) { demotest.Main(m, main, standIn) }

func TestExample(t *testing.T) {
	t.Parallel()
	demotest.Shows(t, standIn, nil,
		`(?m)^pick completed · .* · .* · `,
		`(?m)^pick +completed: {.*"animal": ?"walrus"`,
		`(?m)^describe +completed: large, whiskered`,
		`(?m)^verse +completed by its recovery prompt: The walrus is large`,
		`(?m)^wings +skipped: its condition does not hold: steps.pick.can_fly$`,
		`(?m)^The chain is completed for \$0\.\d+: The walrus is large`,
	)
}
