package claudepool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/claudepool/claudepool/claude"
)

// source tells how an attempt got its process.
type source int

const (
	fromWarm  source = iota // the slot's, reset
	fromSpare               // one that was started ahead
	fromSpawn               // one started for the task
)

// options returns how to start the slot's process now, for a task if there is one.
func (s *slot) options(t *Task) claude.Options {
	o := s.own
	if t != nil && !t.plain() {
		o = s.configure(t)
	}
	o.MaxCost = Microdollars(s.p.limit.Load()) // a second belt: the pool's own checks are the first
	return o
}

// home returns how to start the slot's process ahead of its tasks: in its place,
// if these are isolated unless they say otherwise.
func (s *slot) home(ctx context.Context) (claude.Options, string) {
	o, kind := s.options(nil), s.p.cfg.Isolation
	if !kind.apart() {
		return o, s.ownKey
	}
	place, err := s.place(ctx, kind)
	s.tellPlace(err)
	if err != nil { // tasks that need it are told
		s.p.log.Warn("slot has no place for isolated tasks yet", "slot", s.id, "err", err)
		return o, s.ownKey
	}
	o.Dir = place.Dir()
	return o, s.ownKey + kind.keySuffix()
}

// configure makes the options of the slot's process, for a task if there is
// one. The budget, which can change, is not in them.
func (s *slot) configure(t *Task) claude.Options {
	o := s.p.cfg.options(s.cfg, t)
	if s.p.cfg.Permission != nil {
		o.Permission = s.permission
	}
	if s.p.transcript != nil {
		o.Trace = s.trace
	}
	return o
}

// permission passes a question of the slot's process on to the pool's handler.
func (s *slot) permission(ctx context.Context, r claude.PermissionRequest) (claude.PermissionAnswer, error) {
	s.mu.Lock()
	task := s.status.TaskID
	s.mu.Unlock()
	s.p.events.publish(Event{Kind: EventPermission, TaskID: task, SlotID: s.id, Message: "asks for " + r.Tool})
	answer, err := s.p.cfg.Permission(ctx, PermissionQuestion{SlotID: s.id, TaskID: task, Request: r})
	verdict := "was refused "
	if answer.Allow && err == nil {
		verdict = "was allowed "
	}
	s.p.events.publish(Event{Kind: EventPermission, TaskID: task, SlotID: s.id, Message: verdict + r.Tool})
	return answer, err
}

// launch starts a process for the slot.
func (s *slot) launch(ctx context.Context, o claude.Options, key string) error {
	release, err := s.p.starts.acquire(ctx, func(reason string) {
		s.set(SlotStarting, reason)
		s.p.log.Warn("process cannot be started yet", "slot", s.id, "why", reason)
	})
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithTimeoutCause(ctx, s.p.cfg.StartTimeout, fmt.Errorf("was not ready after %v", s.p.cfg.StartTimeout))
	defer cancel()
	a, err := s.p.launcher.Launch(ctx, o)
	if err != nil {
		return err
	}
	s.adopt(a, o, key)
	return nil
}

// launchTries is how often a process is started for a task before the task
// fails, if the failure may pass.
const launchTries = 3

// makeWay ends or resets the slot's process, unless the task can have it as it is.
func (s *slot) makeWay(ctx context.Context, r *TaskRecord) {
	o := s.options(&r.Task)
	key := s.keyFor(r, &o)
	fits := s.agent != nil && !isDone(s.agent) && s.key == key && !o.Fork && !s.disturbed()
	switch {
	case fits && s.held == o.Resume:
	case fits && o.Resume == "" && s.p.ability.Warm: // it holds a session that nobody came back for
		s.reset(ctx)
	default:
		s.discard()
	}
}

// acquire gives the slot a process that fits the task, with nothing in it of
// any other task. An isolated task's place is ready.
func (s *slot) acquire(ctx context.Context, r *TaskRecord) (source, error) {
	o := s.options(&r.Task)
	key := s.keyFor(r, &o)
	if place := s.places[r.Task.Isolation]; place != nil {
		o.Dir = place.Dir()
	}
	session := o.Resume
	if session != "" && !o.Fork {
		s.p.sched.letGo(session, s)
	}
	s.makeWay(ctx, r)
	if s.agent != nil {
		err := s.agent.Apply(ctx, o.Settings)
		switch {
		case err == nil:
			s.held = ""
			return fromWarm, nil
		case ctx.Err() != nil:
			return fromWarm, context.Cause(ctx)
		}
		s.p.log.Warn("process is replaced: it did not take the task's settings", "slot", s.id, "task", r.ID, "err", err)
		s.discard()
	}
	if session == "" {
		if a := s.p.spares.claim(ctx, o); a != nil {
			s.adopt(a, o, key)
			return fromSpare, nil
		}
	}
	for try := 1; ; try++ {
		err := s.launch(ctx, o, key)
		switch {
		case err == nil:
			return fromSpawn, nil
		case ctx.Err() != nil:
			return fromSpawn, context.Cause(ctx)
		case permanent(err) || try == launchTries:
			return fromSpawn, &launchError{err}
		}
		select {
		case <-time.After(backoff(s.p.cfg.Restart.First, s.p.cfg.Restart.Most, try)):
		case <-ctx.Done():
			return fromSpawn, context.Cause(ctx)
		}
	}
}

// keyFor returns the launch key of the options and, when the task continues a
// session, adds that to them. A session brings its system prompt with it.
func (s *slot) keyFor(r *TaskRecord, o *claude.Options) string {
	session := r.ResumeSession
	fork := false
	if session == "" {
		session, fork = r.Task.Session.ID, r.Task.Session.Fork
	}
	suffix := r.Task.Isolation.keySuffix()
	key := s.ownKey + suffix
	if !r.Task.plain() {
		key = o.LaunchKey() + suffix
	}
	if session != "" {
		o.SystemPrompt, o.AppendSystemPrompt = "", ""
		o.MaxCost = 0 // it would count what the session has cost before
		if s.held != session || s.key != key {
			key = o.LaunchKey() + suffix
		}
		if s.held == session && key == s.launched {
			key = s.key // it has the session's system prompt, which the task cannot name
		}
	}
	o.Resume, o.Fork = session, fork
	return key
}

// launchError says that a task got no process.
type launchError struct{ err error }

func (e *launchError) Error() string { return fmt.Sprintf("no process could be started: %v", e.err) }
func (e *launchError) Unwrap() error { return e.err }

// noSession reports whether a process did not start because the session it was
// to continue is not there any more.
func noSession(err error) bool { return errors.Is(err, claude.ErrNoSession) }
