package claudepool_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/claudepool/claudepool/claudetest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	claudetest.Main() // when this program is started as a stand-in for the CLI
	if os.Getenv(hostEnv) != "" {
		os.Exit(runHost())
	}
	dir, err := os.MkdirTemp("", "claudepool")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Setenv("CLAUDEPOOL_STATE_DIR", dir) // what other pools of this user have left is not for the tests to end
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}
