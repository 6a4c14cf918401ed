package worktree

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// SetupError says that the set-up command of the options did not succeed.
type SetupError struct {
	Command []string
	Dir     string
	Output  string // the end of what it printed
	err     error
}

func (e *SetupError) Error() string {
	text := fmt.Sprintf("set-up command %q in %s: %v", strings.Join(e.Command, " "), e.Dir, e.err)
	if e.Output != "" {
		text += "; it printed:\n" + e.Output
	}
	return text
}

func (e *SetupError) Unwrap() error { return e.err }

// setUp runs the set-up command, and leaves nothing of it running.
func (p *Place) setUp(ctx context.Context) error {
	command := p.m.o.Setup
	if len(command) == 0 {
		return nil
	}
	output, failure, err := runCommand(ctx, p.Dir(), command, p.m.o.SetupTimeout)
	if err = errors.Join(failure, err); err != nil {
		return &SetupError{command, p.Dir(), output, err}
	}
	return nil
}
