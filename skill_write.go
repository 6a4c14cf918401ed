package claudepool

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"

	"go.yaml.in/yaml/v3"
)

// skillHead is the front matter of a SKILL.md as it is written.
type skillHead struct {
	Name         string        `yaml:"name"`
	Description  string        `yaml:"description"`
	ArgumentHint string        `yaml:"argument-hint,omitempty"`
	AllowedTools []string      `yaml:"allowed-tools,omitempty"`
	Metadata     skillMetadata `yaml:"metadata"`
}

type skillMetadata struct {
	Scope     SkillScope       `yaml:"scope"`
	Arguments []skillParameter `yaml:"arguments,omitempty"`
	Config    *yaml.Node       `yaml:"config,omitempty"`
}

type skillParameter struct {
	Name        string `yaml:"name"`
	Description string `yaml:"description,omitempty"`
	Required    bool   `yaml:"required,omitempty"`
	Default     string `yaml:"default,omitempty"`
}

// renderSkill writes a SKILL.md that says what s does.
func renderSkill(s Skill) ([]byte, error) {
	head := skillHead{
		Name: s.Name, Description: s.Description, ArgumentHint: s.ArgumentHint,
		AllowedTools: s.AllowedTools, Metadata: skillMetadata{Scope: s.Scope},
	}
	for _, a := range s.Arguments {
		head.Metadata.Arguments = append(head.Metadata.Arguments, skillParameter(a))
	}
	if !reflect.ValueOf(s.Config).IsZero() {
		config, err := asYAML(s.Config)
		if err != nil {
			return nil, fmt.Errorf("write the config of skill %q: %w", s.Name, err)
		}
		head.Metadata.Config = config
	}
	var b bytes.Buffer
	b.WriteString("---\n")
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(head); err != nil {
		return nil, fmt.Errorf("write skill %q: %w", s.Name, err)
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("write skill %q: %w", s.Name, err)
	}
	b.WriteString("---\n\n" + s.Prompt + "\n")
	return b.Bytes(), nil
}

// asYAML returns what v is in JSON in the layout of YAML. JSON is YAML already.
func asYAML(v any) (*yaml.Node, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return nil, err
	}
	plain(doc.Content[0])
	return doc.Content[0], nil
}

// plain takes the quotes and brackets of JSON away where YAML needs none.
func plain(n *yaml.Node) {
	if len(n.Content) > 0 || n.Kind == yaml.ScalarNode {
		n.Style = 0
	}
	for _, c := range n.Content {
		plain(c)
	}
}
