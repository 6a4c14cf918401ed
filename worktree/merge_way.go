package worktree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// free refuses to move files where something is that git would overwrite, as newer
// versions do with what is ignored, or take away.
func (p checkedOut) free(ctx context.Context, from, to string) error {
	names, err := p.unknown(ctx, from, to)
	if err != nil || len(names) == 0 {
		return err
	}
	return p.inTheWay(names)
}

func (p checkedOut) inTheWay(names []string) error {
	return fmt.Errorf("%w in %s: %s: commit them there, or move them away, first", ErrInTheWay, p.dir, strings.Join(names, ", "))
}

// changed lists the files that differ between two commits and have local changes.
func (p checkedOut) changed(ctx context.Context, from, to string) ([]string, error) {
	diff := []string{"diff", "-z", "--name-only", "--no-renames", "--no-ext-diff", "--ignore-submodules=all"}
	differ, err := p.repo.Fields(ctx, append(diff, from, to)...)
	if err != nil {
		return nil, err
	}
	local, err := p.repo.Fields(ctx, append(diff, from)...)
	if err != nil {
		return nil, err
	}
	staged, err := p.repo.Fields(ctx, append(diff, "--cached", from)...)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, name := range append(local, staged...) {
		// A file may be where a folder is to be, or the other way round.
		if slices.ContainsFunc(differ, func(d string) bool {
			return d == name || strings.HasPrefix(d, name+"/") || strings.HasPrefix(name, d+"/")
		}) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// change is a path that two commits do not have alike.
type change struct {
	path     string
	old, new string // modes
	id       string // of the new object
}

// Modes of what is not there, and of a repository inside.
const absent, gitlink = "000000", "160000"

// changes lists the paths that two commits do not have alike.
func (p checkedOut) changes(ctx context.Context, from, to string) ([]change, error) {
	fields, err := p.repo.Fields(ctx, "diff-tree", "-r", "-z", "--raw", "--no-abbrev", "--no-renames", from, to)
	if err != nil {
		return nil, err
	}
	var all []change
	for pair := range slices.Chunk(fields, 2) {
		words := strings.Fields(strings.TrimPrefix(pair[0], ":")) // modes, objects, status
		if len(pair) != 2 || len(words) != 5 {
			return nil, fmt.Errorf("git tells of a change as %q", pair)
		}
		all = append(all, change{path: pair[1], old: words[0], new: words[1], id: words[3]})
	}
	return all, nil
}

// tracked returns the paths that the index has.
func (p checkedOut) tracked(ctx context.Context) (map[string]bool, error) {
	names, err := p.repo.Fields(ctx, "ls-files", "-z", "--cached")
	all := make(map[string]bool, len(names))
	for _, name := range names {
		all[name] = true
	}
	return all, err
}

// unknown lists what is where one commit has something that the other has not, and
// that the index has not, be it ignored or not; and repositories that would go.
func (p checkedOut) unknown(ctx context.Context, from, to string) ([]string, error) {
	changes, err := p.changes(ctx, from, to)
	if err != nil {
		return nil, err
	}
	var names, there []string
	for _, c := range changes {
		switch {
		case c.old == gitlink && c.new != gitlink:
			if !p.bare(c.path) {
				names = append(names, c.path)
			}
		case c.old == absent:
			if taken := p.taken(c.path); taken != "" {
				there = append(there, taken)
			}
		}
	}
	if len(there) > 0 {
		tracked, err := p.tracked(ctx)
		if err != nil {
			return nil, err
		}
		for _, name := range there {
			found, err := p.strangers(name, tracked)
			if err != nil {
				return nil, err
			}
			names = append(names, found...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// bare reports whether nothing is at a path, or an empty folder.
func (p checkedOut) bare(name string) bool {
	full := filepath.Join(p.dir, filepath.FromSlash(name))
	if _, err := os.Lstat(full); errors.Is(err, fs.ErrNotExist) {
		return true
	}
	entries, err := os.ReadDir(full)
	return err == nil && len(entries) == 0
}

// strangers lists what is at a path, or below it, that the index does not have. Of a
// repository there is its folder.
func (p checkedOut) strangers(name string, tracked map[string]bool) ([]string, error) {
	var names []string
	err := filepath.WalkDir(filepath.Join(p.dir, filepath.FromSlash(name)), func(full string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(p.dir, full)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if !d.IsDir() {
			if !tracked[rel] {
				names = append(names, rel)
			}
			return nil
		}
		if _, err := os.Lstat(filepath.Join(full, ".git")); err == nil {
			names = append(names, rel+"/")
			return fs.SkipDir
		}
		return nil
	})
	return names, err
}

// taken returns what is there already of a path: itself, or what is no folder and
// is where one of its folders would be; or nothing.
func (p checkedOut) taken(name string) string {
	for i := range len(name) + 1 {
		if i < len(name) && name[i] != '/' {
			continue
		}
		info, err := os.Lstat(filepath.Join(p.dir, filepath.FromSlash(name[:i])))
		switch {
		case err != nil:
			return "" // nor is what would be in it
		case !info.IsDir() || i == len(name):
			return name[:i]
		}
	}
	return ""
}
