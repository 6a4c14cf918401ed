package worktree

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/claudepool/claudepool/internal/git"
)

// Merge brings work to a branch; see [MergeRequest]. A conflict is a
// [*ConflictError], and leaves target and branch as they were.
func (m *Manager) Merge(ctx context.Context, req MergeRequest) (MergeResult, error) {
	switch {
	case (req.Work == "") == (req.Branch == ""):
		return MergeResult{}, invalid("MergeRequest.Work", "and Branch: one of them must be given")
	case req.Work != "":
		if err := m.checkID(ctx, "MergeRequest.Work", req.Work); err != nil {
			return MergeResult{}, err
		}
		if err := m.endStale(ctx, req.Work); err != nil {
			return MergeResult{}, err
		}
		req.Branch = "claude-pool/" + req.Work
	}
	if req.Target == "" {
		target, err := m.target(ctx)
		if err != nil {
			return MergeResult{}, err
		}
		if target == "" {
			return MergeResult{}, invalid("MergeRequest.Target", "must be given: HEAD of %s is on no branch", m.o.Repo)
		}
		req.Target = target
	}
	return m.merger().merge(ctx, req)
}

// Has reports whether work has a branch.
func (m *Manager) Has(ctx context.Context, id string) (bool, error) {
	if err := m.checkID(ctx, "Work.ID", id); err != nil {
		return false, err
	}
	b, err := m.branch(ctx, branchPrefix+id)
	return b.commit != "", err
}

// HasBranch reports whether the repository has a branch of that name.
func (m *Manager) HasBranch(ctx context.Context, name string) (bool, error) {
	return m.repo.Succeeds(ctx, "show-ref", "--verify", "--quiet", "refs/heads/"+name)
}

// Combine returns a commit that has several pieces of work, as they are now, one
// merged into the other. Each is named by its id, or is a commit by its full name.
// A conflict is a [*ConflictError].
func (m *Manager) Combine(ctx context.Context, works []string) (string, error) {
	c, err := newCombiner(ctx, m.plain())
	if err != nil {
		return "", err
	}
	var at, name string
	for _, id := range works {
		next, err := m.tip(ctx, id)
		if err != nil {
			return "", err
		}
		if at == "" {
			at, name = next, id
			continue
		}
		joined, conflicts, err := c.join(ctx, sides{ours: at, theirs: next, oursName: called(name), theirsName: called(id)})
		if err != nil {
			return "", err
		}
		if len(conflicts) > 0 {
			return "", &ConflictError{Branch: called(id), Target: called(name), Files: conflicts}
		}
		at = joined
	}
	return at, nil
}

// Gather makes the branch of the work id: one that has several others.
func (m *Manager) Gather(ctx context.Context, id string, works []string) error {
	if err := m.checkID(ctx, "Work.ID", id); err != nil {
		return err
	}
	at, err := m.Combine(ctx, works)
	if err != nil {
		return err
	}
	return updateRefs(ctx, m.repo, "update "+branchPrefix+id+" "+at)
}

// Mix returns a commit in which a branch is merged into work as far as that goes:
// that with an id, a commit with its full name, or a fresh base if it is empty.
// In the files that conflict are both sides, with git's marks.
func (m *Manager) Mix(ctx context.Context, id, branch string) (string, error) {
	c, err := newCombiner(ctx, m.plain())
	if err != nil {
		return "", err
	}
	ours, err := m.tip(ctx, id)
	if err != nil {
		return "", err
	}
	theirs, err := m.commit(ctx, "refs/heads/"+branch)
	if err != nil {
		return "", err
	}
	mixed, _, err := c.join(ctx, sides{ours: ours, theirs: theirs, oursName: called(id), theirsName: branch})
	if err == nil && mixed == "" {
		return "", fmt.Errorf("mix %s into %s: %w: git %v leaves no files to resolve conflicts in, %v does", branch, called(id), errors.ErrUnsupported, m.git.Version, treeMerge)
	}
	return mixed, err
}

// join merges one commit into another. It returns the commit that has both, also
// when there are conflicts, if git can make that.
func (c combiner) join(ctx context.Context, s sides) (string, []FileConflict, error) {
	for _, has := range [][2]string{{s.ours, s.theirs}, {s.theirs, s.ours}} {
		already, err := c.has(ctx, has[0], has[1])
		if already || err != nil {
			return has[0], nil, err
		}
	}
	merged, err := c.combine(ctx, s)
	if err != nil || merged.tree == "" {
		return "", merged.conflicts, err
	}
	at, err := c.write(ctx, newCommit{tree: merged.tree, parents: []string{s.ours, s.theirs}, message: fmt.Sprintf("Merge %s into %s\n", s.theirsName, s.oursName)})
	return at, merged.conflicts, err
}

// Marked returns the files of a commit that still have marks of a conflict that
// [Manager.Mix] has left.
func (m *Manager) Marked(ctx context.Context, commit string) ([]string, error) {
	files, err := m.repo.Fields(ctx, "grep", "-I", "-l", "-z", "--full-name", "-E", "^<<<<<<< [0-9a-f]{40}", commit, "--")
	if git.ExitCode(err) == 1 {
		return nil, nil
	}
	for i, f := range files {
		files[i] = f[min(len(f), len(commit)+1):]
	}
	return files, err
}

// commitName matches the full name of a commit, which is the id of no work.
var commitName = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// tip returns the newest commit of work, with what a program that has died left of it.
func (m *Manager) tip(ctx context.Context, id string) (string, error) {
	switch {
	case id == "":
		return m.freshBase(ctx, m.o.Base)
	case commitName.MatchString(id):
		return m.commit(ctx, id)
	}
	if err := m.checkID(ctx, "Work.ID", id); err != nil {
		return "", err
	}
	if err := m.endStale(ctx, id); err != nil {
		return "", err
	}
	return m.commit(ctx, branchPrefix+id)
}

// called is how people know what [Manager.tip] is asked for.
func called(id string) string {
	switch {
	case id == "":
		return "the base"
	case commitName.MatchString(id):
		return id
	}
	return "claude-pool/" + id
}

// plain is git in the repository's common folder, for what merges: it says itself
// what it works on.
func (m *Manager) plain() git.Repo { return m.git.In(m.names.common) }
