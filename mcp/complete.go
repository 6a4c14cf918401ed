package mcp

import (
	"context"
	"strings"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/claudepool/claudepool"
)

// maxCompletions is how many values the protocol allows in an answer.
const maxCompletions = 100

// complete completes the ids in the URIs of resources.
func (s *Server) complete(ctx context.Context, req *sdk.CompleteRequest) (*sdk.CompleteResult, error) {
	values := []string{} // never nil: the protocol wants a list
	more := false
	add := func(id string) bool {
		if !strings.HasPrefix(id, req.Params.Argument.Value) {
			return true
		}
		if more = len(values) == maxCompletions; more {
			return false
		}
		values = append(values, id)
		return true
	}
	if req.Params.Ref.Type == "ref/resource" {
		switch req.Params.Argument.Name {
		case "id":
			found, err := s.pool.FindSlots(ctx, claudepool.SlotFilter{})
			if err != nil {
				return nil, err
			}
			for _, sl := range found {
				if !add(sl.ID) {
					break
				}
			}
		case "task_id":
			for r, err := range s.pool.Tasks(ctx, claudepool.TaskFilter{}) {
				if err != nil {
					return nil, err
				}
				if !add(string(r.ID)) {
					break
				}
			}
		}
	}
	return &sdk.CompleteResult{Completion: sdk.CompletionResultDetails{Values: values, Total: len(values), HasMore: more}}, nil
}
