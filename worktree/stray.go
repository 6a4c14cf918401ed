package worktree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// findStrays finds what is in the folders of gitlinks that have no repository.
// Git takes those folders for somebody else's: it tells of nothing in them.
func (c checkout) findStrays(v *view) error {
	for link := range v.gitlinks {
		top := filepath.Join(c.root, filepath.FromSlash(link))
		fi, err := os.Lstat(top)
		if errors.Is(err, fs.ErrNotExist) || err != nil && notFolder(err) || err == nil && !fi.IsDir() {
			continue // git tells of that
		}
		if err != nil {
			return err
		}
		if real, err := filepath.EvalSymlinks(top); err != nil || real != top {
			continue // a link leads there: it is not inside
		}
		err = filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return fmt.Errorf("look at what is in %s: %w; make it readable", c.root, err)
			}
			rel, err := filepath.Rel(c.root, p)
			if err != nil {
				return err
			}
			rel = filepath.ToSlash(rel)
			if !d.IsDir() {
				if d.Type().IsRegular() || d.Type()&fs.ModeSymlink != 0 {
					v.strays = append(v.strays, entry{path: rel, index: '?', tree: '?'})
				}
				return nil
			}
			if _, err := os.Lstat(filepath.Join(p, ".git")); err != nil {
				return nil
			}
			if p != top {
				v.strays = append(v.strays, entry{path: rel + "/", index: '?', tree: '?'})
				v.repos = append(v.repos, rel)
			}
			return fs.SkipDir
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// strays keeps such files and takes them away. They cannot be on the branch, which
// has a gitlink in their place.
func (s *salvage) strays(ctx context.Context, from source, v view) (changed bool, err error) {
	some := view{head: v.head}
	for _, e := range v.entries {
		if e.unmerged { // an index that has such is no tree
			some.entries = append(some.entries, e)
		}
	}
	unmerged := len(some.entries)
	for _, e := range v.strays {
		if !e.nested() { // a repository is kept by itself
			some.entries = append(some.entries, e)
		}
	}
	strays := some.entries[unmerged:]
	if len(strays) == 0 {
		return false, nil
	}
	what := "files" + from.in() + " in the folder of a submodule that has no repository"
	if err := s.files(ctx, from, some, what); err != nil || s.k.dry {
		return false, err
	}
	for _, e := range strays {
		full := filepath.Join(from.root, filepath.FromSlash(e.path))
		if err := os.Remove(full); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return true, err
		}
		if err := removeEmpty(linkAbove(from.root, v, e.path), filepath.Dir(full)); err != nil {
			return true, err
		}
	}
	return true, nil
}

// removeNothings removes from a folder what is never kept, for there is nothing in
// it: empty folders, pipes and the like.
func removeNothings(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		full := filepath.Join(dir, e.Name())
		switch {
		case e.IsDir():
			if err = removeNothings(full); err == nil {
				err = removeEmpty(dir, full)
			}
		case !e.Type().IsRegular() && e.Type()&fs.ModeSymlink == 0:
			err = os.Remove(full)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// linkAbove returns the folder of the gitlink that a path is in. It stays when it
// is empty, as git makes it.
func linkAbove(root string, v view, path string) string {
	for link := range v.gitlinks {
		if strings.HasPrefix(path, link+"/") {
			return filepath.Join(root, filepath.FromSlash(link))
		}
	}
	return root
}
