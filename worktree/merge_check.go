package worktree

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// check runs the check of a request on a commit, and returns the end of what it
// printed.
func (c combiner) check(ctx context.Context, room *mergeRoom, commit string, req MergeRequest) (output string, err error) {
	defer func() { err = errors.Join(err, c.sweep(room)) }()
	dir, err := c.scratch(ctx, room, commit)
	if err != nil {
		return "", fmt.Errorf("make a worktree for the check: %w", err)
	}
	output, failure, err := runCommand(ctx, dir, req.Check, req.CheckTimeout)
	switch {
	case err != nil:
		return output, fmt.Errorf("run the check: %w", err)
	case failure == nil:
		return output, nil
	}
	said := "it printed nothing"
	if text := strings.TrimSpace(output); text != "" {
		said = "the end of what it printed:\n" + text
	}
	return output, fmt.Errorf("%w: %s: %w; %s is as it was; %s", ErrCheckFailed, strings.Join(req.Check, " "), failure, req.Target, said)
}
