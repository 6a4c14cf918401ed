// Package catalog keeps named items of one kind that come from several sources:
// from folders whose files may change at any time, from files inside the
// program, and from the program itself. Of items with the same name that of the
// strongest source counts.
//
// Nothing watches the folders. Whoever uses a catalog looks at the files first:
// those that have changed are read again. A file that has become unreadable
// keeps what it said last, and the problem is reported.
package catalog

import (
	"cmp"
	"maps"
	"slices"
	"sync/atomic"
)

// Item is an item and where it comes from.
type Item[T any] struct {
	Name   string
	Value  T
	Source string
	Path   string // of its file; empty for one that was added
	Data   []byte // of its file, for items inside the program
	// Broken is what is wrong with files that would count in place of this one,
	// or with this one, of which what it said before is used.
	Broken []Problem
}

// Problem is something wrong with a file or a folder.
type Problem struct {
	Source  string
	Path    string
	Line    int // 0 when it is about the whole file
	Message string
	Item    string // the name that the file has, or else that its place gives to it
	Broken  bool   // the file cannot be used as it is now
}

// Config is what a catalog is made of.
type Config[T any] struct {
	Kind Kind[T]
	// Added is the name of the source of items that are added. It is the strongest.
	Added string
	// Folders are the other sources, strongest first.
	Folders []Folder
	// Disabled are the names of items that are hidden.
	Disabled []string
}

// Catalog holds items. Its methods are safe for concurrent use.
type Catalog[T any] struct {
	cfg     Config[T]
	current atomic.Pointer[state[T]]
}

// state is all that a catalog knows. It is never changed, only replaced.
type state[T any] struct {
	generation uint64
	added      map[string]T
	folders    []listing[T] // as Config.Folders
	items      map[string]Item[T]
	problems   []Problem
}

// New returns a catalog. It reads nothing yet.
func New[T any](cfg Config[T]) *Catalog[T] {
	c := &Catalog[T]{cfg: cfg}
	c.current.Store(&state[T]{folders: make([]listing[T], len(cfg.Folders))})
	return c
}

// look returns the state of the files as they are now.
func (c *Catalog[T]) look() *state[T] {
	for {
		old := c.current.Load()
		folders, news := make([]listing[T], len(c.cfg.Folders)), same
		for i, f := range c.cfg.Folders {
			var differs change
			folders[i], differs = c.cfg.Kind.read(f, old.folders[i])
			news = max(news, differs)
		}
		if news == same {
			return old
		}
		s := c.with(old, old.added, folders)
		if news == touched {
			s.generation = old.generation
		}
		if c.current.CompareAndSwap(old, s) {
			return s
		}
	}
}

// with returns the state that follows old.
func (c *Catalog[T]) with(old *state[T], added map[string]T, folders []listing[T]) *state[T] {
	s := &state[T]{generation: old.generation + 1, added: added, folders: folders, items: map[string]Item[T]{}}
	for i := len(folders) - 1; i >= 0; i-- {
		for _, f := range folders[i].usable() {
			s.items[f.name] = Item[T]{Name: f.name, Value: f.value, Source: c.cfg.Folders[i].Source, Path: f.path, Data: f.data}
		}
	}
	for name, v := range added {
		s.items[name] = Item[T]{Name: name, Value: v, Source: c.cfg.Added}
	}
	for _, name := range c.cfg.Disabled {
		delete(s.items, name)
	}
	for i, l := range folders {
		for _, p := range l.problems() {
			p.Source = c.cfg.Folders[i].Source
			s.problems = append(s.problems, p)
			if it, ok := s.items[p.Item]; ok && p.Broken && c.strength(it.Source) >= i {
				it.Broken = append(it.Broken, p)
				s.items[p.Item] = it
			}
		}
	}
	return s
}

// strength is the place of a source among the folders, the strongest first; that
// of added items is before them.
func (c *Catalog[T]) strength(source string) int {
	return slices.IndexFunc(c.cfg.Folders, func(f Folder) bool { return f.Source == source })
}

// Get returns the item of that name that counts.
func (c *Catalog[T]) Get(name string) (Item[T], bool) {
	it, ok := c.look().items[name]
	return it, ok
}

// From returns the item of that name that a source has, hidden or not.
func (c *Catalog[T]) From(source, name string) (Item[T], bool) {
	s := c.look()
	for i, f := range c.cfg.Folders {
		if f.Source != source {
			continue
		}
		if at, ok := s.folders[i].usable()[name]; ok {
			return Item[T]{Name: name, Value: at.value, Source: source, Path: at.path, Data: at.data}, true
		}
	}
	return Item[T]{}, false
}

// Before returns the path of the file with which an item of that name from the
// folder of a source would have to share the name, or that would count before it.
func (c *Catalog[T]) Before(source, name string) (path string, ok bool) {
	s := c.look()
	for i, f := range c.cfg.Folders {
		if at, ok := s.folders[i].usable()[name]; ok {
			return at.path, true
		}
		if f.Source == source {
			break
		}
	}
	return "", false
}

// All returns the items that count, by name.
func (c *Catalog[T]) All() []Item[T] {
	return slices.SortedFunc(maps.Values(c.look().items), func(a, b Item[T]) int { return cmp.Compare(a.Name, b.Name) })
}

// Names returns the names of all items, sorted.
func (c *Catalog[T]) Names() []string { return slices.Sorted(maps.Keys(c.look().items)) }

// Problems returns what is wrong with the files now, by source and path.
func (c *Catalog[T]) Problems() []Problem { return slices.Clone(c.look().problems) }

// Generation returns a number that is another one whenever an item or a problem
// has changed.
func (c *Catalog[T]) Generation() uint64 { return c.look().generation }

// Add adds an item, in the place of one that was added under the same name. It
// reports whether items of that name can be added: disabled ones cannot.
func (c *Catalog[T]) Add(name string, v T) bool {
	if c.Disabled(name) {
		return false
	}
	for {
		old := c.look()
		added := maps.Clone(old.added)
		if added == nil {
			added = map[string]T{}
		}
		added[name] = v
		if c.current.CompareAndSwap(old, c.with(old, added, old.folders)) {
			return true
		}
	}
}

// Added returns the item that was added under a name.
func (c *Catalog[T]) Added(name string) (T, bool) {
	v, ok := c.current.Load().added[name]
	return v, ok
}

// RemoveIf takes an added item away if a condition holds for it, and reports
// whether it has. One of the same name from a weaker source counts again.
func (c *Catalog[T]) RemoveIf(name string, cond func(T) bool) bool {
	for {
		old := c.current.Load()
		if v, ok := old.added[name]; !ok || !cond(v) {
			return false
		}
		added := maps.Clone(old.added)
		delete(added, name)
		if c.current.CompareAndSwap(old, c.with(old, added, old.folders)) {
			return true
		}
	}
}

// Disabled reports whether items of that name are hidden.
func (c *Catalog[T]) Disabled(name string) bool { return slices.Contains(c.cfg.Disabled, name) }
