//go:build !linux && !darwin

package proctree

import (
	"errors"
	"io/fs"
	"syscall"
)

// supported says whether trees can be held together here. [Start] and [Recover]
// refuse where it is false, so that the rest of this file is never reached.
const supported = false

func ownGroup() *syscall.SysProcAttr                  { return nil }
func ownSession() *syscall.SysProcAttr                { return nil }
func ownedByUser(fs.FileInfo) bool                    { return false }
func system() (boot, namespace string, err error)     { return "", "", errors.ErrUnsupported }
func lookup(int) (Proc, error)                        { return Proc{}, errors.ErrUnsupported }
func alive(Proc) bool                                 { return true }
func members(int) ([]Proc, error)                     { return nil, errors.ErrUnsupported }
func ownsGroup(record) bool                           { return false }
func marked(func(marker string) bool) ([]Proc, error) { return nil, errors.ErrUnsupported }
func signalGroup(int, syscall.Signal) error           { return errors.ErrUnsupported }
func signalProc(Proc, syscall.Signal) error           { return errors.ErrUnsupported }
func awaitExit(int) error                             { return errors.ErrUnsupported }
func residentBytes(int) (int64, error)                { return 0, errors.ErrUnsupported }
