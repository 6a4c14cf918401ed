package mcp

import (
	"context"

	"github.com/google/jsonschema-go/jsonschema"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// briefTools are the tools as they are listed. The list stands in the context of
// every coordinator, so what many tools take is spelt out in the first of them,
// and the others name that one. What they accept is the same.
type briefTools struct {
	tools map[string]*sdk.Tool
	first map[string]string // the tool that spells a thing out
}

func newBriefTools() briefTools {
	return briefTools{tools: map[string]*sdk.Tool{}, first: map[string]string{}}
}

// add adds a tool to the list.
func (b briefTools) add(whole *sdk.Tool) {
	tool := *whole
	in := whole.InputSchema.(*jsonschema.Schema).CloneSchemas()
	b.shorten(in, tool.Name)
	tool.InputSchema = in
	b.tools[tool.Name] = &tool
}

func (b briefTools) shorten(in *jsonschema.Schema, tool string) {
	for name, p := range in.Properties {
		switch name {
		case "overrides":
			in.Properties[name] = b.brief(p, name, "model, permission_mode, max_budget_usd, json_schema, … as in ", tool)
		case "config": // of a skill
			in.Properties[name] = b.brief(p, "overrides", "model, permission_mode, … but no budget or timeout, as the overrides of ", tool)
		case "idempotency_key", "priority", "slot", "role":
			if !b.isFirst(name, tool) {
				p.Description = "" // the name says enough
			}
		case "chains":
			b.shortenSteps(p.Items, tool)
		case "steps":
			b.shortenSteps(p, tool)
		}
	}
}

func (b briefTools) shortenSteps(list *jsonschema.Schema, tool string) {
	b.shorten(list.Items, tool)
	list.Items = b.brief(list.Items, "steps", "as in ", tool)
}

// brief is what a tool says of a thing that may be spelt out in another, whose
// name follows what is said.
func (b briefTools) brief(s *jsonschema.Schema, thing, says, tool string) *jsonschema.Schema {
	if b.isFirst(thing, tool) {
		return s
	}
	return &jsonschema.Schema{Type: "object", Description: says + b.first[thing]}
}

// isFirst reports whether the tool is the one that spells a thing out.
func (b briefTools) isFirst(thing, tool string) bool {
	if b.first[thing] == "" {
		b.first[thing] = tool
	}
	return b.first[thing] == tool
}

// list puts the tools as they are listed in the place of those that are called.
func (b briefTools) list(next sdk.MethodHandler) sdk.MethodHandler {
	return func(ctx context.Context, method string, req sdk.Request) (sdk.Result, error) {
		res, err := next(ctx, method, req)
		if list, ok := res.(*sdk.ListToolsResult); ok && err == nil {
			for i, t := range list.Tools {
				if brief := b.tools[t.Name]; brief != nil {
					list.Tools[i] = brief
				}
			}
		}
		return res, err
	}
}
