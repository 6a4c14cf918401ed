//go:build unix

package sqlitestore

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// exclusive takes the lock for this program alone.
func (l *fileLock) exclusive() error { return l.take(unix.LOCK_EX) }

// shared takes the lock together with others.
func (l *fileLock) shared() error { return l.take(unix.LOCK_SH) }

// take takes the lock in another way than before, or gives it up. In between
// nobody has it, so that others may: what was known of the file is to be looked
// at again.
func (l *fileLock) take(how int) error {
	fd := int(l.f.Fd())
	err := unix.Flock(fd, how|unix.LOCK_NB)
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrInUse
	}
	return errors.Join(err, unix.Flock(fd, unix.LOCK_UN)) // not every system has lost it
}

// sign writes down who has the lock.
func (l *fileLock) sign(who string) error {
	if err := l.f.Truncate(0); err != nil {
		return err
	}
	_, err := l.f.WriteAt([]byte(who), 0)
	return err
}

// holder says who has signed.
func (l *fileLock) holder() string {
	text := make([]byte, 64)
	n, _ := l.f.ReadAt(text, 0) // who it is is not always known
	if who := strings.TrimSpace(string(text[:n])); who != "" {
		return who
	}
	return somebody
}
