package mcp

import (
	"context"
	"fmt"
	"strings"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/claudepool/claudepool"
)

type invokeInput struct {
	Workflow  string            `json:"workflow"`
	Arguments map[string]string `json:"arguments,omitempty"`
	work
}

// workflowLine is a workflow in a list.
type workflowLine struct {
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Arguments   []argument        `json:"arguments,omitempty"`
	Steps       []string          `json:"steps"`
	Source      claudepool.Source `json:"source"`
}

type workflowList struct {
	Workflows []workflowLine           `json:"workflows"`
	Problems  []claudepool.FileProblem `json:"problems,omitempty"`
}

func (o workflowList) text() string {
	var b strings.Builder
	for _, w := range o.Workflows {
		fmt.Fprintf(&b, "%s(%s): %s\n", w.Name, signature(w.Arguments), w.Description)
	}
	return strings.TrimSuffix(b.String()+problemText(o.Problems), "\n")
}

func (s *Server) addWorkflowTools() {
	add(s, ToolsetChains, tool{
		name: "pool_invoke_workflow", hints: works, input: overridesSchema,
		about: "Queue the chain of a workflow, a chain kept in a file, and return its id at once.",
	}, func(ctx context.Context, req *sdk.CallToolRequest, in invokeInput) (submitted, error) {
		id, err := s.invoke(ctx, req, in)
		return submitted{id}, err
	})
	add(s, ToolsetChains, tool{
		name: "pool_workflow_list", hints: reads, about: "The workflows, with their arguments and what is wrong with their files.",
	}, func(context.Context, *sdk.CallToolRequest, none) (workflowList, error) {
		out := workflowList{Workflows: []workflowLine{}, Problems: s.pool.Workflows().Problems()}
		for _, w := range s.pool.Workflows().Workflows() {
			line := workflowLine{Name: w.Name, Description: w.Description, Arguments: argumentsOf(w.Arguments), Source: w.Source}
			for _, st := range w.Steps {
				line.Steps = append(line.Steps, st.Name)
			}
			out.Workflows = append(out.Workflows, line)
		}
		return out, nil
	})
}

// invoke submits the chain of a workflow.
func (s *Server) invoke(ctx context.Context, req *sdk.CallToolRequest, in invokeInput) (claudepool.TaskID, error) {
	o := s.chainOptions(ctx, req, in.work)
	o.Call = &claudepool.Call{Workflow: in.Workflow, Arguments: in.Arguments}
	id, known, err := s.pool.Submitted(ctx, claudepool.Task{Call: o.Call, IdempotencyKey: o.IdempotencyKey, Owner: o.Owner})
	if known || err != nil { // also when the workflow is gone
		return id, err
	}
	w, err := s.pool.Workflows().Workflow(in.Workflow)
	if err != nil {
		return "", err
	}
	c, err := w.Chain(in.Arguments)
	if err != nil {
		return "", err
	}
	if err := s.adapt(ctx, &c, in.work); err != nil {
		return "", err
	}
	if id, err = s.pool.SubmitChain(ctx, c, o); err != nil {
		return "", fmt.Errorf("workflow %q: %w", w.Name, inSteps(err))
	}
	return id, nil
}
