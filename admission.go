package claudepool

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/claudepool/claudepool/internal/proctree"
)

// admission lets processes start only so many at once, and only while there is
// memory for one more.
type admission struct {
	turns chan struct{}         // one token per start under way
	free  func() (int64, error) // bytes available to new processes
	check bool

	mu   sync.Mutex
	need int64 // bytes a process is expected to need
}

// memoryPoll is how often memory is looked at while a start waits for it: no
// system tells when memory gets free.
const memoryPoll = time.Second

func newAdmission(c PoolConfig) *admission {
	return &admission{
		turns: make(chan struct{}, c.StartsAtOnce),
		free:  proctree.FreeMemory,
		check: c.SlotMemory > 0,
		need:  c.SlotMemory,
	}
}

// acquire waits for leave to start a process. waiting is called once if that
// takes for want of memory. release must be called when the start is through.
func (a *admission) acquire(ctx context.Context, waiting func(reason string)) (release func(), err error) {
	select {
	case a.turns <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	release = func() { <-a.turns }
	for told := false; ; told = true {
		enough, err := a.room()
		if err != nil {
			release()
			return nil, err
		}
		if enough {
			return release, nil
		}
		if !told {
			waiting("waits for memory")
		}
		select {
		case <-time.After(memoryPoll):
		case <-ctx.Done():
			release()
			return nil, context.Cause(ctx)
		}
	}
}

// room reports whether there is memory for one more process. Where the system
// does not tell, there always is.
func (a *admission) room() (bool, error) {
	if !a.check {
		return true, nil
	}
	free, err := a.free()
	if errors.Is(err, errors.ErrUnsupported) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return free >= a.need, nil
}

// measured notes what the largest process of now has been seen to need.
func (a *admission) measured(rss int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.need = rss
}
