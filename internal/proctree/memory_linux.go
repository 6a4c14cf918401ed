package proctree

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"strconv"
	"strings"
)

// FreeMemory returns how many bytes new processes can take: what the system has
// available or, if that is less, what the limits of this program's control
// groups (version 2) leave, page cache that can be dropped counted as free. The
// error is [errors.ErrUnsupported] where it is not known.
func FreeMemory() (int64, error) {
	n, err := freeMemory(os.DirFS("/"))
	if err != nil {
		return 0, fmt.Errorf("find out how much memory is free: %w", err)
	}
	return n, nil
}

func freeMemory(root fs.FS) (int64, error) {
	text, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return 0, err
	}
	free, err := field(text, "MemAvailable:")
	if err != nil {
		return 0, fmt.Errorf("/proc/meminfo: %w", err)
	}
	free *= 1024
	left, err := cgroupLeft(root)
	if err != nil {
		return 0, err
	}
	return max(0, min(free, left)), nil
}

// cgroupLeft returns what the tightest of the groups that this program is in
// leaves, math.MaxInt64 when none has a limit.
func cgroupLeft(root fs.FS) (int64, error) {
	text, err := fs.ReadFile(root, "proc/self/cgroup")
	if errors.Is(err, fs.ErrNotExist) {
		return math.MaxInt64, nil // a kernel without control groups
	}
	if err != nil {
		return 0, err
	}
	left := int64(math.MaxInt64)
	for line := range strings.Lines(string(text)) {
		group, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::")
		if !ok {
			continue // version 1
		}
		// In a container the path may be that outside: then only the root
		// is there, and it is the container's own.
		for dir := path.Clean("/" + group); ; dir = path.Dir(dir) {
			n, err := groupLeft(root, path.Join("sys/fs/cgroup", dir))
			if err != nil {
				return 0, err
			}
			left = min(left, n)
			if dir == "/" {
				break
			}
		}
	}
	return left, nil
}

// groupLeft returns what one group leaves.
func groupLeft(root fs.FS, dir string) (int64, error) {
	limit := int64(math.MaxInt64)
	for _, name := range []string{"memory.max", "memory.high"} {
		text, err := fs.ReadFile(root, path.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		if s := strings.TrimSpace(string(text)); s != "max" {
			n, err := strconv.ParseInt(s, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("/%s/%s: %w", dir, name, err)
			}
			limit = min(limit, n)
		}
	}
	if limit == math.MaxInt64 {
		return limit, nil
	}
	text, err := fs.ReadFile(root, path.Join(dir, "memory.current"))
	if err != nil {
		return 0, err
	}
	used, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("/%s/memory.current: %w", dir, err)
	}
	if text, err = fs.ReadFile(root, path.Join(dir, "memory.stat")); err != nil {
		return 0, err
	}
	cache, err := field(text, "inactive_file")
	if err != nil {
		return 0, fmt.Errorf("/%s/memory.stat: %w", dir, err)
	}
	return limit - used + cache, nil
}

// field returns the number after name in a file of "name number" lines.
func field(text []byte, name string) (int64, error) {
	for line := range bytes.Lines(text) {
		if f := strings.Fields(string(line)); len(f) >= 2 && f[0] == name {
			return strconv.ParseInt(f[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("no %s: %w", name, errors.ErrUnsupported)
}
