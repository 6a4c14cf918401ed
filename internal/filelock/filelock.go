// Package filelock locks files for one holder, in this program or another. A lock
// ends with the program that has it, however that ends.
package filelock

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ErrLocked says that another has the lock.
var ErrLocked = errors.New("locked")

// Lock is a lock that is held. Its file stays when it is given up: one that were
// removed could be locked by two, each in another file of that name.
type Lock struct{ f *os.File }

// Try takes the lock of a file, which is made if it is not there.
func Try(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return &Lock{f}, nil
}

// Sign writes this program's pid into the file, for [Holder].
func (l *Lock) Sign() error {
	if err := l.f.Truncate(0); err != nil {
		return err
	}
	_, err := l.f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// Unlock gives the lock up.
func (l *Lock) Unlock() error {
	// Closing is not enough: a child that is being started has the file open too,
	// for a moment.
	return errors.Join(unlock(l.f), l.f.Close())
}

// Holder returns the pid that was last signed, 0 if there is none. Whether that
// program still has the lock only [Try] can tell.
func Holder(path string) int {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return pid
}
