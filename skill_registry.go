package claudepool

import (
	"errors"
	"io/fs"
	"path"
	"reflect"
	"strings"

	"github.com/claudepool/claudepool/internal/catalog"
)

// ErrUnknownSkill: no skill has that name.
var ErrUnknownSkill = errors.New("unknown skill")

// RegisteredSkill is a skill as a [SkillRegistry] has it.
type RegisteredSkill struct {
	Skill
	Source Source `json:"source"`
	// Path is the file it was read from; empty for one added at run time.
	Path string `json:"path,omitempty"`
	// Problem says what is wrong, as path:line: message, with a file that would
	// count if it could be used; while it cannot, this older or weaker text
	// does. Empty if there is none.
	Problem string `json:"problem,omitempty"`
}

// SkillFilter selects skills. Zero fields select all.
type SkillFilter struct {
	Scope  SkillScope
	Source Source
}

// SkillRegistry knows the skills of four sources; see [Source]. A skill is a
// folder with a file SKILL.md. The files are looked at whenever the registry is
// used: what has been edited, added or deleted since counts at once. A file
// that has become unusable, such as one that is half written, keeps what it
// said last, and shows among the Problems.
//
// No link is followed out of a folder of skills, nor is one followed from a
// project's folder to skills outside of it. The methods are safe for concurrent
// use, and what they return belongs to the caller.
type SkillRegistry struct{ r registry[Skill] }

// NewSkillRegistry returns a registry. A name among o.Disabled that no skill can
// have is an [*InvalidError].
func NewSkillRegistry(o SourceOptions) (*SkillRegistry, error) {
	r := &SkillRegistry{r: registry[Skill]{what: "skill", unknown: ErrUnknownSkill, file: skillFile}}
	err := r.r.open(o, "skills", catalog.Kind[Skill]{
		File: func(e fs.DirEntry) (string, string, bool) {
			return skillFile(e.Name()), e.Name(), e.IsDir() || e.Type()&fs.ModeSymlink != 0
		},
		Parse: parseSkill,
		Name:  func(s Skill) string { return s.Name },
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// skillFile is the file of a skill below a folder of skills.
func skillFile(name string) string { return path.Join(name, "SKILL.md") }

func registeredSkill(it catalog.Item[Skill]) RegisteredSkill {
	return RegisteredSkill{Skill: it.Value.clone(), Source: Source(it.Source), Path: it.Path, Problem: firstProblem(it.Broken)}
}

// Skill returns the skill of a name as its file is now. An unknown name is
// [ErrUnknownSkill].
func (r *SkillRegistry) Skill(name string) (RegisteredSkill, error) {
	it, err := r.r.get(name)
	if err != nil {
		return RegisteredSkill{}, err
	}
	return registeredSkill(it), nil
}

// Skills returns the skills that a filter selects, by name.
func (r *SkillRegistry) Skills(f SkillFilter) []RegisteredSkill {
	var out []RegisteredSkill
	for _, it := range r.r.items.All() {
		if (f.Scope == "" || it.Value.Scope == f.Scope) && (f.Source == "" || Source(it.Source) == f.Source) {
			out = append(out, registeredSkill(it))
		}
	}
	return out
}

// Problems returns what is wrong with the files now, by source and path.
func (r *SkillRegistry) Problems() []FileProblem { return r.r.problems() }

// Generation looks at the files and returns a number that is another one
// whenever a skill or a problem has come, changed or gone.
func (r *SkillRegistry) Generation() uint64 { return r.r.items.Generation() }

// Add adds a skill until the program ends, in the place of one that was added
// under its name before, and before all files of that name. Its Dir is not
// used. A skill that cannot be used is an [*InvalidError].
func (r *SkillRegistry) Add(s Skill) error {
	s = s.clone()
	s.Dir = ""
	s.Prompt = strings.Trim(strings.ReplaceAll(s.Prompt, "\r\n", "\n"), "\n")
	s.Description = strings.TrimSpace(s.Description)
	if s.Scope == "" {
		s.Scope = ScopeSkillTask
	}
	if err := s.validate(); err != nil {
		return err
	}
	if s.Description == "" {
		s.Description = firstParagraph(s.Prompt)
	}
	if !r.r.items.Add(s.Name, s) {
		return invalidField("name", "is %q, which is disabled here", s.Name)
	}
	return nil
}

// Remove takes away a skill that was added at run time. One of the same name
// from a file counts again. Skills from files are not touched: that is an
// [*InvalidError].
func (r *SkillRegistry) Remove(name string) error { return r.r.remove(name) }

// Save writes a skill that was added at run time to its own folder in dir, and
// returns the path of its SKILL.md. From then on the file counts, and can be
// edited. Empty means the project's folder of skills; else dir must be that one
// or the global one, relative to the project or not. What is there is never
// written over ([fs.ErrExist]). A skill that a file cannot hold, or whose file
// would not count because another one has its name, is an [*InvalidError], and
// nothing has changed.
func (r *SkillRegistry) Save(name, dir string) (string, error) {
	s, ok := r.r.items.Added(name)
	if !ok {
		it, err := r.r.get(name)
		if err != nil {
			return "", err
		}
		return "", invalidField("name", "is that of a skill from the source %s (%s); only what was added at run time can be saved", it.Source, it.Path)
	}
	data, err := renderSkill(s)
	if err != nil {
		return "", err
	}
	if len(data) > catalog.MaxSize {
		return "", invalidField("prompt", "with all else makes a file of %d bytes, more than %d; make it shorter", len(data), catalog.MaxSize)
	}
	if _, _, err := parseSkill(catalog.File{Name: name, Data: data}); err != nil {
		return "", invalidField("skill", "%q cannot be kept in a file: %v", name, err)
	}
	file, err := r.r.write(name, dir, data)
	if err == nil {
		r.r.items.RemoveIf(name, func(now Skill) bool { return reflect.DeepEqual(now, s) })
	}
	return file, err
}

// Eject writes a built-in skill to a folder, as Save does, so that it can be
// edited there, and returns the path of its SKILL.md.
func (r *SkillRegistry) Eject(name, dir string) (string, error) { return r.r.eject(name, dir) }
