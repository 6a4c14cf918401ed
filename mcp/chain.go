package mcp

import (
	"context"
	"fmt"

	"github.com/google/jsonschema-go/jsonschema"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/claudepool/claudepool"
)

type chainInput struct {
	Steps []step `json:"steps"`
	work
}

type chainsInput struct {
	Chains [][]step `json:"chains"`
	work
}

type submittedAll struct {
	TaskIDs []claudepool.TaskID `json:"task_ids"`
}

func (o submittedAll) text() string { return fmt.Sprintf("submitted %v", o.TaskIDs) }

func chainSchema(in *jsonschema.Schema) {
	overridesSchema(in)
	stepsSchema(in.Properties["steps"])
}

func (s *Server) addChainTools() {
	add(s, ToolsetChains, tool{
		name: "pool_chain", hints: works, input: chainSchema,
		about: "Run steps that build on each other and wait for the end. In order, or by needs as a graph. Texts may use {previous_output}, {steps.NAME.output}, {steps.NAME.VAR}. If the answer has state running, the work goes on: collect it with pool_wait or pool_chain_result.",
	}, func(ctx context.Context, req *sdk.CallToolRequest, in chainInput) (chainReport, error) {
		id, err := s.submitSteps(ctx, req, in)
		if err != nil {
			return chainReport{}, err
		}
		return s.attendChain(ctx, req, id)
	})
	add(s, ToolsetChains, tool{
		name: "pool_submit_chain", hints: works, input: chainSchema,
		about: "Queue a chain like that of pool_chain and return its id at once.",
	}, func(ctx context.Context, req *sdk.CallToolRequest, in chainInput) (submitted, error) {
		id, err := s.submitSteps(ctx, req, in)
		return submitted{id}, err
	})
	add(s, ToolsetChains, tool{
		name: "pool_fan_out_chains", hints: works,
		about: "Queue several independent chains, all or none, and return their ids at once.",
		input: func(in *jsonschema.Schema) {
			overridesSchema(in)
			all := in.Properties["chains"]
			all.MinItems, all.MaxItems = jsonschema.Ptr(1), jsonschema.Ptr(maxChains)
			stepsSchema(all.Items)
		},
	}, s.fanOutChains)
	add(s, ToolsetChains, tool{
		name: "pool_chain_result", hints: reads, about: "How a chain stands: each step with its state, output and cost, of a running one the end of what it has written so far.",
	}, func(ctx context.Context, _ *sdk.CallToolRequest, in taskInput) (chainReport, error) {
		return s.chainReport(ctx, in.TaskID)
	})
	add(s, ToolsetChains, tool{
		name: "pool_cancel_chain", hints: destroys, about: "Cancel a chain and interrupt its running steps. What is completed stays recorded.",
	}, func(ctx context.Context, _ *sdk.CallToolRequest, in taskInput) (taskState, error) {
		r, err := s.pool.Task(ctx, in.TaskID)
		if err != nil {
			return taskState{}, err
		}
		if r.Chain == nil {
			return taskState{}, invalid("task_id", "names a task and no chain; pool_cancel cancels it")
		}
		st, err := s.pool.Cancel(ctx, in.TaskID)
		return taskState{in.TaskID, st}, err
	})
}

// chainOptions say how a chain for the caller is queued.
func (s *Server) chainOptions(ctx context.Context, req *sdk.CallToolRequest, w work) claudepool.ChainOptions {
	return claudepool.ChainOptions{
		Tags: w.Tags, Priority: w.Priority, IdempotencyKey: w.Key, Owner: s.owner(req),
		Admit: func(c claudepool.Chain) error { return s.chainWithinCeilings(ctx, c) },
	}
}

func (s *Server) submitSteps(ctx context.Context, req *sdk.CallToolRequest, in chainInput) (claudepool.TaskID, error) {
	c, err := s.chain(ctx, in.Steps, in.work)
	if err != nil {
		return "", err
	}
	id, err := s.pool.SubmitChain(ctx, c, s.chainOptions(ctx, req, in.work))
	return id, inSteps(err)
}

func (s *Server) fanOutChains(ctx context.Context, req *sdk.CallToolRequest, in chainsInput) (submittedAll, error) {
	all := make([]claudepool.Chain, len(in.Chains))
	for i, steps := range in.Chains {
		var err error
		if all[i], err = s.chain(ctx, steps, in.work); err != nil {
			return submittedAll{}, within(fmt.Sprintf("chains[%d]", i), err)
		}
	}
	ids, err := s.pool.FanOutChains(ctx, all, s.chainOptions(ctx, req, in.work))
	return submittedAll{ids}, inSteps(err)
}

// attendChain waits for the end of a chain as long as the caller does.
func (s *Server) attendChain(ctx context.Context, req *sdk.CallToolRequest, id claudepool.TaskID) (chainReport, error) {
	if err := s.attendTask(ctx, req, id); err != nil {
		return chainReport{}, err
	}
	return s.chainReport(context.WithoutCancel(ctx), id)
}
