// Package schema checks structured output against JSON Schemas, in the dialect
// that the Claude CLI reads.
package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/google/jsonschema-go/jsonschema"
)

// Schema is what an output must fit. It is safe for concurrent use.
type Schema struct{ resolved *jsonschema.Resolved }

// Of returns the schema that raw describes. The error says what is wrong with
// raw as a sentence without its subject. Schemas with the same text share the
// work, which counts where many tasks have the same one.
func Of(raw json.RawMessage) (*Schema, error) {
	memo.Lock()
	s := memo.made[string(raw)]
	memo.Unlock()
	if s != nil {
		return s, nil
	}
	s, err := compile(raw)
	if err != nil {
		return nil, err
	}
	memo.Lock()
	defer memo.Unlock()
	if memo.made == nil || len(memo.made) >= maxMade {
		memo.made = make(map[string]*Schema)
	}
	memo.made[string(raw)] = s
	return s, nil
}

// memo holds the schemas that this program has met: what one means depends on
// nothing but its text. maxMade bounds them.
var memo struct {
	sync.Mutex
	made map[string]*Schema
}

const maxMade = 128

func compile(raw json.RawMessage) (*Schema, error) {
	plain, err := readDialect(raw)
	if err != nil {
		return nil, err
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(plain, &s); err != nil {
		return nil, fmt.Errorf("is no JSON Schema: %w", err)
	}
	resolved, err := s.Resolve(nil)
	if err != nil {
		return nil, fmt.Errorf("is no JSON Schema: %w", err)
	}
	return &Schema{resolved}, nil
}

// Check says at which path a structured output does not fit, and why. No
// output fits no schema.
func (s *Schema) Check(output json.RawMessage) error {
	if output == nil {
		return errors.New("the model gave no structured output, though a JSON schema was asked for")
	}
	var v any
	if err := json.Unmarshal(output, &v); err != nil {
		return fmt.Errorf("the structured output is not JSON: %w", err)
	}
	if err := s.resolved.Validate(v); err != nil {
		path, reason := misfit(err)
		return fmt.Errorf("the structured output does not fit the JSON schema at %s: %s", path, reason)
	}
	return nil
}

// misfit takes an error of the validation apart: where in the output it is, as
// a JSON pointer with "*" for an item of a list, and what is wrong there. The
// errors are nested, each with its place in the schema in front.
func misfit(err error) (path, reason string) {
	place := ""
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		at := strings.TrimPrefix(strings.TrimSuffix(err.Error(), ": "+inner.Error()), "validating ")
		if at == "root" {
			at = ""
		}
		if hop, below := strings.CutPrefix(at, place+"/"); below {
			path += descent(hop)
		}
		place, err = at, inner
	}
	if path == "" {
		path = "the root"
	}
	return path, shorten(err.Error())
}

// descent returns where a step down a schema leads in the output.
func descent(hop string) string {
	keyword, name, _ := strings.Cut(hop, "/")
	switch keyword {
	case "properties":
		return "/" + name
	case "items":
		if name != "" {
			return "/" + name // one of a list with a schema for each place
		}
		return "/*"
	case "additionalItems", "patternProperties", "additionalProperties":
		return "/*"
	}
	return "" // another look at the same value
}

// maxReason bounds what is told of a misfit, in bytes.
const maxReason = 300

// shorten cuts a reason in the middle, where the value is.
func shorten(reason string) string {
	if len(reason) <= maxReason {
		return reason
	}
	const half = maxReason / 2
	return strings.ToValidUTF8(reason[:half], "") + " … " + strings.ToValidUTF8(reason[len(reason)-half:], "")
}
