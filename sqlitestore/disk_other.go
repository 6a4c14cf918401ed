//go:build !linux

package sqlitestore

import "os"

// syncFile waits until what was written to a file is on the disk.
func syncFile(f *os.File) error { return f.Sync() }
