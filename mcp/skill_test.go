package mcp_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/mcp"
)

// project is a folder with registries of its own.
func project(t *testing.T) (dir string, cfg claudepool.PoolConfig) {
	t.Helper()
	dir = t.TempDir()
	var err error
	o := claudepool.SourceOptions{Project: dir}
	if cfg.Skills, err = claudepool.NewSkillRegistry(o); err != nil {
		t.Fatal(err)
	}
	if cfg.Workflows, err = claudepool.NewWorkflowRegistry(o); err != nil {
		t.Fatal(err)
	}
	return dir, cfg
}

// write writes a file of the project.
func write(t *testing.T, dir, path, text string) {
	t.Helper()
	file := filepath.Join(dir, ".claude-pool", filepath.FromSlash(path))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

type skillView struct {
	Name, Description, Scope, Source, Prompt, Path, Problem string
	Arguments                                               []claudepool.SkillArgument
	Config                                                  claudepool.AgentConfig
}

type skills struct {
	Skills   []skillView
	Problems []claudepool.FileProblem
}

func names(all []skillView) []string {
	var out []string
	for _, s := range all {
		out = append(out, s.Name)
	}
	return out
}

func TestSkillsAreListedAddedRunSavedAndRemoved(t *testing.T) {
	t.Parallel()
	dir, cfg := project(t)
	f := setup(t, cfg, mcp.Options{})
	builtin := structured[skills](t, f.call(t, "pool_skill_list", args{"source": "builtin"})).Skills
	if !slices.Contains(names(builtin), "implement") || slices.ContainsFunc(builtin, func(s skillView) bool { return s.Description == "" || s.Source != "builtin" }) {
		t.Errorf("the built-in skills are %+v", builtin)
	}
	forMe := names(structured[skills](t, f.call(t, "pool_skill_list", args{"scope": "coordinator"})).Skills)
	if !slices.Contains(forMe, "chain_watcher") || slices.Contains(forMe, "implement") {
		t.Errorf("of scope coordinator: %v", forMe)
	}

	f.call(t, "pool_skill_add", args{
		"name": "greet", "description": "Greets", "prompt": "say hello {who}", "scope": "task",
		"arguments": []args{{"name": "who", "description": "whom", "required": true}}, "config": args{"model": "haiku", "max_turns": 3},
	})
	got := structured[skillView](t, f.call(t, "pool_skill_get", args{"name": "greet"}))
	want := skillView{
		Name: "greet", Description: "Greets", Scope: "task", Source: "runtime", Prompt: "say hello {who}",
		Arguments: []claudepool.SkillArgument{{Name: "who", Description: "whom", Required: true}},
		Config:    claudepool.AgentConfig{Model: "haiku", MaxTurns: 3},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pool_skill_get (-want +got):\n%s", diff)
	}

	run := args{"skill": "greet", "arguments": args{"who": "{you}"}, "tags": []string{"x"}, "effort": "low", "idempotency_key": "k"}
	first := structured[report](t, f.call(t, "pool_skill_run", run))
	again := structured[report](t, f.call(t, "pool_skill_run", run))
	if first.Output != "hello {you}" || !first.Success || again.TaskID != first.TaskID {
		t.Errorf("pool_skill_run gave %+v, again %s", first, again.TaskID)
	}
	r, err := f.pool.Task(t.Context(), first.TaskID)
	if err != nil || r.Task.Overrides.Model != "haiku" || r.Task.Overrides.Effort != claude.EffortLow || !slices.Equal(r.Task.Tags, []string{"x"}) {
		t.Errorf("the task is %+v, %v", r.Task, err)
	}
	run["model"], run["idempotency_key"] = "opus", "other"
	dear := structured[report](t, f.call(t, "pool_skill_run", run)).TaskID
	if r, err := f.pool.Task(t.Context(), dear); err != nil || r.Task.Overrides.Model != "opus" {
		t.Errorf("the task is %+v, %v", r.Task, err)
	}

	type written struct{ Name, Path string }
	saved := structured[written](t, f.call(t, "pool_skill_save", args{"name": "greet"}))
	if want := filepath.Join(dir, ".claude-pool", "skills", "greet", "SKILL.md"); saved.Path != want {
		t.Errorf("saved as %s, want %s", saved.Path, want)
	}
	if s := structured[skillView](t, f.call(t, "pool_skill_get", args{"name": "greet"})); s.Source != "project" || s.Path != saved.Path {
		t.Errorf("after it was saved: %+v", s)
	}
	ejected := structured[written](t, f.call(t, "pool_skill_eject", args{"name": "implement", "dir": ".claude-pool/skills"}))
	if _, err := os.Stat(ejected.Path); err != nil {
		t.Error(err)
	}
	f.call(t, "pool_skill_add", args{"name": "gone", "prompt": "say x"})
	f.call(t, "pool_skill_remove", args{"name": "gone"})

	for _, c := range []struct {
		tool string
		in   args
		want []string
	}{
		{"pool_skill_get", args{"name": "gone"}, []string{"gone", "pool_skill_list"}},
		{"pool_skill_run", args{"skill": "gone"}, []string{"gone", "pool_skill_list"}},
		{"pool_skill_run", args{"skill": "greet"}, []string{"arguments.who", "whom"}},
		{"pool_skill_run", args{"skill": "greet", "arguments": args{"who": "x", "wo": "y"}}, []string{"arguments.wo"}},
		{"pool_skill_remove", args{"name": "greet"}, []string{"project", "run time"}},
		{"pool_skill_save", args{"name": "code_review"}, []string{"builtin"}},
		{"pool_skill_eject", args{"name": "implement"}, []string{filepath.Join("implement", "SKILL.md") + ": file already exists", "never written over"}},
		{"pool_skill_eject", args{"name": "refactor", "dir": "../.."}, []string{"dir", "nowhere else"}},
		{"pool_skill_add", args{"name": "../x", "prompt": "x"}, []string{"name"}},
		{"pool_skill_add", args{"name": "x", "prompt": ""}, []string{"prompt"}},
		{"pool_skill_add", args{"name": "x", "prompt": "x", "config": args{"max_budget_usd": 1}}, []string{"max_budget_usd"}},
		{"pool_skill_add", args{"name": "x", "prompt": "x", "scope": "nobody"}, []string{"scope", "coordinator"}},
		{"pool_skill_list", args{"source": "nowhere"}, []string{"source", "project"}},
	} {
		msg := f.refused(t, c.tool, c.in)
		for _, want := range c.want {
			if !strings.Contains(msg, want) {
				t.Errorf("%s(%v): %q lacks %q", c.tool, c.in, msg, want)
			}
		}
	}
}

func TestBrokenFilesAreTold(t *testing.T) {
	t.Parallel()
	dir, cfg := project(t)
	write(t, dir, "skills/broken/SKILL.md", "---\nname: broken\ndescription: [\n---\nx\n")
	write(t, dir, "workflows/broken.yaml", "description: x\nsteps:\n  - name: a\n    valeu: x\n")
	f := setup(t, cfg, mcp.Options{})
	for _, tool := range []string{"pool_skill_list", "pool_workflow_list"} {
		res := f.call(t, tool, nil)
		got := structured[skills](t, res).Problems
		if len(got) != 1 || !strings.Contains(got[0].Path, "broken") || got[0].Line == 0 || !strings.Contains(text(res), "broken") {
			t.Errorf("%s: the problems are %+v, the text %q", tool, got, text(res))
		}
	}
}

func TestSkillsSayWhatTheirCallerHasToKnow(t *testing.T) {
	t.Parallel()
	dir, cfg := project(t)
	write(t, dir, "skills/code_review/SKILL.md", "---\nname: code_review\neffort: huge\n---\nsay x\n")
	write(t, dir, "skills/mine/SKILL.md", "---\nname: mine\nmetadata: {scope: coordinator}\n---\nsay x\n")
	write(t, dir, "skills/bad/SKILL.md", "---\nname: bad\neffort: huge\n---\nsay x\n")
	f := setup(t, cfg, mcp.Options{})
	problem := filepath.Join(dir, ".claude-pool", "skills", "code_review", "SKILL.md") + ":3: effort must be"
	res := f.call(t, "pool_skill_get", args{"name": "code_review"})
	if got := structured[skillView](t, res); got.Source != "builtin" || !strings.HasPrefix(got.Problem, problem) || !strings.Contains(text(res), problem) {
		t.Errorf("pool_skill_get gave %+v with the text %q, want the problem %q", got, text(res), problem)
	}
	if got := structured[report](t, f.call(t, "pool_skill_run", args{"skill": "code_review"})); !strings.Contains(got.Note, problem) {
		t.Errorf("the note of pool_skill_run is %q, want %q", got.Note, problem)
	}
	if got := structured[report](t, f.call(t, "pool_skill_run", args{"skill": "mine"})); !strings.Contains(got.Note, "meant for the coordinator") {
		t.Errorf("the note of a coordinator's skill is %q", got.Note)
	}
	if got := structured[report](t, f.call(t, "pool_skill_run", args{"skill": "summarize", "arguments": args{"target": "x"}})); got.Note != "" {
		t.Errorf("the note of a sound skill is %q", got.Note)
	}
	if msg := f.refused(t, "pool_skill_run", args{"skill": "bad"}); !strings.Contains(msg, filepath.Join("bad", "SKILL.md")+":3: effort") {
		t.Errorf("a skill that was never sound: %q", msg)
	}
}

func TestWorkflows(t *testing.T) {
	t.Parallel()
	dir, cfg := project(t)
	write(t, dir, "workflows/twice.yaml", "description: Twice\narguments:\n  - name: what\n    description: what to say\n    required: true\nconfig:\n  model: haiku\nsteps:\n  - name: one\n    value: say {what}\n  - name: two\n    value: model\n")
	f := setup(t, cfg, mcp.Options{})
	var found bool
	type workflow struct {
		Name, Description, Source string
		Arguments                 []claudepool.SkillArgument
		Steps                     []string
	}
	want := workflow{"twice", "Twice", "project", []claudepool.SkillArgument{{Name: "what", Description: "what to say", Required: true}}, []string{"one", "two"}}
	for _, w := range structured[struct{ Workflows []workflow }](t, f.call(t, "pool_workflow_list", nil)).Workflows {
		if w.Name == "twice" {
			found = true
			if diff := cmp.Diff(want, w); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		}
	}
	if !found {
		t.Error("the workflow is not listed")
	}
	in := args{"workflow": "twice", "arguments": args{"what": "{x}"}, "tags": []string{"t"}, "idempotency_key": "k"}
	id := structured[report](t, f.call(t, "pool_invoke_workflow", in)).TaskID
	if again := structured[report](t, f.call(t, "pool_invoke_workflow", in)).TaskID; again != id {
		t.Errorf("one key gave %s and %s", id, again)
	}
	f.call(t, "pool_wait", args{"task_ids": []claudepool.TaskID{id}})
	c := structured[chain](t, f.call(t, "pool_chain_result", args{"task_id": id}))
	if c.Steps[0].Output != "{x}" || c.Steps[1].Output != "haiku" {
		t.Errorf("it came to %+v", c)
	}
	in["overrides"], in["idempotency_key"] = args{"model": "opus"}, "other"
	id = structured[report](t, f.call(t, "pool_invoke_workflow", in)).TaskID
	if w := structured[waited](t, f.call(t, "pool_wait", args{"task_ids": []claudepool.TaskID{id}})); w.Tasks[0].Output != "opus" {
		t.Errorf("what the caller wants did not win: %+v", w)
	}
	for want, in := range map[string]args{
		"pool_workflow_list": {"workflow": "nothing"}, "arguments.what": {"workflow": "twice"}, "arguments.x": {"workflow": "twice", "arguments": args{"what": "a", "x": "b"}},
	} {
		if msg := f.refused(t, "pool_invoke_workflow", in); !strings.Contains(msg, want) {
			t.Errorf("%v: %q lacks %q", in, msg, want)
		}
	}
}

func (f *fixture) prompts(t *testing.T) map[string]*sdk.Prompt {
	t.Helper()
	all := map[string]*sdk.Prompt{}
	for p, err := range f.client.Prompts(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		all[p.Name] = p
	}
	return all
}

func TestEverySkillIsAPrompt(t *testing.T) {
	t.Parallel()
	dir, cfg := project(t)
	write(t, dir, "skills/plain/SKILL.md", "---\ndescription: Plain\nargument-hint: <file>\n---\nLook at $0, all of it: $ARGUMENTS\n")
	f := setup(t, cfg, mcp.Options{})
	got := f.prompts(t)
	for _, s := range cfg.Skills.Skills(claudepool.SkillFilter{}) {
		p := got[s.Name]
		if p == nil || p.Description != s.Description {
			t.Errorf("skill %s is the prompt %+v", s.Name, p)
			continue
		}
		for i, a := range s.Arguments {
			if b := p.Arguments[i]; b.Name != a.Name || b.Description != a.Description || b.Required != a.Required {
				t.Errorf("%s: the argument is %+v, want %+v", s.Name, b, a)
			}
		}
	}
	if a := got["plain"].Arguments; len(a) != 1 || a[0].Name != claudepool.FreeText || a[0].Description != "<file>" || a[0].Required {
		t.Errorf("a skill without declared arguments has %+v", a)
	}
	for _, c := range []struct {
		name string
		in   map[string]string
		want string
	}{
		{"plain", map[string]string{"ARGUMENTS": "a.go b.go"}, "Look at a.go, all of it: a.go b.go"},
		{"chain_watcher", map[string]string{"task_id": "{x}"}, "Follow the chain {x} until it has ended."},
	} {
		res, err := f.client.GetPrompt(t.Context(), &sdk.GetPromptParams{Name: c.name, Arguments: c.in})
		if err != nil {
			t.Fatal(err)
		}
		if text := res.Messages[0].Content.(*sdk.TextContent).Text; res.Messages[0].Role != "user" || !strings.HasPrefix(text, c.want) {
			t.Errorf("%s is %q, want %q…", c.name, text, c.want)
		}
	}
	for want, p := range map[string]*sdk.GetPromptParams{
		"task_id": {Name: "chain_watcher"}, "nothing": {Name: "nothing"},
	} {
		if _, err := f.client.GetPrompt(t.Context(), p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

// The list of prompts is current when it is asked for, and connected clients
// are told of changes within seconds.
func TestPromptsFollowTheFiles(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols[:2] { // those in which clients need not ask to be told
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				dir, cfg := project(t)
				f := setup(t, cfg, mcp.Options{})
				var told atomic.Int32
				f.client = f.connect(t, &sdk.ClientOptions{PromptListChangedHandler: func(context.Context, *sdk.PromptListChangedRequest) { told.Add(1) }}, protocol)
				expect := func(what string, change func(), name, description string) {
					t.Helper()
					told.Store(0)
					change()
					time.Sleep(3 * time.Second)
					if n := told.Load(); n != 1 {
						t.Errorf("%s: told %d times, want once", what, n)
					}
					got := ""
					if p := f.prompts(t)[name]; p != nil {
						got = p.Description
					}
					if got != description {
						t.Errorf("%s: the prompt says %q, want %q", what, got, description)
					}
				}
				file := "skills/mine/SKILL.md"
				expect("a new file", func() { write(t, dir, file, "---\ndescription: First\n---\nsay one\n") }, "mine", "First")
				expect("an edited file", func() { write(t, dir, file, "---\ndescription: The second\n---\nsay one\n") }, "mine", "The second")
				expect("an added skill", func() { f.call(t, "pool_skill_add", args{"name": "extra", "prompt": "say x", "description": "Extra"}) }, "extra", "Extra")
				expect("a removed skill", func() { f.call(t, "pool_skill_remove", args{"name": "extra"}) }, "extra", "")
				expect("a deleted file", func() {
					if err := os.RemoveAll(filepath.Join(dir, ".claude-pool", "skills", "mine")); err != nil {
						t.Fatal(err)
					}
				}, "mine", "")
				told.Store(0)
				time.Sleep(time.Minute)
				if n := told.Load(); n != 0 {
					t.Errorf("told %d times while nothing changed", n)
				}
				// Whoever asks does not wait for the next look at the files.
				write(t, dir, file, "---\ndescription: At once\n---\nsay one\n")
				if p := f.prompts(t)["mine"]; p == nil || p.Description != "At once" {
					t.Errorf("right after it was written the prompt is %+v", p)
				}
			})
		})
	}
}

func TestNamesAreCompleted(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{Slots: 2}, mcp.Options{})
	task := string(structured[report](t, f.call(t, "pool_run", args{"prompt": "say x"})).TaskID)
	id := string(structured[chain](t, f.call(t, "pool_chain", args{"steps": prompts("say x")})).TaskID)
	prompt := &sdk.CompleteReference{Type: "ref/prompt", Name: "chain_watcher"}
	for _, c := range []struct {
		ref             *sdk.CompleteReference
		argument, typed string
		want            []string
	}{
		{&sdk.CompleteReference{Type: "ref/resource", URI: "pool://chains/{task_id}"}, "task_id", "", []string{id}},
		{prompt, "task_id", "task-", []string{task, id, id + ".s0"}},
		{prompt, "slot_id", "", []string{"slot-0", "slot-1"}},
		{prompt, "skill", "chain_", []string{"chain_watcher"}},
		{prompt, "workflow", "issue", []string{"issue_to_pr"}},
		{prompt, "target", "", []string{}},
	} {
		res, err := f.client.Complete(t.Context(), &sdk.CompleteParams{Ref: c.ref, Argument: sdk.CompleteParamsArgument{Name: c.argument, Value: c.typed}})
		if err != nil {
			t.Fatal(err)
		}
		got := append([]string{}, slices.Sorted(slices.Values(res.Completion.Values))...)
		if diff := cmp.Diff(slices.Sorted(slices.Values(c.want)), slices.Clip(got)); diff != "" && len(c.want)+len(got) > 0 {
			t.Errorf("%s %q (-want +got):\n%s", c.argument, c.typed, diff)
		}
	}
}
