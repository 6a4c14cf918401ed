package frontmatter

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Reader takes values out of a document and keeps every mistake it meets. What
// it cannot read it returns as the zero value.
//
// Aliases are a mistake wherever a value is read, so that a small document
// cannot become a large one.
type Reader struct{ errs []*Error }

// Failf notes a mistake at a value, or about the whole document when n is nil.
func (r *Reader) Failf(n Node, format string, args ...any) {
	line := 0
	if n != nil {
		line = n.Line
	}
	r.errs = append(r.errs, fail(line, format, args...))
}

// Err returns all mistakes in the order of their lines, joined, or nil.
func (r *Reader) Err() error {
	errs := slices.Clone(r.errs)
	slices.SortStableFunc(errs, func(a, b *Error) int { return cmp.Compare(a.Line, b.Line) })
	all := make([]error, len(errs))
	for i, e := range errs {
		all[i] = e
	}
	return errors.Join(all...)
}

// Keys says what to do with the value of each key of a mapping.
type Keys map[string]func(Node)

// Strict reads a mapping whose keys are all known. what names it in errors.
func (r *Reader) Strict(n Node, what string, keys Keys) {
	r.mapping(n, what, func(k, v Node) {
		read, known := keys[k.Value]
		if !known {
			r.Failf(k, "%s has no key %q; there are %s", what, k.Value, strings.Join(slices.Sorted(maps.Keys(keys)), ", "))
			return
		}
		read(v)
	})
}

// Loose reads the keys that it knows of a mapping, and leaves the others alone.
func (r *Reader) Loose(n Node, what string, keys Keys) {
	r.mapping(n, what, func(k, v Node) {
		if read, known := keys[k.Value]; known {
			read(v)
		}
	})
}

// mapping calls read for every key of a mapping, once for each.
func (r *Reader) mapping(n Node, what string, read func(k, v Node)) {
	if n == nil {
		return
	}
	if n.Kind != yaml.MappingNode {
		r.wrong(n, what, "keys with values")
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode {
			r.Failf(k, "%s has a key that is no text", what)
			continue
		}
		if line, twice := seen[k.Value]; twice {
			r.Failf(k, "%s has the key %q twice, first in line %d", what, k.Value, line)
			continue
		}
		seen[k.Value] = k.Line
		read(k, v)
	}
}

// wrong notes that a value is of another kind than it should be.
func (r *Reader) wrong(n Node, what, want string) {
	r.Failf(n, "%s must be %s, not %s", what, want, kind(n))
}

// kind says what a value is.
func kind(n Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "keys with values"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.AliasNode:
		return "an alias, which cannot be used here"
	case n.ShortTag() == "!!null":
		return "nothing"
	case n.ShortTag() == "!!str":
		return fmt.Sprintf("the text %q", shorten(n.Value))
	}
	return shorten(n.Value)
}

// shorten cuts a value for an error.
func shorten(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return s
}

// Text returns a single value as it is written, and nothing for nothing.
func (r *Reader) Text(n Node, what string) string {
	if n.Kind != yaml.ScalarNode {
		r.wrong(n, what, "text")
		return ""
	}
	if n.ShortTag() == "!!null" {
		return ""
	}
	return n.Value
}

// Bool returns true or false.
func (r *Reader) Bool(n Node, what string) (v bool) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" || n.Decode(&v) != nil {
		r.wrong(n, what, "true or false")
	}
	return v
}

// Int returns a whole number of at least zero.
func (r *Reader) Int(n Node, what string) int {
	v, err := strconv.Atoi(n.Value)
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" || err != nil || v < 0 {
		r.wrong(n, what, "a whole number, zero or more")
		return 0
	}
	return v
}

// Positive returns a number above zero.
func (r *Reader) Positive(n Node, what string) float64 {
	v, err := strconv.ParseFloat(n.Value, 64)
	tag := n.ShortTag()
	if n.Kind != yaml.ScalarNode || tag != "!!int" && tag != "!!float" || err != nil || !(v > 0) || math.IsInf(v, 1) {
		r.wrong(n, what, "a number above zero")
		return 0
	}
	return v
}

// List calls read for each value of a list.
func (r *Reader) List(n Node, what string, read func(i int, v Node)) {
	if n.Kind != yaml.SequenceNode {
		r.wrong(n, what, "a list")
		return
	}
	for i, v := range n.Content {
		read(i, v)
	}
}

// Texts returns a list of texts.
func (r *Reader) Texts(n Node, what string) []string {
	var out []string
	r.List(n, what, func(i int, v Node) { out = append(out, r.Text(v, fmt.Sprintf("%s[%d]", what, i))) })
	return out
}

// TextMap returns a mapping of texts.
func (r *Reader) TextMap(n Node, what string) map[string]string {
	out := map[string]string{}
	r.mapping(n, what, func(k, v Node) { out[k.Value] = r.Text(v, what+"."+k.Value) })
	return out
}

// JSON returns a value as JSON.
func (r *Reader) JSON(n Node, what string) json.RawMessage {
	b, err := json.Marshal(r.value(n, what))
	if err != nil {
		r.Failf(n, "%s cannot be written as JSON: %v", what, err)
		return nil
	}
	return b
}

// value returns what JSON can hold of a value.
func (r *Reader) value(n Node, what string) any {
	switch n.Kind {
	case yaml.MappingNode:
		out := map[string]any{}
		r.mapping(n, what, func(k, v Node) { out[k.Value] = r.value(v, what+"."+k.Value) })
		return out
	case yaml.SequenceNode:
		out := make([]any, 0, len(n.Content))
		r.List(n, what, func(i int, v Node) { out = append(out, r.value(v, fmt.Sprintf("%s[%d]", what, i))) })
		return out
	case yaml.ScalarNode:
		switch n.ShortTag() {
		case "!!null":
			return nil
		case "!!bool", "!!int", "!!float":
			var v any
			if err := n.Decode(&v); err != nil {
				r.Failf(n, "%s is not valid: %v", what, err)
			}
			return v
		}
		return n.Value
	}
	r.wrong(n, what, "a value")
	return nil
}

// Find returns the value at a path such as "steps[2].needs[0]", or the one that
// is nearest to it on the way there, and how many parts of the path lead to it.
func Find(root Node, path string) (n Node, depth int) {
	n = root
	for _, part := range strings.FieldsFunc(path, func(c rune) bool { return c == '.' || c == '[' || c == ']' }) {
		next := child(n, part)
		if next == nil {
			break
		}
		n = next
		depth++
	}
	return n, depth
}

// child returns the value that a mapping or a list has under a name or a number.
func child(n Node, part string) Node {
	switch {
	case n == nil:
	case n.Kind == yaml.SequenceNode:
		if i, err := strconv.Atoi(part); err == nil && i >= 0 && i < len(n.Content) {
			return n.Content[i]
		}
	case n.Kind == yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == part {
				return n.Content[i+1]
			}
		}
	}
	return nil
}
