//go:build !windows

package worktree

import (
	"errors"
	"syscall"
)

// notFolder reports whether something on the way of a path is no folder.
func notFolder(err error) bool {
	return errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP)
}
