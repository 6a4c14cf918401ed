package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// fileLock is held by who uses a store: by one, or by all who share it. It ends
// with the program, however that ends. It is on a file of its own, where who has
// it for good writes down who that is.
type fileLock struct{ f *os.File }

func openLock(path string) (*fileLock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, openError(path, err)
	}
	return &fileLock{f}, nil
}

func (l *fileLock) release() error { return l.f.Close() }

// somebody is a holder of whom nothing is known.
const somebody = "another program"

func inUse(err error) bool { return errors.Is(err, ErrInUse) }

// keep takes the lock for a store that has its file for itself alone.
func (l *fileLock) keep() error {
	err := l.exclusive()
	if inUse(err) {
		return fmt.Errorf("%w: end %s first, or have all of them share it", ErrInUse, l.holder())
	}
	if err != nil {
		return err
	}
	return l.sign(fmt.Sprintf("process %d\n", os.Getpid()))
}

// borrow takes the lock for a peer that needs the file for itself alone for a
// moment. It is not to be taken for one that keeps it.
func (l *fileLock) borrow() error {
	if err := l.exclusive(); err != nil {
		return err
	}
	return l.sign("")
}

// share takes the lock together with other peers.
func (l *fileLock) share() error {
	if err := l.shared(); err != nil {
		return err
	}
	return l.sign("")
}

// borrowed reports whether a lock that could not be taken may soon be free.
func (l *fileLock) borrowed(err error) bool { return inUse(err) && l.holder() == somebody }

// takeLock says that the store uses the file.
func (s *Store) takeLock(ctx context.Context) (err error) {
	if s.lock, err = openLock(s.path + ".lock"); err != nil {
		return err
	}
	if s.opts.Peer {
		return s.join(ctx)
	}
	return openError(s.path, s.lock.keep())
}

// join makes the store one of the peers on the file.
func (s *Store) join(ctx context.Context) error {
	err := s.insist(ctx, s.lock.borrowed, s.lock.share)
	if inUse(err) {
		err = fmt.Errorf("%w: %s has it for itself alone; programs that share it must all say so", ErrInUse, s.lock.holder())
	}
	return openError(s.path, err)
}

// insist tries something for as long as it fails with what may pass, but not
// longer than [Options].BusyTimeout.
func (s *Store) insist(ctx context.Context, passes func(error) bool, try func() error) error {
	deadline := time.Now().Add(s.opts.BusyTimeout)
	for {
		err := try()
		if !passes(err) || !time.Now().Before(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
