package claudetest

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/claudepool/claudepool/claude"
)

// The environment of a stand-in.
const (
	// EnvStandIn makes [Main] take over: "1" runs the stand-in.
	EnvStandIn = "CLAUDEPOOL_STANDIN"
	// EnvStandInVersion is the version it pretends to be.
	EnvStandInVersion = "CLAUDEPOOL_STANDIN_VERSION"
	// EnvStandInPace is the pause before each word of an answer to a plain prompt.
	EnvStandInPace = "CLAUDEPOOL_STANDIN_PACE"
	// EnvStandInFaults lists faults, separated by commas.
	EnvStandInFaults = "CLAUDEPOOL_STANDIN_FAULTS"
	// EnvStandInPrefix is put before every prompt.
	EnvStandInPrefix = "CLAUDEPOOL_STANDIN_PREFIX"
)

// StandInVersion is the version of the CLI that the stand-in imitates.
const StandInVersion = "2.1.330"

// StandInConfig says how a stand-in behaves. The zero value behaves well.
type StandInConfig struct {
	// Version is the version to pretend to be. Empty means [StandInVersion].
	Version string
	// Pace is the pause before each word of the answer to a plain prompt. Zero
	// means none.
	Pace time.Duration
	// Faults hold for the whole life of the process.
	Faults []Fault
	// Prefix is put before every prompt, so that directives such as
	// [[status:529]] hold for all of them. See [Directives].
	Prefix string
	// ConfigDir keeps the sessions. Empty means the person's own folder, or
	// what [claude.Options] says later.
	ConfigDir string
}

// StandIn returns options that start this very program as a stand-in, with its
// sessions in the test's temporary folder. TestMain must call [Main] first.
func StandIn(t testing.TB, faults ...Fault) claude.Options {
	t.Helper()
	o, err := StandInOptions(StandInConfig{Faults: faults, ConfigDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// StandInOptions returns options that start this very program as a stand-in.
// The program must call [Main] first thing in main.
func StandInOptions(c StandInConfig) (claude.Options, error) {
	self, err := os.Executable()
	if err != nil {
		return claude.Options{}, fmt.Errorf("claudetest: find this program to start it as the stand-in: %w", err)
	}
	env, err := c.Environ()
	if err != nil {
		return claude.Options{}, err
	}
	return claude.Options{Path: self, Env: env, ConfigDir: c.ConfigDir}, nil
}

// Environ returns the environment variables that make a program that calls
// [Main], or the command claude-standin, behave as c says.
func (c StandInConfig) Environ() (map[string]string, error) {
	env := map[string]string{EnvStandIn: "1"}
	if c.Version != "" {
		env[EnvStandInVersion] = c.Version
	}
	if c.Pace != 0 {
		env[EnvStandInPace] = c.Pace.String()
	}
	if c.Prefix != "" {
		env[EnvStandInPrefix] = c.Prefix
	}
	var faults []string
	for _, f := range c.Faults {
		parsed, err := ParseFault(string(f))
		if err != nil {
			return nil, fmt.Errorf("claudetest: %w", err)
		}
		faults = append(faults, string(parsed))
	}
	if len(faults) > 0 {
		env[EnvStandInFaults] = strings.Join(faults, ",")
	}
	return env, nil
}

// Main turns this process into the stand-in when it was started as one, and
// then does not return. Otherwise it returns at once. Call it first thing in
// main or TestMain, before flags are parsed.
func Main() { MainScript(nil) }

// MainScript is [Main] with a model of one's own. A nil script obeys the
// prompt like [Directives], and answers a plain prompt with a short sentence.
func MainScript(script Script) {
	switch mode := os.Getenv(EnvStandIn); {
	case mode == "":
	case strings.HasPrefix(mode, holding):
		d, err := time.ParseDuration(strings.TrimPrefix(mode, holding))
		if err != nil {
			os.Exit(2)
		}
		time.Sleep(d)
		os.Exit(0)
	default:
		os.Exit(runStandIn(script, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
}

// RunStandIn runs the stand-in as this process, whatever the environment says,
// and returns its exit code. It is for a command that is nothing else.
func RunStandIn() int { return runStandIn(nil, os.Args[1:], os.Stdin, os.Stdout, os.Stderr) }

// holding is the mode of a child that only sleeps: what a fault leaves behind.
const holding = "hold:"
