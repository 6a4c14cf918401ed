package mcp

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/claudepool/claudepool"
)

const (
	maxTasks    = 500 // tasks in one call of pool_wait or pool_fan_out
	maxListed   = 200 // tasks in one answer of pool_list_tasks
	usualListed = 50
	promptShown = 100 // characters of a prompt in a list
)

// work is what all tools that start tasks take besides prompts.
type work struct {
	Overrides *overrides           `json:"overrides,omitempty"`
	Tags      []string             `json:"tags,omitempty"`
	Priority  int                  `json:"priority,omitempty" jsonschema:"the higher goes first"`
	Isolation claudepool.Isolation `json:"isolation,omitempty" jsonschema:"own files and branch"`
	Slot      string               `json:"slot,omitempty" jsonschema:"id or name of the only slot to use"`
	Role      string               `json:"role,omitempty" jsonschema:"role the slot must have"`
	Key       string               `json:"idempotency_key,omitempty" jsonschema:"a call repeated with it starts nothing new"`
}

type submitInput struct {
	Prompt  string `json:"prompt"`
	Session string `json:"session,omitempty" jsonschema:"fresh (default), task:ID (with its branch) or id:UUID to continue one"`
	work
}

func submitSchema(s *jsonschema.Schema) {
	overridesSchema(s)
	s.Properties["prompt"].MinLength = jsonschema.Ptr(1)
}

// task makes the task that w describes.
func (s *Server) task(ctx context.Context, req *sdk.CallToolRequest, prompt string, w work) (claudepool.Task, error) {
	o, err := s.overrides(ctx, w.Overrides)
	if err != nil {
		return claudepool.Task{}, err
	}
	return claudepool.Task{
		Prompt: prompt, Overrides: o, Tags: w.Tags, Priority: w.Priority, Isolation: w.Isolation,
		Slot: w.Slot, Role: w.Role, IdempotencyKey: w.Key, Owner: s.owner(req),
	}, nil
}

// submit submits a task. Its result waits for a review if there is a policy for one.
func (s *Server) submit(ctx context.Context, req *sdk.CallToolRequest, in submitInput, review *claudepool.ReviewPolicy) (claudepool.TaskID, error) {
	t, err := s.task(ctx, req, in.Prompt, in.work)
	if err != nil {
		return "", err
	}
	t.Review = review
	if t.Session, err = claudepool.ParseSession(in.Session); err != nil {
		return "", err
	}
	return s.submitTask(ctx, t)
}

type taskInput struct {
	TaskID claudepool.TaskID `json:"task_id"`
}

type submitted struct {
	TaskID claudepool.TaskID `json:"task_id"`
}

func (o submitted) text() string { return fmt.Sprintf("submitted %s", o.TaskID) }

type taskState struct {
	TaskID claudepool.TaskID    `json:"task_id"`
	State  claudepool.TaskState `json:"state"`
}

func (o taskState) text() string { return fmt.Sprintf("%s is %s", o.TaskID, o.State) }

func (s *Server) addTaskTools() {
	add(s, ToolsetCore, tool{
		name: "pool_run", hints: works, input: submitSchema,
		about: "Run one task and wait for its result. If the answer has state pending or running, the work goes on: collect it with pool_wait, do not run it again.",
	}, s.run)
	add(s, ToolsetCore, tool{
		name: "pool_submit", hints: works, input: submitSchema,
		about: "Queue a task and return its id at once. Collect it with pool_wait or pool_result.",
	}, func(ctx context.Context, req *sdk.CallToolRequest, in submitInput) (submitted, error) {
		id, err := s.submit(ctx, req, in, nil)
		return submitted{id}, err
	})
	add(s, ToolsetCore, tool{
		name: "pool_result", hints: reads,
		about: "State of a task, and its result once it has ended. Reads on in long output from offset.",
		input: func(in *jsonschema.Schema) { in.Properties["offset"].Minimum = jsonschema.Ptr(0.0) },
	}, func(ctx context.Context, _ *sdk.CallToolRequest, in struct {
		taskInput
		Offset int `json:"offset,omitempty" jsonschema:"characters of output to skip"`
	}) (report, error) {
		r, err := s.report(ctx, in.TaskID)
		if err == nil {
			r.cut(in.Offset, s.opts.MaxOutput)
		}
		return r, err
	})
	add(s, ToolsetCore, tool{
		name: "pool_wait", hints: reads,
		about: "Wait up to timeout_secs for all tasks, or any one of them, to end. Gives all their states and the results there are; call again for the rest.",
		input: func(in *jsonschema.Schema) {
			ids := in.Properties["task_ids"]
			ids.MinItems, ids.MaxItems = jsonschema.Ptr(1), jsonschema.Ptr(maxTasks)
			in.Properties["mode"].Enum = []any{"all", "any"}
			bound(in, "timeout_secs", 0, patience.Seconds())
		},
	}, s.wait)
	add(s, ToolsetCore, tool{
		name: "pool_list_tasks", hints: reads, about: "Tasks, newest first.",
		input: func(in *jsonschema.Schema) { bound(in, "limit", 1, maxListed) },
	}, s.list)
	add(s, ToolsetCore, tool{
		name: "pool_cancel", hints: destroys,
		about: "Cancel a task; a running turn is interrupted. One that has ended stays as it is.",
	}, func(ctx context.Context, _ *sdk.CallToolRequest, in taskInput) (taskState, error) {
		st, err := s.pool.Cancel(ctx, in.TaskID)
		return taskState{in.TaskID, st}, err
	})
	add(s, ToolsetCore, tool{
		name: "pool_explain", hints: reads, about: "Why a task waits, runs or ended, in words.",
	}, func(ctx context.Context, _ *sdk.CallToolRequest, in taskInput) (explanation, error) {
		e, err := s.pool.Explain(ctx, in.TaskID)
		return explanation{e}, err
	})
	add(s, ToolsetCore, tool{
		name: "pool_retry", hints: works, about: "Submit a failed or cancelled task again; gives the new task's id. A chain goes on with what is completed.",
	}, s.retry)
}

// run submits a task and waits for it as long as the caller does.
func (s *Server) run(ctx context.Context, req *sdk.CallToolRequest, in submitInput) (report, error) {
	id, err := s.submit(ctx, req, in, nil)
	if err != nil {
		return report{}, err
	}
	return s.attendReport(ctx, req, id)
}

// attendReport waits for a task as attendTask does, and reports it.
func (s *Server) attendReport(ctx context.Context, req *sdk.CallToolRequest, id claudepool.TaskID) (report, error) {
	if err := s.attendTask(ctx, req, id); err != nil {
		return report{}, err
	}
	r, err := s.report(context.WithoutCancel(ctx), id)
	if err == nil {
		r.cut(0, s.opts.MaxOutput)
	}
	return r, err
}

type waitInput struct {
	TaskIDs     []claudepool.TaskID `json:"task_ids"`
	Mode        string              `json:"mode,omitempty" jsonschema:"default all"`
	TimeoutSecs *float64            `json:"timeout_secs,omitempty" jsonschema:"default 50"`
}

type waited struct {
	// Done says that what was waited for has come.
	Done  bool     `json:"done"`
	Tasks []report `json:"tasks"`
}

func (o waited) text() string               { return textOf(o.Tasks) }
func (o waited) links() []*sdk.ResourceLink { return linksOf(o.Tasks) }

func (s *Server) wait(ctx context.Context, req *sdk.CallToolRequest, in waitInput) (waited, error) {
	for _, id := range in.TaskIDs {
		if _, err := s.pool.Task(ctx, id); err != nil {
			return waited{}, fmt.Errorf("%s: %w", id, err)
		}
	}
	limit := patience
	if in.TimeoutSecs != nil {
		limit = max(time.Duration(*in.TimeoutSecs*float64(time.Second)), time.Nanosecond)
	}
	done, stop, err := s.when(in.Mode != "any", in.TaskIDs)
	if err != nil {
		return waited{}, err
	}
	defer stop()
	s.attend(ctx, req, limit, done, s.look(in.TaskIDs))
	tasks, err := s.reports(context.WithoutCancel(ctx), in.TaskIDs)
	if err != nil {
		return waited{}, err
	}
	came := 0
	for _, t := range tasks {
		if settled(t.State) {
			came++
		}
	}
	return waited{Done: came == len(tasks) || in.Mode == "any" && came > 0, Tasks: tasks}, nil
}

type listInput struct {
	State  claudepool.TaskState `json:"state,omitempty"`
	Tag    string               `json:"tag,omitempty"`
	SlotID string               `json:"slot_id,omitempty"`
	Owner  string               `json:"owner,omitempty"`
	Limit  int                  `json:"limit,omitempty" jsonschema:"default 50"`
	Cursor claudepool.TaskID    `json:"cursor,omitempty" jsonschema:"next_cursor of the page before"`
}

// listed is a task in a list.
type listed struct {
	TaskID    claudepool.TaskID       `json:"task_id"`
	State     claudepool.TaskState    `json:"state"`
	Outcome   claudepool.Outcome      `json:"outcome,omitempty"`
	Prompt    string                  `json:"prompt"` // its beginning
	Tags      []string                `json:"tags,omitempty"`
	SlotID    string                  `json:"slot_id,omitempty"`
	Parent    claudepool.TaskID       `json:"parent,omitempty"` // of a step: its chain
	Submitted time.Time               `json:"submitted"`
	Cost      claudepool.Microdollars `json:"cost_microdollars"`
}

type list struct {
	Tasks      []listed          `json:"tasks"`
	NextCursor claudepool.TaskID `json:"next_cursor,omitempty"`
}

func (o list) text() string {
	if len(o.Tasks) == 0 {
		return "no tasks"
	}
	var b strings.Builder
	for _, t := range o.Tasks {
		fmt.Fprintf(&b, "%s %s %s %q\n", t.TaskID, t.State, t.Outcome, t.Prompt)
	}
	if o.NextCursor != "" {
		fmt.Fprintf(&b, "more with cursor %s\n", o.NextCursor)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func (s *Server) list(ctx context.Context, _ *sdk.CallToolRequest, in listInput) (list, error) {
	limit := in.Limit
	if limit == 0 {
		limit = usualListed
	}
	f := claudepool.TaskFilter{Tag: in.Tag, SlotID: in.SlotID, Owner: in.Owner, Before: in.Cursor, Limit: limit + 1}
	if in.State != "" {
		f.States = []claudepool.TaskState{in.State}
	}
	out := list{Tasks: []listed{}}
	for r, err := range s.pool.Tasks(ctx, f) {
		if err != nil {
			return list{}, err
		}
		if len(out.Tasks) == limit {
			out.NextCursor = out.Tasks[limit-1].TaskID
			break
		}
		out.Tasks = append(out.Tasks, lineOf(r))
	}
	return out, nil
}

func lineOf(r claudepool.TaskRecord) listed {
	return listed{
		TaskID: r.ID, State: r.State, Outcome: r.Outcome, Prompt: runes(r.Task.Prompt, 0, promptShown), Tags: r.Task.Tags,
		SlotID: r.SlotID, Parent: r.Task.Parent, Submitted: r.Submitted, Cost: r.Cost,
	}
}

type explanation struct{ claudepool.Explanation }

func (o explanation) text() string { return fmt.Sprintf("%s is %s: %s", o.TaskID, o.State, o.Reason) }

type retryInput struct {
	taskInput
	Key string `json:"idempotency_key,omitempty" jsonschema:"a call repeated with it starts nothing new"`
}

// retry submits a task again. Unlike [claudepool.Pool.Retry] it does so for the
// caller, under the caller's idempotency key and ceiling.
func (s *Server) retry(ctx context.Context, req *sdk.CallToolRequest, in retryInput) (submitted, error) {
	r, err := s.pool.Task(ctx, in.TaskID)
	if err != nil {
		return submitted{}, err
	}
	if r.State != claudepool.StateFailed && r.State != claudepool.StateCancelled {
		return submitted{}, invalid("task_id", "names a task that is %s; only a failed or cancelled one can be tried again", r.State)
	}
	if r.Chain != nil {
		return s.retryChain(ctx, req, r, in.Key)
	}
	t := r.Task
	if err := s.taskWithinCeilings(ctx, fmt.Sprintf("task %s: ", r.ID), t.Overrides); err != nil {
		return submitted{}, err
	}
	t.IdempotencyKey, t.Owner, t.Parent, t.NotBefore = in.Key, s.owner(req), r.ID, time.Time{}
	id, err := s.submitTask(ctx, t)
	return submitted{id}, err
}

// retryChain goes on with a chain.
func (s *Server) retryChain(ctx context.Context, req *sdk.CallToolRequest, r claudepool.TaskRecord, key string) (submitted, error) {
	c := *r.Chain
	c.Resume = r.ID
	id, err := s.pool.SubmitChain(ctx, c, s.chainOptions(ctx, req, work{Tags: r.Task.Tags, Priority: r.Task.Priority, Key: key}))
	return submitted{id}, inSteps(err)
}

// textOf joins the texts of several reports.
func textOf(rs []report) string {
	parts := make([]string, len(rs))
	for i, r := range rs {
		parts[i] = fmt.Sprintf("[%d] %s", i+1, r.text())
	}
	return strings.Join(parts, "\n\n")
}

func linksOf(rs []report) []*sdk.ResourceLink {
	var all []*sdk.ResourceLink
	for _, r := range rs {
		all = append(all, r.links()...)
	}
	return all
}
