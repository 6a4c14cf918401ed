package claudepool_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
)

// syncStore notes whether what was done to it has been made sure of since.
type syncStore struct {
	claudepool.PoolStore
	unsynced atomic.Bool
}

func (s *syncStore) Claim(ctx context.Context, r claudepool.ClaimRequest) (claudepool.TaskRecord, error) {
	rec, err := s.PoolStore.Claim(ctx, r)
	if err == nil {
		s.unsynced.Store(true)
	}
	return rec, err
}

func (s *syncStore) Extend(ctx context.Context, ref claudepool.ClaimRef, lease time.Time, cost claudepool.Microdollars) error {
	err := s.PoolStore.Extend(ctx, ref, lease, cost)
	if err == nil && ref.Asked {
		s.unsynced.Store(false)
	}
	return err
}

func (s *syncStore) Sync(context.Context) error {
	s.unsynced.Store(false)
	return nil
}

// What a claim has reserved is on the disk before the agent is asked, and an end
// before somebody who only asks afterwards is told of it.
func TestP5NothingIsSpentBeforeTheClaimIsStoredForGood(t *testing.T) {
	t.Parallel()
	store := &syncStore{PoolStore: claudepool.NewMemoryStore()}
	var early atomic.Bool
	p := build(t, claudepool.PoolConfig{Slots: 1, Store: store, Launcher: &fakeLauncher{
		turn: func(context.Context, *fakeAgent, claude.Prompt, func(claude.Event)) (claude.Result, error) {
			early.Store(early.Load() || store.unsynced.Load())
			return claude.Result{Subtype: "success", Text: "done"}, nil
		},
	}})
	for range 3 {
		id := submit(t, p, claudepool.Task{Prompt: "p"})
		wait(t, p, id)
		store.unsynced.Store(true)
		if _, err := p.Wait(t.Context(), id); err != nil || store.unsynced.Load() {
			t.Errorf("Wait for a task that had ended returned %v; the store was not made sure of: %v", err, store.unsynced.Load())
		}
	}
	if early.Load() {
		t.Error("an agent was asked before its claim was stored for good")
	}
}
