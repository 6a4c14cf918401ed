package claudetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
)

// schema is the part of JSON Schema that the stand-in knows: enough to tell
// good structured output from bad, and to make some up.
type schema struct {
	Type                 string            `json:"type"`
	Properties           map[string]schema `json:"properties"`
	Required             []string          `json:"required"`
	AdditionalProperties json.RawMessage   `json:"additionalProperties"`
	Items                *schema           `json:"items"`
	Enum                 []any             `json:"enum"`
}

// checkSchema says what is wrong with value, with its path.
func checkSchema(raw, value json.RawMessage) error {
	var s schema
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("the schema is outside of what the stand-in knows: %w", err)
	}
	var v any
	if err := json.Unmarshal(value, &v); err != nil {
		return err
	}
	return s.check("", v)
}

func (s schema) check(path string, v any) error {
	if !s.isType(v) {
		return fmt.Errorf("%s: must be %s", path, s.Type)
	}
	if s.Enum != nil && !slices.ContainsFunc(s.Enum, func(e any) bool { return bytes.Equal(encode(e), encode(v)) }) {
		return fmt.Errorf("%s: must be equal to one of the allowed values", path)
	}
	switch v := v.(type) {
	case map[string]any:
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				return fmt.Errorf("%s: must have required property '%s'", path, name)
			}
		}
		for name, value := range v {
			p, known := s.Properties[name]
			if !known {
				if string(s.AdditionalProperties) == "false" {
					return fmt.Errorf("%s: must NOT have additional property '%s'", path, name)
				}
				continue
			}
			if err := p.check(path+"/"+name, value); err != nil {
				return err
			}
		}
	case []any:
		for i, value := range v {
			if s.Items == nil {
				break
			}
			if err := s.Items.check(fmt.Sprintf("%s/%d", path, i), value); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s schema) isType(v any) bool {
	number, isNumber := v.(float64)
	switch s.Type {
	case "object":
		_, ok := v.(map[string]any)
		return ok
	case "array":
		_, ok := v.([]any)
		return ok
	case "string":
		_, ok := v.(string)
		return ok
	case "boolean":
		_, ok := v.(bool)
		return ok
	case "number":
		return isNumber
	case "integer":
		return isNumber && number == float64(int64(number))
	case "null":
		return v == nil
	}
	return true
}

// sample makes up a value that fits.
func (s schema) sample(text string) any {
	if len(s.Enum) > 0 {
		return s.Enum[0]
	}
	switch s.Type {
	case "object":
		out := map[string]any{}
		for name, p := range s.Properties {
			out[name] = p.sample(text)
		}
		return out
	case "array":
		if s.Items == nil {
			return []any{}
		}
		return []any{s.Items.sample(text)}
	case "string":
		return text
	case "boolean":
		return true
	case "number", "integer":
		return 1
	}
	return nil
}
