package mcp

import (
	"context"
	"encoding/json"
	"math"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
)

// overrides are what a task wants otherwise than its slot.
type overrides struct {
	Model           string                `json:"model,omitempty"`
	Effort          claude.Effort         `json:"effort,omitempty"`
	PermissionMode  claude.PermissionMode `json:"permission_mode,omitempty"`
	SystemPrompt    string                `json:"system_prompt,omitempty"`
	MaxTurns        int                   `json:"max_turns,omitempty" jsonschema:"model requests"`
	Tools           []string              `json:"tools,omitempty" jsonschema:"the whole list of built-in tools; [] means none"`
	AllowedTools    []string              `json:"allowed_tools,omitempty" jsonschema:"rules such as Bash(git *)"`
	DisallowedTools []string              `json:"disallowed_tools,omitempty"`
	MCPServers      map[string]object     `json:"mcp_servers,omitempty"`
	JSONSchema      object                `json:"json_schema,omitempty" jsonschema:"asks for structured output"`
	MaxBudgetUSD    *float64              `json:"max_budget_usd,omitempty" jsonschema:"cap for all attempts"`
	TimeoutSecs     *float64              `json:"timeout_secs,omitempty" jsonschema:"per attempt"`
}

// overridesSchema completes the inferred schema of overrides.
func overridesSchema(s *jsonschema.Schema) {
	o := s.Properties["overrides"]
	zero, one := 0.0, 1.0
	o.Properties["max_turns"].Minimum = &one
	o.Properties["max_budget_usd"].ExclusiveMinimum = &zero
	o.Properties["timeout_secs"].ExclusiveMinimum = &zero
}

// maxTimeout bounds timeout_secs: ten days.
const maxTimeout = 10 * 24 * time.Hour

// overrides returns o in the pool's words, unless it exceeds a ceiling of the server.
func (s *Server) overrides(ctx context.Context, o *overrides) (claudepool.TaskOverrides, error) {
	var t claudepool.TaskOverrides
	if o == nil {
		return t, nil
	}
	if err := s.withinCeiling("overrides.permission_mode", o.PermissionMode); err != nil {
		return t, err
	}
	t.AgentConfig = claudepool.AgentConfig{
		Model: o.Model, Effort: o.Effort, PermissionMode: o.PermissionMode,
		SystemPrompt: o.SystemPrompt, MaxTurns: o.MaxTurns,
		Tools: o.Tools, AllowedTools: o.AllowedTools, DisallowedTools: o.DisallowedTools,
		JSONSchema: json.RawMessage(o.JSONSchema),
	}
	if o.JSONSchema != nil {
		var parsed jsonschema.Schema
		if err := json.Unmarshal(o.JSONSchema, &parsed); err != nil {
			return t, invalid("overrides.json_schema", "is no JSON schema: %v", err)
		}
	}
	if len(o.MCPServers) > 0 {
		t.MCPServers = make(map[string]claude.MCPServer, len(o.MCPServers))
		for name, server := range o.MCPServers {
			t.MCPServers[name] = claude.MCPServer(server)
		}
	}
	if o.MaxBudgetUSD != nil {
		t.MaxCost = claudepool.USD(*o.MaxBudgetUSD)
		if t.MaxCost <= 0 {
			return t, invalid("overrides.max_budget_usd", "must be at least a millionth of a dollar; leave it out for the default")
		}
		if err := s.withinBudget(ctx, "overrides.max_budget_usd", t.MaxCost); err != nil {
			return t, err
		}
	}
	if o.TimeoutSecs != nil {
		d, err := seconds("overrides.timeout_secs", *o.TimeoutSecs)
		if err != nil {
			return t, err
		}
		t.Timeout = d
	}
	return t, nil
}

// seconds converts a positive number of seconds.
func seconds(field string, n float64) (time.Duration, error) {
	d := time.Duration(math.Min(n, math.MaxInt64/float64(time.Second)-1) * float64(time.Second))
	if d <= 0 || d > maxTimeout {
		return 0, invalid(field, "must be above 0 and at most %.0f", maxTimeout.Seconds())
	}
	return d, nil
}
