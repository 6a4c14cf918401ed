package mcp

import (
	"context"
	"slices"

	"github.com/google/jsonschema-go/jsonschema"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// Toolset is a group of tools that can be left out, so that a coordinator's
// context holds no more than it needs.
type Toolset string

// The toolsets.
const (
	ToolsetCore     Toolset = "core"     // run, submit, wait for, list and cancel tasks; status and metrics
	ToolsetChains   Toolset = "chains"   // chains, workflows, and routes, which may be chains
	ToolsetSkills   Toolset = "skills"   // skills, and each of them as a prompt
	ToolsetSlots    Toolset = "slots"    // find, name and scale slots; pause, resume and drain the pool
	ToolsetMessages Toolset = "messages" // messages between slots and the coordinator
	ToolsetReview   Toolset = "review"   // results that wait until somebody approves them
	ToolsetContext  Toolset = "context"  // the run context
	// ToolsetWorktrees merges the work of isolated tasks, and finds what is left of it.
	ToolsetWorktrees Toolset = "worktrees"
)

// Toolsets lists every toolset.
func Toolsets() []Toolset {
	return []Toolset{ToolsetCore, ToolsetChains, ToolsetSkills, ToolsetSlots, ToolsetMessages, ToolsetReview, ToolsetContext, ToolsetWorktrees}
}

// has reports whether a toolset is served.
func (s *Server) has(t Toolset) bool { return slices.Contains(s.opts.Toolsets, t) }

// hints are what a client is told of a tool's effects. All are always sent.
type hints struct{ readOnly, destructive, idempotent, openWorld bool }

var (
	reads    = hints{readOnly: true, idempotent: true}
	works    = hints{destructive: true, openWorld: true} // an agent may do anything its permissions allow
	adjusts  = hints{idempotent: true}
	adds     = hints{}
	takes    = hints{destructive: true} // what it gives is gone, and the next call gives something else
	destroys = hints{destructive: true, idempotent: true}
)

// tool describes a tool. In its description a sentence counts: all of them
// stand in every coordinator's context.
type tool struct {
	name, about string
	hints       hints
	input       func(*jsonschema.Schema) // completes the inferred schema, if set
	output      func(*jsonschema.Schema) // shortens the inferred schema, if set
}

// answer is what a tool gives: structured content, and the same in short for
// people and for clients that show text only.
type answer interface{ text() string }

// linked is an answer that refers to resources which hold more.
type linked interface{ links() []*sdk.ResourceLink }

// add adds a tool to the server if its toolset is wanted.
func add[In any, Out answer](s *Server, set Toolset, t tool, run func(context.Context, *sdk.CallToolRequest, In) (Out, error)) {
	if !s.has(set) {
		return
	}
	whole := &sdk.Tool{
		Name:         t.name,
		Description:  t.about,
		InputSchema:  inputSchema[In](t.input),
		OutputSchema: outputSchema[Out](t.output),
		Annotations: &sdk.ToolAnnotations{
			ReadOnlyHint: t.hints.readOnly, DestructiveHint: &t.hints.destructive,
			IdempotentHint: t.hints.idempotent, OpenWorldHint: &t.hints.openWorld,
		},
	}
	s.brief.add(whole)
	sdk.AddTool(s.mcp, whole, func(ctx context.Context, req *sdk.CallToolRequest, in In) (*sdk.CallToolResult, Out, error) {
		out, err := run(ctx, req, in)
		if err != nil {
			return nil, out, advise(err)
		}
		res := &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: out.text()}}}
		if l, ok := any(out).(linked); ok {
			for _, link := range l.links() {
				res.Content = append(res.Content, link)
			}
		}
		return res, out, nil
	})
}

func (s *Server) addTools() {
	s.addStatusTools()
	s.addTaskTools()
	s.addFanOutTools()
	s.addReviewTools()
	s.addChainTools()
	s.addWorkflowTools()
	s.addAutoTools()
	s.addSkillTools()
	s.addSlotTools()
	s.addControlTools()
	s.addMessageTools()
	s.addContextTools()
	s.addWorktreeTools()
}

// none is the input of a tool that takes nothing.
type none struct{}
