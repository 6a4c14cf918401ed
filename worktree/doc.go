// Package worktree gives each of several agents a place of its own to work in one
// git repository, and brings back what they wrote.
//
// A place is a folder outside the person's checkout: a worktree of the
// repository, or a clone of it. It stays where it is and serves one piece of work
// after another, each on a branch of its own that begins at a fresh base. Nothing
// that was written in a place is ever lost: before anything is removed, reset or
// used again, all that is there and on no kept ref is put on a recovery ref.
//
// The package works through the git program, 2.25 or newer, and knows nothing of
// pools and agents.
package worktree
