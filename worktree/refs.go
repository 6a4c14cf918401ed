package worktree

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/claudepool/claudepool/internal/git"
)

const (
	// branchPrefix begins the branch of each piece of work.
	branchPrefix = "refs/heads/claude-pool/"
	// workPrefix begins the refs that say what each piece of work began with.
	workPrefix = "refs/claude-pool/work/"
	// recoveryPrefix begins the refs that keep what would be lost.
	recoveryPrefix = "refs/claude-pool/recovery/"
)

// updateRefs changes refs all together or not at all. Each command is as git
// update-ref --stdin takes it.
func updateRefs(ctx context.Context, r git.Repo, commands ...string) error {
	if len(commands) == 0 {
		return nil
	}
	// One that a killed git has left locked is waited for a little longer.
	_, err := r.Config("core.filesRefLockTimeout", "1000").Input(strings.NewReader(strings.Join(commands, "\n")+"\n")).Run(ctx, "update-ref", "--no-deref", "--stdin")
	return err
}

// deleteRefs deletes all refs below some, or all of them, but for those that say
// what another repository has.
func (p *Place) deleteRefs(ctx context.Context, below ...string) error {
	lines, err := p.repo.Lines(ctx, append([]string{"for-each-ref", "--format=delete %(refname)"}, below...)...)
	if err != nil {
		return err
	}
	return updateRefs(ctx, p.repo, slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, "delete refs/remotes/") })...)
}

// refState is where a branch is, and in which working tree it is checked out.
type refState struct {
	commit string // "" when there is no such branch
	dir    string
}

func (m *Manager) branch(ctx context.Context, ref string) (refState, error) {
	out, err := m.repo.Run(ctx, "for-each-ref", "--format=%(objectname) %(worktreepath)", ref)
	if err != nil {
		return refState{}, err
	}
	line, _, _ := strings.Cut(out, "\n") // a ref has nothing below it
	commit, dir, _ := strings.Cut(line, " ")
	return refState{commit, dir}, nil
}

// moveBranch moves a branch of the person's repository, or makes it, if it is still
// where it was. ready is told that first, each time anew, to keep what is there, or
// to leave it. More commands are done together with it.
func (m *Manager) moveBranch(ctx context.Context, ref, to string, ready func(old refState) (bool, error), more ...string) error {
	for {
		old, err := m.branch(ctx, ref)
		if err != nil {
			return err
		}
		if move, err := ready(old); err != nil || !move {
			return err
		}
		none := strings.Repeat("0", len(to))
		err = updateRefs(ctx, m.repo, append(more, "update "+ref+" "+to+" "+cmp.Or(old.commit, none))...)
		if err == nil {
			return nil
		}
		if now, lookErr := m.branch(ctx, ref); lookErr != nil || now == old {
			return err
		}
	}
}
