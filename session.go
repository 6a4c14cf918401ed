package claudepool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// errInvalidSession says that a session cannot be continued.
var errInvalidSession = errors.New("session cannot be continued")

// sessionWait is how long a task waits for another look at the task whose
// session it continues, when that one has yet to run.
const sessionWait = time.Second

// resolve makes sure that a claimed task can begin with what it is to go on with.
// If a task that it is from has yet to end, it returns when to look again.
func (p *Pool) resolve(ctx context.Context, r *TaskRecord) (again time.Time, err error) {
	if r.Task.Isolation.apart() {
		for _, id := range r.Task.From {
			before, err := p.store.Task(ctx, id)
			if err == nil && (!before.State.Terminal() || before.Claim != nil) {
				return time.Now().Add(sessionWait), nil
			}
		}
	}
	return p.resolveSession(ctx, r)
}

// resolveSession finds the session that a claimed task continues. If the task
// whose session it is has yet to end, it returns when to look again.
func (p *Pool) resolveSession(ctx context.Context, r *TaskRecord) (again time.Time, err error) {
	from := r.Task.Session.Task
	if from == "" || r.ResumeSession != "" {
		return time.Time{}, nil
	}
	before, err := p.store.Task(ctx, from)
	switch {
	case err != nil && !errors.Is(err, ErrUnknownTask):
		return time.Now().Add(sessionWait), nil // the store may answer then
	case err != nil:
		return time.Time{}, fmt.Errorf("%w: %w", errInvalidSession, err)
	case !before.State.Terminal():
		again = time.Now().Add(sessionWait)
		if before.NotBefore.After(again) {
			again = before.NotBefore
		}
		return again, nil
	case before.SessionID == "":
		return time.Time{}, fmt.Errorf("%w: task %s ended %s before it had one", errInvalidSession, from, before.Outcome)
	}
	r.Task.Session.ID = before.SessionID
	return time.Time{}, nil
}

// sessionLanes remembers which lane the sessions of this pool's tasks have, so
// that one named by its id has the same as by its task. It keeps the latest few
// thousand; an older session has a lane by its id.
type sessionLanes struct {
	mu        sync.Mutex
	now, then map[string]string // by session; now replaces then when it is full
}

// maxSessionLanes is how many sessions each of the two generations holds.
const maxSessionLanes = 4096

// note says that a task of the lane has run in a session.
func (l *sessionLanes) note(session, lane string) {
	if session == "" || lane == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.now == nil || len(l.now) >= maxSessionLanes {
		l.now, l.then = make(map[string]string), l.now
	}
	l.now[session] = lane
}

func (l *sessionLanes) lane(session string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return cmp.Or(l.now[session], l.then[session], "session:"+session)
}
