package mcp_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/mcp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// maxList bounds the list of tools: it stands in the context of every coordinator.
const maxList = 20_000

func TestListOfToolsIsGolden(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
	res, err := f.client.ListTools(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	compact, err := json.Marshal(res.Tools)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the list of %d tools has %d characters, the instructions %d", len(res.Tools), len(compact), len(f.client.InitializeResult().Instructions))
	if len(compact) > maxList {
		t.Errorf("the list of tools has %d characters, more than %d", len(compact), maxList)
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, compact, "", "  "); err != nil {
		t.Fatal(err)
	}
	pretty.WriteByte('\n')
	golden := filepath.Join("testdata", "tools.golden.json")
	if *update {
		if err := os.WriteFile(golden, pretty.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), pretty.String()); diff != "" {
		t.Errorf("the list of tools has changed (-want +got); if that is meant, run with -update:\n%s", diff)
	}
}

func TestEveryToolIsDescribed(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
	for tool, err := range f.client.Tools(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		a := tool.Annotations
		if tool.Description == "" || tool.OutputSchema == nil || a == nil || a.DestructiveHint == nil || a.OpenWorldHint == nil {
			t.Errorf("%s lacks a description, an output schema or an annotation", tool.Name)
		}
	}
}

// Clients in use, such as the Claude CLI 2.1.240, refuse the whole list of tools
// when the schema of one property is a boolean.
func TestNoPropertyHasABooleanSchema(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
	var check func(path string, schema any)
	check = func(path string, schema any) {
		object, ok := schema.(map[string]any)
		if !ok {
			t.Errorf("%s is %v, want an object", path, schema)
			return
		}
		properties, _ := object["properties"].(map[string]any)
		for name, p := range properties {
			check(path+"."+name, p)
		}
		if items, ok := object["items"]; ok {
			check(path+"[]", items)
		}
	}
	for tool, err := range f.client.Tools(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		check(tool.Name+" input", tool.InputSchema)
		check(tool.Name+" output", tool.OutputSchema)
	}
}

func TestToolsetsTrimTheList(t *testing.T) {
	t.Parallel()
	for _, set := range mcp.Toolsets() {
		f := setup(t, claudepool.PoolConfig{}, mcp.Options{Toolsets: []mcp.Toolset{set}})
		var names []string
		for tool, err := range f.client.Tools(t.Context(), nil) {
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, tool.Name)
		}
		for set2, one := range map[mcp.Toolset]string{mcp.ToolsetCore: "pool_run", mcp.ToolsetSlots: "pool_drain", mcp.ToolsetContext: "context_set"} {
			if got := slices.Contains(names, one); got != (set == set2) {
				t.Errorf("toolset %s: has %s is %v", set, one, got)
			}
		}
	}
}

func TestInstructionsFitTheClientsThatCutThem(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{}, mcp.Options{MaxPermissionMode: "bypassPermissions"})
	if n := len(f.client.InitializeResult().Instructions); n == 0 || n > 2048 {
		t.Errorf("the instructions have %d characters; want 1 to 2048", n)
	}
}

func TestNewServerRefusesUnknownNames(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
	for field, o := range map[string]mcp.Options{
		"toolsets":            {Toolsets: []mcp.Toolset{"everything"}},
		"max_permission_mode": {MaxPermissionMode: "loose"},
		"max_output":          {MaxOutput: -1},
		"max_calls":           {MaxCalls: -1},
	} {
		_, err := mcp.NewServer(f.pool, o)
		if got := asInvalid(t, err).Field; got != field {
			t.Errorf("%+v: the error names %q, want %q", o, got, field)
		}
	}
	if _, err := mcp.NewServer(nil, mcp.Options{}); err == nil {
		t.Error("a nil pool was accepted")
	}
}
