package claudepool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// readJSON reads a text as JSON: the whole of it, or else its first fenced
// block, which is how models like to write it.
func readJSON(text string) (any, error) {
	v, err := decodeJSON(text)
	if err == nil {
		return v, nil
	}
	if block, ok := fenced(text); ok {
		if v, inner := decodeJSON(block); inner == nil {
			return v, nil
		}
	}
	return nil, errors.New("is not JSON, " + shorten(text) + ": " + err.Error() + "; ask for it in the prompt, or better give the step a json_schema")
}

// decodeJSON reads exactly one value. Numbers stay as they are written.
func decodeJSON(text string) (any, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("there is nothing")
		}
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more behind it")
	}
	return v, nil
}

// fenced returns what stands in the first block between lines of backticks.
func fenced(text string) (string, bool) {
	var block []string
	inside := false
	for line := range strings.Lines(text) {
		switch fence := strings.HasPrefix(strings.TrimSpace(line), "```"); {
		case fence && inside:
			return strings.Join(block, ""), true
		case fence:
			inside = true
		case inside:
			block = append(block, line)
		}
	}
	return "", false
}

// shortened is how much of a text a message quotes.
const shortened = 80

func shorten(text string) string {
	r := []rune(strings.TrimSpace(text))
	if len(r) > shortened {
		return strconv.Quote(string(r[:shortened])) + "…"
	}
	return strconv.Quote(string(r))
}

// atPath returns what a dot path leads to, in the form it has as a value.
func atPath(v any, path string) (string, error) {
	for i, part := range strings.Split(path, ".") {
		so := strings.Join(strings.Split(path, ".")[:i+1], ".")
		switch at := v.(type) {
		case map[string]any:
			next, ok := at[part]
			if !ok {
				return "", fmt.Errorf("has no %q; there are %s", so, keysOf(at))
			}
			v = next
		case []any:
			n, err := strconv.Atoi(part)
			if err != nil || n < 0 || n >= len(at) {
				return "", fmt.Errorf("has no %q: it is a list of %d there", so, len(at))
			}
			v = at[n]
		default:
			return "", fmt.Errorf("has no %q: there is %s before it", so, asText(v))
		}
	}
	return asText(v), nil
}

func keysOf(m map[string]any) string {
	if len(m) == 0 {
		return "none"
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return strings.Join(keys[:min(len(keys), 10)], ", ")
}

// asText writes a JSON value the way placeholders do: a text as it is,
// everything else as JSON.
func asText(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Sprint(v) // what was decoded can always be encoded
	}
	return strings.TrimSuffix(b.String(), "\n")
}
