package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// groupLives tells whether a process of the group lives. One that has ended and
// was not waited for does not.
func groupLives(group int) bool {
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range all {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// After the name: state, parent, group.
		f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(f) > 2 && f[0] != "Z" && f[0] != "X" && f[2] == fmt.Sprint(group) {
			return true
		}
	}
	return false
}
