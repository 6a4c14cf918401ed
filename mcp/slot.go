package mcp

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/claudepool/claudepool"
)

type findInput struct {
	Name  string               `json:"name,omitempty"`
	Role  string               `json:"role,omitempty"`
	State claudepool.SlotState `json:"state,omitempty"`
}

type slots struct {
	Slots []slotStatus `json:"slots"`
}

func (o slots) text() string {
	if len(o.Slots) == 0 {
		return "no such slots"
	}
	lines := make([]string, len(o.Slots))
	for i, sl := range o.Slots {
		lines[i] = sl.text()
	}
	return strings.Join(lines, "\n")
}

type slotStatus struct{ claudepool.SlotStatus }

func (o slotStatus) text() string {
	line := fmt.Sprintf("%s %s", o.ID, o.State)
	for _, part := range []struct{ label, value string }{{"", o.Name}, {"role ", o.Role}, {"", string(o.TaskID)}, {"", o.Detail}} {
		if part.value != "" {
			line += ", " + part.label + part.value
		}
	}
	return line
}

type configureInput struct {
	SlotID      string  `json:"slot_id" jsonschema:"id or name"`
	Name        *string `json:"name,omitempty"`
	Role        *string `json:"role,omitempty"`
	Description *string `json:"description,omitempty"`
}

type slotInput struct {
	SlotID string `json:"slot_id"`
}

type claimed struct {
	// TaskID is null when there was no task to run.
	TaskID *claudepool.TaskID `json:"task_id"`
}

func (o claimed) text() string {
	if o.TaskID == nil {
		return "no task can run on that slot now"
	}
	return fmt.Sprintf("runs %s", *o.TaskID)
}

type countInput struct {
	Count int `json:"count,omitempty" jsonschema:"default 1"`
}

type targetInput struct {
	Target int `json:"target"`
}

type slotCount struct {
	NewSlotCount int `json:"new_slot_count"`
}

func (o slotCount) text() string { return fmt.Sprintf("%d slots", o.NewSlotCount) }

func (s *Server) addSlotTools() {
	add(s, ToolsetSlots, tool{
		name: "pool_find_slots", hints: reads, about: "Slots by name, role or state; all of them without.",
	}, func(ctx context.Context, _ *sdk.CallToolRequest, in findInput) (slots, error) {
		found, err := s.pool.FindSlots(ctx, claudepool.SlotFilter(in))
		out := slots{Slots: make([]slotStatus, len(found))}
		for i, sl := range found {
			out.Slots[i] = slotStatus{sl}
		}
		return out, err
	})
	add(s, ToolsetSlots, tool{
		name: "pool_configure_slot", hints: adjusts, about: "Give a slot a name, role or description, so that tasks can ask for it with slot or role.",
	}, func(ctx context.Context, _ *sdk.CallToolRequest, in configureInput) (slotStatus, error) {
		sl, err := s.pool.ConfigureSlot(ctx, in.SlotID, claudepool.SlotUpdate{Name: in.Name, Role: in.Role, Description: in.Description})
		return slotStatus{sl}, err
	})
	add(s, ToolsetSlots, tool{
		name: "pool_claim", hints: adds, about: "Start the best waiting task on this slot now; task_id is null when there is none.",
	}, func(ctx context.Context, _ *sdk.CallToolRequest, in slotInput) (claimed, error) {
		id, ok, err := s.pool.Claim(ctx, in.SlotID)
		if !ok {
			return claimed{}, err
		}
		return claimed{&id}, err
	})
	atLeastOne := func(in *jsonschema.Schema) { in.Properties["count"].Minimum = jsonschema.Ptr(1.0) }
	add(s, ToolsetSlots, tool{
		name: "pool_scale_up", hints: adds, input: atLeastOne, about: "Add slots.",
	}, func(ctx context.Context, _ *sdk.CallToolRequest, in countInput) (slotCount, error) {
		n, err := s.pool.ScaleUp(ctx, max(in.Count, 1))
		return slotCount{n}, err
	})
	add(s, ToolsetSlots, tool{
		name: "pool_scale_down", hints: adds, input: atLeastOne, about: "Remove slots; busy ones finish their task first.",
	}, func(ctx context.Context, _ *sdk.CallToolRequest, in countInput) (slotCount, error) {
		n, err := s.pool.ScaleDown(ctx, max(in.Count, 1))
		return slotCount{n}, err
	})
	add(s, ToolsetSlots, tool{
		name: "pool_set_target_slots", hints: adjusts, about: "Add or remove slots until there are target many.",
		input: func(in *jsonschema.Schema) { in.Properties["target"].Minimum = jsonschema.Ptr(1.0) },
	}, func(ctx context.Context, _ *sdk.CallToolRequest, in targetInput) (slotCount, error) {
		n, err := s.pool.SetTargetSlots(ctx, in.Target)
		return slotCount{n}, err
	})
}
