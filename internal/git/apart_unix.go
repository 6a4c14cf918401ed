//go:build unix

package git

import "syscall"

// apart keeps a command away from the terminal of this program.
func apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
