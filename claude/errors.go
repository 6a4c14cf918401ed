package claude

import (
	"errors"
	"fmt"
	"strings"
)

// Errors to look for with [errors.Is].
var (
	// ErrNotFound says that there is no such program.
	ErrNotFound = errors.New("claude: program not found")
	// ErrNotClaude says that the program is not the Claude CLI.
	ErrNotClaude = errors.New("claude: program is not the Claude CLI")
	// ErrNotLoggedIn says that a process has no credential to reach a model
	// with: its [Info.KeySource] is "none".
	ErrNotLoggedIn = errors.New("claude: not logged in; run \"claude\" and log in, or set ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN")
	// ErrNoSession says that the session in [Options.Resume] is not there. It
	// is the cause of the [*ExitError] that [Start] returns.
	ErrNoSession = errors.New("claude: no such session")
	// ErrBusy says that the process is in the middle of a turn or a reset.
	ErrBusy = errors.New("claude: the process is busy: one turn at a time")
	// ErrClosed says that the process was closed on purpose.
	ErrClosed = errors.New("claude: the process is closed")
	// ErrInvalidPrompt says that a prompt was refused before anything was sent.
	ErrInvalidPrompt = errors.New("claude: invalid prompt")
	// ErrDisturbed says that a turn nobody asked for ran in the conversation
	// right before the prompt, or since the reset before it, so the model has
	// seen more than it should have, or would.
	ErrDisturbed = errors.New("claude: a turn that nobody asked for ran before the prompt")
	// ErrLineTooLong says that the process wrote a line longer than [Options.MaxLine].
	ErrLineTooLong = errors.New("claude: line too long")
	// ErrUnresponsive says that the process did not do in time what it was
	// asked to, and was ended for it.
	ErrUnresponsive = errors.New("claude: the process does not respond")
)

// VersionError says that the CLI is too old.
type VersionError struct {
	Path  string // of the program
	Found string // its version
	Need  string // the lowest version that would do
	For   string // what needs it, such as "spares"; empty for everything
}

func (e *VersionError) Error() string {
	what := "this package"
	if e.For != "" {
		what = e.For
	}
	return fmt.Sprintf("claude: %s is version %s, but %s needs %s or newer; update it with %q", e.Path, e.Found, what, e.Need, "claude update")
}

// OptionError says that an option cannot be used as it is.
type OptionError struct {
	Field  string // such as "PermissionMode" or "AddDirs[1]"
	Reason string
}

func (e *OptionError) Error() string { return fmt.Sprintf("claude: option %s: %s", e.Field, e.Reason) }

// SettingError says that a live process did not take a setting.
type SettingError struct {
	Field     string // such as "Model" or "MCPServers.github"
	Want, Got string
}

func (e *SettingError) Error() string {
	return fmt.Sprintf("claude: setting %s: want %s, the process has %s", e.Field, e.Want, e.Got)
}

// ResetError says that a reset could not be proven. The process must not be
// used for another task: close it and take another.
type ResetError struct {
	Reason string
	Err    error // the cause, or nil
}

func (e *ResetError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("claude: reset not proven: %s: %v", e.Reason, e.Err)
	}
	return "claude: reset not proven: " + e.Reason
}

func (e *ResetError) Unwrap() error { return e.Err }

// ClaimError says that a spare refused to become the process that was asked
// for. The spare is as it was.
type ClaimError struct {
	Code   string // the CLI's own, such as "cwd_not_found", or "options" when this package refused
	Reason string
}

func (e *ClaimError) Error() string { return fmt.Sprintf("claude: claim: %s: %s", e.Code, e.Reason) }

// ControlError is the refusal of a control request by the CLI.
type ControlError struct {
	Request string // the subtype, such as "set_model"
	Code    string // the CLI's own code, if any
	Message string
}

func (e *ControlError) Error() string {
	return fmt.Sprintf("claude: the CLI refused %s: %s", e.Request, e.Message)
}

// ExitError says that the process has ended though nobody closed it.
type ExitError struct {
	Code    int    // exit code; -1 when a signal ended it
	Signal  string // such as "killed"; empty without one
	Stderr  string // the last 4 KiB, without secrets
	Partial int    // bytes of an unfinished last line
	Command string // the command line, without secrets
	Cause   error  // what this package found wrong before, or nil
}

func (e *ExitError) Error() string {
	var b strings.Builder
	b.WriteString("claude: the process ended")
	if e.Signal != "" {
		fmt.Fprintf(&b, " by signal %q", e.Signal)
	} else {
		fmt.Fprintf(&b, " with exit code %d", e.Code)
	}
	if e.Cause != nil {
		fmt.Fprintf(&b, ": %v", e.Cause)
	}
	if e.Partial > 0 {
		fmt.Fprintf(&b, " (%d bytes of an unfinished line)", e.Partial)
	}
	if s := strings.TrimSpace(e.Stderr); s != "" {
		fmt.Fprintf(&b, ": %s", s)
	}
	return b.String()
}

func (e *ExitError) Unwrap() error { return e.Cause }
