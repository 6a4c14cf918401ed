package claudepool_test

import (
	"testing"

	"github.com/claudepool/claudepool/claudetest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	claudetest.Main() // when this program is started as a stand-in for the CLI
	goleak.VerifyTestMain(m)
}
