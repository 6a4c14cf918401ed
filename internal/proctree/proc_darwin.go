package proctree

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// supported says whether trees can be held together here: by their groups.
const supported = true

func ownGroup() *syscall.SysProcAttr   { return &syscall.SysProcAttr{Setpgid: true} }
func ownSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

func ownedByUser(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}

// system returns what makes pids comparable: the boot of the machine. There is
// one namespace.
func system() (boot, namespace string, err error) {
	boot, err = unix.Sysctl("kern.bootsessionuuid")
	return boot, "", err
}

const zombie = 5 // SZOMB

func procOf(k *unix.KinfoProc) Proc {
	name, _, _ := bytes.Cut(k.Proc.P_comm[:], []byte{0})
	return Proc{
		PID:   int(k.Proc.P_pid),
		PPID:  int(k.Eproc.Ppid),
		Start: uint64(k.Proc.P_starttime.Nano()),
		Name:  string(name),
	}
}

// lookup returns the process with this pid, which may be a zombie.
func lookup(pid int) (Proc, error) {
	procs, err := unix.SysctlKinfoProcSlice("kern.proc.pid", pid)
	if err != nil {
		return Proc{}, err
	}
	if len(procs) == 0 {
		return Proc{}, os.ErrProcessDone
	}
	return procOf(&procs[0]), nil
}

// alive reports whether p is still there and no zombie. Who cannot be looked at
// counts as alive.
func alive(p Proc) bool {
	procs, err := unix.SysctlKinfoProcSlice("kern.proc.pid", p.PID)
	if err != nil {
		return true
	}
	return len(procs) == 1 && procs[0].Proc.P_stat != zombie && procOf(&procs[0]).Start == p.Start
}

// members returns the live processes of a group.
func members(group int) ([]Proc, error) {
	all, err := unix.SysctlKinfoProcSlice("kern.proc.pgrp", group)
	if err != nil {
		return nil, err
	}
	var procs []Proc
	for i := range all {
		if all[i].Proc.P_stat != zombie {
			procs = append(procs, procOf(&all[i]))
		}
	}
	return procs, nil
}

// ownsGroup reports whether the group of a recorded tree can only be its own.
// No marker tells here, so it is also taken for its own when the leader is gone
// and no other process has got its pid.
func ownsGroup(r record) bool {
	p, err := lookup(r.PID)
	if err != nil {
		return errors.Is(err, os.ErrProcessDone)
	}
	return p.Start == r.Start
}

// marked finds nothing: the environment of other processes is not shown here.
func marked(func(marker string) bool) ([]Proc, error) { return nil, nil }

// signalGroup sends sig to all members of a group that the caller knows to be
// its own. An empty group is no error.
func signalGroup(group int, sig syscall.Signal) error {
	err := syscall.Kill(-group, sig)
	if err == syscall.EPERM { // also said of a group of zombies
		if procs, lookErr := members(group); lookErr == nil && len(procs) == 0 {
			return nil
		}
	}
	if err != nil && err != syscall.ESRCH {
		return err
	}
	return nil
}

// signalProc sends sig to p, not to a later process with its pid. A process
// that has gone is no error.
func signalProc(p Proc, sig syscall.Signal) error {
	if !alive(p) {
		return nil
	}
	if err := syscall.Kill(p.PID, sig); err != nil && err != syscall.ESRCH {
		return err
	}
	return nil
}

// awaitExit cannot leave a zombie here: the caller reaps first.
func awaitExit(int) error { return errors.ErrUnsupported }

func residentBytes(int) (int64, error) { return 0, errors.ErrUnsupported }
