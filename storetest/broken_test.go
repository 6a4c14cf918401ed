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
	claim      func(*claudepool.ClaimRequest)
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
		f.claim(&r)
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

// faults are ways in which a store can be wrong, and the test that has to notice.
var faults = map[string]struct {
	test string // group/name, as Run names them
	make func(claudepool.PoolStore) claudepool.PoolStore
}{
	"ignores the fence of a transition": {
		"transition/only what the state machine allows is done",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, transition: func(s claudepool.PoolStore, tr *claudepool.Transition) {
				tr.Fence = currentFence(s, tr.Task, tr.Fence)
			}}
		},
	},
	"ignores the fence of an extension": {
		"extend/a lease that has run out can be extended until somebody takes over",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, extend: func(s claudepool.PoolStore, ref *claudepool.ClaimRef) {
				ref.Fence = currentFence(s, ref.Task, ref.Fence)
			}}
		},
	},
	"settles an attempt each time it is reported": {
		"fence/an attempt is settled once however often it is reported",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, transition: func(s claudepool.PoolStore, tr *claudepool.Transition) {
				if r, err := s.Task(context.Background(), tr.Task); err == nil && tr.Attempt != nil && r.Claim == nil {
					_ = s.Charge(context.Background(), tr.At, tr.Attempt.Cost, "again")
				}
			}}
		},
	},
	"forgets late attempts": {
		"fence/a late result of a lost claim is recorded and paid, and changes no state",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, transition: func(s claudepool.PoolStore, tr *claudepool.Transition) {
				if r, err := s.Task(context.Background(), tr.Task); err == nil && r.State != claudepool.StateRunning {
					tr.Attempt = nil
				}
			}}
		},
	},
	"overwrites a terminal state": {
		"final/nothing changes a task that has ended",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &forgetful{PoolStore: s}
		},
	},
	"uses up a retry for a crash": {
		"transition/crashes and retries are counted apart",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, transition: func(_ claudepool.PoolStore, tr *claudepool.Transition) {
				tr.CountRetry = tr.CountRetry || tr.CountCrash
			}}
		},
	},
	"releases the reservation of a cancelled task at once": {
		"money/a cancelled task keeps its reservation until its attempt is recorded",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, transition: func(_ claudepool.PoolStore, tr *claudepool.Transition) {
				if tr.To == claudepool.StateCancelled && tr.Attempt == nil {
					tr.Attempt = &claudepool.Attempt{}
				}
			}}
		},
	},
	"looks at the money only when it is spent": {
		"money/over all who claim at once spent and reserved stay within the limit",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, claim: func(r *claudepool.ClaimRequest) { r.Budget.Limit *= 3 }}
		},
	},
	"counts what is outside of the window": {
		"money/a window counts what ended at its start or later",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, ledger: func(q *claudepool.LedgerQuery) { q.Since = time.Time{} }}
		},
	},
	"gives each task an allowance of its own": {
		"allowance/tasks with the same allowance share it",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, create: func(r *claudepool.TaskRecord) {
				if a := r.Task.Allowance; a != nil {
					r.Task.Allowance = &claudepool.Allowance{ID: a.ID + string(r.ID), Limit: a.Limit}
				}
			}}
		},
	},
	"starts tasks early": {
		"claim/a task waits for its earliest start, and the next one is told",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, claim: func(r *claudepool.ClaimRequest) { r.Now = r.Now.Add(time.Second) }}
		},
	},
	"takes pinned tasks for anybody": {
		"claim/a pinned task goes only to who accepts its pin",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, claim: func(r *claudepool.ClaimRequest) { r.Accepts = func(_, _ string) bool { return true } }}
		},
	},
	"ignores lanes": {
		"lane/of the tasks of a lane one has a claim at a time",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, create: func(r *claudepool.TaskRecord) { r.Lane = "" }}
		},
	},
	"ignores the limits of tags": {
		"tag/a task needs room for each of its tags",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, claim: func(r *claudepool.ClaimRequest) { r.TagLimits = nil }}
		},
	},
	"takes the lowest priority first": {
		"claim/the highest priority goes first, then the smallest id",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, create: func(r *claudepool.TaskRecord) { r.Task.Priority = -r.Task.Priority }}
		},
	},
	"knows no owners of keys": {
		"create/an idempotency key belongs to its owner and its prompt",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, create: func(r *claudepool.TaskRecord) { r.Task.Owner = "go" }}
		},
	},
	"gives everybody the same memory": {
		"create/what was put in cannot be changed from outside",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &sharing{s, map[claudepool.TaskID]claudepool.TaskRecord{}}
		},
	},
	"lists what is, not what was": {
		"list/a listing shows tasks as they were when it began",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, tasks: func(ctx context.Context, s claudepool.PoolStore, f claudepool.TaskFilter) iter.Seq2[claudepool.TaskRecord, error] {
				return func(yield func(claudepool.TaskRecord, error) bool) {
					for r, err := range s.Tasks(ctx, f) {
						if err == nil {
							r, err = s.Task(ctx, r.ID)
						}
						if !yield(r, err) {
							return
						}
					}
				}
			}}
		},
	},
	"keeps quiet about lost changes": {
		"watch/a slow reader holds nobody up, is told that it lost changes, and then finds them",
		func(s claudepool.PoolStore) claudepool.PoolStore {
			return &faulty{PoolStore: s, watch: func(in <-chan claudepool.Change) <-chan claudepool.Change {
				out := make(chan claudepool.Change)
				go func() {
					defer close(out)
					for c := range in {
						if c.Lost {
							return
						}
						out <- c
					}
				}()
				return out
			}}
		},
	},
	"works for who has gone": {
		"step/a context that has ended makes every step fail without effect",
		func(s claudepool.PoolStore) claudepool.PoolStore { return &faulty{PoolStore: s, deadCtx: true} },
	},
	"goes on when it is closed": {
		"step/a closed store does nothing more",
		func(s claudepool.PoolStore) claudepool.PoolStore { return undead{s} },
	},
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
