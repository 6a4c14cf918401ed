package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver

	"github.com/claudepool/claudepool"
)

// Synchronous says what a change has survived when the call that made it returns.
type Synchronous string

const (
	// Full waits for the disk: the change survives the end of the machine.
	Full Synchronous = "full"
	// Normal leaves it to the system when to write: the change survives the end
	// of the program, and the last ones may be lost with the machine. The file
	// is consistent all the same.
	Normal Synchronous = "normal"
)

// Options say how a store uses its file. The zero value is right for one pool
// that is not to lose anything.
type Options struct {
	// Peer shares the file with other programs on this machine that open it
	// with Peer too. Without it the file is this store's alone.
	Peer bool
	// Synchronous is by default [Full].
	Synchronous Synchronous
	// Retain says how many tasks that have ended are kept. Zero means the last
	// million, and 90 days. The money that they have cost stays in the ledger.
	Retain claudepool.Retention
	// BusyTimeout is how long a call waits for a lock that another program
	// holds, before it fails with [ErrBusy]; and a peer that has a newer schema
	// for the others to end, before it fails with [ErrInUse]. Zero means 10 s.
	BusyTimeout time.Duration
}

// Defaults of [Options].
const (
	DefaultRetainCount = 1_000_000
	DefaultRetainAge   = 90 * 24 * time.Hour
	defaultBusyTimeout = 10 * time.Second
)

func (o Options) withDefaults() (Options, error) {
	if o.Synchronous == "" {
		o.Synchronous = Full
	}
	if o.Synchronous != Full && o.Synchronous != Normal {
		return o, &claudepool.InvalidError{Field: "synchronous", Reason: fmt.Sprintf("must be %q or %q, not %q", Full, Normal, o.Synchronous)}
	}
	if o.BusyTimeout < 0 {
		return o, &claudepool.InvalidError{Field: "busy_timeout", Reason: "must not be negative"}
	}
	if o.BusyTimeout == 0 {
		o.BusyTimeout = defaultBusyTimeout
	}
	if o.Retain.Count == 0 {
		o.Retain.Count = DefaultRetainCount
	}
	if o.Retain.Age == 0 {
		o.Retain.Age = DefaultRetainAge
	}
	return o, nil
}

// Store is a [claudepool.PoolStore] in a file. Its methods are safe for
// concurrent use. Open one with [Open].
type Store struct {
	path string
	opts Options
	lock *fileLock

	db    *sql.DB // that of tx
	tx    *tx
	read  *sql.DB   // a few connections that only read, and never for long
	one   *sql.Stmt // of read: a task by its id
	lists *sql.DB   // those of listings: their callers decide for how long

	steps   chan *step
	watches chan *step    // steps that run between transactions
	closing chan struct{} // closed by Close
	written chan struct{} // closed when write has ended
	disk    *disk

	close    sync.Once
	closeErr error

	watch watchers
}

var _ claudepool.PoolStore = (*Store)(nil)

// Open opens the store in a file, or makes one. Whoever opens it closes it.
//
// The errors are [ErrInUse], [ErrNotAStore], [ErrNewer], [ErrCorrupt], [ErrFull],
// [ErrReadOnly] and [ErrBusy], and a [*claudepool.InvalidError] for options that
// cannot be.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if path == "" {
		return nil, &claudepool.InvalidError{Field: "path", Reason: "must not be empty"}
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	s := &Store{
		path: path, opts: o,
		steps: make(chan *step, maxBatch), watches: make(chan *step), closing: make(chan struct{}), written: make(chan struct{}),
		watch: newWatchers(),
	}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(s.translate(err), s.release())
	}
	go s.disk.run()
	go s.write()
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	files, err := schemaFiles()
	if err != nil {
		return err
	}
	if err := s.connect(ctx, files); err != nil {
		return err
	}
	if s.disk, err = openDisk(s); err != nil {
		return err
	}
	if s.read, err = sql.Open("sqlite", s.dsn("_pragma=query_only(1)")); err != nil {
		return err
	}
	s.read.SetMaxOpenConns(readers)
	s.read.SetMaxIdleConns(readers)
	if s.one, err = s.read.PrepareContext(ctx, selectTask); err != nil {
		return err
	}
	if s.lists, err = sql.Open("sqlite", s.dsn("_pragma=query_only(1)")); err != nil {
		return err
	}
	s.lists.SetMaxIdleConns(readers)
	return nil
}

// connect makes sure of the file, and that its schema is the one after files.
func (s *Store) connect(ctx context.Context, files []string) error {
	if fi, err := os.Stat(s.path); err == nil {
		switch {
		case !fi.Mode().IsRegular():
			return fmt.Errorf("task store %s: %w: it is no file", s.path, ErrNotAStore)
		case fi.Size() > 0 && fi.Size() < smallest: // which SQLite would overwrite
			return fmt.Errorf("task store %s: %w: it has only %d bytes", s.path, ErrNotAStore, fi.Size())
		}
	}
	if err := s.takeLock(ctx); err != nil {
		return err
	}
	// Nobody else is to read it. An existing file is not opened here: to close
	// it would end the locks that another store of this program has on it.
	f, err := os.OpenFile(s.path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	switch {
	case err == nil:
		err = f.Close()
	case errors.Is(err, fs.ErrExist):
		err = nil
	}
	if err != nil {
		return openError(s.path, err)
	}
	if s.db, err = sql.Open("sqlite", s.dsn("_txlock=immediate")); err != nil {
		return err
	}
	s.db.SetMaxOpenConns(1)
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	// Before anything of it is changed.
	if _, err := s.current(ctx, conn, files); err != nil {
		return err
	}
	s.tx = &tx{conn: conn, stmts: map[string]*sql.Stmt{}, limited: map[string]bool{}}
	if err := s.useLog(ctx, conn); err != nil {
		return err
	}
	return s.upgrade(ctx, conn, files)
}

// smallest is how many bytes a database has at least.
const smallest = 512

// readers is how many questions are answered at once.
const readers = 4

// useLog lets the file have a write-ahead log.
func (s *Store) useLog(ctx context.Context, conn *sql.Conn) error {
	var mode string
	// SQLite does not wait here for a peer that does the same.
	err := s.insist(ctx, locked, func() error {
		return conn.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode)
	})
	if err == nil && mode != "wal" {
		return fmt.Errorf("task store %s: its file system cannot hold a write-ahead log (journal mode is %s); use a local disk", s.path, mode)
	}
	return err
}

// keptLog is how large the file of the log stays after it had to grow.
const keptLog = 64 << 20

// dsn is the name of the file for SQLite. SQLite itself only waits for the disk
// where the file would not be consistent else; see [disk] for the rest.
func (s *Store) dsn(more string) string {
	path := filepath.ToSlash(s.path)
	if runtime.GOOS == "windows" {
		path = "/" + path
	}
	u := url.URL{Scheme: "file", Path: path, RawQuery: fmt.Sprintf("_pragma=busy_timeout(%d)&_pragma=cache_size(-16000)&_pragma=journal_size_limit(%d)&_pragma=cell_size_check(1)&_pragma=synchronous(NORMAL)&%s",
		s.opts.BusyTimeout.Milliseconds(), keptLog, more)}
	return u.String()
}

// Path returns the absolute path of the file.
func (s *Store) Path() string { return s.path }

// Volatile reports that the store outlives the program.
func (s *Store) Volatile() bool { return false }

// Close implements [claudepool.PoolStore]. What was stored stays; the channels of
// all watchers are closed.
func (s *Store) Close() error {
	first := false
	s.close.Do(func() {
		first = true
		close(s.closing)
		<-s.written
		<-s.disk.done
		s.watch.feed.Close()
		s.closeErr = s.translate(s.release())
	})
	if !first {
		return claudepool.ErrClosed
	}
	return s.closeErr
}

// release closes what open has opened.
func (s *Store) release() error {
	var errs []error
	if s.disk != nil {
		errs = append(errs, s.disk.close())
	}
	if s.one != nil {
		errs = append(errs, s.one.Close())
	}
	for _, db := range []*sql.DB{s.read, s.lists} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if s.tx != nil {
		for _, st := range s.tx.stmts {
			errs = append(errs, st.Close())
		}
		errs = append(errs, s.tx.conn.Close())
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.release())
	}
	return errors.Join(errs...)
}

// ready reports why nothing can be read: the store is closed, or ctx has ended.
func (s *Store) ready(ctx context.Context) error {
	select {
	case <-s.closing:
		return claudepool.ErrClosed
	default:
		return context.Cause(ctx)
	}
}

// failedRead puts the error of reading into the words of this package. A store
// that closes meanwhile takes the connections away.
func (s *Store) failedRead(err error) error {
	select {
	case <-s.closing:
		if err != nil {
			return claudepool.ErrClosed
		}
	default:
	}
	return s.translate(err)
}
