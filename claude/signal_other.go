//go:build !unix

package claude

// signalName names the signal that ended a process: there are none here.
func signalName(error) string { return "" }
