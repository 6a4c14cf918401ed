package claudetest_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/claudepool/claudepool/claudetest"
)

func TestMain(m *testing.M) {
	claudetest.Main() // when this program is started as a stand-in for the CLI
	goleak.VerifyTestMain(m)
}
