package claudepool

import (
	"reflect"
	"testing"

	"github.com/claudepool/claudepool/internal/catalog"
)

// Whatever a SKILL.md holds, it is refused, or it makes a sound skill that says
// the same when it is written and read again.
func FuzzSkillFile(f *testing.F) {
	for _, seed := range []string{
		"Do.", "---\nname: s\n---\nDo.", "---\ndescription: Use when: always\nargument-hint: [a] [b]\n---\nDo {a}.",
		"---\nname: s\nallowed-tools: Bash(git add:*), Read\nmodel: opus\neffort: low\nmetadata:\n  scope: chain\n  arguments: [{name: a, required: true}, b]\n  config: {tools: [], max_turns: 2, settings: {a: [1, null, 0.5]}}\n---\nDo.",
		"---\ndescription: \"\\0\\x07\\u2028\"\narguments: a b\n---\n\t---\n", "---\n<<: &x {a: *x}\n---\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, _, err := parseSkill(catalog.File{Name: "s", Data: data})
		if err != nil {
			return
		}
		if err := s.validate(); err != nil {
			t.Fatalf("the skill is not sound: %v", err)
		}
		file, err := renderSkill(s)
		if err != nil {
			t.Fatalf("the skill cannot be written: %v", err)
		}
		again, odd, err := parseSkill(catalog.File{Name: "other", Data: file})
		if err != nil || odd != nil {
			t.Fatalf("the file cannot be read again: %v, %v\n%s", err, odd, file)
		}
		if len(s.AllowedTools) == 0 {
			s.AllowedTools, again.AllowedTools = nil, nil
		}
		if len(s.Arguments) == 0 {
			s.Arguments, again.Arguments = nil, nil
		}
		if !reflect.DeepEqual(s, again) {
			t.Fatalf("written and read again the skill is\n%#v\nand was\n%#v\n%s", again, s, file)
		}
	})
}

// Whatever the file of a workflow holds, it is refused, or it makes one whose
// chain can be run once it has its arguments.
func FuzzWorkflowFile(f *testing.F) {
	for _, seed := range []string{
		"steps: [{name: a, value: x}]",
		"name: w\narguments: [{name: a, default: x}]\nsteps:\n  - {name: a, value: \"{a}\", output_vars: {v: x.0}}\n  - {name: b, type: skill, value: s, arguments: {x: \"{item}\"}, needs: [a], for_each: steps.a.v, when: '!steps.a.v'}\n",
		"one_session: true\nmax_budget_usd: 1e3\nsteps: [{name: a, value: x, retries: 0, timeout_secs: 0.5, config: {tools: []}}]",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		w, _, err := parseWorkflow(catalog.File{Name: "w", Data: data})
		if err != nil {
			return
		}
		args := map[string]string{}
		for _, a := range w.Arguments {
			args[a.Name] = "{" + a.Name + "}"
		}
		c, err := w.Chain(args)
		if err != nil {
			t.Fatalf("Chain: %v", err)
		}
		if err := c.Validate(); err != nil {
			t.Fatalf("the chain cannot be run: %v", err)
		}
	})
}
