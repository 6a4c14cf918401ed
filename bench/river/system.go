package main

import "context"

// system is a task queue with workers that answer each prompt at once, with
// the prompt itself. It is safe for concurrent use.
type system interface {
	// submit stores a task, and returns what to wait for.
	submit(ctx context.Context, prompt string) (ticket, error)
	// submitAll stores many tasks in the quickest way that the system has.
	submitAll(ctx context.Context, prompts []string) ([]ticket, error)
	// wait returns the answer to a task once it is stored.
	wait(ctx context.Context, t ticket) (string, error)
	// close ends the workers, and what they use.
	close() error
}

// ticket names a submitted task in the words of its system.
type ticket any

// contender is a system that takes part.
type contender struct {
	name string
	// kind groups what is the same system with other settings.
	kind kind
	// open starts the system with new files in dir, and waits until it is ready.
	open func(ctx context.Context, dir string, workers int) (system, error)
}

// kind is which system a contender is.
type kind int

const (
	inMemory kind = iota
	durable
	rival
)

// contenders are all that take part.
func contenders() []contender {
	return []contender{
		{"claudepool, MemoryStore", inMemory, openMemory},
		{"claudepool, sqlitestore", durable, openSQLite},
		{"river, events, 1 ms", rival, openRiver(riverTuning{fetch: 1})},
		{"river, events, 5 ms", rival, openRiver(riverTuning{fetch: 5})},
		{"river, JobCompleteTx, 1 ms", rival, openRiver(riverTuning{fetch: 1, inTx: true})},
	}
}
