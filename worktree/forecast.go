package worktree

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/claudepool/claudepool/internal/git"
)

// forecast returns the files in which a commit would conflict with a branch now,
// which may be given by its ref.
// Nothing is touched: even the objects that it makes are put elsewhere.
func forecast(ctx context.Context, repo git.Repo, target, head string) (names []string, err error) {
	c, err := newCombiner(ctx, repo)
	if err != nil {
		return nil, err
	}
	temp, err := os.MkdirTemp("", "claude-pool-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if rm := removeAll(temp); err == nil {
			err = rm
		}
	}()
	c.temp = temp
	objects := filepath.Join(temp, "objects")
	if err := os.Mkdir(objects, 0o700); err != nil {
		return nil, err
	}
	// The list of others is separated by colons, unless a name is quoted.
	others := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(filepath.Join(c.repo.Dir(), "objects")) + `"`
	c.repo = c.repo.With("GIT_OBJECT_DIRECTORY="+objects, "GIT_ALTERNATE_OBJECT_DIRECTORIES="+others)
	return c.forecast(ctx, target, head)
}

func (c combiner) forecast(ctx context.Context, target, head string) ([]string, error) {
	s := sides{oursName: strings.TrimPrefix(target, branchRefs), theirsName: head}
	var err error
	if s.ours, err = c.commit(ctx, branchRefs+s.oursName); err != nil {
		return nil, fmt.Errorf("look for conflicts with %s: %w", target, err)
	}
	if s.theirs, err = c.commit(ctx, head); err != nil {
		return nil, fmt.Errorf("look for conflicts of %s: %w", head, err)
	}
	res, err := c.combine(ctx, s)
	if err != nil {
		return nil, err
	}
	return fileNames(res.conflicts), nil
}

// fileNames lists the files of conflicts; of those that are about none, what they
// are.
func fileNames(conflicts []FileConflict) []string {
	var names []string
	for _, f := range conflicts {
		name := f.Path
		if name == "" {
			name = f.Note
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// commit returns the commit that a name means, or ErrUnknown.
func (c combiner) commit(ctx context.Context, name string) (string, error) {
	if strings.HasPrefix(name, "-") {
		return "", fmt.Errorf("%w: no commit %s", ErrUnknown, name)
	}
	id, err := c.repo.Run(ctx, "rev-parse", "--verify", "--quiet", name+"^{commit}")
	if git.ExitCode(err) == 1 {
		return "", fmt.Errorf("%w: no commit %s", ErrUnknown, name)
	}
	return id, err
}
