package claudepool

import (
	"context"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// defaultEventBuffer is how many events may wait for a reader.
const defaultEventBuffer = 1024

// broadcast hands events to subscribers and never waits for one.
type broadcast struct {
	readers atomic.Int32 // so that publishing to nobody costs next to nothing
	agents  atomic.Int32 // of these, how many want agent events

	mu   sync.Mutex
	seq  int64
	subs map[*subscription]bool
	done bool
}

func newBroadcast() *broadcast { return &broadcast{subs: map[*subscription]bool{}} }

// subscription is a ring of events that wait for one reader.
type subscription struct {
	filter EventFilter
	agents bool
	ready  chan struct{} // holds one token while there is something to read

	mu   sync.Mutex
	ring []Event
	head int // oldest
	size int
	lost int
	done bool
}

// hasReaders reports whether anybody reads events at all.
func (b *broadcast) hasReaders() bool { return b.readers.Load() > 0 }

// wantsAgents reports whether anybody reads agent events.
func (b *broadcast) wantsAgents() bool { return b.agents.Load() > 0 }

// publish numbers e, sets its time, and offers it to everybody who asked for it.
func (b *broadcast) publish(e Event) {
	if !b.hasReaders() {
		return
	}
	e.At = time.Now()
	if c := chainOf(e.TaskID); c != e.TaskID {
		e.Chain = c
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seq++
	e.Seq = b.seq
	for s := range b.subs {
		if s.wants(&e) {
			s.offer(e)
		}
	}
}

func (s *subscription) wants(e *Event) bool {
	f := &s.filter
	if len(f.Kinds) == 0 && e.Kind == EventAgent || len(f.Kinds) > 0 && !slices.Contains(f.Kinds, e.Kind) {
		return false
	}
	return (f.TaskID == "" || f.TaskID == e.TaskID) && (f.SlotID == "" || f.SlotID == e.SlotID)
}

// offer puts e into the ring, in place of the oldest if it is full.
func (s *subscription) offer(e Event) {
	s.mu.Lock()
	if s.size == len(s.ring) {
		s.head = (s.head + 1) % len(s.ring)
		s.size--
		s.lost++
	}
	s.ring[(s.head+s.size)%len(s.ring)] = e
	s.size++
	s.mu.Unlock()
	s.wake()
}

func (s *subscription) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// next takes the oldest event. ok is false when there is none; done when there
// will be none.
func (s *subscription) next() (e Event, ok, done bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.lost > 0:
		e = Event{Kind: EventLagged, At: time.Now(), Lost: s.lost}
		s.lost = 0
		return e, true, false
	case s.size > 0:
		e = s.ring[s.head]
		s.ring[s.head] = Event{}
		s.head = (s.head + 1) % len(s.ring)
		s.size--
		return e, true, false
	}
	return e, false, s.done
}

func (b *broadcast) subscribe(ctx context.Context, f EventFilter) iter.Seq[Event] {
	if f.Buffer <= 0 {
		f.Buffer = defaultEventBuffer
	}
	s := &subscription{filter: f, agents: slices.Contains(f.Kinds, EventAgent), ready: make(chan struct{}, 1), ring: make([]Event, f.Buffer)}
	b.mu.Lock()
	if s.done = b.done; !s.done {
		b.subs[s] = true
		b.count(s, 1)
	}
	b.mu.Unlock()
	// Whoever never runs the loop still leaves nothing behind once ctx ends.
	stop := context.AfterFunc(ctx, func() { b.remove(s) })
	return func(yield func(Event) bool) {
		defer stop()
		defer b.remove(s)
		for ctx.Err() == nil {
			e, ok, done := s.next()
			switch {
			case ok:
				if !yield(e) {
					return
				}
			case done:
				return
			default:
				select {
				case <-s.ready:
				case <-ctx.Done():
				}
			}
		}
	}
}

func (b *broadcast) count(s *subscription, n int32) {
	b.readers.Add(n)
	if s.agents {
		b.agents.Add(n)
	}
}

// remove ends a subscription; what waits in it can still be read.
func (b *broadcast) remove(s *subscription) {
	b.mu.Lock()
	if b.subs[s] {
		delete(b.subs, s)
		b.count(s, -1)
	}
	b.mu.Unlock()
	s.mu.Lock()
	s.done = true
	s.mu.Unlock()
	s.wake()
}

// close ends all subscriptions.
func (b *broadcast) close() {
	b.mu.Lock()
	b.done = true
	subs := make([]*subscription, 0, len(b.subs))
	for s := range b.subs {
		subs = append(subs, s)
	}
	b.mu.Unlock()
	for _, s := range subs {
		b.remove(s)
	}
}
