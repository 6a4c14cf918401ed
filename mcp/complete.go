package mcp

import (
	"context"
	"iter"
	"strings"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/claudepool/claudepool"
)

// maxCompletions is how many values the protocol allows in an answer.
const maxCompletions = 100

// complete completes what is named in the URIs of resources and in the arguments
// of prompts.
func (s *Server) complete(ctx context.Context, req *sdk.CompleteRequest) (*sdk.CompleteResult, error) {
	out := sdk.CompletionResultDetails{Values: []string{}} // never nil: the protocol wants a list
	for value, err := range s.candidates(ctx, req.Params.Ref, req.Params.Argument.Name) {
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(value, req.Params.Argument.Value) {
			continue
		}
		if out.HasMore = len(out.Values) == maxCompletions; out.HasMore {
			break
		}
		out.Values = append(out.Values, value)
	}
	out.Total = len(out.Values)
	return &sdk.CompleteResult{Completion: out}, nil
}

// candidates are the values that an argument of that name can have.
func (s *Server) candidates(ctx context.Context, ref *sdk.CompleteReference, argument string) iter.Seq2[string, error] {
	switch argument {
	case "id", "slot", "slot_id":
		return s.slotIDs(ctx)
	case "task_id", "chain_id":
		chains := argument == "chain_id" || ref.URI == chainPrefix+"{task_id}"
		return s.taskIDs(ctx, chains)
	case "skill", "skill_name":
		return func(yield func(string, error) bool) {
			for _, sk := range s.pool.Skills().Skills(claudepool.SkillFilter{}) {
				if !yield(sk.Name, nil) {
					return
				}
			}
		}
	case "workflow", "workflow_name":
		return func(yield func(string, error) bool) {
			for _, w := range s.pool.Workflows().Workflows() {
				if !yield(w.Name, nil) {
					return
				}
			}
		}
	}
	return func(func(string, error) bool) {}
}

func (s *Server) slotIDs(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		found, err := s.pool.FindSlots(ctx, claudepool.SlotFilter{})
		if err != nil {
			yield("", err)
			return
		}
		for _, sl := range found {
			if !yield(sl.ID, nil) {
				return
			}
		}
	}
}

// taskIDs are the ids of tasks, newest first, or of chains only.
func (s *Server) taskIDs(ctx context.Context, chains bool) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for r, err := range s.pool.Tasks(ctx, claudepool.TaskFilter{}) {
			if chains && err == nil && r.Chain == nil {
				continue
			}
			if !yield(string(r.ID), err) {
				return
			}
		}
	}
}
