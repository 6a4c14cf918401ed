// Package sqlitestore keeps the tasks of a pool in a file, so that they outlive
// the program: what was accepted is finished or reported by the next pool on the
// file, chains go on after their last recorded step, and money stays counted.
// The file is a SQLite database that people can read; docs/store.md lists its
// views. No C is needed.
//
// # What is on the disk, and when
//
// A call that changes tasks, messages, money or the run context returns when the
// change is kept. With [Full], the default, that means that the disk has it: it
// survives a power cut. With [Normal] it survives the end of the program, however
// that comes, but the last changes may be lost with the machine; the file is
// consistent all the same. What a [Store] tells of slots, instances and leases
// never waits for the disk, for it is of no use after the end of the machine.
// Reads and claims may see a change a moment before the disk has it; those who
// watch are told of it afterwards.
//
// Full costs a call that is alone one wait for the disk; calls at once share it,
// so that the more there are, the less each pays. On two busy shared cores, with
// a virtual disk that takes 0.3 to 0.9 ms for one wait, creating a task took, at
// best, 570 µs alone, 200 µs among 8 callers and 73 µs among 64; Normal saved less
// than such a machine's own ups and downs. On a disk that takes 5 ms a lone call
// takes 5 ms more. BenchmarkCreate tells what it is elsewhere.
//
// When the disk fails to take what was written, nobody can know what it has: all
// later changes are refused with that reason, and the program has to be started
// again.
//
// # The files
//
// Beside the file there are, while it is open, its log (-wal) and an index of it
// (-shm), and for good a lock (.lock) that says who has it. Only their owner can
// read them. Never copy the file alone while it is open: what is new is in the
// log. VACUUM INTO 'copy.db', or .backup of the sqlite3 program, makes a copy at
// any time. After [Store.Close] the file is all there is.
//
// The log is written back into the file as it goes, but not past what somebody
// still reads. A listing that is not finished, or another program in a
// transaction, makes it grow for as long as it takes; later it is cut to 64 MiB.
//
// The file must be on a local disk: SQLite's log does not work on network file
// systems, and their locks are not to be relied on.
//
// # Who may open it
//
// A file is one store's alone, and who else opens it gets [ErrInUse], unless all
// say [Options].Peer. Peers share the queue, each task going to one of them, and
// learn of each other's changes within some 50 ms. They must be on one machine.
// The locks end with the program, so that nothing has to be cleaned up.
//
// A file of an older release is brought up to date only by a program that has it
// for itself alone at that moment: those of the older release would go on writing
// by the old schema's meaning. Peers that come at once find one among them for
// that, and the rest wait. As long as others have the file open a newcomer waits
// for [Options].BusyTimeout, and then gets ErrInUse.
//
// # What goes
//
// Tasks that have ended are dropped beyond [Options].Retain, the oldest first, a
// few at a time between other changes; the steps of a chain stay until it has
// ended, and a cancelled task until it is known what it cost. With a task go its
// attempts, and its idempotency key is free again. What it cost stays in the
// ledger, whose entries are merged into one an hour after two days: a sum for a
// window that begins within such an hour counts the whole hour. That of an
// allowance stays as long as a task with it does. Age is measured by the times
// that pools name: a clock that is far ahead makes tasks old.
//
// # When something is wrong
//
// Nothing that was stored before is lost, and the call that fails has no effect.
//
//   - [ErrNotAStore], [ErrNewer]: Open leaves the file as it is. One that a later
//     release has written needs that release; older ones are brought up to date.
//   - [ErrReadOnly]: the file or its folder cannot be written to.
//   - [ErrCorrupt]: what is damaged cannot be read; the rest can. SQLite finds
//     damage to its own structure, not to the texts in it. The error says how to
//     get out what is left.
//   - [ErrFull]: calls fail until there is room, and then work again; nothing has
//     to be started anew.
//   - [ErrBusy]: another program has kept the file locked for longer than
//     [Options].BusyTimeout, such as one that is in a transaction by hand, or a
//     peer that was stopped (SIGSTOP, Ctrl-Z, a debugger) in the middle of a
//     write. Its lock cannot be broken; on Linux the error says which process it
//     is, whether it is stopped, and how to go on. Reading works all the same. A
//     call that waits for its turn meanwhile ends with its context.
package sqlitestore
