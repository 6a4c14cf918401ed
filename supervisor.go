package claudepool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// SupervisorHandle stops a supervisor that [Pool.Supervise] started.
type SupervisorHandle struct {
	stop context.CancelFunc
	done chan struct{}
}

// Stop ends the supervisor and waits for it. It can be called more than once.
func (h *SupervisorHandle) Stop() {
	h.stop()
	<-h.done
}

// Supervise looks at the slots at every interval, which must be more than zero,
// until the handle is stopped or the pool closes. A pool does so by itself
// unless [PoolConfig.CheckEvery] is negative.
func (p *Pool) Supervise(every time.Duration) (*SupervisorHandle, error) {
	if every <= 0 {
		return nil, invalidField("every", "must be more than zero, not %v", every)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.phase != phaseOpen {
		return nil, ErrClosed
	}
	ctx, cancel := context.WithCancel(p.ctx)
	h := &SupervisorHandle{stop: cancel, done: make(chan struct{})}
	p.work.Go(func() {
		defer close(h.done)
		p.superviseEvery(ctx, every)
	})
	return h, nil
}

func (p *Pool) supervise() { p.superviseEvery(p.ctx, p.cfg.CheckEvery) }

func (p *Pool) superviseEvery(ctx context.Context, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		if err := p.checkSlots(ctx); err != nil && ctx.Err() == nil {
			p.log.Warn("supervisor's pass was not complete", "err", err)
		}
	}
}

// checkSlots is one pass of the supervisor: worn processes are replaced, and
// tasks whose holder was lost are taken up again.
func (p *Pool) checkSlots(ctx context.Context) error {
	p.mu.Lock()
	slots := slices.Clone(p.slots)
	p.mu.Unlock()
	most := int64(0)
	for _, s := range slots {
		rss := s.memory()
		s.noteMemory(rss)
		most = max(most, rss)
		if rss > p.cfg.MaxMemory {
			s.replace(fmt.Sprintf("its process holds %d MB", rss>>20))
		}
		if age := s.age(); age > p.cfg.MaxAge {
			s.replace(fmt.Sprintf("its process is %v old", age.Round(time.Minute)))
		}
	}
	if most > 0 {
		p.starts.measured(min(most, p.cfg.MaxMemory))
	}
	return errors.Join(p.checkVersion(ctx, slots), p.recoverLost(ctx))
}

// checkVersion replaces processes of another version than the program has now.
func (p *Pool) checkVersion(ctx context.Context, slots []*slot) error {
	pr, ok := p.launcher.(Prober)
	if !ok {
		return nil
	}
	now, err := pr.Probe(ctx) // looks at the program only when its file has changed
	if err != nil {
		return fmt.Errorf("find out the version: %w", err)
	}
	for _, s := range slots {
		if v := s.agentVersion(); v != "" && now.Version != "" && v != now.Version {
			s.replace(fmt.Sprintf("its process is version %s, the program %s", v, now.Version))
		}
	}
	return nil
}

// recoverLost returns tasks to the queue whose claim has run out: their holder
// has died, or cannot reach the store. Of tasks that were cancelled meanwhile
// only the money is settled.
func (p *Pool) recoverLost(ctx context.Context) error {
	defer p.chains.kick() // another pool on the store may have given one back
	now := time.Now()
	for r, err := range p.store.Tasks(ctx, TaskFilter{LeaseBefore: now}) {
		if err != nil {
			return err
		}
		if r.Claim == nil || p.runs(r.ID) || p.chains.has(r.ID) {
			continue // ours: its own watch sees to it
		}
		if r.Chain != nil && r.State == StateCancelled {
			// Its holder may have started a step just before it was lost.
			if err := p.cancelSteps(ctx, r); err != nil {
				return err
			}
		}
		if err := p.takeOver(ctx, r, now); err != nil && !errors.Is(err, ErrConflict) && !errors.Is(err, ErrFenced) {
			return err
		}
	}
	return nil
}

func (p *Pool) runs(id TaskID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running[id] != nil
}

// takeOver ends the claim of a lost holder. What its attempt has cost is the
// last figure seen, else what was reserved.
func (p *Pool) takeOver(ctx context.Context, r TaskRecord, now time.Time) error {
	cost := r.Claim.LastCost
	if cost == 0 {
		cost = r.Claim.Reserved
	}
	at := &Attempt{
		TaskID: r.ID, Fence: r.Claim.Fence, SlotID: r.Claim.SlotID, Holder: r.Claim.Holder, Outcome: OutcomeLost,
		Message: "its holder was lost", Cost: cost, Estimated: true, SessionID: r.Claim.SessionID, Started: r.Started, Ended: now,
	}
	t := Transition{Task: r.ID, From: StateRunning, Fence: r.Claim.Fence, To: StatePending, At: now, Attempt: at, Outcome: OutcomeLost, CountCrash: true}
	switch {
	case r.Chain != nil:
		t.CountCrash = false // its steps have counters of their own
	case r.Task.OnCrash == CrashFail || r.Crashes >= MaxCrashes:
		t.To, t.CountCrash = StateFailed, false
		t.Result = p.endedEarly(r, OutcomeLost, "the program that ran it was lost")
	case r.Task.OnCrash != CrashRerun:
		t.ResumeSession = cmp.Or(r.Claim.SessionID, r.ResumeSession)
	}
	_, err := p.store.Transition(ctx, t)
	if err == nil || errors.Is(err, ErrConflict) || errors.Is(err, ErrFenced) {
		p.sched.kick() // its money is free, and its lane and tags
		p.chains.kick()
	}
	if err == nil {
		p.log.Warn("task of a lost holder was taken over", "task", r.ID, "holder", r.Claim.Holder)
	}
	return err
}

// CheckAndRestartSlots does one pass of the supervisor now, and also restarts
// the slots that pause after a failure or were given up. It returns how all
// slots stand.
func (p *Pool) CheckAndRestartSlots(ctx context.Context) ([]SlotStatus, error) {
	if err := p.open(); err != nil {
		return nil, err
	}
	err := p.checkSlots(ctx)
	p.mu.Lock()
	slots := slices.Clone(p.slots)
	p.mu.Unlock()
	for _, s := range slots {
		if st := s.snapshot(); st.State == SlotErrored || st.State == SlotRestarting {
			s.poke()
		}
	}
	return snapshots(slots), err
}

func snapshots(slots []*slot) []SlotStatus {
	out := make([]SlotStatus, len(slots))
	for i, s := range slots {
		out[i] = s.snapshot()
	}
	return out
}

// replaceAll makes every slot replace its process when it is idle.
func (p *Pool) replaceAll(why string) {
	p.mu.Lock()
	slots := slices.Clone(p.slots)
	p.mu.Unlock()
	for _, s := range slots {
		s.replace(why)
	}
}

// age returns how long the slot's process has lived, 0 if there is none.
func (s *slot) age() time.Duration {
	s.mu.Lock()
	a := s.live
	s.mu.Unlock()
	if a == nil {
		return 0
	}
	return time.Since(a.Info().Started)
}

func (s *slot) noteMemory(rss int64) {
	s.mu.Lock()
	s.status.RSS = rss
	s.mu.Unlock()
}

func (s *slot) agentVersion() string {
	s.mu.Lock()
	a := s.live
	s.mu.Unlock()
	if a == nil {
		return ""
	}
	return a.Info().Version
}
