package claudetest

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/claudepool/claudepool/claude"
)

// EnvCLI names the environment variable with the path of the CLI to test with.
const EnvCLI = "CLAUDEPOOL_TEST_CLAUDE"

// Isolation is a place in which the real CLI runs at no cost and without
// touching the person's own configuration: HOME and the config folder are
// temporary, the key is fake, the model is an [API] on loopback, and every
// other way out leads to a closed port.
type Isolation struct {
	Home      string // HOME
	ConfigDir string // CLAUDE_CONFIG_DIR
	Dir       string // an empty working directory
	// Env is everything that isolates. It goes on top of a clean environment:
	// an inherited one may hold a token that wins over the fake key.
	Env map[string]string
}

// proxy leads nowhere: nothing may listen on this port but tcpmux, which nobody
// runs any more.
const proxy = "http://127.0.0.1:1"

// FakeKey is the API key of an [Isolation].
const FakeKey = "sk-ant-fake-claudetest"

// Isolate makes an [Isolation] in the test's temporary folder, with api as the model.
func Isolate(t testing.TB, api *API) *Isolation {
	t.Helper()
	iso, err := IsolateIn(t.TempDir(), api.URL())
	if err != nil {
		t.Fatal(err)
	}
	return iso
}

// IsolateIn makes an [Isolation] under dir outside a test. baseURL is where the
// model answers, such as [API.URL]. The caller removes dir.
func IsolateIn(dir, baseURL string) (*Isolation, error) {
	iso := &Isolation{Home: filepath.Join(dir, "home"), ConfigDir: filepath.Join(dir, "config"), Dir: filepath.Join(dir, "work")}
	for _, d := range []string{iso.Home, iso.ConfigDir, iso.Dir} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("claudetest: isolate: %w", err)
		}
	}
	iso.Env = map[string]string{
		"HOME":               iso.Home,
		"CLAUDE_CONFIG_DIR":  iso.ConfigDir,
		"ANTHROPIC_API_KEY":  FakeKey,
		"ANTHROPIC_BASE_URL": baseURL,

		// Where a token would win over the key, it is no token.
		"CLAUDE_CODE_OAUTH_TOKEN": "", "ANTHROPIC_AUTH_TOKEN": "",
		"CLAUDE_CODE_USE_BEDROCK": "", "CLAUDE_CODE_USE_VERTEX": "",

		"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "ALL_PROXY": proxy,
		"http_proxy": proxy, "https_proxy": proxy, "all_proxy": proxy,
		"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost",

		"DISABLE_TELEMETRY":                        "1",
		"DISABLE_ERROR_REPORTING":                  "1",
		"DISABLE_AUTOUPDATER":                      "1",
		"DISABLE_BUG_COMMAND":                      "1",
		"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
	}
	return iso, nil
}

// Environ is Env on top of what a program needs to run at all (PATH, LANG,
// TMPDIR), in the form of [exec.Cmd].
func (i *Isolation) Environ() []string {
	env := map[string]string{"TERM": "dumb"}
	for _, k := range []string{"PATH", "LANG", "TMPDIR"} {
		if v, ok := os.LookupEnv(k); ok {
			env[k] = v
		}
	}
	maps.Copy(env, i.Env)
	out := make([]string, 0, len(env))
	for k, v := range env {
		out = append(out, k+"="+v)
	}
	return out
}

// Options starts the program at path inside the isolation.
func (i *Isolation) Options(path string) claude.Options {
	return claude.Options{Path: path, Dir: i.Dir, Env: maps.Clone(i.Env), ConfigDir: i.ConfigDir}
}

// CLI returns the path of the real CLI: that in CLAUDEPOOL_TEST_CLAUDE, else
// claude in PATH. Without one the test is skipped, with a reason that starts
// with "no claude CLI:".
func CLI(t testing.TB) string {
	t.Helper()
	path, err := FindCLI()
	if err != nil {
		t.Skip(err)
	}
	return path
}

// FindCLI is [CLI] outside a test.
func FindCLI() (string, error) {
	if path := os.Getenv(EnvCLI); path != "" {
		found, err := exec.LookPath(path)
		if err != nil {
			return "", fmt.Errorf("no claude CLI: %s: %w", EnvCLI, err)
		}
		return found, nil
	}
	path, err := exec.LookPath("claude")
	if err != nil {
		return "", fmt.Errorf("no claude CLI: set %s or put claude into PATH: %w", EnvCLI, err)
	}
	return path, nil
}
