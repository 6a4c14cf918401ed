package claudetest_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/claudepool/claudepool/claudetest"
)

func TestMain(m *testing.M) {
	claudetest.Main() // the tests start this program again as the stand-in
	goleak.VerifyTestMain(m)
}
