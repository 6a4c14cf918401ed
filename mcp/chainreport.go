package mcp

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/claudepool/claudepool"
)

// maxItems bounds the items of a step with for_each in an answer.
const maxItems = 50

// chainReport is a chain as the tools show it: how it stands or what it came
// to, bounded in size.
type chainReport struct {
	claudepool.ChainResult
	// Note says what is missing here and what to do next.
	Note string `json:"note,omitempty"`
	// whole says that nothing was left out.
	whole bool
}

// chainReport reads a chain.
func (s *Server) chainReport(ctx context.Context, id claudepool.TaskID) (chainReport, error) {
	c, err := s.pool.ChainProgress(ctx, id)
	if err != nil {
		return chainReport{}, err
	}
	r := chainReport{ChainResult: c}
	switch {
	case !c.State.Terminal():
		r.Note = "not finished; pool_wait waits for it, pool_chain_result shows how far it is"
	case c.State != claudepool.StateCompleted:
		r.Note = "pool_retry goes on with what is completed"
	}
	if c.State.Terminal() && slices.ContainsFunc(c.Steps, func(st claudepool.StepResult) bool { return st.Branch != "" }) {
		r.note("pool_merge with this task_id brings the work of the last steps")
	}
	r.cut(s.opts.MaxOutput)
	return r, nil
}

// cut bounds the output to room characters, and those of the steps to three
// times as much together.
func (r *chainReport) cut(room int) {
	full := utf8.RuneCountInString(r.Output)
	r.Output = runes(r.Output, 0, room)
	sizes := make([]int, len(r.Steps))
	for i, st := range r.Steps {
		sizes[i] = utf8.RuneCountInString(st.Output)
	}
	each := min(room, share(sizes, 3*room))
	var missing []string
	if full > room || slices.ContainsFunc(sizes, func(n int) bool { return n > each }) {
		missing = append(missing, fmt.Sprintf("outputs are cut to %d characters, and pool_result reads on in one with the task_id of the chain or the step", each))
	}
	var left []string
	if r.Steps, left = brief(r.Steps, each); len(left) > 0 {
		missing = append(missing, "left out are "+strings.Join(left, ", "))
	}
	if r.whole = len(missing) == 0; !r.whole {
		r.note("%s; %s has all", strings.Join(missing, "; "), chainURI(r.TaskID))
	}
}

func (r *chainReport) note(format string, args ...any) {
	if r.Note != "" {
		r.Note += "; "
	}
	r.Note += fmt.Sprintf(format, args...)
}

// brief bounds steps for an answer: outputs and variables to room characters
// each, and items to those that a reader needs first. What the items gave is in
// the step's output. left says what is missing beside the ends of outputs.
func brief(steps []claudepool.StepResult, room int) (_ []claudepool.StepResult, left []string) {
	steps = append([]claudepool.StepResult{}, steps...)
	for i := range steps {
		st := &steps[i]
		st.Output = runes(st.Output, 0, room)
		if size(st.Vars) > room {
			st.Vars = nil
			left = append(left, "the variables of step "+st.Name)
		}
		items := slices.Clone(st.Items)
		if len(items) > maxItems {
			items = slices.DeleteFunc(items, func(it claudepool.StepResult) bool { return it.State == claudepool.StepCompleted })
			if completed := len(st.Items) - len(items); completed > 0 {
				left = append(left, fmt.Sprintf("%d completed items of step %s, whose outputs are in the step's", completed, st.Name))
			}
			if more := len(items) - maxItems; more > 0 {
				items = items[:maxItems]
				left = append(left, fmt.Sprintf("%d more items of step %s", more, st.Name))
			}
		}
		for k := range items {
			items[k].Output, items[k].Vars = "", nil
		}
		st.Items = items
	}
	return steps, left
}

func size(vars map[string]string) int {
	n := 0
	for k, v := range vars {
		n += len(k) + len(v)
	}
	return n
}

func (r chainReport) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", r.TaskID, r.State)
	if r.Outcome != "" && r.Outcome != claudepool.OutcomeOK {
		fmt.Fprintf(&b, " (%s)", r.Outcome)
	}
	fmt.Fprintf(&b, ", %v", r.Cost)
	if r.Failure != nil && r.Failure.Message != "" {
		b.WriteString(": " + r.Failure.Message)
	}
	if r.Note != "" {
		b.WriteString("\n" + r.Note)
	}
	for _, st := range r.Steps {
		fmt.Fprintf(&b, "\n- %s %s", st.Name, st.State)
		if st.Branch != "" {
			b.WriteString(", branch " + st.Branch)
		}
		if st.Reason != "" {
			b.WriteString(": " + st.Reason)
		}
	}
	if r.Output != "" {
		b.WriteString("\n\n" + r.Output)
	}
	return b.String()
}

func (r chainReport) links() []*sdk.ResourceLink {
	if r.whole {
		return nil
	}
	return []*sdk.ResourceLink{{URI: chainURI(r.TaskID), Name: "chain " + string(r.TaskID), MIMEType: jsonType}}
}

// lookChain returns the progress of a chain, if the task is one.
func (s *Server) lookChain(ctx context.Context, id claudepool.TaskID) (progress, bool) {
	c, err := s.pool.ChainProgress(ctx, id)
	if err != nil {
		return progress{}, false
	}
	p := progress{total: len(c.Steps)}
	var running []string
	for i, st := range c.Steps {
		switch st.State {
		case claudepool.StepRunning:
			running = append(running, fmt.Sprintf("%s (%d of %d%s)", st.Name, i+1, len(c.Steps), itemsDone(st)))
		case claudepool.StepWaiting:
		default:
			p.done++
		}
	}
	p.message = string(c.State)
	if len(running) > 0 {
		p.message = "running " + strings.Join(running, ", ")
	}
	p.message += fmt.Sprintf(", %d of %d steps done, %v so far", p.done, p.total, c.Cost)
	return p, true
}

// itemsDone says how far a step with for_each is.
func itemsDone(st claudepool.StepResult) string {
	if len(st.Items) == 0 {
		return ""
	}
	ended := 0
	for _, it := range st.Items {
		if it.State != claudepool.StepWaiting && it.State != claudepool.StepRunning {
			ended++
		}
	}
	return fmt.Sprintf(", %d of %d items", ended, len(st.Items))
}
