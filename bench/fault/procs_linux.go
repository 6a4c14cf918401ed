package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// marked lists the processes with a variable in their environment.
func marked(variable string) ([]process, error) {
	envs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return nil, err
	}
	var found []process
	for _, path := range envs {
		b, err := os.ReadFile(path) // fails for those of others, and those that have just ended
		if err != nil || !bytes.Contains(append([]byte{0}, b...), []byte("\x00"+variable+"\x00")) {
			continue
		}
		if p, err := look(filepath.Dir(path)); err == nil {
			found = append(found, p)
		}
	}
	return found, nil
}

// look reads about a process in its folder of /proc.
func look(dir string) (process, error) {
	pid, err := strconv.Atoi(filepath.Base(dir))
	if err != nil {
		return process{}, err
	}
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return process{}, err
	}
	line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil {
		return process{}, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 2 || fields[0] == "Z" {
		return process{}, fmt.Errorf("process %d has ended", pid)
	}
	parent, err := strconv.Atoi(fields[1])
	return process{pid: pid, parent: parent, command: strings.ReplaceAll(strings.TrimRight(string(line), "\x00"), "\x00", " ")}, err
}

// mountSmall mounts a file system of a few megabytes on dir, and returns how to
// take it away again.
func mountSmall(dir string, megabytes int) (func() error, error) {
	if err := syscall.Mount("fault", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes)); err != nil {
		return nil, fmt.Errorf("mount a small file system, which needs root: %w", err)
	}
	return func() error { return syscall.Unmount(dir, syscall.MNT_DETACH) }, nil
}
