package claudepool

import (
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
	dead, err := p.recoverLost(ctx)
	if dead > 0 { // what waits of theirs has nobody else to see that it does not wait too long
		err = errors.Join(err, p.expiry.load(ctx))
	}
	return errors.Join(p.checkVersion(ctx, slots), err)
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
