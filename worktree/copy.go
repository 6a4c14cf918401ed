package worktree

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/claudepool/claudepool/internal/git"
)

// copyIgnored copies what the person's checkout has beside its repository. What
// is not ignored is left out: in the place it would be taken for work.
func (p *Place) copyIgnored(ctx context.Context) error {
	if p.m.names.top == "" || len(p.m.o.Copy) == 0 {
		return nil
	}
	theirs, err := os.OpenRoot(p.m.names.top)
	if err != nil {
		return err
	}
	defer theirs.Close()
	ours, err := os.OpenRoot(p.root) // links in the place lead nowhere else
	if err != nil {
		return err
	}
	defer ours.Close()
	var names []string
	for _, pattern := range p.m.o.Copy {
		found, err := fs.Glob(theirs.FS(), path.Clean(pattern))
		if err != nil {
			return err
		}
		names = append(names, found...)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	for _, r := range []git.Repo{p.m.repo, p.repo} {
		ignored, err := ignoredOf(ctx, r, names)
		if err != nil {
			return err
		}
		for _, n := range names {
			if !slices.Contains(ignored, n) {
				p.m.log.WarnContext(ctx, "not copied, for it is not ignored", "path", n, "in", r.Dir())
			}
		}
		names = ignored
	}
	for _, n := range names {
		if err := copyTree(theirs, ours, n); err != nil {
			return err
		}
	}
	return nil
}

// ignoredOf returns those of names that git ignores.
func ignoredOf(ctx context.Context, r git.Repo, names []string) ([]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	ignored, err := r.Input(strings.NewReader(strings.Join(names, "\x00")+"\x00")).Fields(ctx, "check-ignore", "-z", "--stdin")
	if git.ExitCode(err) == 1 { // none
		return nil, nil
	}
	return ignored, err
}

// copyTree copies a file or folder, unless the copy is there already.
func copyTree(from, to *os.Root, name string) error {
	return fs.WalkDir(from.FS(), name, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := from.Lstat(name)
		if err != nil {
			return err
		}
		there, err := to.Lstat(name)
		if err == nil && there.Mode().Type() != fi.Mode().Type() {
			if err := to.RemoveAll(name); err != nil {
				return err
			}
			err = fs.ErrNotExist
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		switch {
		case fi.IsDir():
			return to.MkdirAll(name, fi.Mode().Perm()|0o700)
		case fi.Mode()&fs.ModeSymlink != 0:
			return copyLink(from, to, name)
		case !fi.Mode().IsRegular():
			return nil // a socket or the like is of no use elsewhere
		case err == nil && there.Size() == fi.Size() && there.ModTime().Equal(fi.ModTime()) && there.Mode() == fi.Mode():
			return nil
		}
		return copyContent(from, to, name, fi)
	})
}

func copyLink(from, to *os.Root, name string) error {
	target, err := from.Readlink(name)
	if err != nil {
		return err
	}
	if there, err := to.Readlink(name); err == nil && there == target {
		return nil
	}
	if err := to.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := to.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	return to.Symlink(target, name)
}

func copyContent(from, to *os.Root, name string, fi fs.FileInfo) error {
	if err := to.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	if err := to.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	in, err := from.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := to.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fi.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close(), to.Chtimes(name, fi.ModTime(), fi.ModTime()))
}
