package claudetest

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
)

// settings are what can be changed while the process lives. They are guarded
// by standIn.mu.
type settings struct {
	cwd      string
	dirs     []string
	model    string
	mode     string
	thinking *int
	flags    map[string]json.RawMessage // apply_flag_settings
	schema   json.RawMessage
}

type permissionLists struct {
	Allow []string `json:"allow"`
	Deny  []string `json:"deny"`
	Ask   []string `json:"ask"`
}

func newSettings(a *standInArgs) (*settings, error) {
	cwd, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	return &settings{cwd: cwd, dirs: a.addDirs, model: a.model, mode: a.mode, flags: map[string]json.RawMessage{}, schema: a.schema}, nil
}

// apply merges flag settings: null removes a key. A wrong type refuses all.
func (s *settings) apply(changes map[string]json.RawMessage) error {
	for key, v := range changes {
		if string(v) == "null" {
			continue
		}
		var into any
		switch key {
		case "permissions":
			into = &permissionLists{}
		case "env":
			into = &map[string]string{}
		case "effortLevel", "agent", "model":
			into = new(string)
		default:
			continue
		}
		if json.Unmarshal(v, into) != nil {
			return fmt.Errorf("apply_flag_settings: nothing in this request was applied and earlier settings stay in force. Fix or remove these invalid settings and send it again: %s", key)
		}
	}
	for key, v := range changes {
		if string(v) == "null" {
			delete(s.flags, key)
		} else {
			s.flags[key] = v
		}
	}
	return nil
}

func (s *settings) permissions() permissionLists {
	var p permissionLists
	if raw, ok := s.flags["permissions"]; ok {
		json.Unmarshal(raw, &p) // apply has checked it
	}
	return p
}

func (s *settings) env() map[string]string {
	var m map[string]string
	if raw, ok := s.flags["env"]; ok {
		json.Unmarshal(raw, &m) // apply has checked it
	}
	return m
}

func (s *settings) effort(a *standInArgs) any {
	var e string
	if raw, ok := s.flags["effortLevel"]; ok {
		json.Unmarshal(raw, &e) // apply has checked it
	}
	if e == "" {
		e = a.effort
	}
	if e == "" {
		return "high"
	}
	return e
}

// defaultTools is what the CLI offers without --tools, as far as the stand-in
// can carry it out.
var defaultTools = []string{"Bash", "Edit", "Read", "Write"}

// toolNames lists the tools that the model may call now.
func (s *standIn) toolNames() []string {
	names := slices.Clone(s.args.tools)
	if s.args.tools == nil {
		names = slices.Clone(defaultTools)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return slices.Contains(s.args.disallowed, n) })
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set.schema != nil {
		names = append(names, "StructuredOutput")
	}
	for _, server := range s.sortedServers() {
		for _, tool := range server.tools {
			names = append(names, "mcp__"+server.name+"__"+tool)
		}
	}
	return names
}
