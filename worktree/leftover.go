package worktree

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/claudepool/claudepool/internal/git"
)

// commitLeftover commits what is not committed to the branch that HEAD is on, as
// "git commit --all" with new files would. It returns "" when there is nothing
// that a commit can have.
func (p *Place) commitLeftover(ctx context.Context, v view) (string, error) {
	var gone, there strings.Builder
	zero := strings.Repeat("0", len(v.head))
	for _, e := range v.entries {
		switch {
		case e.nested() || onlyInside(e):
		case e.mode == "000000":
			fmt.Fprintf(&gone, "0 %s\t%s\x00", zero, e.path)
		default:
			there.WriteString(e.path + "\x00")
		}
	}
	if gone.Len() > 0 { // first: it may be in the way of what came
		if _, err := p.repo.Input(strings.NewReader(gone.String())).Run(ctx, "update-index", "-z", "--index-info"); err != nil {
			return "", err
		}
	}
	if there.Len() > 0 {
		if _, err := p.repo.Input(strings.NewReader(there.String())).Run(ctx, "update-index", "--add", "--remove", "--replace", "-z", "--stdin"); err != nil {
			return "", err
		}
	}
	message := "Leftovers of " + p.mark.Work.ID + "\n\nNot committed when the work ended.\n"
	if p.m.o.Hooks {
		return p.commitWithHooks(ctx, v, message)
	}
	tree, err := p.repo.Run(ctx, "write-tree")
	if err != nil {
		return "", err
	}
	if old, err := p.repo.Run(ctx, "rev-parse", v.head+"^{tree}"); err != nil || old == tree {
		return "", err
	}
	commit, err := commitOf(ctx, p.repo, tree, message, []string{v.head})
	if err != nil {
		return "", err
	}
	return commit, updateRefs(ctx, p.repo, "update "+v.ref+" "+commit+" "+v.head)
}

// commitWithHooks commits the index as a person would, which the hooks may refuse.
func (p *Place) commitWithHooks(ctx context.Context, v view, message string) (string, error) {
	if same, err := p.repo.Succeeds(ctx, "diff-index", "--cached", "--quiet", v.head, "--"); err != nil || same {
		return "", err
	}
	r := p.m.quiet(p.m.git.In(p.root).With("GIT_DIR="+p.gitDir, "GIT_WORK_TREE="+p.root))
	if p.kind == Clone {
		hooks, err := p.m.repo.Run(ctx, "config", "--file", filepath.Join(p.m.names.common, "config"), "core.hooksPath")
		if err != nil && git.ExitCode(err) != 1 {
			return "", err
		}
		if hooks == "" {
			hooks = filepath.Join(p.m.names.common, "hooks")
		}
		r = r.Config("core.hooksPath", hooks)
	}
	commit := func(r git.Repo) error {
		_, err := r.Input(strings.NewReader(message)).Run(ctx, "commit", "--quiet", "--file=-")
		return err
	}
	err := commit(r)
	if err != nil && noIdentity(err) {
		err = commit(withIdentity(r))
	}
	if err != nil {
		return "", err
	}
	return p.checkout().head(ctx)
}
