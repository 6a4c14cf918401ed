package claudepool_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
)

func TestSkillExpand(t *testing.T) {
	t.Parallel()
	declared := []claudepool.SkillArgument{{Name: "file", Required: true, Description: "Which file."}, {Name: "focus", Default: "all"}, {Name: "note"}}
	for _, tt := range []struct {
		name, prompt string
		declared     []claudepool.SkillArgument
		args         map[string]string
		want         string
	}{
		{"in their places", "Do {file} on {focus}, {note}.", declared, map[string]string{"file": "a.go"}, "Do a.go on all, ."},
		{"empty wins over the default", "Do {file} on [{focus}].", declared, map[string]string{"file": "a.go", "focus": ""}, "Do a.go on []."},
		{"other braces are text", "{other} {file.x} $file {} {{file}}", declared, map[string]string{"file": "a"}, "{other} {file.x} $file {} {a}\n\nfocus: all"},
		{"values are data", "{file} {focus} {note}", declared, map[string]string{"file": "{focus}", "focus": "{note} $0", "note": "$ARGUMENTS", "ARGUMENTS": "free"}, "{focus} {note} $0 $ARGUMENTS\n\nARGUMENTS: free"},
		{"without a place", "Do.\n", declared, map[string]string{"note": "n", "file": "a\nb"}, "Do.\n\nfile: a\nb\nfocus: all\nnote: n"},
		{"none declared", "Do {z}.", nil, map[string]string{"z": "1", "a": "2"}, "Do {z}.\n\na: 2\nz: 1"},
		{"free text", "Do $ARGUMENTS!", nil, map[string]string{"ARGUMENTS": "this  'and that'"}, "Do this  'and that'!"},
		{"free text without a place", "Do.", nil, map[string]string{"ARGUMENTS": "this"}, "Do.\n\nARGUMENTS: this"},
		{"no free text", "Do $ARGUMENTS, $0.", nil, nil, "Do , $0."},
		{"words", `$0|$1|$2|$ARGUMENTS[1]|$ARGUMENTS[9]|$9`, nil, map[string]string{"ARGUMENTS": `one "two words" thr\ ee`}, `one|two words|thr ee|two words|$ARGUMENTS[9]|$9`},
		{"words of an unclosed quote", `$0|$1`, nil, map[string]string{"ARGUMENTS": `don't stop`}, `don't|stop`},
		{"an empty word", `$0|$1`, nil, map[string]string{"ARGUMENTS": `'' x`}, `|x`},
		{"amounts stay", "It costs $5 and ${X}.", nil, map[string]string{"ARGUMENTS": ""}, "It costs $5 and ${X}."},
		{"the folder", "Run ${CLAUDE_SKILL_DIR}/run.sh", nil, nil, "Run /skills/s/run.sh"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := claudepool.Skill{Name: "s", Prompt: tt.prompt, Arguments: tt.declared, Dir: "/skills/s"}
			got, err := s.Expand(tt.args)
			if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
				t.Errorf("Expand (-want +got):\n%s%v", diff, err)
			}
		})
	}

	s := claudepool.Skill{Name: "s", Prompt: "{file} ${CLAUDE_SKILL_DIR}", Arguments: declared}
	_, err := s.Expand(nil)
	invalid(t, err, "arguments.file", `is required by the skill "s": Which file.`)
	_, err = s.Expand(map[string]string{"ARGUMENTS": "a.go"})
	invalid(t, err, "arguments.file", "is required")
	_, err = s.Expand(map[string]string{"file": "a", "fokus": "b"})
	invalid(t, err, "arguments.fokus", "did you mean focus?")
	_, err = s.Expand(map[string]string{"file": "a", "something": "b"})
	invalid(t, err, "arguments.something", "there are file, focus, note")
	_, err = s.Expand(map[string]string{"file": "\xff"})
	invalid(t, err, "arguments.file", "UTF-8")
	_, err = s.Expand(map[string]string{"file": "a"})
	invalid(t, err, "skill", "no folder")
	if !strings.Contains(err.Error(), `skill "s": placeholder ${CLAUDE_SKILL_DIR}: `) {
		t.Errorf("the error does not say where: %v", err)
	}
	_, err = claudepool.Skill{Name: "s", Prompt: "x"}.Expand(map[string]string{"a\nb": "c"})
	invalid(t, err, "arguments", `"a\nb"`)
	_, err = claudepool.Skill{Name: "s", Prompt: strings.Repeat("$ARGUMENTS", 1000)}.Expand(map[string]string{"ARGUMENTS": strings.Repeat("x", 1<<20)})
	invalid(t, err, "arguments", "larger than")
}

func TestSkillTask(t *testing.T) {
	t.Parallel()
	s := claudepool.Skill{
		Name: "s", Prompt: "Do.", Dir: "/skills/s", AllowedTools: []string{"Read", "Bash(${CLAUDE_SKILL_DIR}/run.sh *)"},
		Config: claudepool.AgentConfig{Model: "opus", MaxTurns: 3, AllowedTools: []string{"Grep"}, Tools: []string{"Read"}},
	}
	given := claudepool.Task{Tags: []string{"t"}, Overrides: claudepool.TaskOverrides{MaxCost: 5, AgentConfig: claudepool.AgentConfig{Model: "haiku", AllowedTools: []string{"Glob"}}}}
	got, err := s.Task(nil, given)
	want := claudepool.Task{Prompt: "Do.", Call: &claudepool.Call{Skill: "s"}, Tags: []string{"t"}, Overrides: claudepool.TaskOverrides{MaxCost: 5, AgentConfig: claudepool.AgentConfig{
		Model: "haiku", MaxTurns: 3, Tools: []string{"Read"}, AllowedTools: []string{"Grep", "Read", "Bash(/skills/s/run.sh *)", "Glob"},
	}}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("Task (-want +got):\n%s%v", diff, err)
	}
	if s.AllowedTools[1] != "Bash(${CLAUDE_SKILL_DIR}/run.sh *)" {
		t.Errorf("the skill has changed: %v", s.AllowedTools)
	}
	_, err = s.Task(nil, claudepool.Task{Prompt: "x"})
	invalid(t, err, "prompt", "must be empty")
}

func TestRunSkill(t *testing.T) {
	t.Parallel()
	project := t.TempDir()
	putSkill(t, project, "greet", "---\nmodel: opus\nallowed-tools: Read\narguments: who\n---\nHello {who}.")
	putSkill(t, project, "bypass", "---\nmetadata: {config: {permission_mode: bypassPermissions}}\n---\nDo anything.")
	l := &fakeLauncher{turn: echo}
	p := build(t, claudepool.PoolConfig{Launcher: l, Skills: newSkills(t, claudepool.SourceOptions{Project: project})})
	r, err := p.RunSkill(t.Context(), "greet", map[string]string{"who": "{who}"}, claudepool.Task{Tags: []string{"x"}})
	if err != nil || r.Output != "Hello {who}." {
		t.Errorf("RunSkill = %q, %v", r.Output, err)
	}
	rec, err := p.Task(t.Context(), r.TaskID)
	if err != nil {
		t.Fatal(err)
	}
	if o := rec.Task.Overrides; o.Model != "opus" || !cmp.Equal(o.AllowedTools, []string{"Read"}) || !cmp.Equal(rec.Task.Tags, []string{"x"}) {
		t.Errorf("the task has overrides %+v and tags %v", o, rec.Task.Tags)
	}
	// A skill can do nothing that a task of this pool cannot.
	_, err = p.SubmitSkill(t.Context(), "bypass", nil, claudepool.Task{})
	invalid(t, err, "overrides.permission_mode", "AllowBypass")
	if s, err := p.Skills().Skill("bypass"); err != nil || s.Config.PermissionMode != claude.PermissionBypass {
		t.Errorf("the skill itself = %+v, %v", s, err)
	}
}

func FuzzSkillExpand(f *testing.F) {
	f.Add("Do {file} $ARGUMENTS $0 ${CLAUDE_SKILL_DIR} {other}", "{file}", "a 'b c' $1")
	f.Add("$ARGUMENTS[0]$ARGUMENTS[12]{file}{file}", "$0", "'")
	f.Fuzz(func(t *testing.T, prompt, file, free string) {
		// What cannot come out of the prompt itself marks the values.
		const mark = "\x00"
		s := claudepool.Skill{Name: "s", Prompt: strings.ReplaceAll(prompt, mark, ""), Dir: "/d", Arguments: []claudepool.SkillArgument{{Name: "file"}}}
		value := mark + file + mark
		got, err := s.Expand(map[string]string{"file": value, "ARGUMENTS": free})
		if err != nil {
			return // not UTF-8, or too large
		}
		places := max(strings.Count(s.Prompt, "{file}"), 1)
		if n := strings.Count(got, value); file != "" && !strings.Contains(free, mark) && n < places {
			t.Errorf("%q is %d times in %q, want at least %d", value, n, got, places)
		}
		if free != "" && !strings.ContainsRune(s.Prompt, '$') && !strings.HasSuffix(got, "\nARGUMENTS: "+free) {
			t.Errorf("the free text %q has no place in %q", free, got)
		}
	})
}
