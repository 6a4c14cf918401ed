package mcp

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/worktree"
)

// maxInputs bounds the inputs of refused tool calls in a report, in bytes.
const maxInputs = 4_000

// report is a task as the tools show it: its state, and once it has ended its
// result, bounded in size.
type report struct {
	TaskID claudepool.TaskID    `json:"task_id"`
	State  claudepool.TaskState `json:"state"`
	*claudepool.TaskResult
	// NextOffset is where the output goes on that was cut here.
	NextOffset int `json:"next_offset,omitempty"`
	// Note says what is missing here and what to do next.
	Note string `json:"note,omitempty"`
}

// report reads a task.
func (s *Server) report(ctx context.Context, id claudepool.TaskID) (report, error) {
	r, err := s.pool.Task(ctx, id)
	if err != nil {
		return report{}, err
	}
	return s.reportOf(r), nil
}

// reports reads several tasks, in order. Their outputs share the room of one answer.
func (s *Server) reports(ctx context.Context, ids []claudepool.TaskID) ([]report, error) {
	out := make([]report, len(ids))
	sizes := make([]int, len(ids))
	for i, id := range ids {
		r, err := s.report(ctx, id)
		if err != nil {
			return nil, err
		}
		out[i] = r
		if r.TaskResult != nil {
			r.Models = nil // a detail of pool_result
			sizes[i] = utf8.RuneCountInString(r.Output)
		}
	}
	room := min(s.opts.MaxOutput, share(sizes, 3*s.opts.MaxOutput))
	for i := range out {
		out[i].cut(0, room)
	}
	return out, nil
}

// reportOf is the report of a task, with all of its output.
func (s *Server) reportOf(r claudepool.TaskRecord) report {
	rep := report{TaskID: r.ID, State: r.State}
	if r.Result == nil {
		rep.Note = "not finished; pool_wait waits for it"
		if r.Chain != nil {
			rep.note("pool_chain_result shows how far the chain is")
		}
		return rep
	}
	res := *r.Result
	rep.TaskResult = &res
	rep.Note = s.nextStep(r.State, res)
	return rep
}

// nextStep says what a caller can do about a result, if that is not plain.
func (s *Server) nextStep(st claudepool.TaskState, r claudepool.TaskResult) string {
	if st == claudepool.StatePendingReview {
		return "waits for your review: pool_approve_result, or pool_reject_result with what has to change"
	}
	switch r.Outcome {
	case claudepool.OutcomeDenied, claudepool.OutcomePartlyDenied:
		return fmt.Sprintf("tool calls were refused, see permission_denials; slots may do more with overrides.permission_mode (up to %s on this server) or overrides.allowed_tools", s.opts.MaxPermissionMode)
	case claudepool.OutcomeMaxTurns:
		return fmt.Sprintf(`to go on, submit a follow-up with session "task:%s" and a higher overrides.max_turns`, r.TaskID)
	case claudepool.OutcomeBudget:
		return "the cap or the budget was used up; see pool_status"
	case claudepool.OutcomeAuth:
		return "a person has to log the Claude CLI in on the server's machine"
	}
	return ""
}

// share is the size to which each of sizes has to be cut so that all together
// are at most total: what small ones leave goes to the larger ones.
func share(sizes []int, total int) int {
	sorted := slices.Sorted(slices.Values(sizes))
	left := total
	for i, n := range sorted {
		if each := left / (len(sorted) - i); n > each {
			return each
		}
		left -= n
	}
	return total // all fit
}

// cut leaves room characters of the output from offset on, and bounds the rest
// of the result.
func (r *report) cut(offset, room int) {
	if r.TaskResult == nil {
		return
	}
	total := utf8.RuneCountInString(r.Output)
	offset = min(offset, total)
	r.Output = runes(r.Output, offset, offset+room)
	if offset+room < total {
		r.NextOffset = offset + room
		r.note("output cut at %d of %d characters; read on with pool_result and offset %d, or read %s", r.NextOffset, total, r.NextOffset, resultURI(r.TaskID))
	}
	if len(r.Structured) > max(room, maxInputs) {
		r.Structured = nil
		r.note("structured_output is too large for this answer; read %s", resultURI(r.TaskID))
	}
	if len(r.Steps) > 0 {
		r.Steps, _ = brief(r.Steps, 0)
		r.note("pool_chain_result has what the steps gave")
	}
	inputs := 0
	for _, d := range r.Denials {
		inputs += len(d.Input)
	}
	if inputs > maxInputs {
		bare := make([]claude.Denial, len(r.Denials))
		for i, d := range r.Denials {
			bare[i] = claude.Denial{Tool: d.Tool, ToolUseID: d.ToolUseID}
		}
		r.Denials = bare
	}
}

func (r *report) note(format string, args ...any) {
	if r.Note != "" {
		r.Note += "; "
	}
	r.Note += fmt.Sprintf(format, args...)
}

// runes returns the characters of s from index from up to to.
func runes(s string, from, to int) string {
	start, n := len(s), 0
	for i := range s {
		if n == from {
			start = i
		}
		if n == to {
			return s[start:i]
		}
		n++
	}
	return s[start:]
}

// headline is the report in a line.
func (r report) headline() string {
	if r.TaskResult == nil {
		return fmt.Sprintf("%s is %s", r.TaskID, r.State)
	}
	line := fmt.Sprintf("%s %s", r.TaskID, r.State)
	if r.Outcome != claudepool.OutcomeOK {
		line += fmt.Sprintf(" (%s)", r.Outcome)
	}
	line += fmt.Sprintf(", %v, %v", r.Cost, time.Duration(r.Ran).Round(time.Millisecond))
	if f := r.Failure; f != nil && f.Message != "" {
		line += ": " + f.Message
	}
	return line
}

func (r report) text() string {
	parts := []string{r.headline()}
	if r.TaskResult != nil && r.Work != nil {
		parts[0] += "\n" + workLine(*r.Work)
	}
	if r.Note != "" {
		parts[0] += "\n" + r.Note
	}
	if r.TaskResult != nil {
		parts = append(parts, cmp.Or(r.Output, string(r.Structured)))
	}
	return strings.TrimSpace(strings.Join(parts, "\n\n"))
}

// workLine says in a line what there is of a task's work.
func workLine(w worktree.Result) string {
	line := fmt.Sprintf("branch %s, %d commits, %d files, +%d -%d", w.Branch, w.Total, w.Files, w.Insertions, w.Deletions)
	if len(w.Conflicts) > 0 {
		line += fmt.Sprintf(", conflicts with %s in %s", w.Target, strings.Join(w.Conflicts, ", "))
	}
	if w.Total > 0 {
		line += "; pool_merge brings it"
	}
	return line
}

func (r report) links() []*sdk.ResourceLink {
	if r.NextOffset == 0 {
		return nil
	}
	return []*sdk.ResourceLink{{URI: resultURI(r.TaskID), Name: "result of " + string(r.TaskID), MIMEType: "application/json"}}
}
