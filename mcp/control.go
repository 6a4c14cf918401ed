package mcp

import (
	"context"
	"fmt"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/claudepool/claudepool"
)

// The bounds of pool_drain's timeout_secs.
const (
	usualDrain = 30 * time.Second
	maxDrain   = time.Hour
)

type dispatch struct {
	Paused bool `json:"paused"`
}

func (o dispatch) text() string {
	if o.Paused {
		return "paused: what runs goes on, nothing more starts until pool_resume"
	}
	return "dispatching"
}

type drainInput struct {
	TimeoutSecs *float64 `json:"timeout_secs,omitempty" jsonschema:"default 30"`
}

// drained is what a drain came to, or that it goes on.
type drained struct {
	Done bool `json:"done"`
	claudepool.DrainSummary
}

func (o drained) text() string {
	if !o.Done {
		return "the pool drains; pool_status shows how far it is"
	}
	return fmt.Sprintf("drained: %d tasks finished, %d cancelled, %d back in the queue, %d waiting there, %v spent", o.Finished, o.Cancelled, o.Requeued, o.Pending, o.Spend)
}

func (s *Server) addControlTools() {
	add(s, ToolsetSlots, tool{
		name: "pool_pause", hints: adjusts, about: "Start no more tasks until pool_resume. Running ones go on.",
	}, func(context.Context, *sdk.CallToolRequest, none) (dispatch, error) {
		s.pool.Pause()
		return dispatch{Paused: true}, nil
	})
	add(s, ToolsetSlots, tool{
		name: "pool_resume", hints: adjusts, about: "End pool_pause.",
	}, func(context.Context, *sdk.CallToolRequest, none) (dispatch, error) {
		s.pool.Resume()
		return dispatch{}, nil
	})
	add(s, ToolsetSlots, tool{
		name: "pool_drain", hints: destroys,
		about: "Shut the pool down for good: it takes no more work, and running tasks have until timeout_secs to finish.",
		input: func(in *jsonschema.Schema) { bound(in, "timeout_secs", 0, maxDrain.Seconds()) },
	}, s.drain)
}

// drain shuts the pool down. Once begun it goes on, whether or not the caller waits.
func (s *Server) drain(ctx context.Context, req *sdk.CallToolRequest, in drainInput) (drained, error) {
	limit := usualDrain
	if in.TimeoutSecs != nil {
		limit = time.Duration(*in.TimeoutSecs * float64(time.Second))
	}
	var sum claudepool.DrainSummary
	var failure error
	done := make(chan struct{})
	err := s.background(func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(s.ctx, limit)
		defer cancel()
		sum, failure = s.pool.Drain(ctx)
	})
	if err != nil {
		return drained{}, err
	}
	look := func(ctx context.Context) progress {
		st, err := s.pool.Status(ctx)
		if err != nil {
			return progress{message: "draining"}
		}
		return progress{message: fmt.Sprintf("draining: %d tasks still run", st.RunningTasks)}
	}
	if s.attend(ctx, req, 0, done, look) != ended {
		return drained{}, nil
	}
	return drained{Done: failure == nil, DrainSummary: sum}, failure
}
