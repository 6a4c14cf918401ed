package sqlitestore

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// syncFile waits until what was written to a file is on the disk.
func syncFile(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
