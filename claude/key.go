package claude

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
)

// fixed is what a live process cannot change.
type fixed struct {
	Path, ConfigDir       string
	Env                   map[string]string
	Tools, SettingSources []string
	SettingsJSON          json.RawMessage
	FallbackModel         string
	JSONSchema            json.RawMessage
	MaxTurns              int
	AllowBypass           bool
	InheritMCP            bool
	NoPersistence         bool
	Asks                  bool
	Servers               []string
	Dir                   string          `json:",omitempty"`
	SystemPrompt          string          `json:",omitempty"`
	AppendSystemPrompt    string          `json:",omitempty"`
	AddDirs               []string        `json:",omitempty"`
	Agents                json.RawMessage `json:",omitempty"`
	Resume, SessionID     string          `json:",omitempty"`
	Fork                  bool            `json:",omitempty"`
}

// LaunchKey is equal for options that the same live process can serve, one
// after the other with [Process.Reset] between: it covers all that only
// arguments, environment or directory can set. [Settings], MaxCost, MaxLine,
// Grace, Trace and Logger are not in it. Of Permission only counts whether it
// is set, of Servers their names.
//
// A process that has been reset is no longer in the session it resumed or was
// named for: compare it with Resume, Fork and SessionID cleared.
func (o Options) LaunchKey() string {
	f := o.fixed()
	f.Dir, f.AddDirs = o.Dir, slices.Sorted(slices.Values(o.AddDirs))
	f.SystemPrompt, f.AppendSystemPrompt, f.Agents = o.SystemPrompt, o.AppendSystemPrompt, compact(o.Agents)
	f.Resume, f.SessionID, f.Fork = o.Resume, o.SessionID, o.Fork
	return f.key()
}

// SpareKey is equal for options that the same spare can be claimed for: it
// covers what a spare must be started with. Directories, system prompts and
// agents come with the claim.
func (o Options) SpareKey() string { return o.fixed().key() }

func (o *Options) fixed() *fixed {
	return &fixed{
		Path: o.Path, ConfigDir: o.ConfigDir, Env: o.Env,
		Tools: slices.Sorted(slices.Values(o.tools())), SettingSources: slices.Sorted(slices.Values(o.settingSources())),
		SettingsJSON: compact(o.SettingsJSON), FallbackModel: o.FallbackModel, JSONSchema: compact(o.JSONSchema),
		MaxTurns: o.MaxTurns, AllowBypass: o.AllowBypass, InheritMCP: o.InheritMCP, NoPersistence: o.NoPersistence,
		Asks: o.Permission != nil, Servers: o.serverNames(),
	}
}

// key hashes f, secrets of the environment included, so that it can be shown.
func (f *fixed) key() string {
	b, err := json.Marshal(f)
	if err != nil { // only raw JSON can fail here, and compact leaves none that is invalid
		b = []byte(err.Error())
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// compact makes equal objects equal bytes, whatever their spaces and order of
// keys. What is no JSON is kept as a string; Validate refuses it.
func compact(raw json.RawMessage) json.RawMessage {
	if raw == nil {
		return nil
	}
	var v any
	if json.Unmarshal(raw, &v) != nil {
		v = string(raw)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return b
}
