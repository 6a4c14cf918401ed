//go:build unix

package sqlitestore

import (
	"path/filepath"

	"golang.org/x/sys/unix"
)

// diskFull reports whether there is no room for a page beside the file.
func (s *Store) diskFull() bool {
	var fs unix.Statfs_t
	return unix.Statfs(filepath.Dir(s.path), &fs) == nil && fs.Bavail < 16
}
