package claudepool

import "github.com/claudepool/claudepool/internal/template"

// Expand returns the prompt with the arguments in their places.
func (s Skill) Expand(args map[string]string) (string, error) {
	return template.Expand(s.Prompt, func(ref string) (string, bool, error) {
		v, ok := args[ref]
		return v, ok, nil
	})
}
