package claudetest_test

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/claudepool/claudepool/claudetest"
)

func TestIsolateLeavesNoWayOut(t *testing.T) {
	t.Parallel()
	api := claudetest.NewAPI(t, nil)
	iso := claudetest.Isolate(t, api)
	for _, k := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "ANTHROPIC_BASE_URL"} {
		u, err := url.Parse(iso.Env[k])
		if err != nil || u.Hostname() != "127.0.0.1" {
			t.Errorf("%s is %q", k, iso.Env[k])
		}
	}
	if iso.Env["ANTHROPIC_BASE_URL"] != api.URL() || iso.Env["ANTHROPIC_API_KEY"] != claudetest.FakeKey || iso.Env["HOME"] != iso.Home || iso.Env["CLAUDE_CONFIG_DIR"] != iso.ConfigDir {
		t.Errorf("%v", iso.Env)
	}
	for _, dir := range []string{iso.Home, iso.ConfigDir, iso.Dir} {
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
			t.Errorf("%s: %v, %v", dir, entries, err)
		}
	}
	if o := iso.Options("/bin/claude"); o.Path != "/bin/claude" || o.Dir != iso.Dir || o.ConfigDir != iso.ConfigDir || o.Env["HOME"] != iso.Home {
		t.Errorf("%+v", o)
	}
	if _, err := claudetest.IsolateIn(filepath.Join(iso.Dir, "\x00"), api.URL()); err == nil {
		t.Error("a folder that cannot be made was made")
	}
}

func TestIsolateHidesWhatIsInherited(t *testing.T) {
	for _, k := range []string{"CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY"} {
		t.Setenv(k, "secret")
	}
	iso := claudetest.Isolate(t, claudetest.NewAPI(t, nil))
	if i := slices.IndexFunc(iso.Environ(), func(kv string) bool { return strings.HasSuffix(kv, "secret") }); i >= 0 {
		t.Error(iso.Environ()[i])
	}
	if !slices.Contains(iso.Environ(), "PATH="+os.Getenv("PATH")) {
		t.Error("no PATH")
	}
}

// skipper is a test that notes why it is skipped.
type skipper struct {
	testing.TB
	reason string
}

func (s *skipper) Skip(args ...any) {
	s.reason = fmt.Sprint(args...)
	runtime.Goexit()
}

func TestCLISaysWhyThereIsNone(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, path := range []string{"", "/nonexistent/claude"} {
		t.Setenv(claudetest.EnvCLI, path)
		if found, err := claudetest.FindCLI(); err == nil || !strings.HasPrefix(err.Error(), "no claude CLI:") {
			t.Errorf("%q, %v", found, err)
		}
	}
	s := &skipper{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		claudetest.CLI(s)
	}()
	<-done
	if !strings.HasPrefix(s.reason, "no claude CLI:") {
		t.Errorf("the reason is %q", s.reason)
	}
	t.Setenv(claudetest.EnvCLI, self(t))
	if found, err := claudetest.FindCLI(); err != nil || found != self(t) {
		t.Errorf("%q, %v", found, err)
	}
}
