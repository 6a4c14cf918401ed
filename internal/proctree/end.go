package proctree

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// strayGrace is the longest time between SIGTERM and SIGKILL for processes that
// outlived their leader: nobody works with their output any more.
const strayGrace = 500 * time.Millisecond

// cleanLooks is how often in a row, with cleanPause between, nothing must be left.
const (
	cleanLooks = 8
	cleanPause = 2 * time.Millisecond
)

// ending is one run of [Tree.End], shared by all who call it meanwhile.
type ending struct {
	hurry func()        // no more politeness
	done  chan struct{} // closed when err is set
	err   error
}

// End ends the whole tree and returns when it is gone:
//
//   - ask, bounded by the grace time, and then the grace time for the leader to
//     exit. Without ask, Stdin is closed instead.
//   - SIGTERM to the group, and the grace time.
//   - SIGKILL to the group.
//   - SIGTERM, then SIGKILL, to the strays: processes that carry the marker and
//     members of the group that outlived the leader.
//
// ask must return when its context ends or Stdin is closed; its error means no
// more than that SIGTERM follows at once. Then the tree is taken off the
// registry. A ctx that ends means SIGKILL at once; End still returns only after
// the tree is gone.
//
// A nil error says that nothing is left. Otherwise the error names the
// processes that did not go within seconds of SIGKILL, or what could not be
// looked at; the tree stays in the registry and End may be called again. Calls
// meanwhile share one run, and after success End does nothing.
func (t *Tree) End(ctx context.Context, ask func(context.Context) error) error {
	e := t.beginEnd(ctx, ask)
	select {
	case <-e.done:
	case <-ctx.Done():
		e.hurry()
		<-e.done // bounded by killTime
	}
	return e.err
}

func (t *Tree) beginEnd(ctx context.Context, ask func(context.Context) error) *ending {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ending != nil {
		select {
		case <-t.ending.done:
			if t.ending.err == nil {
				return t.ending
			}
		default:
			return t.ending
		}
	}
	patience, hurry := context.WithCancel(context.WithoutCancel(ctx))
	e := &ending{hurry: hurry, done: make(chan struct{})}
	t.ending = e
	go func() {
		defer close(e.done)
		defer hurry()
		if e.err = t.end(patience, ask); e.err != nil {
			e.err = fmt.Errorf("end the process tree of %s: %w", t.leader, e.err)
		}
	}()
	return e
}

// end does the steps of [Tree.End]; it skips the waits when patience is over.
func (t *Tree) end(patience context.Context, ask func(context.Context) error) error {
	finish := t.ask(patience, ask)
	err := t.endLeader(patience)
	t.Stdin.Close() // frees an ask that writes; closed before is fine
	finish()
	if err == nil {
		_, err = sweep(patience, min(t.grace, strayGrace), t.remains)
	}
	if err != nil {
		return err
	}
	// All writers are gone, unless one slipped through that carries no marker:
	// a reader must not wait for that one. A closed file needs no deadline.
	deadline := time.Now().Add(drainTime)
	t.Stdout.SetReadDeadline(deadline)
	t.Stderr.SetReadDeadline(deadline)
	return t.host.close(t.record())
}

// ask makes the polite request and waits for its effect, at most twice the
// grace time. finish waits for an ask that is still on its way.
func (t *Tree) ask(patience context.Context, ask func(context.Context) error) (finish func()) {
	if ask == nil {
		t.Stdin.Close()
		t.wait(patience, t.grace)
		return func() {}
	}
	ctx, cancel := context.WithTimeout(patience, t.grace)
	answer := make(chan error, 1)
	go func() { answer <- ask(ctx) }()
	select {
	case err := <-answer:
		if err == nil {
			t.wait(patience, t.grace)
		}
		cancel()
		return func() {}
	case <-t.done:
	case <-ctx.Done():
	}
	return func() { cancel(); <-answer }
}

// endLeader ends the leader and its group by force.
func (t *Tree) endLeader(patience context.Context) error {
	if t.wait(patience, 0) {
		return nil
	}
	if err := t.signal(syscall.SIGTERM); err != nil {
		return err
	}
	t.wait(patience, t.grace)
	if err := t.signal(syscall.SIGKILL); err != nil {
		return err
	}
	if !t.wait(context.Background(), killTime) {
		return fmt.Errorf("%s is still there %v after SIGKILL", t.leader, killTime)
	}
	return nil
}

// wait reports whether the leader is gone, after at most d.
func (t *Tree) wait(patience context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-t.done:
		return true
	case <-timer.C:
	case <-patience.Done():
	}
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

// signal reaches the whole group while its leader pins the group's number.
// Later, the members are among the [Tree.remains].
func (t *Tree) signal(sig syscall.Signal) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reaped {
		return nil
	}
	if err := signalGroup(t.leader.PID, sig); err != nil {
		return fmt.Errorf("send %v to the group of %s: %w", sig, t.leader, err)
	}
	return nil
}

// remains returns the strays and the members of the leader's group. The group
// is only looked at while one of those that outlived the leader lives: after
// that its number may belong to others.
func (t *Tree) remains() ([]Proc, error) {
	procs, err := t.Strays()
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	rest, lost := t.rest, t.lost
	t.mu.Unlock()
	if lost != nil {
		return nil, fmt.Errorf("look at the group of %s: %w", t.leader, lost)
	}
	for _, p := range rest {
		if !alive(p) {
			continue
		}
		group, err := members(t.leader.PID)
		if err != nil {
			return nil, fmt.Errorf("look at the group of %s: %w", t.leader, err)
		}
		return append(procs, group...), nil
	}
	return procs, nil
}

// sweep ends what list returns, again and again until there is nothing left,
// and returns what it ended. It sends SIGTERM, and after grace SIGKILL; a ctx
// that ends means SIGKILL at once. list may name a process twice.
//
// Nothing left means several times in a row: a process that is just being
// replaced by another program shows no environment for an instant, which is
// longer on a busy machine, and one that was forked during a look may have been
// missed by it.
func sweep(ctx context.Context, grace time.Duration, list func() ([]Proc, error)) ([]Proc, error) {
	var ended []Proc
	seen := make(map[[2]uint64]time.Time) // when it was first to be killed; zero while it only was asked to end
	begin := time.Now()
	clean := 0
	for pause := cleanPause; ; {
		procs, err := list()
		if err != nil {
			return ended, err
		}
		switch clean++; {
		case len(procs) > 0:
			clean, pause = 0, min(2*pause, 50*time.Millisecond)
		case clean == cleanLooks:
			return ended, nil
		default:
			pause = cleanPause
		}
		kill := ctx.Err() != nil || time.Since(begin) >= grace
		var errs []error
		stuck := time.Since(begin) >= grace+chaseTime
		for _, p := range procs {
			key := [2]uint64{uint64(p.PID), p.Start}
			since, known := seen[key]
			first := !known
			if first {
				seen[key] = time.Time{}
				ended = append(ended, p)
			}
			switch {
			case kill:
				if since.IsZero() {
					seen[key] = time.Now()
				}
				if first {
					pause = cleanPause // it may go on in yet another one
				}
				stuck = stuck || !since.IsZero() && time.Since(since) >= killTime
				err = signalProc(p, syscall.SIGKILL)
			case first:
				err = signalProc(p, syscall.SIGTERM)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("signal %s: %w", p, err))
			}
		}
		if len(procs) > 0 && stuck {
			return ended, errors.Join(append(errs, fmt.Errorf("still there after SIGKILL: %s", names(procs)))...)
		}
		timer := time.NewTimer(pause)
		if kill {
			<-timer.C
			continue
		}
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}
