// Package sqlitestore keeps the tasks of a pool in a file, so that they outlive
// the program.
package sqlitestore
