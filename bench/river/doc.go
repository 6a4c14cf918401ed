// Command river compares a durable pool with river on SQLite, another task
// queue in Go, and with a pool that keeps everything in memory. All run in this
// program, one after the other, with workers that answer at once, on new files
// in one folder, and with the same durability: a write-ahead log that every
// commit waits for (journal_mode WAL, synchronous FULL).
//
// It is a module of its own, so that nobody who uses the pool has river among
// the dependencies.
package main
