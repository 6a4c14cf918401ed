package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/sqlitestore"
	"golang.org/x/sync/errgroup"
)

// atOnce is how many tasks of a bulk are submitted to a pool at a time: its
// store puts what comes at the same time into one commit.
const atOnce = 64

// poolSystem is a pool.
type poolSystem struct {
	pool  *claudepool.Pool
	store claudepool.PoolStore
}

func openMemory(ctx context.Context, _ string, workers int) (system, error) {
	return openPool(ctx, claudepool.NewMemoryStore(), workers)
}

func openSQLite(ctx context.Context, dir string, workers int) (system, error) {
	s, err := sqlitestore.Open(ctx, filepath.Join(dir, "pool.db"), sqlitestore.Options{Synchronous: sqlitestore.Full})
	if err != nil {
		return nil, err
	}
	return openPool(ctx, s, workers)
}

// openPool starts a pool on a store, which it owns from then on.
func openPool(ctx context.Context, store claudepool.PoolStore, workers int) (system, error) {
	p, err := claudepool.NewPoolBuilder().Config(claudepool.PoolConfig{
		Slots: workers, Store: store, Launcher: newAgent(),
		SlotMemory: -1,      // the agents need none
		MaxTasks:   1 << 30, // nor do they wear out
	}).Build(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pool: %w", err), store.Close())
	}
	return &poolSystem{p, store}, nil
}

func (s *poolSystem) submit(ctx context.Context, prompt string) (ticket, error) {
	id, err := s.pool.Submit(ctx, claudepool.Task{Prompt: prompt})
	return id, err
}

func (s *poolSystem) submitAll(ctx context.Context, prompts []string) ([]ticket, error) {
	tickets := make([]ticket, len(prompts))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i, p := range prompts {
		g.Go(func() (err error) {
			tickets[i], err = s.submit(ctx, p)
			return err
		})
	}
	return tickets, g.Wait()
}

func (s *poolSystem) wait(ctx context.Context, t ticket) (string, error) {
	r, err := s.pool.Wait(ctx, t.(claudepool.TaskID))
	return r.Output, err
}

func (s *poolSystem) close() error { return errors.Join(s.pool.Close(), s.store.Close()) }

// agent is a [claudepool.Agent] in this program that answers at once, and its
// own launcher. It has no state, so that all slots share one.
type agent struct{ done chan struct{} } // never closed: it does not end by itself

func newAgent() *agent { return &agent{make(chan struct{})} }

func (a *agent) Launch(context.Context, claude.Options) (claudepool.Agent, error) { return a, nil }

func (a *agent) Turn(_ context.Context, p claude.Prompt, _ func(claude.Event)) (claude.Result, error) {
	return claude.Result{Subtype: "success", TerminalReason: "completed", Text: p.Text, Cost: 1, Turns: 1}, nil
}

func (a *agent) Apply(context.Context, claude.Settings) error          { return nil }
func (a *agent) Reset(context.Context, claude.Settings) error          { return nil }
func (a *agent) Cost(context.Context) (claudepool.Microdollars, error) { return 0, nil }
func (a *agent) Close(context.Context) error                           { return nil }
func (a *agent) Done() <-chan struct{}                                 { return a.done }
func (a *agent) Info() claude.Info                                     { return claude.Info{} }
