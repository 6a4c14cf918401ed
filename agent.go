package claudepool

import (
	"context"
	"encoding/json"

	"github.com/claudepool/claudepool/claude"
)

// Microdollars is an amount of money: one millionth of a US dollar.
type Microdollars = claude.Microdollars

// USD converts an amount in dollars.
func USD(dollars float64) Microdollars { return claude.USD(dollars) }

// RawJSON is a JSON value as it came.
type RawJSON = json.RawMessage

// Agent is what works behind a slot: anything that answers prompts, one at a
// time. [*claude.Process] is one. The pool calls Turn, Apply and Reset from one
// goroutine; Cost, Info, Done and Close from any, also during a turn.
type Agent interface {
	// Turn runs one prompt to its end and passes on what happens meanwhile.
	// When ctx ends it stops the turn and returns the result so far together
	// with the context's cause. Any other error means that the agent can no
	// longer be used.
	Turn(ctx context.Context, p claude.Prompt, emit func(claude.Event)) (claude.Result, error)
	// Apply changes the live settings. An error means that they did not take.
	Apply(ctx context.Context, s claude.Settings) error
	// Reset forgets the conversation, ends what the last turn left behind,
	// and proves both. An error means that the agent must not be used again.
	Reset(ctx context.Context, s claude.Settings) error
	// Cost is the total since the last reset, also in mid-turn.
	Cost(ctx context.Context) (Microdollars, error)
	// Close ends the agent and everything it started.
	Close(ctx context.Context) error
	// Done is closed when the agent has ended, by itself or by Close.
	Done() <-chan struct{}
	Info() claude.Info
}

// Launcher starts agents. It must be safe for concurrent use.
type Launcher interface {
	// Launch returns an agent that is ready for its first turn. ctx bounds
	// the start only.
	Launch(ctx context.Context, o claude.Options) (Agent, error)
}

// Spare is a started agent that waits for its options.
type Spare interface {
	// Claim makes it an agent. After an error it can only be closed.
	Claim(ctx context.Context, o claude.Options) (Agent, error)
	Close(ctx context.Context) error
	Done() <-chan struct{}
}

// SpareLauncher is a [Launcher] that can start agents ahead of need.
type SpareLauncher interface {
	Launcher
	// Park starts a spare that options with the same [claude.Options.SpareKey]
	// as o can claim.
	Park(ctx context.Context, o claude.Options) (Spare, error)
}

// Ability says what a launcher's agents can do.
type Ability struct {
	Version string // of the program behind the agents
	Warm    bool   // agents can be reset and used again
	Spares  bool   // agents can be started ahead of need
}

// Prober is a [Launcher] that can tell what it can do, and whether it can work
// at all. A launcher that is no Prober is taken to be able to do everything its
// methods say.
type Prober interface {
	Launcher
	Probe(ctx context.Context) (Ability, error)
}
