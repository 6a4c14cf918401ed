package worktree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/claudepool/claudepool/internal/git"
)

// maxSquashed bounds how many commits of the target are looked through for one
// that has all that a branch has.
const maxSquashed = 2000

// merged says in words how a commit has come to a target, "" if it has not. The
// words have a %s for the name of the target.
func (m *Manager) merged(ctx context.Context, tip, target string) (string, error) {
	if in, err := m.repo.Succeeds(ctx, "merge-base", "--is-ancestor", tip, target); err != nil {
		return "", err
	} else if in {
		return "all its commits are in %s", nil
	}
	base, err := m.repo.Run(ctx, "merge-base", target, tip)
	if git.ExitCode(err) == 1 {
		return "", nil // no common history
	}
	if err != nil {
		return "", err
	}
	if same, err := m.repo.Succeeds(ctx, "diff", "--quiet", "--no-ext-diff", base, tip, "--"); err != nil {
		return "", err
	} else if same {
		return "", nil // what it has done and undone is nowhere else
	}
	c, err := newCombiner(ctx, m.plain())
	if err != nil {
		return "", err
	}
	for _, as := range []struct {
		how  string
		find func() (string, error)
	}{
		{"its commits were rebased onto %s", func() (string, error) { return c.cherry(ctx, target, tip) }},
		{"its changes were squashed into %s", func() (string, error) { return c.squashed(ctx, base, tip, target) }},
	} {
		found, err := as.find()
		if err != nil {
			return "", err
		}
		if found == "" {
			continue
		}
		if all, err := c.hasAll(ctx, found, tip); all || err != nil {
			return as.how, err
		}
	}
	return "", nil
}

// hasAll reports whether a commit has all that another one changes: merging that
// would change nothing. Patches that look the same need not be, as white space and
// where they apply count for nothing there.
func (c combiner) hasAll(ctx context.Context, commit, tip string) (bool, error) {
	res, err := c.combine(ctx, sides{ours: commit, theirs: tip, oursName: commit, theirsName: tip})
	if err != nil || len(res.conflicts) > 0 {
		return false, err
	}
	tree, err := c.tree(ctx, commit)
	return tree == res.tree, err
}

// cherry returns the newest commit of the target with a patch that looks like one
// of a tip's, or nothing.
func (c combiner) cherry(ctx context.Context, target, tip string) (string, error) {
	marked, err := c.repo.Lines(ctx, "rev-list", "--topo-order", "--no-merges", "--left-only", "--cherry-mark", target+"..."+tip)
	for _, line := range marked {
		if id, same := strings.CutPrefix(line, "="); same {
			return id, err
		}
	}
	return "", err
}

// squashed returns a commit of the target with a patch that looks like all that is
// between base and tip, or nothing.
func (c combiner) squashed(ctx context.Context, base, tip, target string) (string, error) {
	ours, err := c.patches(ctx, nil, base, tip, "--")
	if err != nil || len(ours) == 0 {
		return "", err
	}
	// Only commits that touch one of the files can be it.
	files, err := c.repo.Fields(ctx, "diff-tree", "-r", "-z", "--name-only", "--no-renames", base, tip, "--")
	if err != nil || len(files) == 0 {
		return "", err
	}
	commits, err := c.repo.Bytes(ctx, "rev-list", "--no-merges", "--max-count="+strconv.Itoa(maxSquashed), base+".."+target, "--", files[0])
	if err != nil {
		return "", err
	}
	theirs, err := c.patches(ctx, bytes.NewReader(commits), "--stdin")
	for _, p := range theirs {
		if p.id == ours[0].id {
			return p.commit, err
		}
	}
	return "", err
}

// patch is what names a change whatever lines it is at, and whose it is.
type patch struct{ id, commit string }

// patches names the changes that git diff-tree tells of.
func (c combiner) patches(ctx context.Context, in io.Reader, what ...string) (all []patch, err error) {
	diff := c.repo.Input(in).Command(ctx, append([]string{"diff-tree", "-r", "--patch", "--full-index", "--binary", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color"}, what...)...)
	out, err := diff.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := diff.Start(); err != nil {
		return nil, err
	}
	lines, err := c.repo.Input(out).Lines(ctx, "patch-id", "--stable")
	out.Close()
	if err := errors.Join(err, diff.Wait()); err != nil {
		return nil, fmt.Errorf("compare changes: %w", err)
	}
	for _, line := range lines {
		id, commit, _ := strings.Cut(line, " ")
		all = append(all, patch{id, commit})
	}
	return all, nil
}
