package claudepool

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/claudepool/claudepool/claude"
)

// What an attempt is asked that does not begin with the task's own prompt, or
// has more to say than that.
const (
	// continuePrompt goes on with a conversation that was cut off.
	continuePrompt = "Continue from where you left off."
	// againPrompt goes on with one whose process died. What was asked may not be
	// in it: the CLI writes a prompt down some time after it has begun with it,
	// in a file that the reset before may have made.
	againPrompt = continuePrompt + " You were interrupted at the following request. If it is not in this conversation yet, begin with it now.\n\n%s"
	// movedPrompt comes before all else when a conversation goes on in a process of
	// an isolated task, which may be in another place: what it remembers of the
	// old one would lead it into the files of another task.
	movedPrompt = "Your working directory is now %s. It has all that you have worked on. Do not use paths of any other working directory that you have had: other work is done there now.\n\n"
	// reworkPrompt goes on with a conversation whose result was rejected.
	reworkPrompt = "A reviewer has looked at your result and rejected it. This is what they said:\n\n" +
		"<review_feedback>\n%s\n</review_feedback>\n\n" +
		"Change the work accordingly, then answer with the complete result."
	// redoPrompt follows the task's own prompt where that conversation is gone.
	redoPrompt = "An earlier result of this task was rejected by a reviewer. This is what they said:\n\n" +
		"<review_feedback>\n%s\n</review_feedback>\n\n" +
		"Take it into account."
)

// asks returns what the next attempt of the task is asked. Feedback is given
// again until a result follows it, since an attempt that was cut off may not
// have come to it.
func (r *TaskRecord) asks() string {
	switch resumes := r.ResumeSession != ""; {
	case r.mayBeUnasked() && r.Task.command():
		return r.Task.Prompt // in another text it would be no command
	case r.mayBeUnasked():
		return fmt.Sprintf(againPrompt, r.Task.Prompt)
	case r.Feedback == "" && resumes:
		return continuePrompt
	case r.Feedback == "":
		return r.Task.Prompt
	case !resumes:
		return r.Task.Prompt + "\n\n" + fmt.Sprintf(redoPrompt, r.Feedback)
	case r.Outcome.State() != StateCompleted: // since the review
		return continuePrompt + "\n\n" + fmt.Sprintf(reworkPrompt, r.Feedback)
	}
	return fmt.Sprintf(reworkPrompt, r.Feedback)
}

// mayBeUnasked reports whether the session that the next attempt goes on with
// may lack the task's prompt: the attempt before was cut off.
func (r *TaskRecord) mayBeUnasked() bool {
	return r.ResumeSession != "" && r.Feedback == "" && r.Outcome.machinery()
}

// command reports whether the task's prompt is a command of the CLI.
func (t *Task) command() bool { return t.Commands && strings.HasPrefix(t.Prompt, "/") }

// composeTries is how often the store is asked for what a prompt needs: that it
// fails for a moment is no fault of the task.
const composeTries = 5

// compose makes the prompt of the turn.
func (a *attempt) compose() (claude.Prompt, error) {
	for try := 1; ; try++ {
		prompt, err := a.prompting()
		if err == nil || errors.Is(err, ErrClosed) || a.ctx.Err() != nil || try == composeTries {
			return prompt, err
		}
		select {
		case <-time.After(backoff(100*time.Millisecond, 2*time.Second, try)):
		case <-a.ctx.Done():
		}
	}
}

// prompting puts the prompt together: the run context, unless the conversation
// has it already, the messages to the slot, and what is asked.
func (a *attempt) prompting() (claude.Prompt, error) {
	t := &a.rec.Task
	prompt := claude.Prompt{Text: a.rec.asks()}
	before := ""
	if a.rec.ResumeSession == "" || a.rec.mayBeUnasked() {
		prompt.Images, prompt.Commands = t.Images, t.Commands
		if t.command() && prompt.Text == t.Prompt {
			return prompt, nil // with anything before it, it would be no command
		}
		values, err := a.p.store.Context(a.ctx)
		if err != nil {
			return claude.Prompt{}, fmt.Errorf("read the run context: %w", err)
		}
		before = contextBlock(values)
	}
	waiting, err := a.p.store.Messages(a.ctx, a.s.id)
	if err != nil {
		return claude.Prompt{}, fmt.Errorf("read the messages to %s: %w", a.s.id, err)
	}
	block, given, err := messageBlock(waiting)
	if err != nil {
		return claude.Prompt{}, fmt.Errorf("write the messages to %s: %w", a.s.id, err)
	}
	a.given = given
	if a.moved {
		before = fmt.Sprintf(movedPrompt, a.place.Dir()) + before
	}
	prompt.Text = before + block + prompt.Text
	return prompt, nil
}

// contextBlock writes the run context the way every prompt begins with it.
func contextBlock(values map[string]string) string {
	if len(values) == 0 {
		return ""
	}
	keys := make([]string, 0, len(values))
	for k := range values {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var b strings.Builder
	b.WriteString("<run_context>\n")
	for _, k := range keys {
		line, err := json.Marshal(map[string]string{k: values[k]})
		if err != nil {
			continue // strings can always be written
		}
		b.Write(line)
		b.WriteByte('\n')
	}
	b.WriteString("</run_context>\n\n")
	return b.String()
}

// delivered is a message as a prompt shows it.
type delivered struct {
	ID      string    `json:"id"`
	From    string    `json:"from"`
	Sent    time.Time `json:"sent"`
	Content string    `json:"content"`
}

// messageBlock writes messages the way a prompt has them, one on a line. JSON
// has no "<" in a string, so none of them can end the block. Those for which
// there is no room wait; ids names the others.
func messageBlock(all []Message) (block string, ids []string, err error) {
	if len(all) == 0 {
		return "", nil, nil
	}
	var b strings.Builder
	b.WriteString("<messages>\n")
	for _, m := range all {
		line, err := json.Marshal(delivered{m.ID, m.From, m.Sent, m.Content})
		if err != nil {
			return "", nil, err
		}
		if len(ids) > 0 && b.Len()+len(line) > MaxDelivery {
			break
		}
		b.Write(line)
		b.WriteByte('\n')
		ids = append(ids, m.ID)
	}
	b.WriteString("</messages>\n\n")
	return b.String(), ids, nil
}
