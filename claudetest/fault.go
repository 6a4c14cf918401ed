package claudetest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Fault is one way in which the stand-in misbehaves: a name, and for some an
// argument after a colon, see [Fault.With]. Given in [StandInConfig.Faults] it
// holds for the whole life of the process; in a prompt, as [[fault:name]], for
// that turn.
type Fault string

// Faults of the start. In a prompt they come too late and do nothing.
const (
	FaultSlowStart  Fault = "slow-start"  // [slow-start:duration] waits before it reads anything
	FaultFailStarts Fault = "fail-starts" // [fail-starts:n:file] exits with 1 at the first n starts, counted in file
	FaultHangInit   Fault = "hang-init"   // never answers initialize
	FaultLoggedOut  Fault = "logged-out"  // has no credential: every turn fails with "Not logged in"
)

// Faults of a turn, before its result.
const (
	FaultCrash      Fault = "crash"       // dies by SIGKILL before the result
	FaultExit       Fault = "exit"        // [exit:code] exits before the result
	FaultFreeze     Fault = "freeze"      // stops reading and writing, but stays alive
	FaultGarbage    Fault = "garbage"     // writes a line that is no JSON
	FaultHalfLine   Fault = "half-line"   // writes half of the result's line and dies
	FaultLongLine   Fault = "long-line"   // [long-line:bytes] writes one line of that length, 64 MiB by default
	FaultHoldStdout Fault = "hold-stdout" // [hold-stdout:duration] leaves a child behind that holds stdout open, a minute by default
	FaultEscape     Fault = "escape"      // [escape:duration] leaves a child behind in a session of its own, a minute by default
	FaultLeak       Fault = "leak"        // [leak:megabytes] keeps that much more memory after each turn
	FaultDeny       Fault = "deny"        // [deny:tool] denies that tool, or every tool, as a rule would
)

// Faults of what ends a turn.
const (
	FaultCrashAfter      Fault = "crash-after"      // dies by SIGKILL right after the result
	FaultNoIdle          Fault = "no-idle"          // never says that it is idle after the result
	FaultResultFirst     Fault = "result-first"     // gives the result before anything else of the turn
	FaultIdleFirst       Fault = "idle-first"       // says that it is idle before the result
	FaultForeignResult   Fault = "foreign-result"   // gives a result for a prompt that nobody sent, before its own
	FaultDuplicateResult Fault = "duplicate-result" // gives the result twice
)

// Faults of a live process, between turns.
const (
	FaultStaleSession Fault = "stale-session" // keeps session and conversation at /clear, and says that it worked
	FaultUnsolicited  Fault = "unsolicited"   // starts a turn that nobody asked for after /clear
	FaultDeaf         Fault = "deaf"          // answers changes of settings with success and ignores them
	FaultIgnoreTerm   Fault = "ignore-term"   // ignores SIGTERM, end_session and the end of its input
)

// With adds an argument: FaultExit.With("3") is "exit:3".
func (f Fault) With(argument string) Fault { return f + Fault(":"+argument) }

func (f Fault) split() (name Fault, arg string) {
	n, arg, _ := strings.Cut(string(f), ":")
	return Fault(n), arg
}

// faultArgs checks the argument of each fault; nil means that there is none.
var faultArgs = map[Fault]func(string) error{
	FaultSlowStart: needsDuration, FaultFailStarts: needsCountAndFile, FaultHangInit: nil, FaultLoggedOut: nil,
	FaultCrash: nil, FaultExit: needsNumber(0, 255), FaultFreeze: nil, FaultGarbage: nil, FaultHalfLine: nil,
	FaultLongLine: optional(needsNumber(1, 1<<30)), FaultHoldStdout: optional(needsDuration), FaultEscape: optional(needsDuration),
	FaultLeak: needsNumber(1, 4096), FaultDeny: optional(func(string) error { return nil }),
	FaultCrashAfter: nil, FaultNoIdle: nil, FaultResultFirst: nil, FaultIdleFirst: nil, FaultForeignResult: nil, FaultDuplicateResult: nil,
	FaultStaleSession: nil, FaultUnsolicited: nil, FaultDeaf: nil, FaultIgnoreTerm: nil,
}

func needsDuration(s string) error { _, err := duration(s); return err }

func needsNumber(low, high int) func(string) error {
	return func(s string) error { _, err := number(s, low, high); return err }
}

func needsCountAndFile(s string) error {
	n, file, _ := strings.Cut(s, ":")
	if file == "" {
		return fmt.Errorf("wants n:file")
	}
	_, err := number(n, 1, 1000)
	return err
}

func optional(check func(string) error) func(string) error {
	return func(s string) error {
		if s == "" {
			return nil
		}
		return check(s)
	}
}

// ParseFault reads a fault and checks its name and argument.
func ParseFault(s string) (Fault, error) {
	name, arg := Fault(s).split()
	check, ok := faultArgs[name]
	switch {
	case !ok:
		return "", fmt.Errorf("unknown fault %q; there are %v", clip(string(name)), slices.Sorted(maps.Keys(faultArgs)))
	case check == nil && strings.Contains(s, ":"):
		return "", fmt.Errorf("fault %s takes no argument", name)
	case check == nil:
		return name, nil
	}
	if err := check(arg); err != nil {
		return "", fmt.Errorf("fault %s: %w", name, err)
	}
	return Fault(s), nil
}

// faultSet is the faults in force.
type faultSet []Fault

// find returns the argument of the last fault with that name.
func (s faultSet) find(name Fault) (arg string, ok bool) {
	for _, f := range s {
		if n, a := f.split(); n == name {
			arg, ok = a, true
		}
	}
	return arg, ok
}

func (s faultSet) has(name Fault) bool { _, ok := s.find(name); return ok }

func (s faultSet) hold(name Fault) (time.Duration, bool) {
	arg, ok := s.find(name)
	if !ok || arg == "" {
		return time.Minute, ok
	}
	d, err := duration(arg)
	return d, err == nil
}
