package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"runtime"
	"time"
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

// Older is a file as a program has it, as a peer, that is of an older release: it
// knows the first migration only.
type Older struct{ s *Store }

// OpenOlder opens a file, or makes one, as such a program.
func OpenOlder(ctx context.Context, path string) (*Older, error) {
	files, err := schemaFiles()
	if err != nil {
		return nil, err
	}
	s := &Store{path: path, opts: Options{Peer: true, BusyTimeout: time.Hour}}
	if err := s.connect(ctx, files[:1]); err != nil {
		return nil, errors.Join(err, s.release())
	}
	return &Older{s}, nil
}

// Conn is its connection to the database.
func (o *Older) Conn() *sql.Conn { return o.s.tx.conn }

// Close ends it.
func (o *Older) Close() error { return o.s.release() }

// Borrow has a file as a peer does that migrates it, until end.
func Borrow(path string) (end func() error, err error) {
	l, err := openLock(path + ".lock")
	if err != nil {
		return nil, err
	}
	return l.release, l.borrow()
}

// SetContextAround sets a key of the run context, and calls a function in the
// middle of that write.
func SetContextAround(ctx context.Context, s *Store, key, value string, middle func()) error {
	return s.do(ctx, func(x *tx) error {
		_, err := x.change("INSERT OR REPLACE INTO context (key, value) VALUES (?, ?)", key, value)
		middle()
		return err
	})
}
