package worktree

import (
	"context"
	"fmt"
	"strings"
)

// plan is what a merge would do to its target.
type plan struct {
	after     string // the commit that the target is to move to
	tree      string // or its tree, while there is no commit yet
	already   bool   // there is nothing to do
	forward   bool   // the work comes after the target, which can move to it
	conflicts []FileConflict
}

// merging is one merge of certain commits. They stay what they are while the
// branches move.
type merging struct {
	combiner
	req          MergeRequest
	before, head string // commits of the target and the work
}

// work returns what names the commit that a request is about.
func (c combiner) work(ctx context.Context, req MergeRequest) (string, error) {
	if req.Commit != "" {
		return req.Commit, nil
	}
	return c.branch(ctx, req.Branch)
}

func (m merging) sides() sides {
	return sides{ours: m.before, theirs: m.head, oursName: m.req.Target, theirsName: m.req.Branch}
}

// plan makes the commits of the merge. They are on no ref yet.
func (m merging) plan(ctx context.Context) (plan, error) {
	p, err := m.make(ctx)
	if err != nil {
		return plan{}, err
	}
	return m.unresolved(ctx, p)
}

func (m merging) make(ctx context.Context) (plan, error) {
	already, err := m.has(ctx, m.before, m.head)
	if already || err != nil {
		return plan{after: m.before, already: true}, err
	}
	if m.req.Strategy == Rebase {
		return m.rebase(ctx)
	}
	whole, err := m.whole(ctx)
	if err != nil || whole.already || len(whole.conflicts) > 0 {
		return whole, err
	}
	if m.req.Strategy == Squash {
		return m.squash(ctx, whole.tree)
	}
	return m.mergeCommit(ctx, whole)
}

// unresolved finds conflicts that somebody was asked to resolve and did not: their
// marks would come to the target.
func (m merging) unresolved(ctx context.Context, p plan) (plan, error) {
	if p.already || len(p.conflicts) > 0 {
		return p, nil
	}
	names, err := m.combiner.unresolved(ctx, m.before, m.head, p.after)
	for _, name := range names {
		p.conflicts = append(p.conflicts, FileConflict{Path: name, Kind: "unresolved", Note: "has marks of a conflict from an earlier merge"})
	}
	return p, err
}

// whole merges all of the work at once: into a tree, unless the target has that
// already. It may have come there as other commits, squashed or rebased.
func (m merging) whole(ctx context.Context) (plan, error) {
	forward, err := m.has(ctx, m.head, m.before)
	if err != nil {
		return plan{}, err
	}
	var res combined
	if forward {
		res.tree, err = m.tree(ctx, m.head)
	} else {
		res, err = m.combine(ctx, m.sides())
	}
	if err != nil || len(res.conflicts) > 0 {
		return plan{conflicts: res.conflicts}, err
	}
	tree, err := m.tree(ctx, m.before)
	if err == nil && tree == res.tree {
		return plan{after: m.before, already: true}, nil
	}
	return plan{tree: res.tree, forward: forward}, err
}

// mergeCommit makes one of the whole, or none when the target can move forward.
func (m merging) mergeCommit(ctx context.Context, whole plan) (plan, error) {
	if whole.forward {
		return plan{after: m.head}, nil
	}
	after, err := m.write(ctx, newCommit{tree: whole.tree, parents: []string{m.before, m.head}, message: mergeMessage(m.req)})
	return plan{after: after}, err
}

// squash makes one commit of the work.
func (m merging) squash(ctx context.Context, tree string) (plan, error) {
	commits, err := m.repo.Lines(ctx, "rev-list", "--reverse", "--topo-order", "--no-merges", m.before+".."+m.head)
	if err != nil {
		return plan{}, err
	}
	last := m.head
	if len(commits) > 0 {
		last = commits[len(commits)-1]
	}
	of, err := m.read(ctx, last)
	if err != nil {
		return plan{}, err
	}
	author := of.author
	if of.encoding != "" { // the message is in UTF-8
		if author, err = m.repo.Run(ctx, append(logUTF8, "--date=raw", "--format=%an <%ae> %ad", last)...); err != nil {
			return plan{}, err
		}
	}
	message, err := m.squashMessage(ctx, m.req, commits, author)
	if err != nil {
		return plan{}, err
	}
	after, err := m.write(ctx, newCommit{tree: tree, parents: []string{m.before}, author: author, message: message})
	return plan{after: after}, err
}

// rebase puts the commits of the work on top of the target.
func (m merging) rebase(ctx context.Context) (plan, error) {
	// git merge-base has not been asked about the two yet.
	if _, err := m.bases(ctx, m.sides()); err != nil {
		return plan{}, err
	}
	linear, err := m.linear(ctx)
	if err != nil {
		return plan{}, err
	}
	merges, err := m.repo.Run(ctx, "rev-list", "--merges", "--max-count=1", m.before+".."+m.head)
	if err != nil {
		return plan{}, err
	}
	if merges == "" && len(linear.conflicts) == 0 {
		return linear, nil
	}
	whole, err := m.whole(ctx)
	switch {
	case err != nil || whole.already:
		return whole, err
	case merges == "":
		return linear, nil
	case len(whole.conflicts) > 0:
		return whole, nil
	}
	// A merge commit of the work may have settled conflicts, which would come back
	// for ever commit by commit, or have changes of its own, which would be lost.
	if len(linear.conflicts) == 0 {
		tree, err := m.tree(ctx, linear.after)
		if err != nil || tree == whole.tree {
			return linear, err
		}
	}
	return m.squash(ctx, whole.tree)
}

// linear does so commit by commit, without merge commits and what the target has.
func (m merging) linear(ctx context.Context) (plan, error) {
	commits, err := m.repo.Lines(ctx, "rev-list", "--reverse", "--topo-order", "--no-merges", "--right-only", "--cherry-mark", m.before+"..."+m.head)
	if err != nil {
		return plan{}, err
	}
	top, there := m.before, ""
	for _, line := range commits {
		id := line[1:]
		if line[0] == '=' {
			// It may be one that only looks the same.
			if there == "" {
				if there, err = m.cherry(ctx, m.before, m.head); err != nil {
					return plan{}, err
				}
			}
			next, err := m.replay(ctx, there, id)
			if err != nil {
				return plan{}, err
			}
			if len(next.conflicts) == 0 && next.after == there {
				continue
			}
		}
		next, err := m.replay(ctx, top, id)
		if err != nil || len(next.conflicts) > 0 {
			return next, err
		}
		top = next.after
	}
	return plan{after: top, already: top == m.before}, nil
}

// replay makes a commit like another one on top of a third; none if it would
// change nothing there.
func (m merging) replay(ctx context.Context, top, id string) (plan, error) {
	c, err := m.read(ctx, id)
	if err != nil {
		return plan{}, err
	}
	tree, err := m.tree(ctx, top)
	if err != nil {
		return plan{}, err
	}
	if len(c.parents) > 0 && c.parents[0] == top {
		if c.tree == tree {
			return plan{after: top}, nil
		}
		return plan{after: id}, nil
	}
	ours, theirs, err := m.fork(ctx, tree, id, c)
	if err != nil {
		return plan{}, err
	}
	res, err := m.combine(ctx, sides{ours: ours, theirs: theirs, oursName: m.req.Target, theirsName: m.req.Branch})
	if err != nil || len(res.conflicts) > 0 {
		return plan{conflicts: res.conflicts}, err
	}
	if res.tree == tree {
		return plan{after: top}, nil
	}
	c.tree, c.parents = res.tree, []string{top}
	after, err := m.write(ctx, c)
	return plan{after: after}, err
}

// fork returns two commits whose merge is what a commit changes, applied to a
// tree: their only base is the parent of that commit. They are only for that, and
// the same again and again.
func (m merging) fork(ctx context.Context, tree, id string, c newCommit) (ours, theirs string, err error) {
	base, theirs := "", id
	if len(c.parents) > 0 {
		base = c.parents[0]
	} else {
		none, err := m.repo.Input(strings.NewReader("")).Run(ctx, "hash-object", "-t", "tree", "-w", "--stdin")
		if err != nil {
			return "", "", err
		}
		if base, err = m.synthetic(ctx, none); err != nil {
			return "", "", err
		}
		if theirs, err = m.synthetic(ctx, c.tree, base); err != nil {
			return "", "", err
		}
	}
	ours, err = m.synthetic(ctx, tree, base)
	return ours, theirs, err
}

func (m merging) synthetic(ctx context.Context, tree string, parents ...string) (string, error) {
	const who = nobody + " 0 +0000"
	id, err := m.writeAs(ctx, newCommit{tree: tree, parents: parents, author: who, message: "to merge with\n"}, who)
	if err != nil {
		return "", fmt.Errorf("put a commit of the work on its target: %w", err)
	}
	return id, nil
}
