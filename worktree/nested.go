package worktree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/claudepool/claudepool/internal/git"
)

// brokenError: a folder has a .git that git does not take for a repository.
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
	linked, err := from.linked()
	if err != nil {
		return false, err
	}
	var repos []string
	for _, l := range linked { // also those in ignored folders
		if l.inside != "" {
			repos = append(repos, l.inside)
		}
	}
	slices.SortFunc(repos, func(a, b string) int { return cmp.Compare(b, a) }) // one in another goes first
	for _, dir := range v.repos {
		if !slices.Contains(repos, dir) {
			repos = append(repos, dir)
		}
	}
	for _, dir := range repos {
		b, err := from.below(ctx, dir)
		if broken, ok := err.(*brokenError); ok {
			s.broken = append(s.broken, broken)
			continue
		}
		if err != nil {
			return changed, err
		}
		did, err := s.repository(ctx, from, v, b, dir)
		if err != nil {
			return changed, err
		}
		changed = changed || did
	}
	if err := s.modules(ctx, from); err != nil {
		return changed, err
	}
	did, err := s.strays(ctx, from, v)
	return changed || did, err
}

// linkedTree is a further working tree of a repository that goes with a place.
type linkedTree struct {
	gitDir string
	inside string // where it is below the checkout; "" when it is not, or is gone
}

// linked lists the working trees that were made of a repository: of the person's
// those that are in the place, of others all.
func (s source) linked() ([]linkedTree, error) {
	if s.foreign {
		return nil, nil
	}
	common, err := commonDir(s.gitDir)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(common, "worktrees"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var all []linkedTree
	for _, e := range entries {
		l := linkedTree{gitDir: filepath.Join(common, "worktrees", e.Name())}
		text, err := readIfThere(filepath.Join(l.gitDir, "gitdir"))
		if err != nil || text == nil || l.gitDir == s.gitDir {
			continue
		}
		link := filepath.FromSlash(strings.TrimSpace(string(text)))
		if !filepath.IsAbs(link) {
			link = filepath.Join(l.gitDir, link)
		}
		rel, err := filepath.Rel(s.root, filepath.Dir(link))
		inside := err == nil && filepath.IsLocal(rel) && rel != "."
		if inside && sameFolder(gitFolder(filepath.Dir(link)), l.gitDir) {
			l.inside = filepath.ToSlash(rel)
		}
		if inside || !s.shared && common == s.gitDir {
			all = append(all, l)
		}
	}
	return all, nil
}

func sameFolder(a, b string) bool {
	af, aErr := os.Stat(a)
	bf, bErr := os.Stat(b)
	return aErr == nil && bErr == nil && os.SameFile(af, bf)
}

// modules keeps what is in the git folders of submodules that are checked out no
// more, and removes them.
func (s *salvage) modules(ctx context.Context, from source) error {
	if from.foreign {
		return nil
	}
	top := filepath.Join(from.gitDir, "modules")
	return filepath.WalkDir(top, func(dir string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case !d.IsDir():
			return nil
		}
		if _, err := os.Lstat(filepath.Join(dir, "HEAD")); err != nil {
			return nil // a part of a name
		}
		used, err := s.module(ctx, from, top, dir)
		if err != nil {
			return err
		}
		if !used && !s.k.dry {
			if err := from.discard(dir); err != nil {
				return err
			}
		}
		return fs.SkipDir
	})
}

// module keeps what is in the git folder of a submodule, unless that is used.
func (s *salvage) module(ctx context.Context, from source, top, dir string) (used bool, err error) {
	name, _ := filepath.Rel(top, dir)
	// Its own setting of a working tree may lead to where there is none any more,
	// which git stumbles over.
	c := checkout{repo: s.p.m.pin(dir, dir), root: dir, gitDir: dir, tmp: from.tmp, passive: from.passive}
	tree, err := c.repo.Run(ctx, "config", "core.worktree")
	if err != nil && git.ExitCode(err) != 1 {
		s.broken = append(s.broken, &brokenError{dir, err})
		return true, ctx.Err()
	}
	if tree != "" {
		if !filepath.IsAbs(tree) {
			tree = filepath.Join(dir, filepath.FromSlash(tree))
		}
		if sameFolder(gitFolder(tree), dir) {
			return true, nil
		}
	}
	if !c.passive {
		if err := unlock(dir); err != nil {
			return false, err
		}
	}
	if tree != "" && !s.k.dry {
		if _, err := c.repo.Run(ctx, "config", "--unset", "core.worktree"); err != nil {
			return false, err
		}
	}
	src := source{checkout: c, name: filepath.ToSlash(name), origin: s.p.m.submoduleDir(filepath.ToSlash(name))}
	if err := s.modules(ctx, src); err != nil {
		return false, err
	}
	var v view
	if v.head, err = c.head(ctx); err != nil {
		return false, err
	}
	return false, s.history(ctx, src, v)
}

// repository keeps what is in one repository below a checkout.
func (s *salvage) repository(ctx context.Context, from source, v view, b checkout, dir string) (changed bool, err error) {
	commit, known := v.gitlinks[dir]
	if !b.foreign && !b.passive {
		if err := unlock(b.gitDir); err != nil {
			return false, err
		}
	}
	if same, err := s.p.m.sameFormat(ctx, b); err != nil {
		return false, err
	} else if !same {
		return true, s.otherFormat(ctx, from, v, b, dir)
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
	own, err := from.ownDirs()
	if err != nil {
		return false, err
	}
	if !slices.Contains(own, b.gitDir) { // else its commits are those of the outer one
		if err := s.history(ctx, src, bv); err != nil {
			return false, err
		}
	}
	if !known {
		return true, s.takeAway(from.checkout, v, dir)
	}
	if b.foreign || b.linked() {
		// No submodule: its git folder is of others, who may be at another commit.
		if s.k.dry {
			return true, nil
		}
		return true, b.empty()
	}
	moved := bv.head != "" && bv.head != commit && from.name == "" && s.p.canCommit(v)
	if moved && !s.k.dry { // a commit of the outer one says so, as one of its files
		if _, err := from.repo.Run(ctx, "update-index", "--cacheinfo", "160000,"+bv.head+","+dir); err != nil {
			return false, err
		}
		commit = bv.head
	}
	if bv.clean() && bv.head == commit && bv.ref == "" {
		return moved, nil
	}
	return true, s.resetSubmodule(ctx, b, bv, commit)
}

// sameFormat reports whether a repository names objects as the person's does.
func (m *Manager) sameFormat(ctx context.Context, b checkout) (bool, error) {
	ours, err := m.repo.Run(ctx, "hash-object", "--stdin")
	if err != nil {
		return false, err
	}
	theirs, err := b.repo.Run(ctx, "hash-object", "--stdin")
	return len(ours) == len(theirs), err
}

// plainGit is what the git folder of a repository is called that is kept as files.
const plainGit = "claudepool-git"

// otherFormat keeps a repository whose commits the outer one cannot have: its files,
// and its git folder as files too.
func (s *salvage) otherFormat(ctx context.Context, from source, v view, b checkout, dir string) (err error) {
	names, err := b.repo.Fields(ctx, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	if err != nil {
		return err
	}
	gitDir, plain := filepath.Join(b.root, ".git"), filepath.Join(b.root, plainGit)
	if !s.k.dry {
		if err := os.Rename(gitDir, plain); err != nil {
			return err
		}
		defer func() { // it is a repository until it is taken away
			err = errors.Join(err, os.Rename(plain, gitDir))
			if err == nil {
				err = s.takeAway(from.checkout, v, dir)
			}
		}()
		err = filepath.WalkDir(plain, func(p string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				name, _ := filepath.Rel(b.root, p)
				names = append(names, filepath.ToSlash(name))
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	all := view{head: v.head}
	for _, name := range names {
		all.entries = append(all.entries, entry{path: dir + "/" + strings.TrimSuffix(name, "/"), index: '?', tree: '?'})
	}
	return s.files(ctx, from, all, fmt.Sprintf("files of the repository %s, whose commits cannot be fetched, and its git folder as %s", dir, plainGit))
}

// takeAway removes a repository that was kept. Files beside it that the outer
// repository knows, or will see now, stay.
func (s *salvage) takeAway(c checkout, v view, dir string) error {
	if s.k.dry {
		return nil
	}
	full := filepath.Join(c.root, filepath.FromSlash(dir))
	known := slices.Contains(v.repos, dir) // else it is in an ignored folder
	if known && !slices.ContainsFunc(slices.Concat(v.entries, v.strays), func(e entry) bool {
		return e.nested() && strings.TrimSuffix(e.path, "/") == dir
	}) {
		return c.discard(filepath.Join(full, ".git"))
	}
	if err := c.discard(full); err != nil {
		return err
	}
	return removeEmpty(linkAbove(c.root, v, dir), filepath.Dir(full))
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
