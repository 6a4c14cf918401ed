package sqlitestore

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// writeLock is the byte of the -shm file that SQLite locks for a write.
const writeLock = 120

// whoWrites says which other program has the write lock of a database, and what
// to do about it. It returns nothing where that cannot be known.
func whoWrites(path string) string {
	// To open that file and close it again would end the locks of this program.
	fi, err := os.Stat(path + "-shm")
	if err != nil {
		return ""
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return ""
	}
	pid := lockHolder(string(locks), fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino), writeLock)
	if pid == 0 || pid == os.Getpid() { // another connection of this program is no program to end
		return ""
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "" // it has ended
	}
	return blame(pid, string(stat))
}

// lockHolder returns which process has locked a byte of a file for itself alone,
// given what /proc/locks says; 0 if none has, or none that this program can see.
func lockHolder(locks, file string, at uint64) int {
	for line := range strings.Lines(locks) {
		// Such as "1: POSIX  ADVISORY  WRITE 4711 fe:00:1234 120 120". Those who
		// wait have one word more.
		f := strings.Fields(line)
		if len(f) != 8 || f[1] != "POSIX" || f[3] != "WRITE" || f[5] != file {
			continue
		}
		pid, err := strconv.Atoi(f[4])
		first, err2 := strconv.ParseUint(f[6], 10, 64)
		last, err3 := strconv.ParseUint(f[7], 10, 64)
		if f[7] == "EOF" {
			last, err3 = at, nil
		}
		if err == nil && err2 == nil && err3 == nil && pid > 0 && first <= at && at <= last {
			return pid
		}
	}
	return 0
}

// blame says what is the matter with the holder of the lock, given what
// /proc/PID/stat says.
func blame(pid int, stat string) string {
	// The name is in parentheses and may hold any byte; then comes the state.
	open, end := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	if open < 0 || end < open || len(stat) < end+3 {
		return ""
	}
	who := fmt.Sprintf("process %d (%s)", pid, stat[open+1:end])
	switch stat[end+2] {
	case 'T':
		return fmt.Sprintf("%s has been stopped in the middle of a write; continue it (kill -CONT %d) or end it (kill -KILL %[2]d), and all goes on", who, pid)
	case 't':
		return fmt.Sprintf("%s is held by a debugger in the middle of a write; let it go on there, or end it (kill -KILL %d), and all goes on", who, pid)
	}
	return who + " has it now; it is one that reads or copies the database by hand, or a peer that hangs; all goes on when it is done or has been ended"
}
