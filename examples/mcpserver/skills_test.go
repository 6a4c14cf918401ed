package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// put writes a file, and the folders that it is in.
func put(t *testing.T, text string, path ...string) {
	t.Helper()
	file := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// skill is a SKILL.md.
func skill(name, prompt string) string {
	return "---\nname: " + name + "\ndescription: about " + name + "\n---\n\n" + prompt + "\n"
}

func TestFlagsSayWhichSkillsThereAre(t *testing.T) {
	t.Parallel()
	home, project, other := t.TempDir(), t.TempDir(), t.TempDir()
	put(t, skill("of-mine", "x"), home, ".claude-pool", "skills", "of-mine", "SKILL.md")
	put(t, skill("of-project", "x"), project, ".claude-pool", "skills", "of-project", "SKILL.md")
	put(t, skill("of-other", "x"), other, "of-other", "SKILL.md")
	workflow := "description: about it\nsteps:\n  - name: one\n    value: x\n"
	put(t, workflow, home, ".claude-pool", "workflows", "mine.yaml")
	put(t, workflow, project, ".claude-pool", "workflows", "project.yaml")

	for _, c := range []struct{ args, skills, workflows, says string }{
		{"", "implement of-mine of-project", "issue_to_pr mine project", ""},
		{"--no-builtins", "of-mine of-project", "mine project", ""},
		{"--no-project-skills", "implement of-mine", "issue_to_pr mine", ""},
		{"--no-global-skills", "implement of-project", "issue_to_pr project", ""},
		{"--skills-dir " + other, "implement of-mine of-other", "issue_to_pr mine project", ""},
		{"--disable-skill implement,of-mine --disable-skill nowhere", "of-project", "issue_to_pr mine project", "nowhere"},
	} {
		t.Run(c.args, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"-demo", "-n", "1", "--working-dir", project}, strings.Fields(c.args)...)
			s := start(t, []string{"HOME=" + home}, args...)
			type named struct{ Name string }
			pick := func(all []named, of string) string {
				var got []string
				for _, n := range all {
					if strings.Contains(" "+of+" ", " "+n.Name+" ") {
						got = append(got, n.Name)
					}
				}
				return strings.Join(got, " ")
			}
			skills := call[struct{ Skills []named }](t, s.client, "pool_skill_list", nil).Skills
			if diff := cmp.Diff(c.skills, pick(skills, "implement of-mine of-other of-project")); diff != "" {
				t.Errorf("skills (-want +got):\n%s", diff)
			}
			workflows := call[struct{ Workflows []named }](t, s.client, "pool_workflow_list", nil).Workflows
			if diff := cmp.Diff(c.workflows, pick(workflows, "issue_to_pr mine project")); diff != "" {
				t.Errorf("workflows (-want +got):\n%s", diff)
			}
			if c.says != "" && !strings.Contains(s.stderr.String(), c.says) {
				t.Errorf("the log lacks %q:\n%s", c.says, s.stderr)
			}
			s.stdin.Close()
			if code := s.wait(t); code != exitOK {
				t.Errorf("exit code %d", code)
			}
		})
	}
}
