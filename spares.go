package claudepool

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/claudepool/claudepool/claude"
)

// spares keeps started processes ready for tasks that no warm one fits. They
// are started with the pool's own options; whatever a claim can still set may
// differ.
type spares struct {
	p      *Pool
	target int
	wake   chan struct{}

	mu     sync.Mutex
	parked []Spare
	key    string // what can claim them
}

func newSpares(p *Pool) *spares {
	s := &spares{p: p, wake: make(chan struct{}, 1), key: p.defaults.SpareKey()}
	if _, ok := p.launcher.(SpareLauncher); ok && p.ability.Spares {
		s.target = max(p.cfg.Spares, 0)
	}
	return s
}

// count returns how many spares wait.
func (s *spares) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.parked)
}

// claim makes a spare an agent with these options, or returns nil: then one has
// to be started.
func (s *spares) claim(ctx context.Context, o claude.Options) Agent {
	if s.target == 0 || o.SpareKey() != s.key {
		return nil
	}
	for {
		sp := s.take()
		if sp == nil {
			return nil
		}
		s.refill()
		a, err := sp.Claim(ctx, o)
		if err == nil {
			return a
		}
		s.p.log.Info("spare could not be claimed; another process is started", "err", err)
		s.end(sp)
		if ctx.Err() != nil {
			return nil
		}
	}
}

// take removes a spare that is still alive.
func (s *spares) take() Spare {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parked = slices.DeleteFunc(s.parked, func(sp Spare) bool {
		select {
		case <-sp.Done():
			return true
		default:
			return false
		}
	})
	if len(s.parked) == 0 {
		return nil
	}
	sp := s.parked[0]
	s.parked = slices.Delete(s.parked, 0, 1)
	return sp
}

func (s *spares) refill() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// loop keeps the number of spares up, once a slot is ready, and ends them at
// the end.
func (s *spares) loop() {
	ctx := s.p.ctx
	defer s.endAll()
	if s.target == 0 {
		return
	}
	for s.p.Ready(ctx) != nil { // a spare would fare like the slots
		select {
		case <-time.After(s.p.cfg.Restart.Most):
		case <-ctx.Done():
			return
		}
	}
	for failures := 0; ; {
		if s.count() < s.target {
			if err := s.park(ctx); err != nil {
				if ctx.Err() != nil {
					return
				}
				failures++
				s.p.log.Warn("spare could not be started", "err", err)
			} else {
				failures = 0
				continue
			}
		}
		var retry <-chan time.Time
		if failures > 0 {
			retry = time.After(backoff(s.p.cfg.Restart.First, s.p.cfg.Restart.Most, failures))
		}
		select {
		case <-s.wake:
		case <-retry:
		case <-ctx.Done():
			return
		}
	}
}

func (s *spares) park(ctx context.Context) error {
	release, err := s.p.starts.acquire(ctx, func(string) {})
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithTimeout(ctx, s.p.cfg.StartTimeout)
	defer cancel()
	sp, err := s.p.launcher.(SpareLauncher).Park(ctx, s.p.defaults)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.parked = append(s.parked, sp)
	s.mu.Unlock()
	return nil
}

func (s *spares) endAll() {
	for sp := s.take(); sp != nil; sp = s.take() {
		s.end(sp)
	}
}

func (s *spares) end(sp Spare) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.p.ctx), closeTimeout)
	defer cancel()
	if err := sp.Close(ctx); err != nil {
		s.p.log.Error("spare could not be ended; look for what it left", "err", err)
	}
}
