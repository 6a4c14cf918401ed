package claudepool

// Skill is a prompt template in the Agent Skills format.
type Skill struct {
	// Name is lower-case letters, digits, "-" and "_", at most 64.
	Name        string `json:"name"`
	Description string `json:"description"`
	// ArgumentHint is shown to who calls it, such as "<file> [focus]".
	ArgumentHint string          `json:"argument_hint,omitempty"`
	Arguments    []SkillArgument `json:"arguments,omitempty"`
	Scope        SkillScope      `json:"scope,omitempty"`
	// AllowedTools can be used by the task without asking.
	AllowedTools []string `json:"allowed_tools,omitempty"`
	// Config holds for the task; what the caller sets wins.
	Config AgentConfig `json:"config,omitzero"`
	// Prompt is the text below the front matter.
	Prompt string `json:"prompt"`
	// Dir is the skill's folder, for ${CLAUDE_SKILL_DIR}; empty if it has none.
	Dir string `json:"dir,omitempty"`
}

// SkillArgument is an argument that a skill declares.
type SkillArgument struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Required    bool   `json:"required,omitempty"`
	Default     string `json:"default,omitempty"`
}

// SkillScope says who is meant to run a skill. It is advice, not a bar.
type SkillScope string

// The scopes.
const (
	ScopeSkillTask        SkillScope = "task"        // a slot, as a task of its own; the default
	ScopeSkillCoordinator SkillScope = "coordinator" // who talks to the pool
	ScopeSkillChain       SkillScope = "chain"       // a slot, as a step of a chain
)
