package proctree

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// supported says whether trees can be held together here.
const supported = true

func ownGroup() *syscall.SysProcAttr   { return &syscall.SysProcAttr{Setpgid: true} }
func ownSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

func ownedByUser(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}

// system returns what makes pids comparable: the boot of the machine and the
// namespace that counts them.
func system() (boot, namespace string, err error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", "", err
	}
	namespace, err = os.Readlink("/proc/self/ns/pid")
	return strings.TrimSpace(string(id)), namespace, err
}

// stat is one process as /proc/PID/stat shows it.
type stat struct {
	Proc
	group  int
	dead   bool // a zombie, or just being removed
	kernel bool // a thread of the kernel, which has no environment
}

// readStat returns an error for which vanished is true when there is no such
// process.
func readStat(pid int) (stat, error) {
	path := procPath(pid, "stat")
	text, err := readProc(pid, "stat")
	if err != nil {
		return stat{}, err
	}
	// The name is in parentheses and may hold any byte; the rest is numbers.
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return stat{}, fmt.Errorf("%s: no name in %q", path, text)
	}
	const (
		state = iota // the fields after the name
		ppid
		group
		flags = 6
		start = 19
	)
	f := strings.Fields(string(text[end+1:]))
	if len(f) <= start {
		return stat{}, fmt.Errorf("%s: too few fields in %q", path, text)
	}
	s := stat{Proc: Proc{PID: pid, Name: string(text[open+1 : end])}, dead: strings.Contains("ZXx", f[state])}
	var bits uint64
	var errs [4]error
	s.PPID, errs[0] = strconv.Atoi(f[ppid])
	s.group, errs[1] = strconv.Atoi(f[group])
	bits, errs[2] = strconv.ParseUint(f[flags], 10, 64)
	s.Start, errs[3] = strconv.ParseUint(f[start], 10, 64)
	const kernelThread = 0x00200000
	s.kernel = bits&kernelThread != 0
	if err := errors.Join(errs[:]...); err != nil {
		return stat{}, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

func procPath(pid int, name string) string {
	return "/proc/" + strconv.Itoa(pid) + "/" + name
}

// readProc returns a file of a process. It saves what os.ReadFile does to wait
// for files that are not ready, which is most of the time of a look at hundreds
// of processes.
func readProc(pid int, name string) ([]byte, error) {
	path := procPath(pid, name)
	fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	text := make([]byte, 0, 4096)
	for {
		n, err := retry(func() (int, error) { return unix.Read(fd, text[len(text):cap(text)]) })
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		}
		if n == 0 {
			return text, nil
		}
		text = text[:len(text)+n]
		if len(text) == cap(text) {
			text = slices.Grow(text, cap(text))
		}
	}
}

// retry repeats a system call that a signal interrupts.
func retry(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); err != unix.EINTR {
			return n, err
		}
	}
}

// vanished reports whether an error says that the process is not there.
func vanished(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}

// lookup returns the process with this pid, which may be a zombie.
func lookup(pid int) (Proc, error) {
	s, err := readStat(pid)
	if vanished(err) {
		err = os.ErrProcessDone
	}
	return s.Proc, err
}

// alive reports whether p is still there and no zombie. Who cannot be looked at
// counts as alive.
func alive(p Proc) bool {
	s, err := readStat(p.PID)
	if err != nil {
		return !vanished(err)
	}
	return s.Start == p.Start && !s.dead
}

func pids() ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil { // the other names are no processes
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// members returns the live processes of a group.
func members(group int) ([]Proc, error) {
	pids, err := pids()
	if err != nil {
		return nil, err
	}
	var procs []Proc
	for _, pid := range pids {
		if g, err := unix.Getpgid(pid); err == unix.ESRCH || err == nil && g != group {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("group of process %d: %w", pid, err)
		}
		s, err := readStat(pid)
		switch {
		case vanished(err):
		case err != nil:
			return nil, err
		case s.group == group && !s.dead:
			procs = append(procs, s.Proc)
		}
	}
	return procs, nil
}

// marked returns the live processes whose marker satisfies match, as far as
// this user may look.
func marked(match func(marker string) bool) ([]Proc, error) {
	pids, err := pids()
	if err != nil {
		return nil, err
	}
	var procs []Proc
	look := func(pid int) (empty bool, err error) {
		found, empty, err := carries(pid, match)
		if err != nil || !found {
			return empty, err
		}
		s, err := readStat(pid)
		if err != nil || s.dead {
			return false, err
		}
		// The pid may have changed hands between the two looks.
		if found, _, err = carries(pid, match); found {
			procs = append(procs, s.Proc)
		}
		return false, err
	}
	var again []int
	for _, pid := range pids {
		empty, err := look(pid)
		if err != nil && !vanished(err) {
			return nil, err
		}
		if empty {
			s, err := readStat(pid)
			if err != nil && !vanished(err) {
				return nil, err
			}
			if err == nil && !s.kernel && !s.dead {
				again = append(again, pid)
			}
		}
	}
	// A process that is just being replaced by another program has no
	// environment for an instant.
	if len(again) > 0 {
		time.Sleep(time.Millisecond)
	}
	for _, pid := range again {
		if _, err := look(pid); err != nil && !vanished(err) {
			return nil, err
		}
	}
	return procs, nil
}

// carries reports whether a process has a marker that satisfies match, and
// whether it shows an environment at all. A process of another user has none.
func carries(pid int, match func(marker string) bool) (found, empty bool, err error) {
	env, err := readProc(pid, "environ")
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return false, false, nil
		}
		return false, false, err
	}
	const name = EnvTree + "="
	for kv := range bytes.SplitSeq(env, []byte{0}) {
		if bytes.HasPrefix(kv, []byte(name)) && match(string(kv[len(name):])) {
			return true, false, nil
		}
	}
	return false, len(env) == 0, nil
}

// signalGroup sends sig to all members of a group that the caller knows to be
// its own. An empty group is no error.
func signalGroup(group int, sig syscall.Signal) error {
	if err := syscall.Kill(-group, sig); err != nil && err != syscall.ESRCH {
		return err
	}
	return nil
}

// signalProc sends sig to p and to no later process with its pid. A process
// that has gone is no error.
func signalProc(p Proc, sig syscall.Signal) error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	switch {
	case err == nil:
		defer unix.Close(fd)
	case err == unix.ESRCH:
		return nil
	case err == unix.ENOSYS || err == unix.EPERM: // an old kernel, or a sandbox
		fd = -1
	default:
		return err
	}
	s, err := readStat(p.PID)
	if vanished(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if s.Start != p.Start {
		return nil
	}
	if fd >= 0 {
		err = unix.PidfdSendSignal(fd, sig, nil, 0)
	} else {
		err = syscall.Kill(p.PID, sig)
	}
	if err != nil && err != unix.ESRCH {
		return err
	}
	return nil
}

// awaitExit waits for the exit of a child and leaves it a zombie.
func awaitExit(pid int) error {
	_, err := retry(func() (int, error) { return 0, unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) })
	return err
}

func residentBytes(pid int) (int64, error) {
	text, err := readProc(pid, "statm")
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(text))
	if len(f) < 2 {
		return 0, fmt.Errorf("%s: too few fields in %q", procPath(pid, "statm"), text)
	}
	pages, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", procPath(pid, "statm"), err)
	}
	return pages * int64(os.Getpagesize()), nil
}

// ownsGroup reports whether the group of a recorded tree can only be its own:
// its leader is there, be it as a zombie. Without it the marker has to tell.
func ownsGroup(r record) bool {
	p, err := lookup(r.PID)
	return err == nil && p.Start == r.Start
}
