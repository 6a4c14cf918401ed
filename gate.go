package claudepool

import (
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"sync"
	"time"

	"github.com/claudepool/claudepool/claude"
)

// gate knows what concerns all slots alike: that the account is limited or the
// API overloaded, so that dispatch must wait, and that no slot can start, so
// that waiting makes no sense.
type gate struct {
	p *Pool

	mu        sync.Mutex
	hold      *Hold
	overloads int // in a row
	auth      int // failures to log in, in a row
	authError string
	authAt    time.Time // of the last
	slots     map[*slot]*health
	changed   chan struct{} // closed and replaced when a slot's health changes
	told      string        // the last reason said to be hopeless
}

// health is how a slot's process fares.
type health struct {
	up       bool
	failures int // to start, in a row
	err      error
}

// The failures in a row after which the next try is not expected to go better:
// of a slot's start, and of tasks to log in.
const (
	startsBeforeHopeless = 3
	loginsBeforeHopeless = 2
)

func newGate(p *Pool) *gate {
	return &gate{p: p, slots: map[*slot]*health{}, changed: make(chan struct{})}
}

// slotUp, slotDown and slotGone tell of a slot's process. slotDown's error is
// why it did not start.
func (g *gate) slotUp(s *slot) { g.set(s, &health{up: true}) }

func (g *gate) slotStarting(s *slot) {
	g.mu.Lock()
	_, known := g.slots[s]
	g.mu.Unlock()
	if !known {
		g.set(s, &health{})
	}
}

func (g *gate) slotDown(s *slot, err error) {
	g.mu.Lock()
	failures := 1
	if h := g.slots[s]; h != nil {
		failures = h.failures + 1
	}
	g.mu.Unlock()
	g.set(s, &health{failures: failures, err: err})
}

// slotAgain tells of a slot that tries once more what it has failed at.
func (g *gate) slotAgain(s *slot) {
	g.mu.Lock()
	failures := 0
	if h := g.slots[s]; h != nil {
		failures = h.failures
	}
	g.mu.Unlock()
	g.set(s, &health{up: true, failures: failures})
}

func (g *gate) slotGone(s *slot) { g.set(s, nil) }

func (g *gate) set(s *slot, h *health) {
	g.mu.Lock()
	if h == nil {
		delete(g.slots, s)
	} else {
		g.slots[s] = h
	}
	close(g.changed)
	g.changed = make(chan struct{})
	if h != nil && h.up {
		g.recovered()
	}
	g.mu.Unlock()
	g.p.sched.kick()
}

// recovered notes that tasks can run again, as far as can be seen. The caller
// holds mu.
func (g *gate) recovered() {
	if g.told != "" {
		g.told = ""
		token(g.p.news)
	}
}

// ready returns nil, nil when a slot is up, the reason when none can start,
// and else a channel that is closed when that may have changed.
func (g *gate) ready() (changed <-chan struct{}, err error) {
	if h := g.hopeless(); h != nil {
		return nil, errors.New(h.Reason)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, h := range g.slots {
		if h.up {
			return nil, nil
		}
	}
	return g.changed, nil
}

// hopeless returns why no task can run, or nil.
func (g *gate) hopeless() *Hold {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.auth >= loginsBeforeHopeless && time.Since(g.authAt) < g.p.cfg.Restart.Cooldown {
		return &Hold{Class: OutcomeAuth, Reason: g.authError}
	}
	var last error
	for _, h := range g.slots {
		if h.err == nil || h.failures < startsBeforeHopeless && !permanent(h.err) {
			return nil
		}
		last = h.err
	}
	if last == nil {
		return nil
	}
	return &Hold{Class: launchClass(last), Reason: fmt.Sprintf("no slot can start: %v", last)}
}

// tell reports a hopeless state once, and again only after it has passed or
// become another. elsewhere says that other pools on the store run the tasks;
// if there is none, the next task is a new try to log in.
func (g *gate) tell(h *Hold, elsewhere bool) {
	reason := h.Reason
	if elsewhere {
		reason += leftToOthers
	}
	g.mu.Lock()
	known := g.told == reason
	g.told = reason
	if h.Class == OutcomeAuth && !elsewhere {
		g.auth = 0
	}
	g.mu.Unlock()
	if !known {
		token(g.p.news)
		g.p.log.Error("no task can run in this pool", "class", h.Class, "reason", reason)
		g.p.events.publish(Event{Kind: EventPool, Outcome: h.Class, Message: reason})
	}
}

// leftToOthers follows the reason why no slot of this pool can run a task.
const leftToOthers = "; what other pools on the store can run is left to them"

// permanent reports whether a start that failed so will fail again.
func permanent(err error) bool {
	var version *claude.VersionError
	var option *claude.OptionError
	return errors.Is(err, claude.ErrNotFound) || errors.Is(err, claude.ErrNotClaude) || errors.Is(err, claude.ErrNotLoggedIn) || errors.Is(err, claude.ErrNoSession) ||
		errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrPermission) || errors.As(err, &version) || errors.As(err, &option)
}

// launchClass is the outcome of tasks that get no process because of err.
func launchClass(err error) Outcome {
	var option *claude.OptionError
	switch {
	case errors.Is(err, claude.ErrNotLoggedIn):
		return OutcomeAuth
	case errors.As(err, &option), errors.Is(err, claude.ErrNoSession):
		return OutcomeInvalid
	}
	return OutcomeLaunch
}

// closed reports until when dispatch must wait, if it must.
func (g *gate) closed(now time.Time) (until time.Time, closed bool) {
	g.mu.Lock()
	h := g.hold
	if h == nil {
		g.mu.Unlock()
		return time.Time{}, false
	}
	if h.Until.After(now) {
		g.mu.Unlock()
		return h.Until, true
	}
	g.hold = nil
	g.mu.Unlock()
	g.p.events.publish(Event{Kind: EventPool, Message: "dispatch goes on"})
	return time.Time{}, false
}

// holding returns the present hold, or nil.
func (g *gate) holding() *Hold {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.hold == nil || !g.hold.Until.After(time.Now()) {
		return nil
	}
	h := *g.hold
	return &h
}

// ended takes note of how an attempt ended. retryAt is when the account's
// limit is said to end, if it was reached.
func (g *gate) ended(o Outcome, message string, retryAt time.Time) {
	now := time.Now()
	g.mu.Lock()
	var hold *Hold
	switch o {
	case OutcomeRateLimited, OutcomeOverloaded:
		g.overloads++
		until := retryAt
		if !until.After(now) {
			until = now.Add(backoff(5*time.Second, time.Minute, g.overloads))
		}
		hold = &Hold{Class: o, Reason: message, Until: until}
	case OutcomeAuth:
		g.auth++
		g.authError, g.authAt = message, now
	case OutcomeOK, OutcomePartlyDenied, OutcomeMaxTurns, OutcomeSchema, OutcomeDenied:
		g.overloads, g.auth = 0, 0 // the model has answered
		g.recovered()
	}
	news := hold != nil && (g.hold == nil || hold.Until.After(g.hold.Until))
	if news {
		g.hold = hold
	}
	g.mu.Unlock()
	if news {
		g.p.log.Warn("dispatch waits", "class", o, "until", hold.Until, "reason", message)
		g.p.events.publish(Event{Kind: EventPool, Outcome: o, Message: "dispatch waits: " + message, Until: hold.Until})
		g.p.sched.kick()
	}
}
