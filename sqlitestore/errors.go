package sqlitestore

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// What can be wrong with a file. Nothing that was stored before is lost with any
// of these, and the step that failed has had no effect.
var (
	// ErrInUse says that another program has the file open, and one of the two
	// without [Options.Peer], or the file is of an older release.
	ErrInUse = errors.New("file is in use by another program")
	// ErrNotAStore says that the file is something else.
	ErrNotAStore = errors.New("file is no task store")
	// ErrNewer says that a later release has written the file.
	ErrNewer = errors.New("file is of a later release")
	// ErrCorrupt says that the file is damaged.
	ErrCorrupt = errors.New("file is damaged")
	// ErrFull says that there is no room on the disk. It passes when there is.
	ErrFull = errors.New("disk is full")
	// ErrReadOnly says that the file, or its folder, cannot be written to.
	ErrReadOnly = errors.New("file cannot be written to")
	// ErrBusy says that another program has kept the file locked for long. It
	// passes when that one is done.
	ErrBusy = errors.New("file is locked by another program")
)

const recoverHint = `keep a copy, and get out what can be read with "sqlite3 FILE .recover"`

// translate puts what SQLite says into the words of this package.
func (s *Store) translate(err error) error {
	var failed *sqlite.Error
	if !errors.As(err, &failed) {
		if err != nil && strings.Contains(err.Error(), "sql: Scan error") { // it has no type
			return fmt.Errorf("task store %s: %w: %s (%w)", s.path, ErrCorrupt, recoverHint, err)
		}
		return err
	}
	var what error
	hint := ""
	switch failed.Code() & 0xff {
	case lib.SQLITE_FULL:
		what, hint = ErrFull, "make room; what could not be stored is tried again by a pool"
	case lib.SQLITE_CORRUPT:
		what, hint = ErrCorrupt, recoverHint
	case lib.SQLITE_NOTADB:
		what, hint = ErrNotAStore, "name another file"
	case lib.SQLITE_READONLY, lib.SQLITE_PERM, lib.SQLITE_AUTH:
		what, hint = ErrReadOnly, "its folder must be writable too"
	case lib.SQLITE_CANTOPEN:
		what, hint = ErrReadOnly, "its folder must exist, and be writable"
	case lib.SQLITE_BUSY, lib.SQLITE_LOCKED:
		what, hint = ErrBusy, cmp.Or(whoWrites(s.path), "it is one that reads or copies the database, or a peer that hangs")
	case lib.SQLITE_IOERR:
		if failed.Code() == lib.SQLITE_IOERR_WRITE && s.diskFull() {
			what, hint = ErrFull, "make room; what could not be stored is tried again by a pool"
			break
		}
		return fmt.Errorf("task store %s: the disk fails: %w", s.path, err)
	default:
		return fmt.Errorf("task store %s: %w", s.path, err)
	}
	return fmt.Errorf("task store %s: %w: %s (%w)", s.path, what, hint, err)
}

// noTransaction reports whether a ROLLBACK failed because SQLite has rolled back
// by itself.
func noTransaction(err error) bool {
	return err != nil && strings.Contains(err.Error(), "no transaction is active")
}

// locked reports whether another connection has what was needed.
func locked(err error) bool {
	var failed *sqlite.Error
	return errors.As(err, &failed) && failed.Code()&0xff == lib.SQLITE_BUSY
}

// constraint reports whether a value is there that must be unique.
func constraint(err error) bool {
	var failed *sqlite.Error
	return errors.As(err, &failed) && (failed.Code() == lib.SQLITE_CONSTRAINT_UNIQUE || failed.Code() == lib.SQLITE_CONSTRAINT_PRIMARYKEY)
}

// openError puts the error of a system call into the words of this package.
func openError(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("task store %s: %w: %w", path, ErrReadOnly, err)
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("task store %s: %w: %w", path, ErrFull, err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("task store %s: make its folder first: %w", path, err)
	}
	return fmt.Errorf("task store %s: %w", path, err)
}
