//go:build unix && !linux

package main

import "syscall"

// groupLives tells whether a process of the group lives.
func groupLives(group int) bool { return syscall.Kill(-group, 0) == nil }
