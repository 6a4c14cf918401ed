package main

import (
	"sync/atomic"

	"modernc.org/sqlite"
)

// commitCounter counts the commits of all SQLite connections of this program,
// from below the systems that use them. Connections that are opened while it
// is off are never counted, and cost nothing.
type commitCounter struct {
	on      atomic.Bool
	commits atomic.Int64
}

// countCommits returns a counter, which is off.
func countCommits() *commitCounter {
	w := &commitCounter{}
	sqlite.RegisterConnectionHook(w.opened)
	return w
}

// opened looks at a new connection. A transaction that changes no row writes
// nothing, and does not count.
func (w *commitCounter) opened(c sqlite.ExecQuerierContext, _ string) error {
	if !w.on.Load() {
		return nil
	}
	hooks := c.(sqlite.HookRegisterer)
	changed := false // used by one statement of the connection at a time
	hooks.RegisterPreUpdateHook(func(sqlite.SQLitePreUpdateData) { changed = true })
	hooks.RegisterRollbackHook(func() { changed = false })
	hooks.RegisterCommitHook(func() int32 {
		if changed {
			w.commits.Add(1)
		}
		changed = false
		return 0
	})
	return nil
}
