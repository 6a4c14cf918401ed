package sqlitestore

import (
	"context"
	"runtime"
)

// SetContextTaken sets a key of the run context, and returns when the writer has
// begun with that. The result comes later.
func SetContextTaken(ctx context.Context, s *Store, key, value string) <-chan error {
	st := &step{ctx: ctx, durable: true, run: func(x *tx) error {
		_, err := x.change("INSERT OR REPLACE INTO context (key, value) VALUES (?, ?)", key, value)
		return err
	}}
	result := make(chan error, 1)
	go func() { result <- s.await(s.steps, st) }()
	for !st.taken.Load() {
		runtime.Gosched()
	}
	return result
}

// AwaitQueued waits until n steps wait for the writer.
func AwaitQueued(s *Store, n int) {
	for len(s.steps) < n {
		runtime.Gosched()
	}
}

// AwaitClosing waits until Close was called.
func AwaitClosing(s *Store) { <-s.closing }

// Waits returns how often the store has waited for the disk, and how SQLite is
// set to do so by itself: 1 is NORMAL.
func Waits(s *Store) (waits int64, synchronous int, err error) {
	err = s.await(s.steps, &step{ctx: context.Background(), run: func(x *tx) error {
		return x.row("PRAGMA synchronous", nil, &synchronous)
	}})
	return s.disk.waits.Load(), synchronous, err
}
