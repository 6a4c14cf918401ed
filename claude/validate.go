package claude

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

var (
	uuidForm = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)
	nameForm = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)
	toolForm = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	envForm  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// Validate checks everything that can be checked without starting a process.
// The error is an [*OptionError] that names the first field in question.
func (o Options) Validate() error {
	v := &validator{}
	v.text("Path", o.Path)
	v.dir("Dir", o.Dir)
	v.text("ConfigDir", o.ConfigDir)
	for k, val := range o.Env {
		if !envForm.MatchString(k) {
			v.fail("Env", "%q is no name of a variable", k)
		}
		v.text("Env["+k+"]", val)
	}
	v.err = cmpErr(v.err, o.Settings.validate(o.AllowBypass))
	v.prose("SystemPrompt", o.SystemPrompt)
	v.prose("AppendSystemPrompt", o.AppendSystemPrompt)
	for i, t := range o.Tools {
		if !toolForm.MatchString(t) {
			v.fail(fmt.Sprintf("Tools[%d]", i), "%q is no name of a tool", t)
		}
	}
	for i, d := range o.AddDirs {
		if d == "" {
			v.fail(fmt.Sprintf("AddDirs[%d]", i), "is empty")
		}
		v.dir(fmt.Sprintf("AddDirs[%d]", i), d)
	}
	for i, s := range o.SettingSources {
		if !slices.Contains([]string{"user", "project", "local"}, s) {
			v.fail(fmt.Sprintf("SettingSources[%d]", i), `%q is none of "user", "project", "local"`, s)
		}
	}
	v.object("SettingsJSON", o.SettingsJSON)
	v.agents(o.Agents)
	v.name("FallbackModel", o.FallbackModel)
	v.object("JSONSchema", o.JSONSchema)
	if o.MaxTurns < 0 {
		v.fail("MaxTurns", "%d is negative", o.MaxTurns)
	}
	if o.MaxCost < 0 {
		v.fail("MaxCost", "%v is negative", o.MaxCost)
	}
	v.session(&o)
	for n, h := range o.Servers {
		switch {
		case !nameForm.MatchString(n):
			v.fail("Servers", "%q is no name of a server: use letters, digits, dot, hyphen and underscore", n)
		case h == nil:
			v.fail("Servers["+n+"]", "is nil")
		case o.Settings.MCPServers[n] != nil:
			v.fail("Servers["+n+"]", "MCPServers has a server of the same name")
		}
	}
	if o.MaxLine < 0 {
		v.fail("MaxLine", "%d is negative", o.MaxLine)
	}
	if o.Grace < 0 {
		v.fail("Grace", "%v is negative", o.Grace)
	}
	return v.err
}

// validate checks settings for a process that may or may not reach bypass.
func (s *Settings) validate(allowBypass bool) error {
	v := &validator{}
	v.name("Model", s.Model)
	if s.Effort != "" && !slices.Contains(Efforts(), s.Effort) {
		v.fail("Effort", "%q is none of %q", s.Effort, Efforts())
	}
	switch {
	case s.PermissionMode != "" && !slices.Contains(PermissionModes(), s.PermissionMode):
		v.fail("PermissionMode", "%q is none of %q", s.PermissionMode, PermissionModes())
	case s.PermissionMode == PermissionBypass && !allowBypass:
		v.fail("PermissionMode", "%q needs AllowBypass", PermissionBypass)
	}
	for _, list := range []struct {
		field string
		rules []string
	}{{"AllowedTools", s.AllowedTools}, {"DisallowedTools", s.DisallowedTools}} {
		for i, r := range list.rules {
			field := fmt.Sprintf("%s[%d]", list.field, i)
			if strings.TrimSpace(r) == "" {
				v.fail(field, "is empty")
			}
			v.prose(field, r)
		}
	}
	for n, raw := range s.MCPServers {
		v.server(n, raw)
	}
	return v.err
}

// validator keeps the first fault.
type validator struct{ err error }

func cmpErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

func (v *validator) fail(field, format string, args ...any) {
	if v.err == nil {
		v.err = &OptionError{Field: field, Reason: fmt.Sprintf(format, args...)}
	}
}

// text is for what becomes an argument, a path or a variable.
func (v *validator) text(field, s string) {
	if strings.ContainsRune(s, 0) {
		v.fail(field, "contains a NUL byte")
	}
}

// prose is for what becomes JSON.
func (v *validator) prose(field, s string) {
	v.text(field, s)
	if !utf8.ValidString(s) {
		v.fail(field, "is not valid UTF-8")
	}
}

func (v *validator) name(field, s string) {
	v.prose(field, s)
	if strings.ContainsAny(s, "\n\r") || strings.HasPrefix(s, "-") || strings.TrimSpace(s) != s {
		v.fail(field, "%q is no name", s)
	}
}

func (v *validator) dir(field, dir string) {
	v.text(field, dir)
	if dir == "" || v.err != nil {
		return
	}
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		v.fail(field, "%v", err)
	case !info.IsDir():
		v.fail(field, "%s is not a directory", dir)
	case strings.HasPrefix(filepath.Clean(dir), "-"):
		v.fail(field, "%q looks like a flag; give an absolute path", dir)
	}
}

func (v *validator) object(field string, raw json.RawMessage) map[string]json.RawMessage {
	if raw == nil {
		return nil
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil {
		v.fail(field, "is not a JSON object: %v", err)
	} else if m == nil {
		v.fail(field, "is null, not a JSON object")
	}
	return m
}

// agents checks what the CLI would accept and then quietly leave out.
func (v *validator) agents(raw json.RawMessage) {
	for name, def := range v.object("Agents", raw) {
		var a struct {
			Description, Prompt *string
		}
		switch err := json.Unmarshal(def, &a); {
		case err != nil:
			v.fail("Agents."+name, "is no definition: %v", err)
		case a.Description == nil || a.Prompt == nil:
			v.fail("Agents."+name, `needs "description" and "prompt"`)
		}
	}
}

// server checks one entry of MCPServers: the CLI takes any object, and fails
// later with a message that names neither the server nor the fault.
func (v *validator) server(name string, raw MCPServer) {
	field := "MCPServers." + name
	if !nameForm.MatchString(name) {
		v.fail("MCPServers", "%q is no name of a server: use letters, digits, dot, hyphen and underscore", name)
		return
	}
	var s struct{ Type, Command, URL string }
	if v.object(field, raw) == nil {
		v.fail(field, "is empty")
		return
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		v.fail(field, "%v", err)
		return
	}
	switch s.Type {
	case "", "stdio":
		if s.Command == "" {
			v.fail(field, `needs "command" (or "type" and "url")`)
		}
	case "http", "sse", "ws":
		if s.URL == "" {
			v.fail(field, `type %q needs "url"`, s.Type)
		}
	case "sdk":
		v.fail(field, "servers in this program belong in Options.Servers")
	}
}

func (v *validator) session(o *Options) {
	if o.Resume != "" {
		v.name("Resume", o.Resume)
		if o.SystemPrompt != "" {
			v.fail("SystemPrompt", "a resumed session keeps the system prompt it was made with; leave it empty")
		}
		if o.AppendSystemPrompt != "" {
			v.fail("AppendSystemPrompt", "a resumed session keeps the system prompt it was made with; leave it empty")
		}
	}
	if o.Fork && o.Resume == "" {
		v.fail("Fork", "there is nothing to fork without Resume")
	}
	if o.SessionID != "" {
		if !uuidForm.MatchString(o.SessionID) {
			v.fail("SessionID", "%q is not a UUID", o.SessionID)
		}
		if o.Resume != "" && !o.Fork {
			v.fail("SessionID", "a resumed session keeps its id; set Fork for a copy with another")
		}
	}
}
