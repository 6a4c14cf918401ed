package worktree

import (
	"cmp"
	"context"
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
	case req.Work != "" && req.Commit != "":
		return MergeResult{}, invalid("MergeRequest.Commit", "and Work: only one of them can be given")
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
	var at sides // ours is what is joined so far
	for _, id := range works {
		if at.theirs, err = m.tip(ctx, id); err != nil {
			return "", err
		}
		at.theirsName = called(id)
		if at.ours == "" {
			at.ours, at.oursName = at.theirs, at.theirsName
			continue
		}
		joined, merged, err := c.join(ctx, at)
		if err != nil {
			return "", err
		}
		if len(merged.conflicts) > 0 {
			return "", &ConflictError{Branch: at.theirsName, Target: at.oursName, Files: merged.conflicts}
		}
		at.ours, at.oursName = joined, at.oursName+" and "+at.theirsName
	}
	return at.ours, nil
}

// Mix returns a commit in which a branch is merged into work as far as that goes:
// that with an id, a commit with its full name, or a fresh base if it is empty.
// Each conflict is in a file, both sides of it between git's marks, also where git
// leaves none: of binary files is said there where they are, and a side that has
// deleted the file is empty. A conflict that no file can have, of a submodule, is
// a [*ConflictError].
func (m *Manager) Mix(ctx context.Context, id, branch string) (string, error) {
	c, err := newCombiner(ctx, m.plain())
	if err != nil {
		return "", err
	}
	s := sides{oursName: called(id), theirsName: branch}
	if s.ours, err = m.tip(ctx, id); err != nil {
		return "", err
	}
	if s.theirs, err = m.commit(ctx, "refs/heads/"+branch); err != nil {
		return "", err
	}
	joined, merged, err := c.join(ctx, s)
	if err != nil || len(merged.conflicts) == 0 {
		return joined, err
	}
	tree, err := c.mark(ctx, s, merged)
	if err != nil {
		return "", err
	}
	return c.write(ctx, newCommit{tree: tree, parents: []string{s.ours, s.theirs}, message: joinMessage(s) + withConflicts + "\n"})
}

// join merges one commit into another. It returns the commit that has both, none
// when there are conflicts.
func (c combiner) join(ctx context.Context, s sides) (string, combined, error) {
	for _, has := range [][2]string{{s.ours, s.theirs}, {s.theirs, s.ours}} {
		already, err := c.has(ctx, has[0], has[1])
		if already || err != nil {
			return has[0], combined{}, err
		}
	}
	merged, err := c.combine(ctx, s)
	if err != nil || len(merged.conflicts) > 0 {
		return "", merged, err
	}
	at, err := c.write(ctx, newCommit{tree: merged.tree, parents: []string{s.ours, s.theirs}, message: joinMessage(s) + "\n"})
	return at, merged, err
}

func joinMessage(s sides) string { return fmt.Sprintf("Merge %s into %s", s.theirsName, s.oursName) }

// Marked returns the files of a commit in which a conflict that [Manager.Mix] has
// left is not resolved, but for such as are in the base of new work too.
func (m *Manager) Marked(ctx context.Context, commit string) ([]string, error) {
	c, err := newCombiner(ctx, m.plain())
	if err != nil {
		return nil, err
	}
	base, err := m.commit(ctx, cmp.Or(m.o.Base, "HEAD"))
	if err != nil {
		return nil, err
	}
	return c.unresolved(ctx, base, commit, commit)
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
func (m *Manager) plain() git.Repo { return m.quiet(m.git.In(m.names.common)) }
