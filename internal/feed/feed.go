// Package feed tells any number of readers what happens, without ever waiting
// for one of them.
package feed

import (
	"context"
	"sync"
)

// size is how many values wait for a reader.
const size = 1024

// Feed sends values to readers. Make one with [New]. Its methods are safe for
// concurrent use.
type Feed[T any] struct {
	lost T

	mu      sync.Mutex
	closed  bool
	readers map[*reader[T]]struct{}
	waiting sync.WaitGroup // counts the readers whose context is still waited for
}

type reader[T any] struct {
	values chan T
	// lost says that the last value sent was the one that tells of a loss.
	lost bool
	stop func() bool // stops waiting for the reader's context
}

// New returns a feed that sends lost in the place of values that a reader was
// too slow for.
func New[T any](lost T) *Feed[T] {
	return &Feed[T]{lost: lost, readers: map[*reader[T]]struct{}{}}
}

// Read returns a channel of what is sent from now on, until ctx ends or the feed
// is closed; then the channel is closed. One value fewer than 1,024 can wait in
// it. Of a feed that is closed already it is closed at once.
func (f *Feed[T]) Read(ctx context.Context) <-chan T {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := &reader[T]{values: make(chan T, size)}
	if f.closed {
		close(r.values)
		return r.values
	}
	f.readers[r] = struct{}{}
	f.waiting.Add(1)
	r.stop = context.AfterFunc(ctx, func() {
		defer f.waiting.Done()
		f.mu.Lock()
		defer f.mu.Unlock()
		f.end(r)
	})
	return r.values
}

// end ends a reader, unless that has been done.
func (f *Feed[T]) end(r *reader[T]) {
	if _, reads := f.readers[r]; !reads {
		return
	}
	delete(f.readers, r)
	close(r.values)
	if r.stop() {
		f.waiting.Done()
	}
}

// Readers returns how many readers there are.
func (f *Feed[T]) Readers() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.readers)
}

// Send sends v to all readers. It never blocks.
func (f *Feed[T]) Send(v T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for r := range f.readers {
		r.send(v, f.lost)
	}
}

// Lose tells all readers that something was lost.
func (f *Feed[T]) Lose() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for r := range f.readers {
		r.lose(f.lost)
	}
}

// send never blocks: the feed is the only sender and holds its lock, so the
// buffer can only get emptier. Its last place is for the value that says that
// others are lost. While that one is the last in the buffer the reader has not
// looked for itself yet and will find what is dropped now.
func (r *reader[T]) send(v, lost T) {
	if cap(r.values)-len(r.values) > 1 {
		r.values <- v
		r.lost = false
		return
	}
	r.lose(lost)
}

func (r *reader[T]) lose(lost T) {
	if room := cap(r.values) - len(r.values); room > 0 && (!r.lost || room == cap(r.values)) {
		r.values <- lost
		r.lost = true
	}
}

// Close ends all readers, and waits until nothing of the feed runs.
func (f *Feed[T]) Close() {
	f.mu.Lock()
	f.closed = true
	for r := range f.readers {
		f.end(r)
	}
	f.mu.Unlock()
	f.waiting.Wait()
}
