package main

import (
	"testing"

	"github.com/claudepool/claudepool/examples/internal/demotest"
)

func TestMain(m *testing.M) { demotest.Main(m, main, standIn) }

func TestExample(t *testing.T) {
	t.Parallel()
	demotest.Shows(t, standIn, nil,
		`(?s)^split +completed\nexplain +completed\n.*in five words to a child: the frame.*: the wheels.*: the chain.*\njoin +completed\n.*two sentences about a bicycle: \[".*the frame.*"\]\)\n`,
		`(?s)after an edit:\n.*in five words to a child: a bell.*\n.*in one word to a child: a bell`,
	)
}
