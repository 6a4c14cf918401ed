package schema_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/claudetest"
	"github.com/claudepool/claudepool/internal/schema"
)

// The dialect is that of the real CLI: what is refused here would end its
// process at the start, and what is taken here would not.
func TestRealCLIReadsTheSameDialect(t *testing.T) {
	t.Parallel()
	cli := claudetest.CLI(t)
	iso := claudetest.Isolate(t, claudetest.NewAPI(t, nil))
	for _, text := range []string{
		`{"type":"nonsense"}`, `{"required":["a","a"]}`, `{"properties":{"a":{"prefixItems":[{"type":"string"}]}}}`,
		`{"if":{"type":"object"}}`, `{"$schema":"https://json-schema.org/draft/2020-12/schema"}`,
		`{"properties":{"a":{"$ref":"#/nowhere"}}}`, `{"enum":[]}`,
		// Every keyword once.
		`{"$schema":"http://json-schema.org/draft-07/schema#","$id":"http://example.com/x","$comment":"c","title":"t","description":"d","type":["object","null"],
		"default":{},"examples":[1],"deprecated":false,"readOnly":false,"writeOnly":false,
		"definitions":{"d":{"type":"string","nullable":true,"format":"email","pattern":"^a","minLength":1,"maxLength":9,"contentMediaType":"text/plain","contentEncoding":"base64","contentSchema":{}},"e":{"enum":[1],"const":1}},"minProperties":0,"maxProperties":9,"required":["n"],"propertyNames":{"maxLength":9},
		"properties":{"n":{"type":"number","minimum":1,"maximum":9,"exclusiveMinimum":0,"exclusiveMaximum":10,"multipleOf":1},
		"l":{"type":"array","items":[{"$ref":"#/definitions/d"}],"additionalItems":{"$ref":"#/definitions/e"},"minItems":1,"maxItems":9,"uniqueItems":true,"contains":{"type":"string"}}},
		"patternProperties":{"^x":true},"additionalProperties":false,"dependencies":{"l":["n"],"n":{"type":"object"}},
		"allOf":[{"type":"object"}],"anyOf":[{"type":"object"}],"oneOf":[{"type":"object"}],"not":{"required":["z"]},
		"if":{"required":["l"]},"then":{"required":["n"]},"else":{"$defs":{"x":true}}}`,
	} {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			_, here := schema.Of(json.RawMessage(text))
			o := iso.Options(cli)
			o.JSONSchema = json.RawMessage(text)
			p, there := claude.Start(t.Context(), o)
			if there == nil {
				defer p.Close(t.Context())
			} else if _, refused := errors.AsType[*claude.ExitError](there); !refused {
				t.Fatal(there)
			}
			if (here == nil) != (there == nil) {
				t.Errorf("%s\nhere: %v\nthe CLI: %v", text, here, there)
			}
		})
	}
}
