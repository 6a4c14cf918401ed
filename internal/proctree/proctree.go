// Package proctree starts a child process as the root of a tree that can be
// ended completely.
//
// A tree is held together by three things. Its leader has a process group of
// its own, so one signal reaches everything that stayed in it. Every process
// inherits a marker in its environment ([EnvTree]), so on Linux also those are
// found that left the group, as daemons and shells in sessions of their own do.
// And the tree is written down in a registry of the user before [Start]
// returns, so that a later program can end what an earlier one left behind
// ([Recover]).
//
// A host program that ends a tree with [Tree.End] leaves nothing. For one that
// dies, even by SIGKILL, a watchdog does the work: a shell that waits for its
// standard input to close. It runs only while there are trees.
//
// What cannot be found: a process that has left the group and also cleared its
// environment, or whose environment this user may not read. On macOS only the
// groups are ended. Elsewhere [Start] refuses with [errors.ErrUnsupported].
package proctree

import (
	"fmt"
	"strings"
	"time"
)

// EnvTree is the environment variable that marks every process of a tree. Its
// value is "<host token>.<tree token>": the first part is the same for all
// trees of one host program, the whole belongs to one tree alone.
const EnvTree = "CLAUDEPOOL_TREE"

// Proc is a process at one moment. PID and Start together name it for good: a
// later process with the same PID has another start time.
type Proc struct {
	PID   int
	PPID  int
	Start uint64 // in units of the system, only to be compared
	Name  string // short name of the program; other programs choose it, so it is no proof of anything
}

// String returns the name and the pid.
func (p Proc) String() string { return fmt.Sprintf("%s (pid %d)", p.Name, p.PID) }

// killTime is how long a process may take to vanish after SIGKILL before it
// counts as one that cannot be killed.
const killTime = 5 * time.Second

// chaseTime is how long processes are chased that go on in others before they
// are ended.
const chaseTime = time.Minute

// names lists the processes in an error message.
func names(procs []Proc) string {
	all := make([]string, len(procs))
	for i, p := range procs {
		all[i] = p.String()
	}
	return strings.Join(all, ", ")
}
