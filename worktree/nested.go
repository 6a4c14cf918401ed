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

// errBroken: a folder has a .git that git does not take for a repository.
type brokenError struct {
	dir string
	err error
}

func (e *brokenError) Error() string {
	return fmt.Sprintf("%s has a .git that is no repository that git can read: %v; move it away or repair it", e.dir, e.err)
}

func (e *brokenError) Unwrap() error { return e.err }

// below returns the checkout of a repository that is inside of this one.
func (c checkout) below(ctx context.Context, dir string) (checkout, error) {
	root := filepath.Join(c.root, filepath.FromSlash(dir))
	r := c.repo.In(root).With("GIT_DIR="+filepath.Join(root, ".git"), "GIT_WORK_TREE="+root)
	gitDir, err := r.Run(ctx, "rev-parse", "--absolute-git-dir")
	if err == nil {
		gitDir, err = realPath(gitDir)
	}
	if err != nil {
		if ctx.Err() != nil {
			return checkout{}, err
		}
		return checkout{}, &brokenError{root, err}
	}
	b := checkout{repo: r, root: root, gitDir: gitDir, tmp: c.tmp, passive: c.passive}
	own := gitDir == c.gitDir || gitDir == c.tmp // the folder is a copy with its link
	if own || !within(c.root, gitDir) && !within(c.gitDir, gitDir) {
		b.foreign = true
		b.repo = b.repo.With("GIT_OPTIONAL_LOCKS=0")
	}
	return b, nil
}

// head returns the commit of HEAD, "" when there is none.
func (c checkout) head(ctx context.Context) (string, error) {
	id, err := c.repo.Run(ctx, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
	if git.ExitCode(err) == 1 {
		return "", nil
	}
	return id, err
}

// headOf returns the commit that the repository in a folder is at, "" when the
// folder has none.
func (c checkout) headOf(ctx context.Context, dir string) (string, error) {
	if _, err := os.Lstat(filepath.Join(c.root, filepath.FromSlash(dir), ".git")); err != nil {
		return "", nil
	}
	b, err := c.below(ctx, dir)
	if err != nil {
		return "", err
	}
	return b.head(ctx)
}

// inner keeps what git does not tell of: the repositories below one, and what is
// in the folders of gitlinks. It takes from the place those that the repository
// does not know, and reports whether it changed anything.
func (s *salvage) inner(ctx context.Context, from source, v view) (changed bool, err error) {
	for _, dir := range v.repos {
		b, err := from.below(ctx, dir)
		if broken, ok := err.(*brokenError); ok {
			s.broken = append(s.broken, broken)
			continue
		}
		if err != nil {
			return changed, err
		}
		did, err := s.repository(ctx, from.checkout, v, b, dir)
		if err != nil {
			return changed, err
		}
		changed = changed || did
	}
	did, err := s.strays(ctx, from, v)
	return changed || did, err
}

// repository keeps what is in one repository below a checkout.
func (s *salvage) repository(ctx context.Context, c checkout, v view, b checkout, dir string) (changed bool, err error) {
	commit, known := v.gitlinks[dir]
	if !b.foreign && !b.passive {
		if err := unlock(b.gitDir); err != nil {
			return false, err
		}
	}
	bv, err := b.look(ctx)
	if err != nil {
		return false, err
	}
	rel, _ := filepath.Rel(s.p.root, b.root)
	where := filepath.ToSlash(rel)
	src := source{checkout: b, name: where}
	if known {
		src.origin = s.p.m.submoduleDir(where)
	}
	if _, err := s.inner(ctx, src, bv); err != nil {
		return false, err
	}
	if !bv.clean() {
		if err := s.files(ctx, src, bv, fmt.Sprintf("files of the repository %s that were not committed", where)); err != nil {
			return false, err
		}
	}
	if err := s.history(ctx, src, bv); err != nil {
		return false, err
	}
	if !known {
		return true, s.takeAway(c, v, dir)
	}
	if b.foreign || b.linked() {
		// No submodule: its git folder is of others, who may be at another commit.
		if s.k.dry {
			return true, nil
		}
		return true, b.empty()
	}
	if bv.clean() && bv.head == commit && bv.ref == "" {
		return false, nil
	}
	return true, s.resetSubmodule(ctx, b, bv, commit)
}

// takeAway removes a repository that was kept. Files beside it that the outer
// repository knows, or will see now, stay.
func (s *salvage) takeAway(c checkout, v view, dir string) error {
	if s.k.dry {
		return nil
	}
	full := filepath.Join(c.root, filepath.FromSlash(dir))
	for _, e := range slices.Concat(v.entries, v.strays) {
		if e.nested() && strings.TrimSuffix(e.path, "/") == dir {
			if err := c.discard(full); err != nil {
				return err
			}
			return removeEmpty(linkAbove(c.root, v, dir), filepath.Dir(full))
		}
	}
	return c.discard(filepath.Join(full, ".git"))
}

// linked reports whether it is a further working tree of some repository.
func (c checkout) linked() bool {
	_, err := os.Stat(filepath.Join(c.gitDir, "commondir"))
	return err == nil
}

// resetSubmodule makes a submodule what the commit says, if it has that.
func (s *salvage) resetSubmodule(ctx context.Context, b checkout, v view, commit string) error {
	if s.k.dry {
		return nil
	}
	if _, err := b.repo.Run(ctx, "cat-file", "-e", commit+"^{commit}"); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return b.empty() // it is another repository than that of the commit
	}
	if err := b.restore(ctx, v, commit); err != nil {
		return err
	}
	_, err := b.repo.Run(ctx, "checkout", "--quiet", "--force", "--detach", commit, "--")
	return err
}
