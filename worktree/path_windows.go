package worktree

// notFolder reports whether something on the way of a path is no folder, which
// Windows does not tell from what is not there.
func notFolder(error) bool { return false }
