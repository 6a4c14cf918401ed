package claudepool

import (
	"fmt"
	"strings"
	"time"

	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/internal/catalog"
	"github.com/claudepool/claudepool/internal/frontmatter"
)

// parseWorkflow reads the file of a workflow. Nothing in it may be unknown.
func parseWorkflow(f catalog.File) (w Workflow, warnings, err error) {
	text, err := frontmatter.Text(f.Data)
	if err != nil {
		return Workflow{}, nil, err
	}
	root, err := frontmatter.Parse(text, 1)
	if err != nil {
		return Workflow{}, nil, err
	}
	w.Name = f.Name
	var r frontmatter.Reader
	r.Strict(root, "the workflow", frontmatter.Keys{
		"name":           func(n frontmatter.Node) { w.Name = r.Text(n, "name") },
		"description":    func(n frontmatter.Node) { w.Description = strings.TrimSpace(r.Text(n, "description")) },
		"arguments":      func(n frontmatter.Node) { w.Arguments = arguments(&r, n, "arguments") },
		"config":         func(n frontmatter.Node) { w.Config = agentConfig(&r, n, "config") },
		"one_session":    func(n frontmatter.Node) { w.OneSession = r.Bool(n, "one_session") },
		"isolation":      func(n frontmatter.Node) { w.Isolation = ChainIsolation(r.Text(n, "isolation")) },
		"max_budget_usd": func(n frontmatter.Node) { w.MaxCost = dollars(&r, n, "max_budget_usd") },
		"steps": func(n frontmatter.Node) {
			r.List(n, "steps", func(i int, n frontmatter.Node) {
				w.Steps = append(w.Steps, workflowStep(&r, n, fmt.Sprintf("steps[%d]", i)))
			})
		},
	})
	if err := r.Err(); err != nil {
		return Workflow{}, nil, err
	}
	if err := w.validate(); err != nil {
		return Workflow{}, nil, inLine(root, err, workflowPaths)
	}
	return w, nil, nil
}

// dollars reads an amount above zero.
func dollars(r *frontmatter.Reader, n frontmatter.Node, what string) Microdollars {
	v := USD(r.Positive(n, what))
	if v <= 0 {
		r.Failf(n, "%s must be at least a millionth of a dollar", what)
	}
	return v
}

// maxStepTimeout bounds timeout_secs of a step: ten days.
const maxStepTimeout = 10 * 24 * time.Hour

// workflowStep reads a step.
func workflowStep(r *frontmatter.Reader, n frontmatter.Node, what string) ChainStep {
	var s ChainStep
	var config AgentConfig
	var kind, value string
	text := func(to *string, key string) func(frontmatter.Node) {
		return func(n frontmatter.Node) { *to = r.Text(n, what+"."+key) }
	}
	r.Strict(n, what, frontmatter.Keys{
		"name":            text(&s.Name, "name"),
		"type":            text(&kind, "type"),
		"value":           text(&value, "value"),
		"arguments":       func(n frontmatter.Node) { s.Action.Arguments = r.TextMap(n, what+".arguments") },
		"model":           text(&s.Overrides.Model, "model"),
		"effort":          func(n frontmatter.Node) { s.Overrides.Effort = claude.Effort(r.Text(n, what+".effort")) },
		"config":          func(n frontmatter.Node) { config = agentConfig(r, n, what+".config") },
		"max_budget_usd":  func(n frontmatter.Node) { s.Overrides.MaxCost = dollars(r, n, what+".max_budget_usd") },
		"timeout_secs":    func(n frontmatter.Node) { s.Overrides.Timeout = timeout(r, n, what+".timeout_secs") },
		"retries":         func(n frontmatter.Node) { s.OnFailure.Retry.Max = retries(r, n, what+".retries") },
		"recovery_prompt": text(&s.OnFailure.RecoveryPrompt, "recovery_prompt"),
		"continue_on_failure": func(n frontmatter.Node) {
			s.OnFailure.Continue = r.Bool(n, what+".continue_on_failure")
		},
		"output_vars": func(n frontmatter.Node) { s.OutputVars = r.TextMap(n, what+".output_vars") },
		"needs":       func(n frontmatter.Node) { s.Needs = r.Texts(n, what+".needs") },
		"for_each":    text(&s.ForEach, "for_each"),
		"when":        text(&s.When, "when"),
		"slot":        text(&s.Slot, "slot"),
		"role":        text(&s.Role, "role"),
	})
	s.Overrides.AgentConfig = config.Merge(s.Overrides.AgentConfig)
	switch kind {
	case "", "prompt":
		s.Action.Prompt = value
	case "skill":
		s.Action.Skill = value
	default:
		at, _ := frontmatter.Find(n, "type")
		r.Failf(at, `%s.type must be "prompt" or "skill", not %q`, what, kind)
	}
	return s
}

// timeout reads a number of seconds.
func timeout(r *frontmatter.Reader, n frontmatter.Node, what string) time.Duration {
	secs := r.Positive(n, what)
	if secs > maxStepTimeout.Seconds() {
		r.Failf(n, "%s must be at most %.0f", what, maxStepTimeout.Seconds())
		return 0
	}
	return time.Duration(secs * float64(time.Second))
}

// retries reads how often a step is tried again. None is less than the zero of
// [RetryPolicy], which means the pool's.
func retries(r *frontmatter.Reader, n frontmatter.Node, what string) int {
	if v := r.Int(n, what); v > 0 {
		return v
	}
	return -1
}

// workflowNames turn the names of fields into those of keys.
var workflowNames = strings.NewReplacer(
	".action.prompt", ".value", ".action.skill", ".value", ".action.arguments", ".arguments", ".action", ".value",
	".on_failure.", ".", ".overrides.", ".",
)

// workflowPaths returns where a field of a [Workflow] may stand in its file.
func workflowPaths(field string) []string {
	return []string{workflowNames.Replace(field), strings.ReplaceAll(field, ".overrides.", ".config.")}
}
