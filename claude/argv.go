package claude

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// personTools need somebody to answer. They are offered only with
// [Options.Permission].
var personTools = []string{"AskUserQuestion", "EnterPlanMode", "ExitPlanMode"}

// maxArg bounds a single argument. Linux takes 128 KiB; what is longer goes
// over the pipe.
const maxArg = 100 << 10

// tools is the list of built-in tools to offer.
func (o *Options) tools() []string {
	if o.Tools == nil {
		if o.Permission != nil {
			return append(DefaultTools(), personTools...)
		}
		return DefaultTools()
	}
	if o.Permission != nil {
		return o.Tools
	}
	return slices.DeleteFunc(slices.Clone(o.Tools), func(t string) bool { return slices.Contains(personTools, t) })
}

func (o *Options) settingSources() []string {
	if o.SettingSources == nil {
		return []string{"project"}
	}
	return o.SettingSources
}

// mode is the permission mode, never empty.
func (s *Settings) mode() PermissionMode {
	if s.PermissionMode == "" {
		return PermissionPlan
	}
	return s.PermissionMode
}

// settings is SettingsJSON with what this package adds. Without the addition a
// model decides in plan mode which commands may write, at the cost of requests
// that are in no figure.
func (o *Options) settings() json.RawMessage {
	const key = "useAutoModeDuringPlan"
	m := map[string]json.RawMessage{}
	if o.SettingsJSON != nil {
		_ = json.Unmarshal(o.SettingsJSON, &m) // Validate has seen that it is an object
	}
	if m[key] == nil {
		m[key] = json.RawMessage("false")
	}
	b, err := json.Marshal(m)
	if err != nil {
		return o.SettingsJSON
	}
	return b
}

// argv makes the arguments of a process. Nothing secret may stand here: every
// user of the machine can read it. Prompts and agents go over the pipe with
// initialize, SettingsJSON in the file settingsFile (empty when there is none),
// MCP servers over the pipe.
func (o *Options) argv(caps Capabilities, settingsFile string, spare bool) []string {
	a := []string{
		"-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose",
		"--include-partial-messages",
		"--tools", strings.Join(o.tools(), ","),
		"--setting-sources", strings.Join(o.settingSources(), ","),
		"--permission-mode", string(o.Settings.mode()),
	}
	if !o.InheritMCP {
		a = append(a, "--strict-mcp-config")
	}
	switch {
	case o.Permission != nil:
		a = append(a, "--permission-prompt-tool", "stdio")
	case caps.permissionNone:
		a = append(a, "--permission-prompts", "none")
	}
	if o.AllowBypass {
		a = append(a, "--allow-dangerously-skip-permissions")
	}
	if o.Settings.Model != "" {
		a = append(a, "--model", o.Settings.Model)
	}
	if o.FallbackModel != "" {
		a = append(a, "--fallback-model", o.FallbackModel)
	}
	if s := string(o.JSONSchema); s != "" && len(s) <= maxArg {
		a = append(a, "--json-schema", s) // a bad schema is refused here, but not over the pipe
	}
	a = append(a, "--settings", cmp.Or(settingsFile, string(o.settings())))
	if o.MaxTurns > 0 {
		a = append(a, "--max-turns", strconv.Itoa(o.MaxTurns))
	}
	if o.MaxCost > 0 {
		a = append(a, "--max-budget-usd", fmt.Sprintf("%d.%06d", o.MaxCost/Dollar, o.MaxCost%Dollar))
	}
	if spare {
		return append(a, "--await-claim")
	}
	for _, d := range o.AddDirs {
		a = append(a, "--add-dir", d)
	}
	if o.Resume != "" {
		a = append(a, "--resume", o.Resume)
	}
	if o.Fork {
		a = append(a, "--fork-session")
	}
	if o.SessionID != "" {
		a = append(a, "--session-id", o.SessionID)
	}
	if o.NoPersistence {
		a = append(a, "--no-session-persistence")
	}
	return a
}

// initialize makes the first request of a process.
func (o *Options) initialize(spare bool) map[string]any {
	r := map[string]any{"subtype": "initialize", "hooks": nil}
	if len(o.Servers) > 0 {
		r["sdkMcpServers"] = o.serverNames()
	}
	if len(o.JSONSchema) > maxArg {
		r["jsonSchema"] = o.JSONSchema
	}
	if spare {
		return r // the rest comes with the claim
	}
	if o.SystemPrompt != "" {
		r["systemPrompt"] = []string{o.SystemPrompt}
	}
	if o.AppendSystemPrompt != "" {
		r["appendSystemPrompt"] = o.AppendSystemPrompt
	}
	if o.Agents != nil {
		r["agents"] = o.Agents
	}
	return r
}

func (o *Options) serverNames() []string {
	names := make([]string, 0, len(o.Servers))
	for n := range o.Servers {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
