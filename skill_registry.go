package claudepool

import (
	"errors"
	"fmt"
)

// ErrUnknownSkill: no skill has that name.
var ErrUnknownSkill = errors.New("unknown skill")

// Source says where a skill or a workflow comes from. Of two with the same name
// that of the stronger source counts.
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

// RegisteredSkill is a skill as a [SkillRegistry] has it.
type RegisteredSkill struct {
	Skill
	Source Source `json:"source"`
	// Path is the file it was read from; empty for one added at run time.
	Path string `json:"path,omitempty"`
}

// SkillRegistry knows the skills.
type SkillRegistry struct{ runtime map[string]Skill }

// Skill returns the skill of that name, or [ErrUnknownSkill].
func (r *SkillRegistry) Skill(name string) (RegisteredSkill, error) {
	s, ok := r.runtime[name]
	if !ok {
		return RegisteredSkill{}, fmt.Errorf("%w %q", ErrUnknownSkill, name)
	}
	return RegisteredSkill{Skill: s, Source: SourceRuntime}, nil
}
