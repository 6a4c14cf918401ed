package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/claudepool/claudepool/internal/frontmatter"
)

// listing is what was last found in a folder.
type listing[T any] struct {
	files map[string]*file[T] // by entry
	err   error               // why the folder could not be read
}

// usable returns the items of a folder by name. Of two with the same name that
// of the first entry counts.
func (l listing[T]) usable() map[string]*file[T] {
	out := make(map[string]*file[T], len(l.files))
	for _, f := range l.files {
		if !f.good {
			continue
		}
		if other, taken := out[f.name]; !taken || f.entry < other.entry {
			out[f.name] = f
		}
	}
	return out
}

// problems returns what is wrong in a folder, by path and line.
func (l listing[T]) problems() []Problem {
	var out []Problem
	if l.err != nil {
		out = append(out, Problem{Message: l.err.Error()})
	}
	usable := l.usable()
	for _, f := range l.files {
		item := f.item
		if f.err != nil && f.good {
			item = f.name
		}
		for _, err := range append(split(f.err), split(f.warn)...) {
			p := Problem{Path: f.path, Message: err.Error(), Item: item, Broken: f.err != nil}
			if e, ok := errors.AsType[*frontmatter.Error](err); ok {
				p.Line, p.Message = e.Line, e.Message
			}
			if f.err != nil && f.good {
				p.Message += "; what the file said before is still used"
			}
			out = append(out, p)
		}
		if f.good && usable[f.name] != f {
			out = append(out, Problem{Path: f.path, Item: f.item, Message: fmt.Sprintf("is not used: its name, %q, is that of %s", f.name, usable[f.name].path)})
		}
	}
	slices.SortStableFunc(out, func(a, b Problem) int { return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Line, b.Line)) })
	return out
}

// split returns the errors that were joined into one.
func split(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// change says how far what was found differs from what was known.
type change int

const (
	same    change = iota
	touched        // what has to be remembered differs, what it means does not
	changed
)

// changedIf is changed if a condition holds.
func changedIf(cond bool) change {
	if cond {
		return changed
	}
	return same
}

// read looks at a folder, and says how far it differs from old. Files that have
// not changed are not read again.
func (k Kind[T]) read(f Folder, old listing[T]) (listing[T], change) {
	if f.FS != nil && old.files != nil {
		return old, same // inside the program nothing changes
	}
	fsys, closeFS, err := f.open()
	var entries []fs.DirEntry
	if err == nil {
		defer closeFS()
		entries, err = fs.ReadDir(fsys, ".")
	}
	if errors.Is(err, fs.ErrNotExist) {
		return listing[T]{files: map[string]*file[T]{}}, changedIf(len(old.files) > 0 || old.err != nil)
	}
	if err != nil {
		l := listing[T]{files: old.files, err: fmt.Errorf("folder %s cannot be read: %w", f.Dir(), err)}
		return l, changedIf(old.err == nil || old.err.Error() != l.err.Error())
	}
	l, news := listing[T]{files: make(map[string]*file[T], len(old.files))}, changedIf(old.err != nil)
	for _, e := range entries {
		name, item, ok := k.File(e)
		if !ok || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		now, differs := k.file(place{fsys, f, e.Name(), name, item}, old.files[e.Name()])
		if now != nil {
			l.files[e.Name()] = now
		}
		news = max(news, differs)
	}
	return l, max(news, changedIf(len(l.files) != len(old.files)))
}
