package schema

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strings"
)

// The CLI reads schemas as JSON Schema draft-07 and refuses, when a process
// starts, what is not of it. This file refuses the same when a task is
// submitted, where the caller learns of it, and with it what would make the
// check of an output run for ever.

// draft07 is the only "$schema" that the CLI takes, with or without the "#".
const draft07 = "http://json-schema.org/draft-07/schema#"

// form is what the value of a keyword must be.
type form int

const (
	anyValue form = iota
	text
	truth
	number
	aboveZero
	count      // a whole number, not negative
	notEmpty   // a list with at least one item
	distinct   // a list of strings, each once
	typeNames  // the name of a type, or a list of them
	sub        // a schema
	subList    // a list of schemas, at least one
	subMap     // schemas by name
	subOrList  // a schema, or a list of them
	dependency // by name, a schema or a list of strings
)

// keywords are those of the dialect.
var keywords = map[string]form{
	"$schema": text, "$ref": text, "$id": text, "$comment": text, "title": text, "description": text,
	"default": anyValue, "examples": anyValue, "const": anyValue, "enum": notEmpty, "type": typeNames,
	"deprecated": truth, "readOnly": truth, "writeOnly": truth, "nullable": truth,
	"format": text, "pattern": text, "contentMediaType": text, "contentEncoding": text, "contentSchema": sub,
	"minimum": number, "maximum": number, "exclusiveMinimum": number, "exclusiveMaximum": number, "multipleOf": aboveZero,
	"minLength": count, "maxLength": count, "minItems": count, "maxItems": count, "minProperties": count, "maxProperties": count,
	"uniqueItems": truth, "items": subOrList, "additionalItems": sub, "contains": sub,
	"required": distinct, "properties": subMap, "patternProperties": subMap, "additionalProperties": sub, "propertyNames": sub,
	"dependencies": dependency, "definitions": subMap, "$defs": subMap,
	"allOf": subList, "anyOf": subList, "oneOf": subList, "not": sub, "if": sub, "then": sub, "else": sub,
}

// samePlace are the keywords whose schemas look at the same value again.
var samePlace = []string{"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependencies"}

// keywordNeeds are keywords that the CLI refuses without one of the others.
var keywordNeeds = map[string][]string{"if": {"then", "else"}, "then": {"if"}, "else": {"if"}, "additionalItems": {"items"}, "nullable": {"type"}}

// types are the names of types.
var types = []string{"null", "boolean", "object", "array", "number", "integer", "string"}

// readDialect checks a schema, and returns it in a form that means the same to
// every reader of draft-07.
func readDialect(raw json.RawMessage) (json.RawMessage, error) {
	var root map[string]any
	if err := json.Unmarshal(raw, &root); err != nil {
		return nil, fmt.Errorf("is not a JSON object: %w", err)
	}
	if root == nil {
		return nil, fmt.Errorf("is null, not a JSON object")
	}
	if v, set := root["$schema"]; set && v != draft07 && v != strings.TrimSuffix(draft07, "#") {
		return nil, fmt.Errorf("is of the dialect %v; the CLI takes draft-07 only: leave $schema out and use the keywords of draft-07", v)
	}
	w := &dialect{again: map[string][]string{}}
	if err := w.schema("", root); err != nil {
		return nil, err
	}
	if err := w.terminates(); err != nil {
		return nil, err
	}
	root["$schema"] = draft07
	delete(root, "$id") // nothing refers to it
	return json.Marshal(root)
}

// dialect walks a schema.
type dialect struct {
	// again holds, by the place of each schema as a JSON pointer, the places
	// of the schemas that look at the same value.
	again map[string][]string
}

func misplaced(at, format string, args ...any) error {
	if at == "" {
		at = "/"
	}
	return fmt.Errorf("is not of draft-07, the dialect of the CLI: at %s %s", at, fmt.Sprintf(format, args...))
}

// schema checks the schema v at a place.
func (w *dialect) schema(at string, v any) error {
	w.again[at] = nil
	if _, ok := v.(bool); ok {
		return nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		return misplaced(at, "there must be a schema")
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		f, known := keywords[k]
		if !known {
			return misplaced(at, "%q is no keyword", k)
		}
		if need := keywordNeeds[k]; need != nil && !slices.ContainsFunc(need, func(n string) bool { _, has := m[n]; return has }) {
			return misplaced(at, "%q is nothing without %s", k, strings.Join(need, " or "))
		}
		if k == "$id" && at != "" {
			return misplaced(at, "%q is only taken at the root", k)
		}
		if err := w.value(at, k, f, m[k]); err != nil {
			return err
		}
	}
	if m["$defs"] != nil && m["definitions"] != nil {
		return misplaced(at, `there are both "$defs" and "definitions"; use one of them`)
	}
	if ref, ok := m["$ref"].(string); ok {
		target, err := url.PathUnescape(strings.TrimPrefix(ref, "#"))
		if err != nil || !strings.HasPrefix(ref, "#") {
			return misplaced(at, "$ref is %q; only places in the same schema, such as #/definitions/x, can be referred to", ref)
		}
		w.again[at] = append(w.again[at], target)
	}
	if m["nullable"] == true { // an extension that the CLI knows
		switch t := m["type"].(type) {
		case string:
			m["type"] = slices.Compact([]any{t, "null"})
		case []any:
			if !slices.Contains(t, any("null")) {
				m["type"] = append(t, "null")
			}
		}
	}
	return nil
}

// value checks the value of a keyword, and the schemas in it.
func (w *dialect) value(at, k string, f form, v any) error {
	here := at + "/" + k
	must := func(ok bool, what string) error {
		if ok {
			return nil
		}
		return misplaced(at, "%q must be %s", k, what)
	}
	list, isList := v.([]any)
	object, isObject := v.(map[string]any)
	n, isNumber := v.(float64)
	switch f {
	case text:
		_, ok := v.(string)
		return must(ok, "a string")
	case truth:
		_, ok := v.(bool)
		return must(ok, "true or false")
	case number:
		return must(isNumber, "a number")
	case aboveZero:
		return must(isNumber && n > 0, "a number above zero")
	case count:
		return must(isNumber && n >= 0 && n <= math.MaxInt32 && n == math.Trunc(n), "a whole number that is not negative")
	case notEmpty:
		return must(len(list) > 0, "a list with at least one item")
	case distinct:
		return must(isList && distinctStrings(list), "a list of strings, each once")
	case typeNames:
		if !isList {
			list = []any{v}
		}
		return must(len(list) > 0 && distinctStrings(list) && !slices.ContainsFunc(list, func(v any) bool { return !slices.Contains(types, v.(string)) }),
			"one or more of "+strings.Join(types, ", "))
	case sub:
		return w.below(at, k, here, v)
	case subOrList, subList:
		if f == subOrList && !isList {
			return w.below(at, k, here, v)
		}
		for i, v := range list {
			if err := w.below(at, k, fmt.Sprintf("%s/%d", here, i), v); err != nil {
				return err
			}
		}
		return must(len(list) > 0, "a list with at least one schema")
	case subMap, dependency:
		for _, name := range slices.Sorted(maps.Keys(object)) {
			if strs, ok := object[name].([]any); ok && f == dependency && distinctStrings(strs) {
				continue
			}
			if err := w.below(at, k, here+"/"+escapePointer(name), object[name]); err != nil {
				return err
			}
		}
		return must(isObject, "an object with schemas")
	}
	return nil
}

// below checks a schema in the value of the keyword k of the one at a place.
func (w *dialect) below(at, k, here string, v any) error {
	if slices.Contains(samePlace, k) {
		w.again[at] = append(w.again[at], here)
	}
	return w.schema(here, v)
}

// terminates makes sure that every reference leads to a schema, and none back
// to where it is with nothing but the same value: that check would never end.
func (w *dialect) terminates() error {
	const (
		entered = 1
		left    = 2
	)
	state := map[string]int{}
	var visit func(at string) error
	visit = func(at string) error {
		state[at] = entered
		for _, to := range w.again[at] {
			if _, exists := w.again[to]; !exists {
				return misplaced(at, "$ref is %q, where there is no schema", "#"+to)
			}
			if state[to] == entered {
				return misplaced(at, "the schema refers back to itself without going down into the value")
			}
			if state[to] == 0 {
				if err := visit(to); err != nil {
					return err
				}
			}
		}
		state[at] = left
		return nil
	}
	for _, at := range slices.Sorted(maps.Keys(w.again)) {
		if state[at] == 0 {
			if err := visit(at); err != nil {
				return err
			}
		}
	}
	return nil
}

func distinctStrings(list []any) bool {
	seen := map[string]bool{}
	for _, v := range list {
		s, ok := v.(string)
		if !ok || seen[s] {
			return false
		}
		seen[s] = true
	}
	return true
}

func escapePointer(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}
