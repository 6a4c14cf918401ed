package mcp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/worktree"
)

type mergeInput struct {
	taskInput
	Target   string            `json:"target,omitempty" jsonschema:"a branch; default: the one the server works on"`
	Strategy worktree.Strategy `json:"strategy,omitempty" jsonschema:"default merge"`
	Check    bool              `json:"check,omitempty" jsonschema:"the server's check command must succeed on the result first"`
	DryRun   bool              `json:"dry_run,omitempty"`
	Resolve  bool              `json:"resolve,omitempty" jsonschema:"on conflict, submit a task that resolves it in the session that wrote the work"`
	Key      string            `json:"idempotency_key,omitempty" jsonschema:"of that task"`
}

// merged is what a merge came to. Conflicts are an answer, not an error: both
// branches are as they were.
type merged struct {
	worktree.MergeResult
	// ResolvedBy is the task that resolves the conflicts.
	ResolvedBy claudepool.TaskID `json:"resolved_by,omitempty"`
	Note       string            `json:"note,omitempty"`
}

func (o merged) text() string {
	text := fmt.Sprintf("%s is merged into %s, now at %.12s: %d files, +%d -%d", o.Branch, o.Target, o.After, o.Files, o.Insertions, o.Deletions)
	switch {
	case len(o.Conflicts) > 0:
		names := make([]string, len(o.Conflicts))
		for i, c := range o.Conflicts {
			names[i] = c.Path
		}
		text = fmt.Sprintf("%s does not merge into %s: conflicts in %s", o.Branch, o.Target, strings.Join(names, ", "))
	case o.Already:
		text = fmt.Sprintf("%s has the work of %s already", o.Target, o.Branch)
	case o.DryRun:
		text = fmt.Sprintf("%s would merge into %s: %d files, +%d -%d", o.Branch, o.Target, o.Files, o.Insertions, o.Deletions)
	}
	if o.Note != "" {
		text += "; " + o.Note
	}
	return text
}

// places is what there is of isolated work.
type places struct {
	Places     []worktree.PlaceInfo `json:"places"`
	Recoveries []worktree.Recovery  `json:"recoveries"`
	Removed    []worktree.Removal   `json:"removed,omitempty"`
	DryRun     bool                 `json:"dry_run,omitempty"`
}

func (o places) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "places: %d, recovery refs: %d", len(o.Places), len(o.Recoveries))
	for _, p := range o.Places {
		fmt.Fprintf(&b, "\n%s %s %s, used %s", p.Name, p.Kind, p.State, p.Used.Format("2006-01-02 15:04"))
		if p.Work != "" {
			fmt.Fprintf(&b, ", work %s", p.Work)
		}
	}
	verb := "removed"
	if o.DryRun {
		verb = "would remove"
	}
	for _, r := range o.Removed {
		fmt.Fprintf(&b, "\n%s %s: %s", verb, cmp.Or(r.Path, r.Branch, r.Ref), r.Why)
	}
	return b.String()
}

type placesInput struct {
	Clean  bool `json:"clean,omitempty" jsonschema:"remove places that nobody has, merged branches, old recovery refs; what they hold is kept"`
	DryRun bool `json:"dry_run,omitempty" jsonschema:"with clean: only say what it would do"`
}

type recoverInput struct {
	Ref    string `json:"ref"`
	Branch string `json:"branch" jsonschema:"a new branch that gets what the ref keeps"`
}

type recovered struct {
	Branch string `json:"branch"`
}

func (o recovered) text() string { return "branch " + o.Branch + " has it" }

func (s *Server) addWorktreeTools() {
	add(s, ToolsetWorktrees, tool{
		name: "pool_merge", hints: destroys, about: "Merge the branch of an isolated task or chain into a target. Conflicts leave both as they were.",
	}, s.merge)
	add(s, ToolsetWorktrees, tool{
		name: "pool_worktrees", hints: destroys, about: "The folders of isolated work with state and age, and the recovery refs of what was written there and is on no branch.",
	}, func(ctx context.Context, _ *sdk.CallToolRequest, in placesInput) (out places, err error) {
		out.DryRun = in.Clean && in.DryRun
		if in.Clean {
			if out.Removed, err = s.pool.CleanPlaces(ctx, worktree.CleanOptions{DryRun: in.DryRun}); err != nil {
				return out, err
			}
		}
		if out.Places, err = s.pool.Places(ctx); err != nil {
			return out, err
		}
		out.Recoveries, err = s.pool.Recoveries(ctx)
		if out.Recoveries == nil {
			out.Recoveries = []worktree.Recovery{}
		}
		if out.Places == nil {
			out.Places = []worktree.PlaceInfo{}
		}
		return out, err
	})
	add(s, ToolsetWorktrees, tool{
		name: "pool_recover", hints: adds, about: "Make a branch of what a recovery ref keeps.",
	}, func(ctx context.Context, _ *sdk.CallToolRequest, in recoverInput) (recovered, error) {
		return recovered{in.Branch}, s.pool.Recover(ctx, in.Ref, in.Branch)
	})
}

// merge merges the work of a task. The check is a command of who started the
// server: a coordinator could run anything with one of its own.
func (s *Server) merge(ctx context.Context, _ *sdk.CallToolRequest, in mergeInput) (merged, error) {
	o := worktree.MergeRequest{Target: in.Target, Strategy: in.Strategy, DryRun: in.DryRun, CheckedOut: s.opts.CheckedOut}
	if in.Check {
		if len(s.opts.MergeCheck) == 0 {
			return merged{}, invalid("check", "was asked for, and the server has no check command; a person has to start it with --merge-check")
		}
		o.Check = s.opts.MergeCheck
	}
	r, err := s.pool.MergeTask(ctx, in.TaskID, o)
	out := merged{MergeResult: r}
	if err == nil {
		var t claudepool.TaskRecord
		if t, err = s.pool.Task(ctx, in.TaskID); t.State == claudepool.StateFailed || t.State == claudepool.StateCancelled {
			out.Note = fmt.Sprintf("the task is %s (%s), and this is what it had written by then", t.State, t.Outcome)
		}
	}
	conflict, ok := errors.AsType[*worktree.ConflictError](err)
	if !ok {
		return out, err
	}
	out.Branch, out.Target, out.Conflicts = conflict.Branch, conflict.Target, conflict.Files
	out.Note = "call again with resolve, or merge by hand"
	if _, more, ok := strings.Cut(err.Error(), conflict.Error()+"; "); ok {
		out.Note = more
	}
	if in.Resolve && !in.DryRun {
		if out.ResolvedBy, err = s.pool.ResolveConflict(ctx, in.TaskID, conflict, in.Key); err != nil {
			return out, err
		}
		out.Note = fmt.Sprintf("task %s resolves them; merge that one when it is done", out.ResolvedBy)
	}
	return out, nil
}
