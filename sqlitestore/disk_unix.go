//go:build unix

package sqlitestore

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// diskFull reports whether there is no room for a page beside the file.
func (s *Store) diskFull() bool {
	var fs unix.Statfs_t
	return unix.Statfs(filepath.Dir(s.path), &fs) == nil && fs.Bavail < 16
}

// syncFolder waits until the names in a folder are on the disk.
func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
