package storetest_test

import (
	"context"
	"errors"
	"iter"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claudepool/claudepool"
)

// brokenEnv names the fault that the store of TestMemoryStore has. It is set by
// TestSuiteBites, which runs this program again for each fault.
const brokenEnv = "CLAUDEPOOL_STORETEST_FAULT"

// faulty is a store with faults. Each function, if set, may change what is
// asked of the store, or replace it.
type faulty struct {
	claudepool.PoolStore
	create     func(*claudepool.TaskRecord)
	claim      func(claudepool.PoolStore, *claudepool.ClaimRequest)
	transition func(claudepool.PoolStore, *claudepool.Transition)
	extend     func(claudepool.PoolStore, *claudepool.ClaimRef)
	ledger     func(*claudepool.LedgerQuery)
	tasks      func(context.Context, claudepool.PoolStore, claudepool.TaskFilter) iter.Seq2[claudepool.TaskRecord, error]
	watch      func(<-chan claudepool.Change) <-chan claudepool.Change
	deadCtx    bool // goes on with a context that has ended
}

func (f *faulty) ctx(ctx context.Context) context.Context {
	if f.deadCtx {
		return context.WithoutCancel(ctx)
	}
	return ctx
}

func (f *faulty) CreateTask(ctx context.Context, r claudepool.TaskRecord) (claudepool.TaskRecord, bool, error) {
	if f.create != nil {
		f.create(&r)
	}
	return f.PoolStore.CreateTask(f.ctx(ctx), r)
}

func (f *faulty) Claim(ctx context.Context, r claudepool.ClaimRequest) (claudepool.TaskRecord, error) {
	if f.claim != nil {
		f.claim(f.PoolStore, &r)
	}
	return f.PoolStore.Claim(f.ctx(ctx), r)
}

func (f *faulty) Transition(ctx context.Context, tr claudepool.Transition) (claudepool.TaskRecord, error) {
	if f.transition != nil {
		f.transition(f.PoolStore, &tr)
	}
	return f.PoolStore.Transition(f.ctx(ctx), tr)
}

func (f *faulty) Extend(ctx context.Context, ref claudepool.ClaimRef, lease time.Time, cost claudepool.Microdollars) error {
	if f.extend != nil {
		f.extend(f.PoolStore, &ref)
	}
	return f.PoolStore.Extend(f.ctx(ctx), ref, lease, cost)
}

func (f *faulty) Ledger(ctx context.Context, q claudepool.LedgerQuery) (claudepool.Ledger, error) {
	if f.ledger != nil {
		f.ledger(&q)
	}
	return f.PoolStore.Ledger(f.ctx(ctx), q)
}

func (f *faulty) Tasks(ctx context.Context, filter claudepool.TaskFilter) iter.Seq2[claudepool.TaskRecord, error] {
	if f.tasks != nil {
		return f.tasks(ctx, f.PoolStore, filter)
	}
	return f.PoolStore.Tasks(f.ctx(ctx), filter)
}

func (f *faulty) Watch(ctx context.Context) (<-chan claudepool.Change, error) {
	changes, err := f.PoolStore.Watch(f.ctx(ctx))
	if err == nil && f.watch != nil {
		changes = f.watch(changes)
	}
	return changes, err
}

// currentFence returns the fence of a task as it is now.
func currentFence(s claudepool.PoolStore, id claudepool.TaskID, otherwise int64) int64 {
	if r, err := s.Task(context.Background(), id); err == nil {
		return r.Fence
	}
	return otherwise
}

// forgetful is a store that lets a task which has ended end anew.
type forgetful struct {
	claudepool.PoolStore
	again sync.Map // of claudepool.TaskRecord by claudepool.TaskID
}

func (f *forgetful) Transition(ctx context.Context, tr claudepool.Transition) (claudepool.TaskRecord, error) {
	r, err := f.PoolStore.Transition(ctx, tr)
	if errors.Is(err, claudepool.ErrConflict) && r.State.Terminal() && tr.To.Terminal() {
		r.State, r.Outcome = tr.To, tr.Outcome
		f.again.Store(tr.Task, r)
		return r, nil
	}
	return r, err
}

func (f *forgetful) Task(ctx context.Context, id claudepool.TaskID) (claudepool.TaskRecord, error) {
	if r, ok := f.again.Load(id); ok {
		return r.(claudepool.TaskRecord), nil
	}
	return f.PoolStore.Task(ctx, id)
}

// sharing is a store that gives everybody the same copy.
type sharing struct {
	claudepool.PoolStore
	copies map[claudepool.TaskID]claudepool.TaskRecord
}

func (s *sharing) Task(ctx context.Context, id claudepool.TaskID) (claudepool.TaskRecord, error) {
	now, err := s.PoolStore.Task(ctx, id)
	if old, ok := s.copies[id]; ok && old.Version == now.Version {
		return old, err
	}
	s.copies[id] = now
	return now, err
}

// undead is a store that goes on after it was closed.
type undead struct{ claudepool.PoolStore }

func (undead) Close() error { return nil }

// muddled is a store that gives tasks of the other kind when there is none of
// the one asked for, by chains or by slots.
type muddled struct {
	claudepool.PoolStore
	byChains bool
}

func (m *muddled) Claim(ctx context.Context, r claudepool.ClaimRequest) (claudepool.TaskRecord, error) {
	rec, err := m.PoolStore.Claim(ctx, r)
	if r.Chains == m.byChains && errors.Is(err, claudepool.ErrNotRunnable) {
		r.Chains = !r.Chains
		return m.PoolStore.Claim(ctx, r)
	}
	return rec, err
}

// runningChains lists the chains with a tag that have a claim.
func runningChains(s claudepool.PoolStore, tag string) []claudepool.TaskID {
	var ids []claudepool.TaskID
	for r, err := range s.Tasks(context.Background(), claudepool.TaskFilter{States: []claudepool.TaskState{claudepool.StateRunning}, Tag: tag}) {
		if err == nil && r.Chain != nil {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// credulous is a store that takes a key for the same request, whatever it asks.
type credulous struct{ claudepool.PoolStore }

func (c *credulous) CreateTask(ctx context.Context, r claudepool.TaskRecord) (claudepool.TaskRecord, bool, error) {
	stored, created, err := c.PoolStore.CreateTask(ctx, r)
	if errors.Is(err, claudepool.ErrKeyReused) {
		for old := range c.Tasks(ctx, claudepool.TaskFilter{Owner: r.Task.Owner}) {
			if old.Task.IdempotencyKey == r.Task.IdempotencyKey {
				return old, false, nil
			}
		}
	}
	return stored, created, err
}

// stingy is a store that forgets what the steps have cost.
type stingy struct{ claudepool.PoolStore }

func (s *stingy) Task(ctx context.Context, id claudepool.TaskID) (claudepool.TaskRecord, error) {
	r, err := s.PoolStore.Task(ctx, id)
	if r.Result != nil {
		r.Result.Cost = r.Cost
	}
	return r, err
}

// postman is a store that handles messages in its own way, where a function is set.
type postman struct {
	claudepool.PoolStore
	send func(claudepool.Message) (m claudepool.Message, keep bool)
	list func([]claudepool.Message) []claudepool.Message
	take func(s claudepool.PoolStore, to string, ids []string) ([]claudepool.Message, error)
}

func (p *postman) SendMessage(ctx context.Context, m claudepool.Message) error {
	if p.send != nil {
		var keep bool
		if m, keep = p.send(m); !keep {
			return nil
		}
	}
	return p.PoolStore.SendMessage(ctx, m)
}

func (p *postman) Messages(ctx context.Context, to string) ([]claudepool.Message, error) {
	all, err := p.PoolStore.Messages(ctx, to)
	if p.list != nil {
		all = p.list(all)
	}
	return all, err
}

func (p *postman) TakeMessages(ctx context.Context, to string, ids []string) ([]claudepool.Message, error) {
	if p.take != nil {
		return p.take(p.PoolStore, to, ids)
	}
	return p.PoolStore.TakeMessages(ctx, to, ids)
}

// census is a store that handles pools in its own way, where a function is set.
type census struct {
	claudepool.PoolStore
	put    func(s claudepool.PoolStore, r claudepool.InstanceRecord) error
	forget func(s claudepool.PoolStore, id string) error
}

func (c *census) PutInstance(ctx context.Context, r claudepool.InstanceRecord) error {
	if c.put != nil {
		return c.put(c.PoolStore, r)
	}
	return c.PoolStore.PutInstance(ctx, r)
}

func (c *census) DeleteInstance(ctx context.Context, id string) error {
	if c.forget != nil {
		return c.forget(c.PoolStore, id)
	}
	return c.PoolStore.DeleteInstance(ctx, id)
}

// TestSuiteBites runs the group of tests that a fault concerns, in a process of
// its own, and expects it to fail at the right place.
func TestSuiteBites(t *testing.T) {
	t.Parallel()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			group, _, _ := strings.Cut(fault.test, "/")
			cmd := exec.CommandContext(t.Context(), program, "-test.run=^TestMemoryStore$/^"+group+"$", "-test.timeout=2m")
			cmd.Env = append(os.Environ(), brokenEnv+"="+name)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) {
				t.Fatalf("the suite ended with error %v on a store that %s:\n%s", err, name, out)
			}
			want := "--- FAIL: TestMemoryStore/" + strings.ReplaceAll(fault.test, " ", "_") + " "
			if !strings.Contains(string(out), want) {
				t.Errorf("the output lacks %q:\n%s", want, out)
			}
		})
	}
}
