package claudepool_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
)

// put writes a file below dir, with its folders.
func put(t *testing.T, content string, path ...string) string {
	t.Helper()
	file := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// putSkill writes a skill of a project, or of a person.
func putSkill(t *testing.T, base, name, content string) string {
	t.Helper()
	return put(t, content, base, ".claude-pool", "skills", name, "SKILL.md")
}

func newSkills(t *testing.T, o claudepool.SourceOptions) *claudepool.SkillRegistry {
	t.Helper()
	r, err := claudepool.NewSkillRegistry(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// invalid checks that err is an [*claudepool.InvalidError] about a field, with a text in it.
func invalid(t *testing.T, err error, field, text string) {
	t.Helper()
	bad, ok := errors.AsType[*claudepool.InvalidError](err)
	if !ok || bad.Field != field || !strings.Contains(bad.Error(), text) {
		t.Errorf("error = %v; want an InvalidError about %s with %q", err, field, text)
	}
}

func TestSkillFiles(t *testing.T) {
	t.Parallel()
	effort := claudepool.AgentConfig{Model: "sonnet", Effort: claude.EffortHigh}
	for _, tt := range []struct {
		name, file string
		want       claudepool.Skill
		problems   []string // line: message
	}{
		{
			name: "everything",
			file: "---\nname: skill\ndescription: Does it.\nargument-hint: <file> [focus]\nallowed-tools: [Read, \"Bash(git add:*)\"]\nmodel: opus\neffort: low\n" +
				"metadata:\n  scope: chain\n  author: somebody\n  arguments:\n    - name: file\n      description: Which.\n      required: true\n    - {name: focus, default: 0123}\n    - plain\n" +
				"  config:\n    effort: high\n    permission_mode: acceptEdits\n    max_turns: 5\n    tools: []\n    json_schema: {type: object, required: [a]}\n    mcp_servers:\n      x: {command: y}\n---\n\nDo {file}.\n",
			want: claudepool.Skill{
				Description: "Does it.", ArgumentHint: "<file> [focus]", AllowedTools: []string{"Read", "Bash(git add:*)"}, Scope: claudepool.ScopeSkillChain,
				Arguments: []claudepool.SkillArgument{{Name: "file", Description: "Which.", Required: true}, {Name: "focus", Default: "0123"}, {Name: "plain"}},
				Config: claudepool.AgentConfig{
					Model: "opus", Effort: claude.EffortHigh, PermissionMode: claude.PermissionAcceptEdits, MaxTurns: 5, Tools: []string{},
					JSONSchema: json.RawMessage(`{"required":["a"],"type":"object"}`), MCPServers: map[string]claude.MCPServer{"x": claude.MCPServer(`{"command":"y"}`)},
				},
				Prompt: "Do {file}.",
			},
		},
		{
			name: "as the CLI has them",
			file: "\xef\xbb\xbf---\r\nname: skill\r\ndescription: >\r\n  Two\r\n  lines.\r\nallowed-tools: Bash(git add:*), Bash(git commit -m \"a, b\") Read,WebFetch(domain:x.org)\r\n" +
				"arguments: issue branch\r\nmodel: inherit\r\ncontext: fork\r\nuser-invocable: false\r\nhooks:\r\n  PreToolUse: &x []\r\n  Stop: *x\r\n---\r\nFix $0.\r\nThen stop.\r\n",
			want: claudepool.Skill{
				Description: "Two lines.", AllowedTools: []string{"Bash(git add:*)", `Bash(git commit -m "a, b")`, "Read", "WebFetch(domain:x.org)"},
				Arguments: []claudepool.SkillArgument{{Name: "issue"}, {Name: "branch"}}, Prompt: "Fix $0.\nThen stop.",
			},
		},
		{
			name: "more than YAML allows",
			file: "---\ndescription: Use when: always\nargument-hint: [file] [focus]\n---\nDo.",
			want: claudepool.Skill{Description: "Use when: always", ArgumentHint: "[file] [focus]", Prompt: "Do."},
			problems: []string{
				"2: the value of description is not valid YAML and was taken as text; put it in quotes",
				"3: the value of argument-hint is not valid YAML and was taken as text; put it in quotes",
			},
		},
		{
			name: "no front matter",
			file: "# Title\n\nFirst\nparagraph.\n\nSecond.\n",
			want: claudepool.Skill{Description: "First paragraph.", Prompt: "# Title\n\nFirst\nparagraph.\n\nSecond."},
		},
		{
			name: "a hint that is a list, arguments as a list of names, model and effort",
			file: "---\nargument-hint: [file, focus]\narguments: [a, b-c]\nmodel: sonnet\neffort: high\n---\n# Only a title",
			want: claudepool.Skill{
				Description: "Only a title", ArgumentHint: "[file, focus]", Arguments: []claudepool.SkillArgument{{Name: "a"}, {Name: "b-c"}}, Config: effort, Prompt: "# Only a title",
			},
		},
		{name: "empty", file: "", problems: []string{"0: prompt is empty"}},
		{name: "no prompt", file: "---\nname: skill\n---\n\n", problems: []string{"0: prompt is empty"}},
		{name: "not closed", file: "---\nname: skill\nDo.", problems: []string{"1: the front matter has no closing line ---"}},
		{name: "not UTF-8", file: "---\nname: skill\n---\nDo \xff", problems: []string{"4: is not valid UTF-8"}},
		{name: "bad YAML", file: "---\nname: skill\nmetadata:\n  a: b: c\n---\nDo.", problems: []string{`4: is not valid YAML: mapping values are not allowed in this context; put a value that holds ": " in quotes`}},
		{name: "a list", file: "---\n- name\n---\nDo.", problems: []string{"2: the front matter must be keys with values, not a list"}},
		{name: "bad name", file: "---\ndescription: x\nname: ../up\n---\nDo.", problems: []string{`3: name must be 1 to 64 of a-z, 0-9, _ and -, and begin with a letter or a digit, not "../up"`}},
		{name: "bad scope", file: "---\nmetadata:\n  scope: nobody\n---\nDo.", problems: []string{`3: metadata.scope must be one of [task coordinator chain], not "nobody"`}},
		{name: "bad effort", file: "---\neffort: huge\n---\nDo.", problems: []string{`2: effort must be one of [low medium high xhigh max], not "huge"`}},
		{
			name: "bad config", file: "---\nmetadata:\n  config:\n    model: [a]\n    colour: red\n    max_turns: few\n    tools: Read\n---\nDo.",
			problems: []string{
				"4: metadata.config.model must be text, not array",
				`5: metadata.config has no key "colour"; there are add_dirs, agents, allowed_tools, append_system_prompt, disallowed_tools, effort, fallback_model, json_schema, max_turns, mcp_servers, model, permission_mode, system_prompt, tools`,
				"6: metadata.config.max_turns must be a whole number, not string",
				"7: metadata.config.tools must be a list of texts, not string",
			},
		},
		{
			name: "settings", file: "---\nmetadata:\n  config:\n    model: opus\n    settings: {hooks: {}}\n---\nDo.",
			problems: []string{"5: metadata.config.settings cannot be set by a file, as it could run commands without asking; set it in the pool's configuration"},
		},
		{
			name: "bad arguments", file: "---\nmetadata:\n  arguments:\n    - name: a\n      needed: true\n    - {name: b, required: 1}\n---\nDo.",
			problems: []string{
				`5: metadata.arguments[0] has no key "needed"; there are default, description, name, required`,
				"6: metadata.arguments[1].required must be true or false, not 1",
			},
		},
		{name: "an argument twice", file: "---\nmetadata:\n  arguments:\n    - a\n    - b\n    - a\n---\nDo.", problems: []string{`6: metadata.arguments[2].name is "a" a second time`}},
		{name: "an argument with the name of all", file: "---\narguments:\n  - ARGUMENTS\n---\nDo.", problems: []string{`3: arguments[0].name is "ARGUMENTS", which means something else already`}},
		{name: "required with a default", file: "---\nmetadata:\n  arguments:\n    - name: a\n      required: true\n      default: x\n---\nDo.", problems: []string{"6: metadata.arguments[0].default is never used: the argument is required"}},
		{name: "a key twice", file: "---\nname: skill\nname: other\n---\nDo.", problems: []string{`3: the front matter has the key "name" twice, first in line 2`}},
		{name: "an alias", file: "---\na: &x [b]\nmetadata:\n  config:\n    tools: *x\n---\nDo.", problems: []string{"5: metadata.config.tools must be a value, not an alias, which cannot be used here"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			project := t.TempDir()
			file := putSkill(t, project, "skill", tt.file)
			putSkill(t, project, "other", "Another one.")
			r := newSkills(t, claudepool.SourceOptions{Project: project, NoBuiltins: true})

			var problems []string
			for _, p := range r.Problems() {
				problems = append(problems, fmt.Sprintf("%d: %s", p.Line, p.Message))
				if p.Path != file || p.Source != claudepool.SourceProject {
					t.Errorf("problem of %s (%s), want one of %s", p.Path, p.Source, file)
				}
			}
			if diff := cmp.Diff(tt.problems, problems); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if _, err := r.Skill("other"); err != nil {
				t.Errorf("the skill beside it: %v", err)
			}
			got, err := r.Skill("skill")
			if tt.want.Prompt == "" {
				if !errors.Is(err, claudepool.ErrUnknownSkill) {
					t.Errorf("Skill = %+v, %v; want ErrUnknownSkill", got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := claudepool.RegisteredSkill{Skill: tt.want, Source: claudepool.SourceProject, Path: file}
			want.Name, want.Dir = "skill", filepath.Dir(file)
			if want.Scope == "" {
				want.Scope = claudepool.ScopeSkillTask
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("skill (-want +got):\n%s", diff)
			}
			if tt.name == "everything" && got.Config.Tools == nil {
				t.Error("an empty list of tools means none, and nil means the default")
			}
		})
	}
}

func TestSkillSources(t *testing.T) {
	t.Parallel()
	project, home := t.TempDir(), t.TempDir()
	putSkill(t, project, "code_review", "The project's.")
	putSkill(t, project, "own", "The project's own.")
	putSkill(t, home, "code_review", "The person's.")
	putSkill(t, home, "summarize", "The person's.")
	r := newSkills(t, claudepool.SourceOptions{Project: project, Home: home, Disabled: []string{"refactor"}})
	if err := r.Add(claudepool.Skill{Name: "own", Prompt: "Added.", Scope: claudepool.ScopeSkillCoordinator}); err != nil {
		t.Fatal(err)
	}
	got := map[string]claudepool.Source{}
	for _, s := range r.Skills(claudepool.SkillFilter{}) {
		got[s.Name] = s.Source
	}
	for name, want := range map[string]claudepool.Source{
		"own": claudepool.SourceRuntime, "code_review": claudepool.SourceProject, "summarize": claudepool.SourceGlobal, "implement": claudepool.SourceBuiltin, "refactor": "",
	} {
		if got[name] != want {
			t.Errorf("%s comes from %q, want %q", name, got[name], want)
		}
	}
	for _, s := range r.Skills(claudepool.SkillFilter{Scope: claudepool.ScopeSkillCoordinator, Source: claudepool.SourceRuntime}) {
		if s.Name != "own" {
			t.Errorf("the filter lets %s through", s.Name)
		}
	}
	if n := len(r.Skills(claudepool.SkillFilter{Source: claudepool.SourceRuntime})); n != 1 {
		t.Errorf("%d skills were added at run time, want 1", n)
	}

	_, err := r.Skill("refactor")
	if !errors.Is(err, claudepool.ErrUnknownSkill) || !strings.Contains(err.Error(), "disabled") {
		t.Errorf("a disabled skill: %v", err)
	}
	invalid(t, r.Add(claudepool.Skill{Name: "refactor", Prompt: "x"}), "name", "disabled")
	_, err = r.Skill("code_reveiw")
	if !errors.Is(err, claudepool.ErrUnknownSkill) || !strings.Contains(err.Error(), "did you mean code_review?") {
		t.Errorf("a misspelt skill: %v", err)
	}
}

func TestSkillFolderInPlaceOfTheProjects(t *testing.T) {
	t.Parallel()
	project, dir := t.TempDir(), t.TempDir()
	putSkill(t, project, "one", "One.")
	put(t, "Two.", dir, "two", "SKILL.md")
	r := newSkills(t, claudepool.SourceOptions{Project: project, Dir: dir, NoBuiltins: true})
	var names []string
	for _, s := range r.Skills(claudepool.SkillFilter{}) {
		names = append(names, s.Name+" "+string(s.Source))
	}
	if diff := cmp.Diff([]string{"two project"}, names); diff != "" {
		t.Errorf("skills (-want +got):\n%s", diff)
	}
	if _, err := claudepool.NewSkillRegistry(claudepool.SourceOptions{Dir: filepath.Join(dir, "none")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that does not exist: %v", err)
	}
	_, err := claudepool.NewSkillRegistry(claudepool.SourceOptions{Dir: filepath.Join(dir, "two", "SKILL.md")})
	invalid(t, err, "dir", "no folder")
	_, err = claudepool.NewSkillRegistry(claudepool.SourceOptions{Disabled: []string{"ok", "Not OK"}})
	invalid(t, err, "disabled[1]", "Not OK")
}

func TestAnEditedSkillIsLive(t *testing.T) {
	t.Parallel()
	project := t.TempDir()
	r := newSkills(t, claudepool.SourceOptions{Project: project, NoBuiltins: true})
	prompt := func() string {
		s, err := r.Skill("s")
		if err != nil {
			return err.Error()
		}
		return s.Prompt
	}
	problem := func() string {
		t.Helper()
		s, err := r.Skill("s")
		if err != nil {
			t.Fatal(err)
		}
		return s.Problem
	}
	before := r.Generation()
	if got := prompt(); got != `unknown skill "s"; there are none` {
		t.Errorf("before there is one: %q", got)
	}
	putSkill(t, project, "s", "---\nname: s\n---\nOne.")
	if got := prompt(); got != "One." {
		t.Errorf("after it has come: %q", got)
	}
	if r.Generation() == before {
		t.Error("the generation is the same though a skill has come")
	}
	putSkill(t, project, "s", "---\nname: s\n---\nTwo.")
	if got := prompt(); got != "Two." {
		t.Errorf("after an edit: %q", got)
	}
	file := putSkill(t, project, "s", "---\nname: s\n--")
	if got := prompt(); got != "Two." {
		t.Errorf("half written: %q", got)
	}
	if p := r.Problems(); len(p) != 1 || !strings.HasPrefix(p[0].String(), file+":1: the front matter has no closing line") {
		t.Errorf("problems = %v", p)
	}
	if got := problem(); !strings.HasPrefix(got, file+":1: the front matter has no closing line") || !strings.Contains(got, "still used") {
		t.Errorf("the skill does not say that it is older than its file: %q", got)
	}
	putSkill(t, project, "s", "---\nname: s\n---\nThree.")
	if got := problem(); got != "" {
		t.Errorf("after the file was mended: %q", got)
	}
	if err := os.RemoveAll(filepath.Dir(file)); err != nil {
		t.Fatal(err)
	}
	if got := prompt(); got != `unknown skill "s"; there are none` {
		t.Errorf("after it was deleted: %q", got)
	}
}

func TestSkillAddAndRemove(t *testing.T) {
	t.Parallel()
	r := newSkills(t, claudepool.SourceOptions{})
	for field, s := range map[string]claudepool.Skill{
		"name":                   {Name: "../x", Prompt: "x"},
		"prompt":                 {Name: "x", Prompt: " \n"},
		"scope":                  {Name: "x", Prompt: "x", Scope: "nobody"},
		"arguments[0].name":      {Name: "x", Prompt: "x", Arguments: []claudepool.SkillArgument{{Name: "a.b"}}},
		"allowed_tools":          {Name: "x", Prompt: "x", AllowedTools: []string{""}},
		"config.permission_mode": {Name: "x", Prompt: "x", Config: claudepool.AgentConfig{PermissionMode: "all"}},
	} {
		invalid(t, r.Add(s), field, "")
	}
	invalid(t, r.Add(claudepool.Skill{Name: "x", Prompt: strings.Repeat("x", 2<<20)}), "prompt", "larger")

	given := claudepool.Skill{Name: "summarize", Prompt: "\nMine.\r\nAll mine.\n", Dir: "/etc", AllowedTools: []string{"Read"}}
	if err := r.Add(given); err != nil {
		t.Fatal(err)
	}
	given.AllowedTools[0] = "Bash"
	got, err := r.Skill("summarize")
	if err != nil {
		t.Fatal(err)
	}
	got.AllowedTools[0] = got.AllowedTools[0] + "!"
	again, err := r.Skill("summarize")
	want := claudepool.RegisteredSkill{Source: claudepool.SourceRuntime, Skill: claudepool.Skill{
		Name: "summarize", Description: "Mine. All mine.", Prompt: "Mine.\nAll mine.", Scope: claudepool.ScopeSkillTask, AllowedTools: []string{"Read"},
	}}
	if diff := cmp.Diff(want, again); diff != "" || err != nil {
		t.Errorf("what was added (-want +got):\n%s%v", diff, err)
	}
	if err := r.Remove("summarize"); err != nil {
		t.Fatal(err)
	}
	if s, err := r.Skill("summarize"); err != nil || s.Source != claudepool.SourceBuiltin {
		t.Errorf("after Remove: %s, %v; want the built-in one", s.Source, err)
	}
	invalid(t, r.Remove("summarize"), "name", "from the source builtin")
	if err := r.Remove("nothing"); !errors.Is(err, claudepool.ErrUnknownSkill) {
		t.Errorf("Remove of nothing: %v", err)
	}
}

func TestSkillSaveSaysAllThatTheSkillDoes(t *testing.T) {
	t.Parallel()
	project := t.TempDir()
	r := newSkills(t, claudepool.SourceOptions{Project: project})
	s := claudepool.Skill{
		Name: "mine", Description: "Use when: always # not now", ArgumentHint: "[a] [b]", Scope: claudepool.ScopeSkillChain,
		Arguments:    []claudepool.SkillArgument{{Name: "a", Description: "- what", Required: true}, {Name: "b", Default: "true"}, {Name: "c", Default: " x\ny"}},
		AllowedTools: []string{"Bash(git add:*)", "Read"},
		Config: claudepool.AgentConfig{
			Model: "opus", Effort: claude.EffortLow, PermissionMode: claude.PermissionPlan, SystemPrompt: "null", MaxTurns: 3, Tools: []string{"Read", "~"},
			JSONSchema: json.RawMessage(`{"enum":["1","true",null],"maximum":1000000,"minimum":0.10,"type":"object"}`),
			MCPServers: map[string]claude.MCPServer{"x": claude.MCPServer(`{"args":["---","a: b"],"command":"y"}`)},
		},
		Prompt: "---\nDo {a}:\n\n\t- {b}\n---",
	}
	if err := r.Add(s); err != nil {
		t.Fatal(err)
	}
	file, err := r.Save("mine", "")
	if want := filepath.Join(project, ".claude-pool/skills/mine/SKILL.md"); file != want || err != nil {
		t.Fatalf("Save = %q, %v; want %q", file, err, want)
	}
	s.Dir = filepath.Dir(file)
	want := claudepool.RegisteredSkill{Skill: s, Source: claudepool.SourceProject, Path: file}
	want.Config.JSONSchema = json.RawMessage(`{"enum":["1","true",null],"maximum":1000000,"minimum":0.1,"type":"object"}`)
	got, err := r.Skill("mine")
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("the skill in its file (-want +got):\n%s%v\n%s", diff, err, readFile(t, file))
	}
	if p := r.Problems(); len(p) > 0 {
		t.Errorf("problems = %v", p)
	}
}

func TestSkillSaveAndEjectWriteNowhereElse(t *testing.T) {
	t.Parallel()
	project, home, other := t.TempDir(), t.TempDir(), t.TempDir()
	r := newSkills(t, claudepool.SourceOptions{Project: project, Home: home})
	add := func() {
		t.Helper()
		if err := r.Add(claudepool.Skill{Name: "mine", Prompt: "Do."}); err != nil {
			t.Fatal(err)
		}
	}
	add()
	for _, dir := range []string{other, "..", "/", project, ".claude-pool", ".claude-pool/skills/deep", "../" + filepath.Base(other)} {
		_, err := r.Save("mine", dir)
		invalid(t, err, "dir", "nowhere else")
		_, err = r.Eject("summarize", dir)
		invalid(t, err, "dir", "nowhere else")
	}
	_, err := r.Save("summarize", "")
	invalid(t, err, "name", "builtin")
	_, err = r.Eject("mine", "")
	invalid(t, err, "name", "runtime")
	for _, name := range []string{"../mine", "nothing", "", "."} {
		if _, err := r.Save(name, ""); !errors.Is(err, claudepool.ErrUnknownSkill) {
			t.Errorf("Save(%q): %v", name, err)
		}
		if _, err := r.Eject(name, ""); !errors.Is(err, claudepool.ErrUnknownSkill) {
			t.Errorf("Eject(%q): %v", name, err)
		}
	}

	for _, dir := range []string{filepath.Join(home, ".claude-pool", "skills"), "", ".claude-pool/skills"} {
		add()
		file, err := r.Save("mine", dir)
		if dir == ".claude-pool/skills" {
			if !errors.Is(err, fs.ErrExist) {
				t.Errorf("Save over a file: %v, want ErrExist", err)
			}
			continue
		}
		if err != nil || readFile(t, file) == "" {
			t.Errorf("Save to %q = %q, %v", dir, file, err)
		}
	}
	file, err := r.Eject("summarize", "")
	if err != nil {
		t.Fatal(err)
	}
	if readFile(t, file) != readFile(t, "skills/summarize/SKILL.md") {
		t.Error("the ejected file is another one than that inside the program")
	}
	if s, err := r.Skill("summarize"); err != nil || s.Source != claudepool.SourceProject {
		t.Errorf("after Eject summarize comes from %s, %v", s.Source, err)
	}
	if _, err := r.Eject("summarize", ""); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Eject over a file: %v, want ErrExist", err)
	}

	// A folder that is a link to elsewhere is not written to.
	if err := os.Symlink(other, filepath.Join(project, ".claude-pool/skills/implement")); err != nil {
		t.Skipf("this system makes no symbolic links: %v", err)
	}
	if file, err := r.Eject("implement", ""); err == nil {
		t.Errorf("Eject has written %s through a link", file)
	}
	if left, err := os.ReadDir(other); err != nil || len(left) > 0 {
		t.Errorf("there is something outside: %v, %v", left, err)
	}
	none := newSkills(t, claudepool.SourceOptions{})
	_, err = none.Eject("summarize", "")
	invalid(t, err, "dir", "no project folder")
}

// What a project's folder holds cannot make the registry read other files, nor
// stop what is good in it.
func TestSkillFoldersThatMeanHarm(t *testing.T) {
	t.Parallel()
	project, other := t.TempDir(), t.TempDir()
	put(t, "---\nname: outside\n---\nFrom outside.", other, "outside", "SKILL.md")
	putSkill(t, project, "good", "Good.")
	putSkill(t, project, "large", strings.Repeat("x", 2<<20))
	bomb := "---\na: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'k'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c-1), 9), ","))
	}
	putSkill(t, project, "bomb", bomb+"metadata: {config: {json_schema: *k}}\n---\nDo.")
	putSkill(t, project, "deep", "---\nmetadata: {config: {json_schema: "+strings.Repeat("[", 100_000)+"}}\n---\nDo.")
	skills := filepath.Join(project, ".claude-pool", "skills")
	if err := os.MkdirAll(filepath.Join(skills, "passwd"), 0o755); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"outside": filepath.Join(other, "outside"), "passwd/SKILL.md": "/etc/passwd", "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(skills, from)); err != nil {
			t.Skipf("this system makes no symbolic links: %v", err)
		}
	}
	r := newSkills(t, claudepool.SourceOptions{Project: project, NoBuiltins: true})
	all := r.Skills(claudepool.SkillFilter{})
	if len(all) != 1 || all[0].Name != "good" {
		t.Errorf("skills = %v, want the good one alone", all)
	}
	var bad []string
	for _, p := range r.Problems() {
		rel, err := filepath.Rel(skills, p.Path)
		if err != nil {
			t.Fatal(err)
		}
		bad = append(bad, filepath.Dir(rel))
		if strings.Contains(p.Message, "root:") {
			t.Errorf("a problem tells what another file holds: %s", p)
		}
	}
	if diff := cmp.Diff([]string{"bomb", "deep", "large", "loop", "outside", "passwd"}, bad); diff != "" {
		t.Errorf("folders with problems (-want +got):\n%s", diff)
	}
}

// What cannot be used says why, and what counts in its place says so.
func TestSkillsSayWhatIsWrongWithTheirFiles(t *testing.T) {
	t.Parallel()
	project, home := t.TempDir(), t.TempDir()
	bad := putSkill(t, project, "bad", "---\nname: bad\nmetadata:\n  scope: nobody\n---\nDo.")
	renamed := putSkill(t, project, "old", "---\nname: new\n---\nDo.")
	weaker := putSkill(t, project, "weaker", "---\neffort: huge\nallowed-tools: {}\n---\nDo.")
	putSkill(t, home, "weaker", "The person's.")
	putSkill(t, project, "stronger", "The project's.")
	putSkill(t, home, "stronger", "---\nname: [\n---\n")
	putSkill(t, project, "added", "---\nname: [\n---\n")
	r := newSkills(t, claudepool.SourceOptions{Project: project, Home: home, NoBuiltins: true})
	if err := r.Add(claudepool.Skill{Name: "added", Prompt: "Do."}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"bad": bad + ":4: metadata.scope must be", "old": renamed + `: is known as "new"`,
	} {
		if _, err := r.Skill(name); !errors.Is(err, claudepool.ErrUnknownSkill) || !strings.Contains(err.Error(), want) {
			t.Errorf("Skill(%q): %v; want ErrUnknownSkill with %q", name, err, want)
		}
	}
	for name, want := range map[string]string{"weaker": weaker + ":3: allowed-tools must be", "stronger": "", "added": "", "new": ""} {
		s, err := r.Skill(name)
		if err != nil || !strings.HasPrefix(s.Problem, want) || (want == "") != (s.Problem == "") {
			t.Errorf("the problem of %s is %q, %v; want %q", name, s.Problem, err, want)
		}
	}
	if err := os.Symlink(home, filepath.Join(project, ".claude-pool/skills/linked")); err != nil {
		t.Skipf("this system makes no symbolic links: %v", err)
	}
	if _, err := r.Skill("linked"); err == nil || !strings.Contains(err.Error(), filepath.Join("linked", "SKILL.md")+": ") {
		t.Errorf("a linked folder: %v; want its path and what is wrong", err)
	}
}

func TestSkillSaveLosesNothing(t *testing.T) {
	t.Parallel()
	project, home := t.TempDir(), t.TempDir()
	other := putSkill(t, project, "aaa", "---\nname: zzz\n---\nTheirs.")
	theirs := putSkill(t, project, "theirs", "The project's.")
	r := newSkills(t, claudepool.SourceOptions{Project: project, Home: home})
	global := filepath.Join(home, ".claude-pool", "skills")
	for _, tt := range []struct {
		skill            claudepool.Skill
		dir, field, text string
	}{
		{claudepool.Skill{Name: "large", Prompt: strings.Repeat("x", 1<<20)}, "", "prompt", "1048576"},
		{claudepool.Skill{Name: "hooks", Prompt: "x", Config: claudepool.AgentConfig{Settings: json.RawMessage(`{"hooks":{}}`)}}, "", "skill", "settings"},
		{claudepool.Skill{Name: "zzz", Prompt: "x"}, "", "name", other},
		{claudepool.Skill{Name: "theirs", Prompt: "x"}, global, "name", theirs},
	} {
		if err := r.Add(tt.skill); err != nil {
			t.Fatal(err)
		}
		_, err := r.Save(tt.skill.Name, tt.dir)
		invalid(t, err, tt.field, tt.text)
		if s, err := r.Skill(tt.skill.Name); err != nil || s.Source != claudepool.SourceRuntime {
			t.Errorf("after the refusal %s comes from %q, %v; want what was added", tt.skill.Name, s.Source, err)
		}
	}
	for _, folder := range []string{filepath.Join(project, ".claude-pool", "skills"), global} {
		entries, err := os.ReadDir(folder)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name() != "aaa" && e.Name() != "theirs" {
				t.Errorf("%s was left in %s", e.Name(), folder)
			}
		}
	}
	_, err := r.Save("theirs", "")
	if !errors.Is(err, fs.ErrExist) || strings.Contains(err.Error(), "draft") || !strings.Contains(err.Error(), theirs) {
		t.Errorf("Save over a file: %v; want ErrExist with the file and no other", err)
	}
}
