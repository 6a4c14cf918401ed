package claudepool

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// errInvalidSession says that a session cannot be continued.
var errInvalidSession = errors.New("session cannot be continued")

// sessionWait is how long a task waits for another look at the task whose
// session it continues, when that one has yet to run.
const sessionWait = time.Second

// resolveSession finds the session that a claimed task continues. ready is
// false when the task whose session it is has yet to end.
func (p *Pool) resolveSession(ctx context.Context, r *TaskRecord) (ready bool, err error) {
	from := r.Task.Session.Task
	if from == "" || r.ResumeSession != "" {
		return true, nil
	}
	before, err := p.store.Task(ctx, from)
	switch {
	case err != nil:
		return true, fmt.Errorf("%w: %w", errInvalidSession, err)
	case !before.State.Terminal():
		return false, nil
	case before.SessionID == "":
		return true, fmt.Errorf("%w: task %s ended %s before it had one", errInvalidSession, from, before.Outcome)
	}
	r.Task.Session.ID = before.SessionID
	return true, nil
}
