package claudepool

import (
	"maps"
	"sync"
	"time"

	"github.com/claudepool/claudepool/claude"
)

// meter sums up what attempts have cost and how they went.
type meter struct {
	mu sync.Mutex
	m  Metrics
}

func newMeter(since time.Time) *meter {
	return &meter{m: Metrics{
		Since: since, Outcomes: map[Outcome]Tally{}, Models: map[string]claude.ModelUsage{},
		Slots: map[string]Tally{}, Tags: map[string]Tally{},
	}}
}

// Metrics returns the sums since the pool was built.
func (p *Pool) Metrics() Metrics {
	p.meter.mu.Lock()
	defer p.meter.mu.Unlock()
	m := p.meter.m
	m.Outcomes, m.Models = maps.Clone(m.Outcomes), maps.Clone(m.Models)
	m.Slots, m.Tags = maps.Clone(m.Slots), maps.Clone(m.Tags)
	return m
}

// attempt counts one that has ended. ran says that a prompt was sent, so that
// the source of its process counts.
func (w *meter) attempt(r *TaskRecord, at *Attempt, from source, ran bool, t Transition, firstToken time.Duration) {
	one := Tally{
		Count: 1, Cost: at.Cost, Queued: Duration(at.Started.Sub(r.Submitted)),
		Ran: Duration(at.Ended.Sub(at.Started)), FirstToken: Duration(firstToken),
	}
	if r.Attempts > 1 {
		one.Queued = 0 // counted with the first
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	m := &w.m
	m.Spend += at.Cost
	m.Total.add(one)
	tally(m.Outcomes, at.Outcome, one)
	tally(m.Slots, at.SlotID, one)
	for _, tag := range r.Task.Tags {
		tally(m.Tags, tag, one)
	}
	for name, u := range at.Models {
		sum := m.Models[name]
		sum.Input += u.Input
		sum.Output += u.Output
		sum.CacheRead += u.CacheRead
		sum.CacheCreation += u.CacheCreation
		sum.Cost += u.Cost
		m.Models[name] = sum
	}
	if ran {
		switch from {
		case fromWarm:
			m.Warm++
		case fromSpare:
			m.Claimed++
		case fromSpawn:
			m.Spawned++
		}
	}
	if t.CountRetry {
		m.Retries++
	}
	if t.CountCrash {
		m.Crashes++
	}
}

func tally[K comparable](m map[K]Tally, k K, one Tally) {
	sum := m[k]
	sum.add(one)
	m[k] = sum
}

func (t *Tally) add(o Tally) {
	t.Count += o.Count
	t.Cost += o.Cost
	t.Queued += o.Queued
	t.Ran += o.Ran
	t.FirstToken += o.FirstToken
}

func (w *meter) resetFailed() {
	w.mu.Lock()
	w.m.ResetFailures++
	w.mu.Unlock()
}

func (w *meter) restarted() {
	w.mu.Lock()
	w.m.Restarts++
	w.mu.Unlock()
}
