package claudepool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/claudepool/claudepool/claude"
)

// What has become too old is looked for every hour. One pass removes no more
// than pruneMost of a kind; the rest follows a minute later.
const (
	pruneEvery = time.Hour
	pruneAgain = time.Minute
	pruneMost  = 500
)

// pruner removes what nobody will ask for any more: the transcripts of the
// pool's own folder, and those that the CLI keeps of sessions that slots began.
type pruner struct {
	p    *Pool
	wake chan struct{} // holds one token while there is something to write down

	mu      sync.Mutex
	begun   []begunSession  // not yet written down
	folders map[string]bool // config folders of the pool's agents
}

// begunSession is a session that a slot has begun.
type begunSession struct{ folder, session string }

func newPruner(p *Pool) *pruner {
	return &pruner{p: p, wake: make(chan struct{}, 1), folders: map[string]bool{}}
}

// uses tells of an agent. What was begun earlier in its config folder is looked
// through at once.
func (r *pruner) uses(info claude.Info) {
	if info.ConfigDir == "" || r.p.cfg.SessionRetention < 0 {
		return
	}
	r.mu.Lock()
	known := r.folders[info.ConfigDir]
	r.folders[info.ConfigDir] = true
	r.mu.Unlock()
	if !known {
		token(r.wake)
	}
}

// begins tells of a session that one of the pool's agents has begun. It is
// written down soon, and not by the caller.
func (r *pruner) begins(info claude.Info, session string) {
	if info.ConfigDir == "" || r.p.cfg.SessionRetention < 0 || !sessionName.MatchString(session) {
		return
	}
	r.mu.Lock()
	r.begun = append(r.begun, begunSession{info.ConfigDir, session})
	r.mu.Unlock()
	token(r.wake)
}

// ownsSession reports whether the sessions in which the task runs were begun for it.
func (r *TaskRecord) ownsSession() bool { return r.Task.Session.Fresh() || r.Task.Session.Fork }

// loop writes down and prunes until the pool closes.
func (r *pruner) loop() {
	next := time.NewTimer(0)
	defer next.Stop()
	seen := 0
	for {
		select {
		case <-r.wake:
			if folders := r.flush(); folders > seen {
				seen = folders
				next.Reset(0)
			}
		case <-next.C:
			pause := pruneEvery
			more, err := r.pass(r.p.ctx, time.Now())
			if more {
				pause = pruneAgain
			}
			if err != nil && r.p.ctx.Err() == nil {
				r.p.log.Warn("what is too old could not all be removed; it is tried again", "in", pause, "err", err)
			}
			next.Reset(pause)
		case <-r.p.ctx.Done():
			return
		}
	}
}

// flush writes down which sessions were begun. It returns how many config
// folders are known.
func (r *pruner) flush() int {
	r.mu.Lock()
	begun, folders := r.begun, len(r.folders)
	r.begun = nil
	r.mu.Unlock()
	var failed error
	for _, b := range begun {
		if err := noteSession(b.folder, b.session, r.p.cfg.SessionRetention, time.Now()); err != nil {
			failed = errors.Join(failed, err)
		}
	}
	if failed != nil {
		r.p.log.Warn("transcripts of the CLI will not be removed", "sessions", len(begun), "err", failed)
	}
	return folders
}

// pass removes what is too old. It reports whether there is more of it.
func (r *pruner) pass(ctx context.Context, now time.Time) (more bool, err error) {
	more, err = r.p.transcript.prune(ctx, r.p.cfg.TranscriptRetention, r.p.writes, now)
	r.mu.Lock()
	folders := make([]string, 0, len(r.folders))
	for f := range r.folders {
		folders = append(folders, f)
	}
	r.mu.Unlock()
	slices.Sort(folders)
	for _, f := range folders {
		m, e := pruneSessions(ctx, f, now, func() (map[string]bool, error) { return r.needed(ctx) })
		more, err = more || m, errors.Join(err, e)
	}
	return more, err
}

// writes reports whether the transcript of that name belongs to an attempt that
// runs.
func (p *Pool) writes(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, a := range p.running {
		if transcriptName(id, a.rec.Attempts) == name {
			return true
		}
	}
	return false
}

// needed returns the sessions that slots hold, and those that tasks which have
// yet to end continue or are in.
func (r *pruner) needed(ctx context.Context) (map[string]bool, error) {
	set := map[string]bool{}
	p := r.p
	p.mu.Lock()
	slots := slices.Clone(p.slots)
	p.mu.Unlock()
	for _, s := range slots {
		set[s.snapshot().SessionID] = true
	}
	unfinished := slices.DeleteFunc(TaskStates(), TaskState.Terminal)
	for rec, err := range p.store.Tasks(ctx, TaskFilter{States: unfinished}) {
		if err != nil {
			return nil, fmt.Errorf("find out which sessions are needed: %w", err)
		}
		set[rec.SessionID], set[rec.ResumeSession], set[rec.Task.Session.ID] = true, true, true
		if rec.Claim != nil {
			set[rec.Claim.SessionID] = true
		}
		switch from := rec.Task.Session.Task; {
		case rec.Chain != nil && rec.Chain.OneSession:
			err = r.stepSessions(ctx, rec.ID, set)
		case from != "":
			var before TaskRecord
			if before, err = p.store.Task(ctx, from); err == nil {
				set[before.SessionID] = true
			} else if errors.Is(err, ErrUnknownTask) {
				err = nil
			}
		}
		if err != nil {
			return nil, fmt.Errorf("find out which sessions task %s needs: %w", rec.ID, err)
		}
	}
	return set, nil
}

// stepSessions adds those of a chain's steps, which the next step continues.
func (r *pruner) stepSessions(ctx context.Context, chain TaskID, set map[string]bool) error {
	after := chain + "/" // the byte after the dot: the ids of steps come directly before it
	for rec, err := range r.p.store.Tasks(ctx, TaskFilter{Before: after}) {
		if err != nil || !strings.HasPrefix(string(rec.ID), string(stepID(chain, ""))) {
			return err
		}
		set[rec.SessionID] = true
	}
	return nil
}
