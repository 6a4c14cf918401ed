package schema_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/claudepool/claudepool/internal/schema"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, schema, output, want string }{
		{"fits", `{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}`, `{"n":7}`, ""},
		{"whole float", `{"type":"integer"}`, `7.0`, ""},
		{"missing", `{"type":"object"}`, ``, "no structured output"},
		{"not JSON", `{"type":"object"}`, `{`, "is not JSON"},
		{"null is an output", `{"type":"object"}`, `null`, "at the root: type:"},
		{"root", `{"type":"object"}`, `[]`, "at the root: type:"},
		{"property", `{"type":"object","properties":{"n":{"type":"integer"}}}`, `{"n":"7"}`, `at /n: type: 7 has type "string", want "integer"`},
		{"required", `{"type":"object","required":["n"]}`, `{}`, `at the root: required: missing properties: ["n"]`},
		{"deep", `{"properties":{"a":{"items":{"properties":{"b":{"enum":["x"]}}}}}}`, `{"a":[{"b":"x"},{"b":"y"}]}`, "at /a/*/b: enum:"},
		{"by place", `{"properties":{"a":{"items":[{"type":"string"},{"type":"integer"}]}}}`, `{"a":["x","y"]}`, "at /a/1: type:"},
		{"other properties", `{"additionalProperties":{"type":"string"}}`, `{"z":1}`, "at /*: type:"},
		{"too many", `{"additionalProperties":false}`, `{"z":1}`, `unexpected additional properties ["z"]`},
		{"by reference", `{"properties":{"a":{"$ref":"#/definitions/p"}},"definitions":{"p":{"properties":{"b":{"type":"string"}}}}}`, `{"a":{"b":1}}`, "at /a/b: type:"},
		{"a tree", `{"properties":{"kids":{"items":{"$ref":"#"}},"n":{"type":"integer"}}}`, `{"kids":[{"kids":[{"n":"x"}]}]}`, "/n: type:"},
		{"all of", `{"allOf":[{"properties":{"a":{"type":"string"}}}]}`, `{"a":1}`, "at /a: type:"},
		{"escaped reference", `{"properties":{"a":{"$ref":"#/definitions/p%20q~1r"}},"definitions":{"p q/r":{"type":"string"}}}`, `{"a":1}`, "at /a: type:"},
		{"draft-07 dependencies", `{"dependencies":{"a":["b"]}}`, `{"a":1}`, `missing properties`},
		{"nullable", `{"properties":{"a":{"type":"string","nullable":true}}}`, `{"a":null}`, ""},
		{"nullable list", `{"properties":{"a":{"type":["string"],"nullable":true}}}`, `{"a":null}`, ""},
		{"not nullable", `{"properties":{"a":{"type":"string","nullable":false}}}`, `{"a":null}`, "at /a: type:"},
		{"draft named", `{"$schema":"http://json-schema.org/draft-07/schema","type":"object"}`, `{}`, ""},
		{"id", `{"$id":"thing","properties":{"a":{"$ref":"#/definitions/p"}},"definitions":{"p":{"type":"string"}}}`, `{"a":"x"}`, ""},
		{"format is advice", `{"properties":{"a":{"type":"string","format":"email"}}}`, `{"a":"x"}`, ""},
		{"true allows all", `{"properties":{"a":true}}`, `{"a":1}`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s, err := schema.Of(json.RawMessage(tc.schema))
			if err != nil {
				t.Fatalf("Of: %v", err)
			}
			var output json.RawMessage
			if tc.output != "" {
				output = json.RawMessage(tc.output)
			}
			switch err := s.Check(output); {
			case tc.want == "" && err != nil:
				t.Errorf("Check = %v, want it to fit", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("Check = %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func TestCheckTellsOfALargeValueInShort(t *testing.T) {
	t.Parallel()
	s, err := schema.Of(json.RawMessage(`{"type":"integer"}`))
	if err != nil {
		t.Fatal(err)
	}
	err = s.Check(json.RawMessage(`"` + strings.Repeat("é", 10_000) + `"`))
	if err == nil || len(err.Error()) > 500 || !strings.Contains(err.Error(), `want "integer"`) {
		t.Errorf("Check = %v, want a short error with the end of the reason", err)
	}
}

// refused are schemas that cannot be used, with what is told of them. The real
// CLI refuses the same, but for the last few.
var refused = []struct{ schema, want string }{
	{`"no"`, "is not a JSON object"},
	{`null`, "is null"},
	{`{`, "is not a JSON object"},
	{`{"type":"nonsense"}`, `at / "type" must be one or more of null, boolean`},
	{`{"properties":{"a":{"type":"strnig"}}}`, `at /properties/a "type" must be`},
	{`{"type":[]}`, `"type" must be`},
	{`{"required":"a"}`, `"required" must be a list of strings`},
	{`{"required":["a","a"]}`, "each once"},
	{`{"properties":[]}`, `"properties" must be an object`},
	{`{"properties":{"a/b":1}}`, "at /properties/a~1b there must be a schema"},
	{`{"properties":{"a":{"minLength":-1}}}`, `"minLength" must be a whole number`},
	{`{"minLength":1.5}`, `"minLength" must be a whole number`},
	{`{"maximum":"1"}`, `"maximum" must be a number`},
	{`{"multipleOf":0}`, `"multipleOf" must be a number above zero`},
	{`{"enum":[]}`, `"enum" must be a list with at least one`},
	{`{"allOf":[]}`, `"allOf" must be a list with at least one`},
	{`{"anyOf":{}}`, `"anyOf" must be a list`},
	{`{"anyOf":[3]}`, "at /anyOf/0 there must be a schema"},
	{`{"not":3}`, "at /not there must be a schema"},
	{`{"uniqueItems":1}`, `"uniqueItems" must be true or false`},
	{`{"title":1}`, `"title" must be a string`},
	{`{"dependencies":{"a":[1]}}`, "at /dependencies/a there must be a schema"},
	{`{"if":{"type":"object"}}`, `"if" is nothing without then or else`},
	{`{"then":{"type":"object"}}`, `"then" is nothing without if`},
	{`{"additionalItems":false}`, `"additionalItems" is nothing without items`},
	{`{"properties":{"a":{"prefixItems":[{"type":"string"}]}}}`, `at /properties/a "prefixItems" is no keyword`},
	{`{"dependentRequired":{"a":["b"]}}`, `"dependentRequired" is no keyword`},
	{`{"$schema":"https://json-schema.org/draft/2020-12/schema"}`, "draft-07 only"},
	{`{"properties":{"a":{"$ref":"http://example.com/x.json"}}}`, "only places in the same schema"},
	{`{"properties":{"a":{"$ref":"#/nowhere"}}}`, "where there is no schema"},
	{`{"properties":{"a":{"pattern":"["}}}`, "pattern"},
	// The CLI takes these and fails to check, or checks what Go cannot.
	{`{"$defs":{},"definitions":{}}`, `both "$defs" and "definitions"`},
	{`{"$ref":"#"}`, "refers back to itself"},
	{`{"allOf":[{"$ref":"#/definitions/a"}],"definitions":{"a":{"anyOf":[{"$ref":"#"}]}}}`, "refers back to itself"},
	{`{"dependencies":{"a":{"$ref":"#"}}}`, "refers back to itself"},
	{`{"definitions":{"a":{"$ref":"#/definitions/a"}}}`, "refers back to itself"},
	{`{"properties":{"a":{"pattern":"^(?!x)"}}}`, "pattern"},
	{`{"properties":{"a":{"$id":"http://example.com/a"}}}`, `"$id" is only taken at the root`},
}

func TestOfRefusesWhatCannotBeUsed(t *testing.T) {
	t.Parallel()
	for _, tc := range refused {
		if s, err := schema.Of(json.RawMessage(tc.schema)); s != nil || err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("Of(%s) = %v, want an error with %q", tc.schema, err, tc.want)
		}
	}
}

func TestOfSharesTheWork(t *testing.T) {
	text := json.RawMessage(`{"type":"object","title":"shared"}`)
	a, err := schema.Of(text)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := schema.Of(append(json.RawMessage(nil), text...)); b != a || err != nil {
		t.Errorf("Of = %p, %v; want the schema made before, %p", b, err, a)
	}
	if n := testing.AllocsPerRun(100, func() { schema.Of(text) }); n != 0 {
		t.Errorf("a schema that is known costs %v allocations", n)
	}
	for i := range 1000 { // many others do not pile up, nor break anything
		raw, err := json.Marshal(map[string]any{"minimum": i})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := schema.Of(raw); err != nil {
			t.Fatal(err)
		}
	}
	if s, err := schema.Of(text); err != nil || s.Check([]byte(`{}`)) != nil {
		t.Errorf("after many others: %v", err)
	}
}

// FuzzSchema: whatever is a schema can be checked against, with an end.
func FuzzSchema(f *testing.F) {
	for _, tc := range refused {
		f.Add(tc.schema, `{"a":[1,"x",null]}`)
	}
	f.Add(`{"properties":{"a":{"items":{"$ref":"#"}}},"nullable":true,"type":"object"}`, `{"a":[{"a":[]}]}`)
	f.Add(`{"if":{"required":["a"]},"then":{"$ref":"#/$defs/x"},"$defs":{"x":{"not":{"type":"array"}}}}`, `{"a":1}`)
	f.Fuzz(func(t *testing.T, text, output string) {
		s, err := schema.Of(json.RawMessage(text))
		if err != nil {
			return
		}
		if err := s.Check(json.RawMessage(output)); err != nil && err.Error() == "" {
			t.Error("an error without words")
		}
	})
}
