package worktree

import (
	"context"
	"fmt"
	"strings"

	"github.com/claudepool/claudepool/internal/git"
)

const branchRefs = "refs/heads/"

// branch returns the ref of a local branch.
func (c combiner) branch(ctx context.Context, name string) (string, error) {
	// It also takes "@{-1}", for which it says another name.
	full, err := c.repo.Run(ctx, "check-ref-format", "--branch", name)
	if git.ExitCode(err) > 0 || err == nil && full != name {
		return "", fmt.Errorf("%q is no name of a branch", name)
	}
	if err != nil {
		return "", err
	}
	ref := branchRefs + name
	// Where files' names know no case, git would take "Main" for main when it looks
	// for it, but not when it lists it.
	known, err := c.repo.Run(ctx, "for-each-ref", "--format=%(refname)", ref)
	if err != nil {
		return "", err
	}
	if known != ref {
		return "", c.noBranch(ctx, name)
	}
	return ref, nil
}

// noBranch says what a name is that is no local branch.
func (c combiner) noBranch(ctx context.Context, name string) error {
	if short, ok := strings.CutPrefix(name, branchRefs); ok {
		return fmt.Errorf("%w: no local branch %s; a branch is named without %s: %s", ErrUnknown, name, branchRefs, short)
	}
	for _, other := range []struct{ refs, what string }{
		{"refs/remotes/", "a branch of a remote: make a local one of it first, with git branch"},
		{"refs/tags/", "a tag, which does not move"},
	} {
		is, err := c.repo.Succeeds(ctx, "show-ref", "--verify", "--quiet", other.refs+name)
		if err != nil {
			return err
		}
		if is {
			return fmt.Errorf("%w: no local branch %s; it is %s", ErrUnknown, name, other.what)
		}
	}
	return fmt.Errorf("%w: no local branch %s; git branch lists those that there are", ErrUnknown, name)
}

// target returns the ref that is to move. A branch may stand for another one.
func (c combiner) target(ctx context.Context, name string) (string, error) {
	ref, err := c.branch(ctx, name)
	if err != nil {
		return "", fmt.Errorf("target: %w", err)
	}
	to, err := c.repo.Run(ctx, "symbolic-ref", "--quiet", ref)
	if git.ExitCode(err) == 1 {
		return ref, nil
	}
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(to, branchRefs) {
		return "", fmt.Errorf("target: %s stands for %s, which is no local branch", name, to)
	}
	return to, nil
}
