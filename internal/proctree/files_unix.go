//go:build unix

package proctree

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// closedFiles returns the ExtraFiles of a command that is to inherit no file.
// Go opens files so that children do not get them, but what this program itself
// inherited, or C code opened, is passed on: a nil entry closes the file of its
// number in the child.
func closedFiles() ([]*os.File, error) {
	dir, err := os.Open("/dev/fd")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	const first = 3 // after stdin, stdout and stderr
	n := 0
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		if err != nil || fd < first+n {
			continue
		}
		// A file that was closed meanwhile is none to pass on.
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			n = fd - first + 1
		}
	}
	return make([]*os.File, n), nil
}
