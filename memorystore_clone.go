package claudepool

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/worktree"
)

// clone returns a copy of r that shares no memory with it that could be changed.
func (r TaskRecord) clone() TaskRecord {
	r.Task = r.Task.clone()
	r.Chain = r.Chain.clone()
	if r.Claim != nil {
		r.Claim = new(*r.Claim)
	}
	r.Result = r.Result.clone()
	return r
}

func (t Task) clone() Task {
	t.Images = slices.Clone(t.Images)
	for i, img := range t.Images {
		t.Images[i].Data = slices.Clone(img.Data)
	}
	t.Tags, t.From = slices.Clone(t.Tags), slices.Clone(t.From)
	t.Overrides.AgentConfig = t.Overrides.AgentConfig.clone()
	t.Env = maps.Clone(t.Env)
	if t.Call != nil {
		t.Call = new(*t.Call)
		t.Call.Arguments = maps.Clone(t.Call.Arguments)
	}
	if t.Allowance != nil {
		t.Allowance = new(*t.Allowance)
	}
	if t.Review != nil {
		t.Review = new(*t.Review)
	}
	return t
}

// clone returns a copy that shares nothing with c, which may be nil.
func (c *Chain) clone() *Chain {
	if c == nil {
		return nil
	}
	a := *c
	a.Steps = slices.Clone(c.Steps)
	for i := range a.Steps {
		s := &a.Steps[i]
		s.Action.Arguments = maps.Clone(s.Action.Arguments)
		if d := s.Action.Definition; d != nil {
			s.Action.Definition = new(d.clone())
		}
		s.Overrides.AgentConfig = s.Overrides.AgentConfig.clone()
		s.OutputVars = maps.Clone(s.OutputVars)
		s.Needs = slices.Clone(s.Needs)
	}
	a.Arguments = maps.Clone(c.Arguments)
	a.Overrides = c.Overrides.clone()
	return &a
}

func (s Skill) clone() Skill {
	s.Arguments = slices.Clone(s.Arguments)
	s.AllowedTools = slices.Clone(s.AllowedTools)
	s.Config = s.Config.clone()
	return s
}

func cloneSteps(steps []StepResult) []StepResult {
	steps = slices.Clone(steps)
	for i := range steps {
		steps[i].Vars = maps.Clone(steps[i].Vars)
		steps[i].Items = cloneSteps(steps[i].Items)
	}
	return steps
}

func (c AgentConfig) clone() AgentConfig {
	c.Tools = slices.Clone(c.Tools)
	c.AllowedTools = slices.Clone(c.AllowedTools)
	c.DisallowedTools = slices.Clone(c.DisallowedTools)
	c.MCPServers = cloneServers(c.MCPServers)
	c.JSONSchema = slices.Clone(c.JSONSchema)
	c.AddDirs = slices.Clone(c.AddDirs)
	c.Agents = slices.Clone(c.Agents)
	c.Settings = slices.Clone(c.Settings)
	return c
}

func cloneServers(servers map[string]claude.MCPServer) map[string]claude.MCPServer {
	servers = maps.Clone(servers)
	for name, s := range servers {
		servers[name] = slices.Clone(s)
	}
	return servers
}

// clone returns a copy that shares nothing with r, which may be nil.
func (r *TaskResult) clone() *TaskResult {
	if r == nil {
		return nil
	}
	c := *r
	c.Structured = slices.Clone(r.Structured)
	c.Work = cloneWork(r.Work)
	if r.Failure != nil {
		c.Failure = new(*r.Failure)
		if code := r.Failure.ExitCode; code != nil {
			c.Failure.ExitCode = new(*code)
		}
	}
	c.Denials = slices.Clone(r.Denials)
	for i, d := range c.Denials {
		c.Denials[i].Input = json.RawMessage(slices.Clone(d.Input))
	}
	c.Models = maps.Clone(r.Models)
	c.Steps = cloneSteps(r.Steps)
	return &c
}

func (a Attempt) clone() Attempt {
	a.Models, a.Work = maps.Clone(a.Models), cloneWork(a.Work)
	return a
}

func cloneWork(w *worktree.Result) *worktree.Result {
	if w == nil {
		return nil
	}
	c := *w
	c.Commits, c.Recovery, c.Conflicts = slices.Clone(w.Commits), slices.Clone(w.Recovery), slices.Clone(w.Conflicts)
	return &c
}
