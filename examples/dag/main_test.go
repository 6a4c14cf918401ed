package main

import (
	"testing"

	"github.com/claudepool/claudepool/examples/internal/demotest"
)

func TestMain(m *testing.M) { demotest.Main(m, main, standIn) }

func TestExample(t *testing.T) {
	t.Parallel()
	demotest.Shows(t, standIn, nil,
		`(?m)^outline +slot-\d +=+$`,
		`(?m)^chapters\[0\] +slot-\d +=+$`,
		`(?m)^chapters\[2\] +slot-\d +=+$`,
		`(?m)^blurb +slot-\d +=+$`,
		`(?m)^The chain is completed for \$0\.\d+: \(answer to: Praise in one line\)$`,
	)
}
