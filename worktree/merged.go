package worktree

import (
	"bytes"
	"context"
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
	cherries, err := m.repo.Lines(ctx, "cherry", target, tip)
	if err != nil {
		return "", err
	}
	rebased := len(cherries) > 0
	for _, c := range cherries {
		rebased = rebased && strings.HasPrefix(c, "- ")
	}
	if rebased {
		// Merges are not listed: what they have must be nothing of their own.
		merges, err := m.repo.Run(ctx, "rev-list", "--merges", "--max-count=1", tip, "--not", target)
		if err != nil {
			return "", err
		}
		if merges == "" {
			return "its commits were rebased onto %s", nil
		}
	}
	squashed, err := m.squashed(ctx, base, tip, target)
	if err != nil || !squashed {
		return "", err
	}
	return "its changes were squashed into %s", nil
}

// squashed reports whether a single commit of the target has the changes of all.
func (m *Manager) squashed(ctx context.Context, base, tip, target string) (bool, error) {
	ours, err := m.repo.Bytes(ctx, "diff-tree", "--patch", "--no-ext-diff", "--no-textconv", "--full-index", "--binary", base, tip, "--")
	if err != nil {
		return false, err
	}
	want, err := m.patchIDs(ctx, ours)
	if err != nil || len(want) == 0 {
		return false, err
	}
	// Only commits that touch one of the files can be it.
	files, err := m.repo.Fields(ctx, "diff-tree", "-r", "-z", "--name-only", "--no-renames", base, tip, "--")
	if err != nil || len(files) == 0 {
		return false, err
	}
	theirs, err := m.repo.With("GIT_LITERAL_PATHSPECS=1").Bytes(ctx, "log", "--patch", "--full-diff", "--no-ext-diff", "--no-textconv", "--full-index", "--binary", "--no-renames", "--no-color", "--no-merges", "--format=commit %H", "--max-count="+strconv.Itoa(maxSquashed), base+".."+target, "--", files[0])
	if err != nil {
		return false, err
	}
	have, err := m.patchIDs(ctx, theirs)
	if err != nil {
		return false, err
	}
	for _, id := range have {
		if id == want[0] {
			return true, nil
		}
	}
	return false, nil
}

// patchIDs returns what names each patch whatever lines it is at.
func (m *Manager) patchIDs(ctx context.Context, patches []byte) ([]string, error) {
	lines, err := m.repo.Input(bytes.NewReader(patches)).Lines(ctx, "patch-id", "--stable")
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, line := range lines {
		id, _, _ := strings.Cut(line, " ")
		ids = append(ids, id)
	}
	return ids, nil
}
