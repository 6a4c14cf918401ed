package claude

import (
	"cmp"
	"context"
	"encoding/json"
)

// permissionAnswer is the answer to can_use_tool in the CLI's form. The
// suggestions of the CLI are never sent back: some of them write files or
// change the mode.
type permissionAnswer struct {
	Behavior     string          `json:"behavior"` // "allow" or "deny"
	UpdatedInput json.RawMessage `json:"updatedInput,omitempty"`
	Message      string          `json:"message,omitempty"`
	Interrupt    bool            `json:"interrupt,omitempty"`
}

const (
	noAnswerer = "Nobody can be asked for permission here. Do without this, or say what is needed."
	noReason   = "Permission was refused."
)

// permit asks the caller whether a tool may run. ctx ends when the question is
// withdrawn; the answer then goes nowhere.
func (p *Process) permit(ctx context.Context, t *turn, request json.RawMessage) (permissionAnswer, error) {
	var w wireAsk
	if err := decode(request, &w); err != nil {
		return permissionAnswer{}, err
	}
	ask := p.opts.Load().Permission
	if ask == nil || t == nil {
		return permissionAnswer{Behavior: "deny", Message: noAnswerer}, nil
	}
	q := PermissionRequest{
		ToolUseID: w.ToolUseID, Tool: w.ToolName, Input: w.Input, Description: w.Description,
		BlockedPath: w.BlockedPath, Reason: w.DecisionReason, AgentID: w.AgentID, Interactive: w.Interactive,
	}
	t.mail.put(Asked{Request: q})
	a, err := ask(ctx, q)
	if err != nil {
		a = PermissionAnswer{Message: p.secrets.Load().text(err.Error())}
	}
	if ctx.Err() != nil {
		a = PermissionAnswer{}
	}
	t.mail.put(Answered{ToolUseID: q.ToolUseID, Allowed: a.Allow})
	if !a.Allow {
		return permissionAnswer{Behavior: "deny", Message: cmp.Or(a.Message, noReason), Interrupt: a.Stop}, nil
	}
	input := a.Input
	if input == nil {
		input = w.Input
	}
	return permissionAnswer{Behavior: "allow", UpdatedInput: input}, nil
}
