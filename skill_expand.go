package claudepool

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/claudepool/claudepool/internal/template"
)

// FreeText is the key under which a skill gets arguments as one text, as they
// would be typed behind the name of a command.
const FreeText = "ARGUMENTS"

// maxPrompt bounds the prompt that a skill and its arguments make.
const maxPrompt = 4 << 20

// Expand returns the prompt with the arguments in their places:
//
//	{name}                  the declared argument, empty if it is neither given nor has a default
//	$ARGUMENTS              the text given under [FreeText]
//	$ARGUMENTS[0], $0, …    its words, split as a shell does; text if there are not so many
//	${CLAUDE_SKILL_DIR}     the skill's folder
//
// Arguments that have no place in the prompt are appended: a free text as
// "ARGUMENTS: …", others each in a line "name: value". Values are data: what
// they hold is never taken for a placeholder.
//
// The error is an [*InvalidError] for a required argument that is missing, and
// for one that a skill with declared arguments does not declare. A skill that
// declares none takes any.
func (s Skill) Expand(args map[string]string) (string, error) {
	values, err := s.values(args)
	if err != nil {
		return "", err
	}
	e := expansion{skill: &s, values: values, words: words(args[FreeText]), placed: map[string]bool{}, left: maxPrompt - len(s.Prompt)}
	text, err := template.Expand(s.Prompt, e.resolve)
	if err != nil {
		return "", fmt.Errorf("skill %q: %w", s.Name, err)
	}
	if rest := e.rest(); rest != "" {
		text = strings.TrimRight(text, "\n") + "\n\n" + rest
	}
	return text, nil
}

// values returns the value of every argument that has one.
func (s *Skill) values(args map[string]string) (map[string]string, error) {
	values := maps.Clone(args)
	if values == nil {
		values = map[string]string{}
	}
	var declared []string
	for _, a := range s.Arguments {
		declared = append(declared, a.Name)
		if _, given := args[a.Name]; given {
			continue
		}
		if a.Required {
			return nil, invalidField("arguments."+a.Name, "is required by the skill %q%s", s.Name, described(a.Description))
		}
		values[a.Name] = a.Default
	}
	for _, name := range slices.Sorted(maps.Keys(args)) {
		switch {
		case !utf8.ValidString(args[name]):
			return nil, invalidField("arguments."+name, "is not valid UTF-8")
		case name == FreeText || slices.Contains(declared, name):
		case len(declared) > 0:
			return nil, invalidField("arguments."+name, "is no argument of the skill %q%s", s.Name, nearest(name, declared))
		case !argumentName.MatchString(name):
			return nil, invalidField("arguments", "has the name %q; use letters, digits, _ and -", name)
		}
	}
	return values, nil
}

// described appends what is known about something, if anything is.
func described(what string) string {
	if what == "" {
		return ""
	}
	return ": " + what
}

// expansion is one expansion of a skill's prompt.
type expansion struct {
	skill  *Skill
	values map[string]string
	words  []string
	placed map[string]bool
	left   int // how many bytes more the prompt may have
}

// resolve returns the value of a placeholder.
func (e *expansion) resolve(ref string) (string, bool, error) {
	value, ok, err := e.value(ref)
	if e.left -= len(value); e.left < 0 && err == nil {
		err = invalidField("arguments", "make the prompt larger than %d bytes", maxPrompt)
	}
	return value, ok, err
}

func (e *expansion) value(ref string) (string, bool, error) {
	switch {
	case ref == "${CLAUDE_SKILL_DIR}":
		if e.skill.Dir == "" {
			return "", false, invalidField("skill", "has no folder of its own; save it first")
		}
		return e.skill.Dir, true, nil
	case strings.HasPrefix(ref, "${"):
		return "", false, nil
	case ref == "$"+FreeText:
		e.placed[FreeText] = true
		return e.values[FreeText], true, nil
	case strings.HasPrefix(ref, "$"):
		n := 0
		for _, c := range ref {
			if '0' <= c && c <= '9' {
				n = n*10 + int(c-'0')
			}
		}
		if n >= len(e.words) {
			return "", false, nil
		}
		e.placed[FreeText] = true
		return e.words[n], true, nil
	}
	if !slices.ContainsFunc(e.skill.Arguments, func(a SkillArgument) bool { return a.Name == ref }) {
		return "", false, nil
	}
	e.placed[ref] = true
	return e.values[ref], true, nil
}

// rest returns the arguments that had no place: first the declared ones, in
// their order, then the others by name, then the free text.
func (e *expansion) rest() string {
	var names, lines []string
	for _, a := range e.skill.Arguments {
		names = append(names, a.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(e.values)) {
		if name != FreeText && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range append(names, FreeText) {
		if value := e.values[name]; value != "" && !e.placed[name] {
			lines = append(lines, name+": "+value)
		}
	}
	return strings.Join(lines, "\n")
}

// agentConfig is what the skill sets for the task that runs it.
func (s Skill) agentConfig() AgentConfig {
	c := s.Config
	rules := slices.Clone(s.AllowedTools)
	if s.Dir != "" {
		for i, rule := range rules {
			rules[i] = strings.ReplaceAll(rule, "${CLAUDE_SKILL_DIR}", s.Dir)
		}
	}
	c.AllowedTools = union(c.AllowedTools, rules)
	return c
}
