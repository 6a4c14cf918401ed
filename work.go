package claudepool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/claudepool/claudepool/worktree"
)

var (
	// ErrNoWork: the task has no branch, because it was not isolated or never began.
	ErrNoWork = errors.New("task has no branch")
	// ErrStillWrites: the task has not ended, or its work is just being saved.
	ErrStillWrites = errors.New("not all work of the task is on its branch yet")
)

// Places lists the folders in which isolated tasks work, those of other programs
// and those that a program has left behind included.
func (p *Pool) Places(ctx context.Context) ([]worktree.PlaceInfo, error) {
	m, err := p.workspace(ctx)
	if err != nil {
		return nil, err
	}
	return m.Places(ctx)
}

// CleanPlaces removes the places that nobody has and what else is of no more use.
// What is in them is put on recovery refs first, or they stay. So do the branches
// of tasks and chains that have not ended, such as those that wait for a review.
// With DryRun it only says what it would do.
func (p *Pool) CleanPlaces(ctx context.Context, o worktree.CleanOptions) ([]worktree.Removal, error) {
	m, err := p.workspace(ctx)
	if err != nil {
		return nil, err
	}
	live := map[TaskID]bool{}
	for r, err := range p.store.Tasks(ctx, TaskFilter{States: []TaskState{StatePending, StateRunning, StatePendingReview}}) {
		if err != nil {
			return nil, err
		}
		live[r.ID] = true
	}
	spare := o.Spare
	o.Spare = func(work string) bool {
		return live[chainOf(TaskID(work))] || spare != nil && spare(work)
	}
	return m.Clean(ctx, o)
}

// Recoveries lists the refs that keep what was in a place when that was needed for
// something else.
func (p *Pool) Recoveries(ctx context.Context) ([]worktree.Recovery, error) {
	m, err := p.workspace(ctx)
	if err != nil {
		return nil, err
	}
	return m.Recoveries(ctx)
}

// Recover makes a branch of what a recovery ref keeps. A branch that is there
// already is not touched, and is an error.
func (p *Pool) Recover(ctx context.Context, ref, branch string) error {
	m, err := p.workspace(ctx)
	if err != nil {
		return err
	}
	return m.Recover(ctx, ref, branch)
}

// workspace returns the manager of the places, as long as the pool can be used.
func (p *Pool) workspace(ctx context.Context) (*worktree.Manager, error) {
	if err := p.usable(); err != nil {
		return nil, err
	}
	return p.trees.open(ctx)
}

// MergeTask brings the work of an isolated task that has ended, or waits for a
// review, to a branch; of a chain that of its last steps, merged into one another
// first. In o, Work, Branch and Commit are the pool's to say. The target moves only
// forward and only if nobody else has moved it meanwhile, and no checkout is
// changed unless o says so.
//
// What a task has written that has failed or was cancelled is merged like that of
// others: look at its outcome first. One that may still write is [ErrStillWrites],
// and one without a branch [ErrNoWork]. A conflict leaves all as it was and is a
// [*worktree.ConflictError]; [Pool.ResolveConflict] sends it back to where the work
// was done. Work in which marks of a conflict are left after that is one again.
func (p *Pool) MergeTask(ctx context.Context, id TaskID, o worktree.MergeRequest) (worktree.MergeResult, error) {
	m, err := p.workspace(ctx)
	if err != nil {
		return worktree.MergeResult{}, err
	}
	works, err := p.workOf(ctx, m, id)
	if err != nil {
		return worktree.MergeResult{}, err
	}
	o.Work, o.Branch, o.Commit = works[0], "", ""
	if len(works) == 1 {
		return m.Merge(ctx, o)
	}
	// Steps that nothing joins.
	o.Work, o.Branch = "", string(id)
	res := worktree.MergeResult{}
	if o.Commit, err = m.Combine(ctx, works); err == nil {
		res, err = m.Merge(ctx, o)
	}
	if errors.Is(err, worktree.ErrConflict) {
		err = fmt.Errorf("%w; %s", err, joinFirst(id, works))
	}
	return res, err
}

// joinFirst says how work of several sessions comes to one.
func joinFirst[T ~string](chain TaskID, ends []T) string {
	return fmt.Sprintf("no one session has written all of chain %s: submit a task with From of its last steps, which joins them (%q), and merge that", chain, ends)
}

// ended returns the record of a task of which all work is on its branch.
func (p *Pool) ended(ctx context.Context, id TaskID) (TaskRecord, error) {
	r, err := p.store.Task(ctx, id)
	switch {
	case err != nil:
		return r, err
	case !r.State.Terminal() && r.State != StatePendingReview:
		return r, fmt.Errorf("task %s is %s; wait for its end: %w", id, r.State, ErrStillWrites)
	case r.Claim != nil: // it was cancelled, and who runs it has not come to that yet
		return r, fmt.Errorf("task %s is %s, and what it has written is being saved; try again: %w", id, r.State, ErrStillWrites)
	}
	return r, nil
}

// workOf returns whose branches have the work of a task or a chain.
func (p *Pool) workOf(ctx context.Context, m *worktree.Manager, id TaskID) ([]string, error) {
	r, err := p.ended(ctx, id)
	if err != nil {
		return nil, err
	}
	tasks := []TaskID{id}
	if r.Chain != nil {
		if tasks, err = p.lastSteps(ctx, r); err != nil {
			return nil, err
		}
	}
	var works []string
	for _, t := range tasks {
		known, err := m.Has(ctx, string(t))
		if err != nil {
			return nil, err
		}
		if !known {
			continue
		}
		if _, err := p.ended(ctx, t); err != nil {
			return nil, err
		}
		works = append(works, string(t))
	}
	if len(works) == 0 {
		return nil, fmt.Errorf("task %s has isolation %q: %w", id, r.Task.Isolation, ErrNoWork)
	}
	return works, nil
}

// lastSteps returns the tasks that have the work of a chain: those of the steps
// that no other needs, or where these did nothing those of what they need.
func (p *Pool) lastSteps(ctx context.Context, r TaskRecord) ([]TaskID, error) {
	plan, err := r.Chain.plan()
	if err != nil {
		return nil, err
	}
	seen, err := p.lookAt(ctx, &r)
	if err != nil {
		return nil, err
	}
	l := &chainLook{plan: plan, steps: seen.steps}
	needed := make([]bool, len(l.plan.steps))
	for _, s := range l.plan.steps {
		for _, n := range s.needs {
			needed[n] = true
		}
	}
	var ids []TaskID
	for i := range l.plan.steps {
		if needed[i] {
			continue
		}
		for _, id := range l.workOf(i) {
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids, nil
}

// ResolveConflict submits a task that goes on in the session and on the branch of
// the task id, with the target merged into it as far as that goes: what is left
// are the conflicts, which the agent is asked to resolve. When it has, the branch
// merges. It returns the new task, whose branch is to be merged then. A key that
// was given for that task and target before names the same one again, whatever
// conflicts by now.
func (p *Pool) ResolveConflict(ctx context.Context, id TaskID, conflict *worktree.ConflictError, key string) (TaskID, error) {
	if conflict == nil || conflict.Target == "" {
		return "", invalidField("conflict", "must be that of a merge, with its target")
	}
	r, err := p.ended(ctx, id)
	if err != nil {
		return "", err
	}
	if r.Chain != nil {
		steps, err := p.lastSteps(ctx, r)
		switch {
		case err != nil:
			return "", err
		case len(steps) == 0:
			return "", fmt.Errorf("chain %s: %w", id, ErrNoWork)
		case len(steps) > 1:
			return "", errors.New(joinFirst(id, steps))
		}
		return p.ResolveConflict(ctx, steps[0], conflict, key)
	}
	if !r.Task.Isolation.apart() {
		return "", fmt.Errorf("task %s has isolation %q: %w", id, r.Task.Isolation, ErrNoWork)
	}
	t := r.Task.clone()
	t.Prompt, t.Commands, t.Images = conflictPrompt(conflict), false, nil
	t.Session, t.From, t.Merge = Session{Task: id}, nil, conflict.Target
	t.Overrides.SystemPrompt, t.Overrides.AppendPrompt, t.Overrides.JSONSchema = "", "", nil
	t.IdempotencyKey, t.Call, t.Review, t.Allowance, t.Parent = key, nil, nil, nil, id
	if key != "" {
		for old, err := range p.store.Tasks(ctx, TaskFilter{Owner: cmp.Or(t.Owner, defaultOwner), IdempotencyKey: key, Limit: 1}) {
			if err != nil || old.Task.Session == t.Session && old.Task.Merge == t.Merge {
				return old.ID, err
			}
		}
	}
	return p.Submit(ctx, t)
}

// maxNamed bounds how many files the prompt for conflicts names.
const maxNamed = 100

// conflictPrompt asks an agent to resolve conflicts in its files.
func conflictPrompt(e *worktree.ConflictError) string {
	var names strings.Builder
	for _, f := range e.Files[:min(len(e.Files), maxNamed)] {
		fmt.Fprintf(&names, "- %q (%s)\n", f.Path, cmp.Or(f.Note, f.Kind))
	}
	if more := len(e.Files) - maxNamed; more > 0 {
		fmt.Fprintf(&names, "- and %d more; they have the same marks\n", more)
	}
	return fmt.Sprintf(`Your work conflicts with what others have done meanwhile. The branch %q has been merged into the files in your working directory; where the two sides do not go together, both are there, between lines that begin with <<<<<<<, ======= and >>>>>>>. A side that has deleted or renamed the file is empty. Of a binary file each side is a line with the git command that prints it.

Files with conflicts when this was found out:
%s
Resolve each conflict so that what you have changed and what the other side has changed both still hold, and remove the lines with the marks; where only one side can hold, make the file what it is there, or delete it. Change nothing else, but what has to change for the whole to work. You need not commit.`, e.Target, names.String())
}
