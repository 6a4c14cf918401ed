package mcp

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/worktree"
)

// enum turns a list of names into what a JSON schema wants.
func enum[T ~string](names []T) []any {
	out := make([]any, len(names))
	for i, n := range names {
		out[i] = string(n)
	}
	return out
}

// domain holds the schemas of types whose JSON form inference does not know.
func domain() map[reflect.Type]*jsonschema.Schema {
	return map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[object]():                {Type: "object"},
		reflect.TypeFor[claudepool.Duration]():   {Type: "string"},
		reflect.TypeFor[claude.Effort]():         {Type: "string", Enum: enum(claude.Efforts())},
		reflect.TypeFor[claude.PermissionMode](): {Type: "string", Enum: enum(claude.PermissionModes())},
		reflect.TypeFor[claudepool.Isolation]():  {Type: "string", Enum: enum(claudepool.Isolations())},
		reflect.TypeFor[claudepool.TaskState]():  {Type: "string", Enum: enum(claudepool.TaskStates())},
		reflect.TypeFor[claudepool.SlotState]():  {Type: "string", Enum: enum(claudepool.SlotStates())},
		reflect.TypeFor[claudepool.SkillScope](): {Type: "string", Enum: enum(claudepool.SkillScopes())},
		reflect.TypeFor[claudepool.Source]():     {Type: "string", Enum: enum(claudepool.Sources())},
		reflect.TypeFor[worktree.Strategy]():     {Type: "string", Enum: enum(worktree.Strategies())},
	}
}

// object is a JSON object that is passed on as it is.
type object json.RawMessage

// UnmarshalJSON implements [json.Unmarshaler].
func (o *object) UnmarshalJSON(b []byte) error {
	*o = slices.Clone(b)
	return nil
}

// inputSchema infers the schema of a tool's input. A type that has none is a
// programming error, which any test of the server finds.
func inputSchema[T any](edit func(*jsonschema.Schema)) *jsonschema.Schema {
	s, err := jsonschema.For[T](&jsonschema.ForOptions{TypeSchemas: domain()})
	if err != nil {
		panic(fmt.Sprintf("input schema of %v: %v", reflect.TypeFor[T](), err))
	}
	walk(s, notNull) // what may be left out need not be null
	if edit != nil {
		edit(s)
	}
	return s
}

// outputSchema infers the schema of a tool's output. Clients read it with every
// list of tools, so it is kept short: fields and their types, without what each
// field may hold and which may be missing; later versions may add some.
func outputSchema[T any](edit func(*jsonschema.Schema)) *jsonschema.Schema {
	types := domain()
	for t, s := range types {
		if len(s.Enum) > 0 {
			types[t] = &jsonschema.Schema{Type: "string"}
		}
	}
	types[reflect.TypeFor[report]()] = fields("task_id state outcome output session_id note", "cost_microdollars turns next_offset", "success")
	// Of any type; but clients in use refuse the whole list for a schema that is
	// written as true, which one without keywords is.
	types[reflect.TypeFor[report]()].Properties["structured_output"] = &jsonschema.Schema{Description: "as json_schema asks"}
	types[reflect.TypeFor[report]()].Properties["failure"] = &jsonschema.Schema{Type: "object"}
	types[reflect.TypeFor[claudepool.StepResult]()] = fields("name state task_id output partial reason", "cost_microdollars", "")
	types[reflect.TypeFor[claudepool.Failure]()] = &jsonschema.Schema{Type: "object"}
	types[reflect.TypeFor[claudepool.FileProblem]()] = &jsonschema.Schema{Type: "object"}
	types[reflect.TypeFor[claudepool.AgentConfig]()] = &jsonschema.Schema{Type: "object"}
	types[reflect.TypeFor[argument]()] = &jsonschema.Schema{Type: "object"}
	types[reflect.TypeFor[step]()] = fields("name type value", "", "")
	types[reflect.TypeFor[slotStatus]()] = fields("id name role description state detail task_id", "tasks restarts", "")
	types[reflect.TypeFor[claudepool.SlotStatus]()] = types[reflect.TypeFor[slotStatus]()]
	types[reflect.TypeFor[claudepool.Tally]()] = &jsonschema.Schema{Type: "object"}
	types[reflect.TypeFor[claude.ModelUsage]()] = &jsonschema.Schema{Type: "object"}
	s, err := jsonschema.For[T](&jsonschema.ForOptions{TypeSchemas: types})
	if err != nil {
		panic(fmt.Sprintf("output schema of %v: %v", reflect.TypeFor[T](), err))
	}
	walk(s, func(s *jsonschema.Schema) {
		for name, p := range s.Properties {
			// What is empty is left out, and an empty list is a list.
			if !slices.Contains(s.Required, name) || slices.Contains(p.Types, "array") {
				notNull(p)
			}
		}
		s.Required = nil
		if len(s.Properties) > 0 {
			s.AdditionalProperties = nil
		}
	})
	if edit != nil {
		edit(s)
	}
	return s
}

// notNull takes null from what a schema allows.
func notNull(s *jsonschema.Schema) {
	if i := slices.Index(s.Types, "null"); i >= 0 && len(s.Types) == 2 {
		s.Type, s.Types = s.Types[1-i], nil
	}
}

// fields is the schema of an object with the named fields, strings, integers and
// booleans, and maybe others.
func fields(strs, ints, bools string) *jsonschema.Schema {
	o := &jsonschema.Schema{Type: "object", Properties: map[string]*jsonschema.Schema{}}
	for kind, names := range map[string]string{"string": strs, "integer": ints, "boolean": bools} {
		for _, n := range strings.Fields(names) {
			o.Properties[n] = &jsonschema.Schema{Type: kind}
		}
	}
	return o
}

// walk calls f with s and every schema in it.
func walk(s *jsonschema.Schema, f func(*jsonschema.Schema)) {
	if s == nil {
		return
	}
	f(s)
	for _, p := range s.Properties {
		walk(p, f)
	}
	walk(s.Items, f)
	walk(s.AdditionalProperties, f)
}

// bound limits a number in a schema.
func bound(s *jsonschema.Schema, name string, least, most float64) {
	p := s.Properties[name]
	p.Minimum, p.Maximum = &least, &most
}
