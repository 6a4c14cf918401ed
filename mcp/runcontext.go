package mcp

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

type keyInput struct {
	Key string `json:"key"`
}

type pairInput struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

type key struct {
	Key string `json:"key"`
}

func (o key) text() string { return o.Key }

type pair struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

func (o pair) text() string { return fmt.Sprintf("%s = %s", o.Key, o.Value) }

type runContext struct {
	Context map[string]string `json:"context"`
}

func (o runContext) text() string {
	if len(o.Context) == 0 {
		return "the run context is empty"
	}
	var lines []string
	for _, k := range slices.Sorted(maps.Keys(o.Context)) {
		lines = append(lines, pair{k, o.Context[k]}.text())
	}
	return strings.Join(lines, "\n")
}

func (s *Server) addContextTools() {
	add(s, ToolsetContext, tool{
		name: "context_set", hints: adjusts, about: "Set a fact that every task from the next on gets at the start of its prompt.",
	}, func(ctx context.Context, _ *sdk.CallToolRequest, in pairInput) (key, error) {
		if err := s.pool.SetContext(ctx, in.Key, in.Value); err != nil {
			return key{}, err
		}
		s.fresh.mark(contextURI)
		return key{in.Key}, nil
	})
	add(s, ToolsetContext, tool{
		name: "context_get", hints: reads, about: "Read a fact of the run context.",
	}, func(ctx context.Context, _ *sdk.CallToolRequest, in keyInput) (pair, error) {
		value, err := s.pool.GetContext(ctx, in.Key)
		return pair{in.Key, value}, err
	})
	add(s, ToolsetContext, tool{
		name: "context_delete", hints: destroys, about: "Remove a fact from the run context.",
	}, func(ctx context.Context, _ *sdk.CallToolRequest, in keyInput) (key, error) {
		if err := s.pool.DeleteContext(ctx, in.Key); err != nil {
			return key{}, err
		}
		s.fresh.mark(contextURI)
		return key(in), nil
	})
	add(s, ToolsetContext, tool{
		name: "context_list", hints: reads, about: "The whole run context.",
	}, func(ctx context.Context, _ *sdk.CallToolRequest, _ none) (runContext, error) {
		all, err := s.pool.Context(ctx)
		if all == nil {
			all = map[string]string{}
		}
		return runContext{all}, err
	})
}
