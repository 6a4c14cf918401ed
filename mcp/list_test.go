package mcp_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/mcp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// maxList bounds the list of tools: it stands in the context of every coordinator.
const maxList = 44_000

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

// Reading a mailbox empties it: no client may do that unasked, or again.
func TestTheToolThatTakesMessagesSaysSo(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
	for tool, err := range f.client.Tools(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		if a := tool.Annotations; tool.Name == "pool_read_messages" && (a.ReadOnlyHint || !*a.DestructiveHint || a.IdempotentHint) {
			t.Errorf("its annotations are %+v", a)
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

// toolsets are the tools of each toolset, and how many characters of a list they
// may take when nothing else is served.
var toolsets = map[mcp.Toolset]struct {
	tools string
	most  int
}{
	mcp.ToolsetCore:      {"pool_cancel pool_explain pool_fan_out pool_list_tasks pool_result pool_retry pool_run pool_session_metrics pool_status pool_submit pool_wait", 12_000},
	mcp.ToolsetChains:    {"pool_auto pool_auto_with_hints pool_cancel_chain pool_chain pool_chain_result pool_fan_out_chains pool_invoke_workflow pool_route pool_route_with_hints pool_submit_chain pool_workflow_list", 14_400},
	mcp.ToolsetSkills:    {"pool_skill_add pool_skill_eject pool_skill_get pool_skill_list pool_skill_remove pool_skill_run pool_skill_save", 7_000},
	mcp.ToolsetSlots:     {"pool_claim pool_configure_slot pool_drain pool_find_slots pool_pause pool_resume pool_scale_down pool_scale_up pool_set_target_slots", 5_000},
	mcp.ToolsetMessages:  {"pool_broadcast pool_peek_messages pool_read_messages pool_send_message", 3_000},
	mcp.ToolsetReview:    {"pool_approve_result pool_reject_result pool_submit_with_review", 3_500},
	mcp.ToolsetContext:   {"context_delete context_get context_list context_set", 2_000},
	mcp.ToolsetWorktrees: {"pool_merge pool_recover pool_worktrees", 5_000},
}

func TestToolsetsTrimTheList(t *testing.T) {
	t.Parallel()
	all := setup(t, claudepool.PoolConfig{}, mcp.Options{}).tools(t)
	for _, set := range mcp.Toolsets() {
		want, ok := toolsets[set]
		if !ok {
			t.Fatalf("toolset %s is not tested", set)
		}
		f := setup(t, claudepool.PoolConfig{}, mcp.Options{Toolsets: []mcp.Toolset{set}})
		names := f.tools(t)
		if diff := cmp.Diff(strings.Fields(want.tools), names); diff != "" {
			t.Errorf("toolset %s (-want +got):\n%s", set, diff)
		}
		all = slices.DeleteFunc(all, func(n string) bool { return slices.Contains(names, n) })
		res, err := f.client.ListTools(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		list, err := json.Marshal(res.Tools)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("the list of toolset %s has %d tools and %d characters", set, len(names), len(list))
		if len(list) > want.most {
			t.Errorf("the list of toolset %s has %d characters, more than %d", set, len(list), want.most)
		}
		prompts, err := f.client.ListPrompts(t.Context(), nil)
		if set == mcp.ToolsetSkills {
			if err != nil || len(prompts.Prompts) == 0 {
				t.Errorf("toolset %s has the prompts %v, %v", set, prompts, err)
			}
		} else if err == nil && len(prompts.Prompts) > 0 {
			t.Errorf("toolset %s has prompts", set)
		}
	}
	if len(all) > 0 {
		t.Errorf("in no toolset: %v", all)
	}
}

// toolName is a tool in a text.
var toolName = regexp.MustCompile(`\b(pool|context)_[a-z_]+`)

func TestInstructionsNameOnlyToolsThatAreServed(t *testing.T) {
	t.Parallel()
	sets := [][]mcp.Toolset{nil}
	for _, set := range mcp.Toolsets() {
		sets = append(sets, []mcp.Toolset{set})
	}
	for _, set := range sets {
		f := setup(t, claudepool.PoolConfig{}, mcp.Options{Toolsets: set, MaxPermissionMode: "bypassPermissions"})
		names := f.tools(t)
		says := f.client.InitializeResult().Instructions
		if n := len(says); n == 0 || n > 2048 {
			t.Errorf("%v: the instructions have %d characters; clients cut what is over 2048", set, n)
		}
		named := toolName.FindAllString(says, -1)
		if len(named) == 0 && !slices.Equal(set, []mcp.Toolset{mcp.ToolsetSlots}) {
			t.Errorf("%v: the instructions name no tool", set)
		}
		for _, n := range named {
			if !slices.Contains(names, n) {
				t.Errorf("%v: the instructions name %s, which is not served", set, n)
			}
		}
	}
}

// What is listed is short, what is accepted is the same: the first tool that
// takes a thing spells it out.
func TestWhatManyToolsTakeIsSpeltOutOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		sets  []mcp.Toolset
		first string
	}{
		{nil, "pool_run"},
		{[]mcp.Toolset{mcp.ToolsetSkills}, "pool_skill_run"},
	} {
		f := setup(t, claudepool.PoolConfig{}, mcp.Options{Toolsets: c.sets})
		for tool, err := range f.client.Tools(t.Context(), nil) {
			if err != nil {
				t.Fatal(err)
			}
			properties, _ := tool.InputSchema.(map[string]any)["properties"].(map[string]any)
			o, ok := properties["overrides"].(map[string]any)
			if !ok {
				continue
			}
			if _, spelt := o["properties"]; spelt != (tool.Name == c.first) {
				t.Errorf("%v: %s spells overrides out: %v", c.sets, tool.Name, spelt)
			}
			if says, _ := o["description"].(string); tool.Name != c.first && !strings.Contains(says, "as in "+c.first) {
				t.Errorf("%v: %s says %q of overrides", c.sets, tool.Name, says)
			}
		}
		in := args{"prompt": "x", "skill": "x"}
		in["overrides"] = args{"nonsense": 1}
		if msg := f.refused(t, c.first, in); !strings.Contains(msg, "nonsense") {
			t.Errorf("%v: %q", c.sets, msg)
		}
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
