//go:build unix

package claude

import (
	"errors"
	"os/exec"
	"syscall"
)

// signalName names the signal that ended a process, if one did.
func signalName(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
			return s.Signal().String()
		}
	}
	return ""
}
