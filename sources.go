package claudepool

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/claudepool/claudepool/internal/catalog"
)

//go:embed skills workflows
var builtins embed.FS

// Source says where a skill or a workflow comes from. Of those with the same
// name that of the strongest source counts.
type Source string

// The sources, strongest first.
const (
	SourceRuntime Source = "runtime" // added while the program runs
	SourceProject Source = "project" // .claude-pool in the project's folder
	SourceGlobal  Source = "global"  // .claude-pool in the person's home folder
	SourceBuiltin Source = "builtin" // part of this package
)

// Sources lists every source, strongest first.
func Sources() []Source { return []Source{SourceRuntime, SourceProject, SourceGlobal, SourceBuiltin} }

// SourceOptions say where a registry looks. The zero value has what is built in
// and nothing else.
type SourceOptions struct {
	// Project is the project's folder: its .claude-pool/skills or
	// .claude-pool/workflows is read. Empty means none.
	Project string
	// Home is the folder whose .claude-pool holds what is there for all
	// projects. Empty means none.
	Home string
	// Dir is a folder of skills, or of workflows, that takes the place of the
	// project's. It must exist. Empty means none.
	Dir string
	// NoBuiltins leaves out what is built in.
	NoBuiltins bool
	// Disabled are names that the registry does as if it did not have.
	Disabled []string
}

// StandardSources returns what a pool uses unless it is told otherwise: the
// project, the person's home folder if there is one, and what is built in.
// Empty means the working directory of this program.
func StandardSources(project string) SourceOptions {
	if project == "" {
		project = "."
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = "" // such as that of a service without a person
	}
	return SourceOptions{Project: project, Home: home}
}

// registries fills in the registries that a pool was not given.
func (c *PoolConfig) registries() (err error) {
	o := StandardSources(c.WorkDir)
	if c.Skills == nil {
		if c.Skills, err = NewSkillRegistry(o); err != nil {
			return err
		}
	}
	if c.Workflows == nil {
		c.Workflows, err = NewWorkflowRegistry(o)
	}
	return err
}

// FileProblem is what is wrong with a file or a folder of a registry. It stops
// nothing else.
type FileProblem struct {
	Source  Source `json:"source"`
	Path    string `json:"path,omitempty"`
	Line    int    `json:"line,omitempty"` // 0 when it is about the whole file
	Message string `json:"message"`
}

// String returns the problem as compilers write theirs: path:line: message.
func (p FileProblem) String() string {
	switch {
	case p.Path == "":
		return p.Message
	case p.Line == 0:
		return p.Path + ": " + p.Message
	}
	return fmt.Sprintf("%s:%d: %s", p.Path, p.Line, p.Message)
}

// registry is what the registries of skills and of workflows have in common.
type registry[T any] struct {
	what     string // what it holds, such as "skill"
	unknown  error
	items    *catalog.Catalog[T]
	relative string          // where relative folders begin
	project  *catalog.Folder // nil if there is none
	global   *catalog.Folder // nil if there is none
	file     func(name string) string
}

// open fills in a registry whose files are below the folder sub of .claude-pool.
func (r *registry[T]) open(o SourceOptions, sub string, kind catalog.Kind[T]) error {
	for i, name := range o.Disabled {
		if !catalogName.MatchString(name) {
			return invalidField(fmt.Sprintf("disabled[%d]", i), "is %q, which no %s can be called", name, r.what)
		}
	}
	var err error
	abs := func(path string) string {
		full, e := filepath.Abs(path)
		if e != nil {
			err = fmt.Errorf("find the folders of %ss: %w", r.what, e)
		}
		return full
	}
	r.relative = abs(o.Project)
	below := ".claude-pool/" + sub
	switch {
	case o.Dir != "":
		st, e := os.Stat(o.Dir)
		if e != nil {
			return fmt.Errorf("folder of %ss: %w", r.what, e)
		}
		if !st.IsDir() {
			return invalidField("dir", "is %s, which is no folder", o.Dir)
		}
		r.project = &catalog.Folder{Source: string(SourceProject), Base: abs(o.Dir), Sub: "."}
	case o.Project != "":
		r.project = &catalog.Folder{Source: string(SourceProject), Base: abs(o.Project), Sub: below}
	}
	if o.Home != "" {
		if f := (catalog.Folder{Source: string(SourceGlobal), Base: abs(o.Home), Sub: below}); r.project == nil || f.Dir() != r.project.Dir() {
			r.global = &f
		}
	}
	c := catalog.Config[T]{Kind: kind, Added: string(SourceRuntime), Disabled: slices.Clone(o.Disabled)}
	for _, f := range []*catalog.Folder{r.project, r.global} {
		if f != nil {
			c.Folders = append(c.Folders, *f)
		}
	}
	if !o.NoBuiltins {
		c.Folders = append(c.Folders, catalog.Folder{Source: string(SourceBuiltin), FS: builtins, Sub: sub})
	}
	r.items = catalog.New(c)
	return err
}

// get returns the item of a name.
func (r *registry[T]) get(name string) (catalog.Item[T], error) {
	it, ok := r.items.Get(name)
	switch {
	case ok:
		return it, nil
	case r.items.Disabled(name):
		return it, fmt.Errorf("%w: %q is disabled here", r.unknown, name)
	}
	var broken []catalog.Problem
	for _, p := range r.items.Problems() {
		if p.Item == name {
			broken = append(broken, p)
		}
	}
	if len(broken) > 0 {
		return it, fmt.Errorf("%w %q; there is a file, but %s", r.unknown, name, firstProblem(broken))
	}
	return it, fmt.Errorf("%w %q%s", r.unknown, name, nearest(name, r.items.Names()))
}

// firstProblem is the first of some problems in words, and how many more there
// are; empty if there are none.
func firstProblem(all []catalog.Problem) string {
	switch n := len(all); n {
	case 0:
		return ""
	case 1:
		return fileProblem(all[0]).String()
	default:
		return fmt.Sprintf("%s (and %d more)", fileProblem(all[0]), n-1)
	}
}

// remove takes away what was added under a name.
func (r *registry[T]) remove(name string) error {
	if r.items.RemoveIf(name, func(T) bool { return true }) {
		return nil
	}
	it, err := r.get(name)
	if err != nil {
		return err
	}
	return invalidField("name", "is that of a %s from the source %s (%s); only what was added at run time can be removed", r.what, it.Source, it.Path)
}

// eject writes what is built in into a folder.
func (r *registry[T]) eject(name, dir string) (string, error) {
	it, ok := r.items.From(string(SourceBuiltin), name)
	if !ok {
		if it, err := r.get(name); err != nil {
			return "", err
		} else {
			return "", invalidField("name", "is that of a %s from the source %s; only what is built in can be ejected", r.what, it.Source)
		}
	}
	return r.write(name, dir, it.Data)
}

// write makes the file of an item in a folder.
func (r *registry[T]) write(name, dir string, data []byte) (string, error) {
	f, err := r.folder(dir)
	if err != nil {
		return "", err
	}
	file := r.file(name)
	path, taken := r.items.Before(f.Source, name)
	if taken && path != filepath.Join(f.Dir(), filepath.FromSlash(file)) {
		return "", invalidField("name", "is %q, which %s has, and that file would count; change or remove that one, or choose another name", name, path)
	}
	return catalog.Write(*f, file, data)
}

// folder returns the folder that somebody wants to write to. There are no others
// than those that are read.
func (r *registry[T]) folder(dir string) (*catalog.Folder, error) {
	if dir == "" {
		if r.project == nil {
			return nil, invalidField("dir", "is empty, and there is no project folder for %ss", r.what)
		}
		return r.project, nil
	}
	full := dir
	if !filepath.IsAbs(dir) {
		full = filepath.Join(r.relative, dir)
	}
	var known []string
	for _, f := range []*catalog.Folder{r.project, r.global} {
		if f == nil {
			continue
		}
		if filepath.Clean(full) == f.Dir() {
			return f, nil
		}
		known = append(known, f.Dir())
	}
	return nil, invalidField("dir", "is %q; %ss are written to %v and nowhere else", dir, r.what, known)
}

// problems returns what is wrong with the files now.
func (r *registry[T]) problems() []FileProblem {
	var out []FileProblem
	for _, p := range r.items.Problems() {
		out = append(out, fileProblem(p))
	}
	return out
}

func fileProblem(p catalog.Problem) FileProblem {
	return FileProblem{Source: Source(p.Source), Path: p.Path, Line: p.Line, Message: p.Message}
}
