package claudepool

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/internal/catalog"
	"github.com/claudepool/claudepool/internal/frontmatter"
)

// catalogName is what skills and workflows can be called.
var catalogName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)

// SkillScopes lists every scope.
func SkillScopes() []SkillScope {
	return []SkillScope{ScopeSkillTask, ScopeSkillCoordinator, ScopeSkillChain}
}

// validate checks a skill that was put together in whatever way. The error is an
// [*InvalidError].
func (s Skill) validate() error {
	switch {
	case !catalogName.MatchString(s.Name):
		return badCatalogName(s.Name)
	case strings.TrimSpace(s.Prompt) == "":
		return invalidField("prompt", "is empty")
	case len(s.Prompt) > catalog.MaxSize:
		return invalidField("prompt", "is larger than %d bytes", catalog.MaxSize)
	case !utf8.ValidString(s.Prompt):
		return invalidField("prompt", "is not valid UTF-8")
	case !utf8.ValidString(s.Description):
		return invalidField("description", "is not valid UTF-8")
	case s.Scope != "" && !slices.Contains(SkillScopes(), s.Scope):
		return invalidField("scope", "must be one of %v, not %q", SkillScopes(), s.Scope)
	case slices.Contains(s.AllowedTools, ""):
		return invalidField("allowed_tools", "has an empty rule")
	}
	if err := validArguments(s.Arguments, FreeText); err != nil {
		return err
	}
	return s.Config.validate("config.")
}

func badCatalogName(name string) error {
	return invalidField("name", "must be 1 to 64 of a-z, 0-9, _ and -, and begin with a letter or a digit, not %q", name)
}

// validArguments checks what a skill or a workflow declares. reserved are names
// that mean something else already.
func validArguments(args []SkillArgument, reserved ...string) error {
	seen := map[string]bool{}
	for i, a := range args {
		field := fmt.Sprintf("arguments[%d]", i)
		switch {
		case !argumentName.MatchString(a.Name):
			return invalidField(field+".name", "must be a letter or _, then at most 63 letters, digits, _ or -, not %q", a.Name)
		case slices.Contains(reserved, a.Name):
			return invalidField(field+".name", "is %q, which means something else already", a.Name)
		case seen[a.Name]:
			return invalidField(field+".name", "is %q a second time", a.Name)
		case a.Required && a.Default != "":
			return invalidField(field+".default", "is never used: the argument is required")
		case !utf8.ValidString(a.Default) || !utf8.ValidString(a.Description):
			return invalidField(field, "is not valid UTF-8")
		}
		seen[a.Name] = true
	}
	return nil
}

// parseSkill reads a SKILL.md. The warnings are about what was understood all
// the same.
func parseSkill(f catalog.File) (s Skill, warnings, err error) {
	text, err := frontmatter.Text(f.Data)
	if err != nil {
		return Skill{}, nil, err
	}
	head, body, err := frontmatter.Split(text)
	if err != nil {
		return Skill{}, nil, err
	}
	root, odd, err := frontmatter.ParseLoose(head, 2)
	if err != nil {
		return Skill{}, nil, err
	}
	s = Skill{Name: f.Name, Scope: ScopeSkillTask, Prompt: strings.Trim(body, "\n"), Dir: f.Dir}
	p := skillParser{skill: &s}
	p.Loose(root, "the front matter", frontmatter.Keys{
		"name":          func(n frontmatter.Node) { s.Name = p.Text(n, "name") },
		"description":   func(n frontmatter.Node) { s.Description = strings.TrimSpace(p.Text(n, "description")) },
		"argument-hint": func(n frontmatter.Node) { s.ArgumentHint = p.hint(n) },
		"allowed-tools": func(n frontmatter.Node) { s.AllowedTools = p.rules(n, "allowed-tools") },
		"arguments":     func(n frontmatter.Node) { s.Arguments = p.arguments(n, "arguments") },
		"model":         func(n frontmatter.Node) { p.model(n) },
		"effort":        func(n frontmatter.Node) { s.Config.Effort = claude.Effort(p.Text(n, "effort")) },
		"metadata":      func(n frontmatter.Node) { p.metadata(n) },
	})
	if err := p.Err(); err != nil {
		return Skill{}, nil, err
	}
	if s.Description == "" {
		s.Description = firstParagraph(s.Prompt)
	}
	if err := s.validate(); err != nil {
		return Skill{}, nil, inLine(root, err, skillPaths)
	}
	for _, e := range odd {
		warnings = errors.Join(warnings, e)
	}
	return s, warnings, nil
}

// skillParser reads the front matter of a skill.
type skillParser struct {
	frontmatter.Reader
	skill *Skill
}

// hint returns an argument hint. Brackets are often written without quotes,
// which makes a list of them.
func (p *skillParser) hint(n frontmatter.Node) string {
	if n.Kind == yaml.SequenceNode {
		return "[" + strings.Join(p.Texts(n, "argument-hint"), ", ") + "]"
	}
	return p.Text(n, "argument-hint")
}

// model reads the name of a model. The one of who calls is what nothing means too.
func (p *skillParser) model(n frontmatter.Node) {
	if name := p.Text(n, "model"); name != "inherit" {
		p.skill.Config.Model = name
	}
}

// rules returns a list of permission rules, which can be one text with commas or
// spaces between them.
func (p *skillParser) rules(n frontmatter.Node, what string) []string {
	if n.Kind == yaml.SequenceNode {
		return slices.DeleteFunc(p.Texts(n, what), func(rule string) bool { return rule == "" })
	}
	return splitRules(p.Text(n, what))
}

// splitRules splits at commas and white space outside of parentheses.
func splitRules(text string) []string {
	var out []string
	depth, start := 0, 0
	end := func(at int) {
		if start < at {
			out = append(out, text[start:at])
		}
		start = at + 1
	}
	for i := range len(text) {
		switch c := text[i]; {
		case c == '(':
			depth++
		case c == ')':
			depth = max(depth-1, 0)
		case depth == 0 && strings.IndexByte(", \t\n", c) >= 0:
			end(i)
		}
	}
	end(len(text))
	return out
}

// metadata reads what this format has of its own. Other keys there are others'.
func (p *skillParser) metadata(n frontmatter.Node) {
	p.Loose(n, "metadata", frontmatter.Keys{
		"scope": func(n frontmatter.Node) { p.skill.Scope = SkillScope(p.Text(n, "metadata.scope")) },
		"arguments": func(n frontmatter.Node) {
			p.skill.Arguments = p.arguments(n, "metadata.arguments")
		},
		"config": func(n frontmatter.Node) {
			p.skill.Config = p.skill.Config.Merge(agentConfig(&p.Reader, n, "metadata.config"))
		},
	})
}

// arguments reads declared arguments: a list of names, or of names with more
// about them, or one text with the names.
func (p *skillParser) arguments(n frontmatter.Node, what string) []SkillArgument {
	var out []SkillArgument
	if n.Kind != yaml.SequenceNode {
		for _, name := range strings.Fields(p.Text(n, what)) {
			out = append(out, SkillArgument{Name: name})
		}
		return out
	}
	return arguments(&p.Reader, n, what)
}

// arguments reads a list of declared arguments.
func arguments(r *frontmatter.Reader, n frontmatter.Node, what string) []SkillArgument {
	var out []SkillArgument
	r.List(n, what, func(i int, n frontmatter.Node) {
		a, what := SkillArgument{}, fmt.Sprintf("%s[%d]", what, i)
		if n.Kind == yaml.ScalarNode {
			a.Name = r.Text(n, what)
		} else {
			r.Strict(n, what, frontmatter.Keys{
				"name":        func(n frontmatter.Node) { a.Name = r.Text(n, what+".name") },
				"description": func(n frontmatter.Node) { a.Description = r.Text(n, what+".description") },
				"required":    func(n frontmatter.Node) { a.Required = r.Bool(n, what+".required") },
				"default":     func(n frontmatter.Node) { a.Default = r.Text(n, what+".default") },
			})
		}
		out = append(out, a)
	})
	return out
}

// noFile is the field of an [AgentConfig] that no file can set: it holds hooks,
// which run commands that nobody is asked about.
const noFile = "settings"

// agentConfig reads the fields of an [AgentConfig] by the names that they have
// in JSON.
func agentConfig(r *frontmatter.Reader, n frontmatter.Node, what string) AgentConfig {
	var c AgentConfig
	if at, depth := frontmatter.Find(n, noFile); depth > 0 {
		r.Failf(at, "%s.%s cannot be set by a file, as it could run commands without asking; set it in the pool's configuration", what, noFile)
		return c
	}
	keys := frontmatter.Keys{}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[AgentConfig]()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == noFile {
			continue
		}
		keys[name] = func(n frontmatter.Node) {
			v := reflect.ValueOf(&c).Elem().FieldByIndex(field.Index)
			err := json.Unmarshal(r.JSON(n, what+"."+name), v.Addr().Interface())
			if bad, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
				r.Failf(n, "%s.%s must be %s, not %s", what, name, wanted(bad.Type), bad.Value)
			} else if err != nil {
				r.Failf(n, "%s.%s cannot be used: %v", what, name, err)
			}
		}
	}
	r.Strict(n, what, keys)
	return c
}

// wanted names a type for people.
func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Slice:
		return "a list of " + wanted(t.Elem()) + "s"
	case reflect.Map:
		return "keys with values"
	case reflect.Int:
		return "a whole number"
	}
	return t.String()
}

// inLine gives an [*InvalidError] the line and the name that its field has in
// the file: those of the path among paths that leads farthest.
func inLine(root frontmatter.Node, err error, paths func(field string) []string) error {
	bad, ok := errors.AsType[*InvalidError](err)
	if !ok {
		return err
	}
	all := paths(bad.Field)
	line, most, name := 0, 0, all[0]
	for _, path := range all {
		if n, depth := frontmatter.Find(root, path); depth > most {
			line, most, name = n.Line, depth, path
		}
	}
	return &frontmatter.Error{Line: line, Message: name + " " + bad.Reason}
}

// skillPaths returns where a field of a [Skill] may stand in a SKILL.md.
func skillPaths(field string) []string {
	return []string{field, "metadata." + field, strings.TrimPrefix(field, "config.")}
}

// firstParagraph returns the first paragraph of a Markdown text that is no
// heading, in one line of at most 200 characters.
func firstParagraph(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case line != "" && !strings.HasPrefix(line, "#"):
			lines = append(lines, line)
			continue
		case len(lines) == 0:
			continue
		}
		break
	}
	if r := []rune(strings.Join(lines, " ")); len(r) > 200 {
		return string(r[:199]) + "…"
	} else if len(r) > 0 {
		return string(r)
	}
	title, _, _ := strings.Cut(text, "\n")
	return strings.TrimSpace(strings.TrimLeft(title, "#"))
}
