package claudepool_test

import (
	"context"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claudetest"
	"github.com/google/go-cmp/cmp"
)

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// arrows returns the arrows of a page's only state diagram, without those from
// and to its ends.
func arrows(t *testing.T, page string) map[[2]string]bool {
	t.Helper()
	_, diagram, found := strings.Cut(readFile(t, page), "stateDiagram-v2\n")
	if !found {
		t.Fatalf("%s has no state diagram", page)
	}
	diagram, _, _ = strings.Cut(diagram, "```")
	set := map[[2]string]bool{}
	for line := range strings.Lines(diagram) {
		m := regexp.MustCompile(`^\s*(\S+) --> ([^\s:]+)(: .*)?$`).FindStringSubmatch(strings.TrimRight(line, "\n"))
		switch {
		case m == nil:
			t.Errorf("%s: not an arrow: %q", page, line)
		case m[1] != "[*]" && m[2] != "[*]":
			set[[2]string{m[1], m[2]}] = true
		}
	}
	return set
}

func TestDocsTaskStates(t *testing.T) {
	t.Parallel()
	want := map[[2]string]bool{}
	for _, from := range claudepool.TaskStates() {
		for _, to := range claudepool.TaskStates() {
			if from.CanBecome(to) {
				want[[2]string{string(from), string(to)}] = true
			}
		}
	}
	if diff := cmp.Diff(want, arrows(t, "docs/tasks.md")); diff != "" {
		t.Errorf("docs/tasks.md draws other transitions than the code allows (-code +page):\n%s", diff)
	}
}

func TestDocsOutcomes(t *testing.T) {
	t.Parallel()
	want := map[string][2]string{}
	for _, o := range claudepool.Outcomes() {
		again := "no"
		if o.Retryable() {
			again = "yes"
		}
		want[string(o)] = [2]string{string(o.State()), again}
	}
	got := map[string][2]string{}
	for _, m := range regexp.MustCompile(`(?m)^\| (\w+) \| (\w+) \| (yes|no) \|`).FindAllStringSubmatch(readFile(t, "docs/tasks.md"), -1) {
		got[m[1]] = [2]string{m[2], m[3]}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the table of outcomes in docs/tasks.md is not that of the code (-code +page):\n%s", diff)
	}
}

// The slots of a pool that meets all sorts of things change their states in no
// other way than the diagram shows.
func TestDocsSlotStates(t *testing.T) {
	t.Parallel()
	drawn := arrows(t, "docs/slots.md")
	named := map[string]bool{}
	for a := range drawn {
		named[a[0]], named[a[1]] = true, true
	}
	var all []string
	for _, s := range claudepool.SlotStates() {
		all = append(all, string(s))
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(all)), slices.Sorted(maps.Keys(named))); diff != "" {
		t.Errorf("docs/slots.md draws other states than there are (-code +page):\n%s", diff)
	}

	o := claudetest.StandIn(t)
	p := build(t, claudepool.PoolConfig{Slots: 2, ClaudePath: o.Path, Env: o.Env, ConfigDir: o.ConfigDir})
	events := p.Events(t.Context(), claudepool.EventFilter{Kinds: []claudepool.EventKind{claudepool.EventSlot}})
	state := map[string]claudepool.SlotState{}
	status, err := p.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range status.Slots {
		state[s.ID] = s.State
	}
	for _, prompt := range []string{"[[reply:hello]]", "[[fault:crash]]", "[[status:400]]", "[[fault:stale-session]]", "[[reply:bye]]"} {
		submit(t, p, claudepool.Task{Prompt: prompt, OnCrash: claudepool.CrashFail})
	}
	for r, err := range p.Tasks(t.Context(), claudepool.TaskFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		wait(t, p, r.ID)
	}
	if _, err := p.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for e := range events { // ends with the pool
		before, ok := state[e.SlotID]
		state[e.SlotID] = e.SlotState
		if !ok || before == e.SlotState {
			continue // what the status knew already
		}
		seen++
		if !drawn[[2]string{string(before), string(e.SlotState)}] {
			t.Errorf("a slot went from %s to %s, which docs/slots.md does not draw", before, e.SlotState)
		}
	}
	if seen < 10 {
		t.Errorf("saw only %d changes of state", seen)
	}
}

// Every piece of Go code in the documentation stands in a file that is compiled.
func TestDocsCodeIsCompiled(t *testing.T) {
	t.Parallel()
	var code []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case strings.HasSuffix(path, "_test.go"), strings.HasPrefix(path, "examples") && strings.HasSuffix(path, ".go"):
			code = append(code, normal(readFile(t, path)))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := 0
	for _, page := range append(pages, "README.md") {
		for _, m := range regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(readFile(t, page), -1) {
			blocks++
			if block := normal(m[1]); !slices.ContainsFunc(code, func(file string) bool { return strings.Contains(file, block) }) {
				t.Errorf("%s: no file that is compiled has this code:\n%s", page, m[1])
			}
		}
	}
	if blocks == 0 {
		t.Error("there is no code in the documentation")
	}
}

// normal is code without its indentation.
func normal(code string) string {
	var b strings.Builder
	for line := range strings.Lines(code) {
		b.WriteString(strings.TrimSpace(line))
		b.WriteByte('\n')
	}
	return b.String()
}

// The links of the documentation lead to files that exist.
func TestDocsLinks(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "README.md") {
		for _, m := range regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`).FindAllStringSubmatch(readFile(t, page), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
}

// The program in the README works, here with the stand-in for the CLI in PATH.
func TestReadmeProgram(t *testing.T) {
	bin := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\nexport " + claudetest.EnvStandIn + "=1\nexec '" + self + "' \"$@\"\n"
	if err := os.WriteFile(filepath.Join(bin, "claude"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
	t.Setenv("CLAUDE_CONFIG_DIR", t.TempDir())

	stdout := os.Stdout
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	os.Stdout = w
	err = review(context.Background(), []string{"one.go", "two.go", "three.go"})
	os.Stdout = stdout
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, 1<<16)
	n, err := r.Read(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"one.go (ok): ", "two.go (ok): ", "three.go (ok): ", "3 of 3 done"} {
		if !strings.Contains(string(out[:n]), want) {
			t.Errorf("the output lacks %q:\n%s", want, out[:n])
		}
	}
}
