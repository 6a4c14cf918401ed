//go:build unix

package claudepool_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/claudetest"
)

func TestRealEditedSkillIsUsedInTheNextCall(t *testing.T) {
	project := t.TempDir()
	putSkill(t, project, "greet", "---\narguments: who\n---\nSay hello to {who}.")
	p, api := realPool(t, claudetest.Echo, claudepool.PoolConfig{Skills: newSkills(t, claudepool.SourceOptions{Project: project})})
	run := func(want string) {
		t.Helper()
		r, err := p.RunSkill(t.Context(), "greet", map[string]string{"who": "Ada"}, claudepool.Task{})
		if err != nil || r.Output != want {
			t.Fatalf("RunSkill = %q, %v; want %q", r.Output, err, want)
		}
		if all := api.Requests(); all[len(all)-1].Prompt != want {
			t.Errorf("the API was asked %q, want %q", all[len(all)-1].Prompt, want)
		}
	}
	run("Say hello to Ada.")
	putSkill(t, project, "greet", "---\narguments: who\n---\nSay goodbye to {who}.")
	run("Say goodbye to Ada.")
	putSkill(t, project, "greet", "---\narguments: who\nSay goo") // somebody is in the middle of writing it
	run("Say goodbye to Ada.")
	putSkill(t, project, "greet", "---\narguments: who\nmodel: sonnet\n---\nSay nothing to {who}.")
	run("Say nothing to Ada.")
	if all := api.Requests(); !strings.Contains(all[len(all)-1].Model, "sonnet") || strings.Contains(all[0].Model, "sonnet") {
		t.Errorf("the model was %s, and %s before, want the skill's", all[len(all)-1].Model, all[0].Model)
	}
}

// A skill can let its task read its own folder, wherever that is, and nothing else.
func TestRealSkillReadsItsFolder(t *testing.T) {
	home, other := t.TempDir(), t.TempDir()
	skill := putSkill(t, home, "read", "---\nallowed-tools: Read(/${CLAUDE_SKILL_DIR}/**)\n---\nRead ${CLAUDE_SKILL_DIR}/data.txt and what else there is.")
	data := put(t, "the content of the data", filepath.Dir(skill), "data.txt")
	secret := put(t, "the content of the secret", other, "secret.txt")
	script := claudetest.Match(claudetest.When("Read ",
		claudetest.ToolUse("Read", map[string]any{"file_path": data}),
		claudetest.ToolUse("Read", map[string]any{"file_path": secret}),
		claudetest.Text("done"),
	))
	p, api := realPool(t, script, claudepool.PoolConfig{
		Agent:  claudepool.AgentConfig{PermissionMode: claude.PermissionDontAsk},
		Skills: newSkills(t, claudepool.SourceOptions{Home: home}),
	})
	r, err := p.RunSkill(t.Context(), "read", nil, claudepool.Task{})
	if err != nil || r.Output != "done" {
		t.Fatalf("RunSkill = %q, %v", r.Output, err)
	}
	var told []string
	for _, q := range api.Requests() {
		for _, res := range q.Results {
			told = append(told, res.Content)
		}
	}
	if len(told) != 2 || !strings.Contains(told[0], "the content of the data") {
		t.Errorf("the file in the skill's folder was not read: %q", told)
	}
	if strings.Contains(fmt.Sprint(told), "the content of the secret") || len(r.Denials) != 1 {
		t.Errorf("the file elsewhere was read, or its refusal was not told: %q, %v", told, r.Denials)
	}
}

func TestRealWorkflow(t *testing.T) {
	project := t.TempDir()
	putSkill(t, project, "shout", "---\nmetadata: {arguments: [{name: text, required: true}]}\n---\nShout {text}")
	putWorkflow(t, project, "w.yaml", `
arguments: [{name: words, required: true}]
steps:
  - name: split
    value: "Split {words}"
  - name: each
    type: skill
    value: shout
    arguments: {text: "{item}"}
    needs: [split]
    for_each: steps.split.output
  - name: join
    needs: [each]
    value: "Join {steps.each.output}"
`)
	o := claudepool.SourceOptions{Project: project}
	// The answer to all is what was asked, without the first word.
	script := func(q *claudetest.Request) claudetest.Reply {
		_, rest, _ := strings.Cut(q.Prompt, " ")
		return claudetest.Text(rest)
	}
	p, api := realPool(t, script, claudepool.PoolConfig{Slots: 2, Skills: newSkills(t, o), Workflows: newWorkflows(t, o)})
	id, err := p.InvokeWorkflow(t.Context(), "w", map[string]string{"words": `["a","b","{item}"]`}, claudepool.ChainOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.WaitChain(t.Context(), id)
	if want := `["a","b","{item}"]`; err != nil || r.Output != want {
		t.Errorf("chain = %q, %v; want %q", r.Output, err, want)
	}
	if n := len(api.Requests()); n != 5 {
		t.Errorf("the API was asked %d times, want 5", n)
	}
}

// TestRealP13ASlotCannotWriteSkills: one that may edit files gives itself no
// tools that way.
func TestRealP13ASlotCannotWriteSkills(t *testing.T) {
	dir := t.TempDir()
	skills, err := claudepool.NewSkillRegistry(claudepool.SourceOptions{Project: dir})
	if err != nil {
		t.Fatal(err)
	}
	cli := claudetest.CLI(t)
	iso := claudetest.Isolate(t, claudetest.NewAPI(t, claudetest.Directives))
	p := build(t, claudepool.PoolConfig{
		ClaudePath: cli, Env: iso.Env, WorkDir: dir, Skills: skills,
		Agent: claudepool.AgentConfig{PermissionMode: claude.PermissionAcceptEdits},
	})
	evil := filepath.Join(".claude-pool", "skills", "code_review", "SKILL.md")
	r, err := p.Run(t.Context(), claudepool.Task{Prompt: "[[write:" + filepath.Join(dir, evil) + ":evil]][[write:" + filepath.Join(dir, "good") + ":good]]"})
	if err == nil && r.Outcome != claudepool.OutcomePartlyDenied {
		t.Errorf("the task ended %s, want partly_denied", r.Outcome)
	}
	if _, err := os.Stat(filepath.Join(dir, evil)); err == nil {
		t.Error("the slot wrote a skill")
	}
	if _, err := os.Stat(filepath.Join(dir, "good")); err != nil {
		t.Errorf("other files cannot be written either: %v (%+v)", err, r.Failure)
	}
	if s, err := p.Skills().Skill("code_review"); err != nil || s.Source != claudepool.SourceBuiltin {
		t.Errorf("code_review comes from %s (%v)", s.Source, err)
	}
}
