package mcp

import (
	"context"
	"reflect"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/claudepool/claudepool"
)

// rescanEvery is the pause between two looks at the files of skills while
// clients are connected.
const rescanEvery = 2 * time.Second

// prompts are the skills that the clients know of as prompts.
type prompts struct {
	mu         sync.Mutex
	generation uint64
	known      map[string]*sdk.Prompt
}

// syncPrompts offers each skill as a prompt, as its file is now. Clients are
// told when that changed the list.
func (s *Server) syncPrompts() {
	if !s.has(ToolsetSkills) {
		return
	}
	registry := s.pool.Skills()
	generation := registry.Generation()
	if !s.prompts.older(generation) {
		return
	}
	now := map[string]*sdk.Prompt{}
	for _, sk := range registry.Skills(claudepool.SkillFilter{}) {
		now[sk.Name] = promptOf(sk)
	}
	p := &s.prompts
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known != nil && p.generation >= generation {
		return // somebody else was faster, and has seen as much
	}
	for name, prompt := range now {
		if !reflect.DeepEqual(p.known[name], prompt) {
			s.mcp.AddPrompt(prompt, s.getPrompt)
		}
	}
	for name := range p.known {
		if now[name] == nil {
			s.mcp.RemovePrompts(name)
		}
	}
	p.known, p.generation = now, generation
}

// older reports whether what is known is from before a generation.
func (p *prompts) older(generation uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known == nil || p.generation < generation
}

// promptOf is a skill as the list of prompts shows it.
func promptOf(sk claudepool.RegisteredSkill) *sdk.Prompt {
	p := &sdk.Prompt{Name: sk.Name, Description: sk.Description}
	for _, a := range sk.Arguments {
		p.Arguments = append(p.Arguments, &sdk.PromptArgument{Name: a.Name, Description: a.Description, Required: a.Required})
	}
	if len(p.Arguments) == 0 { // then it takes what is typed behind its name
		p.Arguments = []*sdk.PromptArgument{{Name: claudepool.FreeText, Description: sk.ArgumentHint}}
	}
	return p
}

// getPrompt expands a skill, as its file is now.
func (s *Server) getPrompt(_ context.Context, req *sdk.GetPromptRequest) (*sdk.GetPromptResult, error) {
	sk, err := s.pool.Skills().Skill(req.Params.Name)
	if err != nil {
		return nil, badParams(err)
	}
	text, err := sk.Expand(req.Params.Arguments)
	if err != nil {
		return nil, badParams(err)
	}
	return &sdk.GetPromptResult{
		Description: sk.Description,
		Messages:    []*sdk.PromptMessage{{Role: "user", Content: &sdk.TextContent{Text: text}}},
	}, nil
}

func badParams(err error) error {
	return &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: err.Error()}
}

// rescan looks for changes of skills while clients are connected, until the
// server closes.
func (s *Server) rescan() {
	tick := time.NewTicker(rescanEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
		for range s.mcp.Sessions() {
			s.syncPrompts()
			break
		}
	}
}

// freshPrompts looks at the skills before they are listed or used as prompts.
func (s *Server) freshPrompts(next sdk.MethodHandler) sdk.MethodHandler {
	return func(ctx context.Context, method string, req sdk.Request) (sdk.Result, error) {
		switch method {
		case "prompts/list", "prompts/get":
			s.syncPrompts()
		}
		return next(ctx, method, req)
	}
}
