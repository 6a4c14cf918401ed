//go:build unix

package sqlitestore

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// fileLock is held by who uses a store: by one, or by all who share it. It ends
// with the program, however that ends.
type fileLock struct{ f *os.File }

// lockFile takes the lock in a file of its own, where the holder writes down who
// it is, for people.
func lockFile(path string, shared bool) (*fileLock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, openError(path, err)
	}
	how := unix.LOCK_EX
	if shared {
		how = unix.LOCK_SH
	}
	err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = inUse(f, shared)
	} else if err == nil {
		err = sign(f, shared)
	}
	if err != nil {
		return nil, errors.Join(openError(path, err), f.Close())
	}
	return &fileLock{f}, nil
}

// inUse says who has the lock.
func inUse(f *os.File, shared bool) error {
	text := make([]byte, 64)
	n, _ := f.Read(text) // who it is is not always known
	holder := "another program"
	if who := strings.TrimSpace(string(text[:n])); who != "" {
		holder = who
	}
	if shared {
		return fmt.Errorf("%w: %s has it for itself alone; programs that share it must all say so", ErrInUse, holder)
	}
	return fmt.Errorf("%w: end %s first, or have all of them share it", ErrInUse, holder)
}

// sign writes down who has the lock, if that is one.
func sign(f *os.File, shared bool) error {
	if err := f.Truncate(0); err != nil || shared {
		return err
	}
	_, err := fmt.Fprintf(f, "process %d\n", os.Getpid())
	return err
}

func (l *fileLock) release() error { return l.f.Close() }
