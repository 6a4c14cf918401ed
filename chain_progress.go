package claudepool

import (
	"context"
	"fmt"
	"iter"
	"reflect"
	"sync"
	"time"
	"unicode/utf8"
)

// ChainProgress returns how a chain stands, or what it came to. A task that is
// no chain is an [*InvalidError].
func (p *Pool) ChainProgress(ctx context.Context, id TaskID) (ChainResult, error) {
	r, err := p.Task(ctx, id)
	if err != nil {
		return ChainResult{TaskID: id}, err
	}
	if r.Chain == nil {
		return ChainResult{TaskID: id}, invalidField("task_id", "%s is a task and no chain", id)
	}
	l, err := p.lookAt(ctx, &r)
	if err != nil {
		return ChainResult{TaskID: id}, err
	}
	out := l.result(time.Now())
	for i := range out.Steps {
		p.addPartial(&out.Steps[i])
	}
	return out, nil
}

// lookAt reads how a chain stands from the store: from its result when it came
// to its end, else from the tasks of its steps.
func (p *Pool) lookAt(ctx context.Context, r *TaskRecord) (*chainLook, error) {
	var told []StepResult
	if r.Result != nil {
		told = r.Result.Steps
	}
	if told != nil && r.State != StateCancelled {
		return &chainLook{rec: r, steps: told}, nil
	}
	plan, err := r.Chain.plan()
	if err != nil {
		return nil, err
	}
	from, err := p.resumedFrom(ctx, r.Chain)
	if err != nil {
		return nil, err
	}
	var broken error
	l := &chainLook{plan: plan, rec: r, from: from, find: p.finder(ctx, map[TaskID]TaskRecord{}, &broken)}
	l.look()
	if told != nil && !l.begun() {
		l.steps = told // the store has forgotten the tasks
	}
	return l, broken
}

// settled returns the record of a chain. What the steps of a cancelled one came
// to, and have cost, is known later than that it was cancelled: it is looked up.
func (p *Pool) settled(ctx context.Context, r TaskRecord) (TaskRecord, error) {
	if r.State != StateCancelled || r.Result == nil {
		return r, nil
	}
	l, err := p.lookAt(ctx, &r)
	if err != nil {
		return r, err
	}
	r.Result = r.Result.clone()
	r.Result.Steps, r.Result.Cost = l.steps, r.Cost
	for i := range l.steps {
		r.Result.Cost = AddCost(r.Result.Cost, l.steps[i].Cost)
	}
	return r, nil
}

// cancelled is the result of a task that is cancelled on request.
func (p *Pool) cancelled(ctx context.Context, r *TaskRecord) *TaskResult {
	res := p.endedEarly(*r, OutcomeCancelled, "cancelled on request")
	if r.Chain == nil {
		return res
	}
	if l, err := p.lookAt(ctx, r); err == nil { // else whoever asks has to read them again
		res.Steps = l.steps
	}
	return res
}

// cancelSteps cancels the steps of a chain that have not ended.
func (p *Pool) cancelSteps(ctx context.Context, r TaskRecord) error {
	l, err := p.lookAt(ctx, &r)
	if err != nil {
		return fmt.Errorf("chain %s is cancelled, but not its steps; cancel it again: %w", r.ID, err)
	}
	for _, id := range l.live {
		if _, err := p.Cancel(ctx, id); err != nil {
			return fmt.Errorf("chain %s is cancelled, but not its step %s; cancel it again: %w", r.ID, id, err)
		}
	}
	return nil
}

// addPartial adds what running steps have answered so far.
func (p *Pool) addPartial(s *StepResult) {
	for i := range s.Items {
		p.addPartial(&s.Items[i])
	}
	if s.State != StepRunning {
		return
	}
	p.mu.Lock()
	a := p.running[s.TaskID]
	p.mu.Unlock()
	if a != nil && a.partial != nil {
		s.Partial = a.partial.String()
	}
}

// progressPause is the least time between two results of WatchChain.
const progressPause = 100 * time.Millisecond

// WatchChain returns how a chain stands, now and whenever that has changed, and
// at last what it came to. Changes that follow one another quickly come as one.
// The iteration ends with the chain, with ctx, or with an error.
func (p *Pool) WatchChain(ctx context.Context, id TaskID) iter.Seq2[ChainResult, error] {
	return func(yield func(ChainResult, error) bool) {
		var changed chan struct{}
		defer func() { p.chains.watchers.remove(id, changed) }()
		var last ChainResult
		for {
			changed = p.chains.watchers.add(id)
			r, err := p.ChainProgress(ctx, id)
			if err != nil {
				yield(r, err)
				return
			}
			total := r.Total
			r.Total, last.Total = 0, 0
			if !reflect.DeepEqual(r, last) {
				last = r
				r.Total = total
				if !yield(r, nil) || r.State.Terminal() {
					return
				}
			}
			select {
			case <-changed:
			case <-ctx.Done():
				yield(last, context.Cause(ctx))
				return
			case <-p.closed:
				yield(last, ErrClosed)
				return
			}
			select {
			case <-time.After(progressPause):
			case <-ctx.Done():
			}
		}
	}
}

// tail keeps the end of a text.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) add(s string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, s...)
	if len(t.text) > 2*MaxPartial {
		t.text = append(t.text[:0], t.text[len(t.text)-MaxPartial:]...)
	}
}

// String returns at most MaxPartial bytes, in whole characters.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	end := t.text[max(0, len(t.text)-MaxPartial):]
	for len(end) > 0 && len(end) < len(t.text) && !utf8.RuneStart(end[0]) {
		end = end[1:]
	}
	return string(end)
}
