package mcp

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/jsonschema-go/jsonschema"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/claudepool/claudepool"
)

type reviewInput struct {
	submitInput
	MaxRejections int `json:"max_rejections,omitempty" jsonschema:"default 3; the last one fails the task"`
}

type rejectInput struct {
	taskInput
	Feedback string `json:"feedback" jsonschema:"what has to change"`
}

func (s *Server) addReviewTools() {
	add(s, ToolsetReview, tool{
		name: "pool_submit_with_review", hints: works,
		about: "Queue a task whose result waits for your review, in state pending_review. Returns its id at once; pool_wait tells when it is ready.",
		input: func(in *jsonschema.Schema) {
			submitSchema(in)
			in.Properties["max_rejections"].Minimum = jsonschema.Ptr(1.0)
		},
	}, func(ctx context.Context, req *sdk.CallToolRequest, in reviewInput) (submitted, error) {
		id, err := s.submit(ctx, req, in.submitInput, &claudepool.ReviewPolicy{MaxRejections: in.MaxRejections})
		return submitted{id}, err
	})
	add(s, ToolsetReview, tool{
		name: "pool_approve_result", hints: adjusts, about: "Accept a result that waits for review: the task is completed.",
	}, func(ctx context.Context, _ *sdk.CallToolRequest, in taskInput) (taskState, error) {
		return reviewed(in.TaskID)(s.pool.ApproveResult(ctx, in.TaskID))
	})
	add(s, ToolsetReview, tool{
		name: "pool_reject_result", hints: works, about: "Send a result that waits for review back: the task goes on in its conversation with your feedback.",
		input: func(in *jsonschema.Schema) { in.Properties["feedback"].MinLength = jsonschema.Ptr(1) },
	}, func(ctx context.Context, _ *sdk.CallToolRequest, in rejectInput) (taskState, error) {
		return reviewed(in.TaskID)(s.pool.RejectResult(ctx, in.TaskID, in.Feedback))
	})
}

// reviewed makes the answer to a review, and says what to do when there was
// nothing to review.
func reviewed(id claudepool.TaskID) func(claudepool.TaskState, error) (taskState, error) {
	return func(st claudepool.TaskState, err error) (taskState, error) {
		switch {
		case !errors.Is(err, claudepool.ErrNotInReview):
		case st.Terminal():
			err = fmt.Errorf("%w; it has ended, and pool_result shows how; for more work submit another task", err)
		default:
			err = fmt.Errorf("%w; pool_wait tells when one does", err)
		}
		return taskState{id, st}, err
	}
}
