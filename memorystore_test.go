package claudepool_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/claudepool/claudepool"
)

var storeTime = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// addTasks creates n pending tasks, numbered from first.
func addTasks(tb testing.TB, s claudepool.PoolStore, first, n int, edit ...func(*claudepool.TaskRecord)) {
	tb.Helper()
	for i := range n {
		r := claudepool.TaskRecord{ID: claudepool.TaskID(fmt.Sprintf("task-%08d", first+i)), Task: claudepool.Task{Prompt: "work"}, Submitted: storeTime}
		for _, e := range edit {
			e(&r)
		}
		if _, _, err := s.CreateTask(tb.Context(), r); err != nil {
			tb.Fatal(err)
		}
	}
}

func claimTask(tb testing.TB, s claudepool.PoolStore) claudepool.TaskRecord {
	tb.Helper()
	r, err := s.Claim(tb.Context(), claudepool.ClaimRequest{Holder: "p", Now: storeTime, Lease: time.Minute})
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func endTask(tb testing.TB, s claudepool.PoolStore, r claudepool.TaskRecord, to claudepool.TaskState, a *claudepool.Attempt) {
	tb.Helper()
	_, err := s.Transition(tb.Context(), claudepool.Transition{Task: r.ID, From: r.State, Fence: r.Fence, To: to, At: storeTime, Attempt: a})
	if err != nil {
		tb.Fatal(err)
	}
}

// finishTasks claims and completes n tasks that cost 1 each.
func finishTasks(tb testing.TB, s claudepool.PoolStore, n int) {
	tb.Helper()
	for range n {
		endTask(tb, s, claimTask(tb, s), claudepool.StateCompleted, &claudepool.Attempt{Cost: 1})
	}
}

func listTasks(tb testing.TB, s claudepool.PoolStore) []claudepool.TaskID {
	tb.Helper()
	var ids []claudepool.TaskID
	for r, err := range s.Tasks(tb.Context(), claudepool.TaskFilter{}) {
		if err != nil {
			tb.Fatal(err)
		}
		ids = append(ids, r.ID)
	}
	return ids
}

func TestMemoryStoreRetain(t *testing.T) {
	t.Parallel()
	t.Run("the oldest terminal tasks are dropped", func(t *testing.T) {
		t.Parallel()
		s := claudepool.NewMemoryStore()
		s.Retain(3)
		addTasks(t, s, 0, 500, func(r *claudepool.TaskRecord) { r.Task.IdempotencyKey = string(r.ID) })
		finishTasks(t, s, 490)
		want := []claudepool.TaskID{
			"task-00000499", "task-00000498", "task-00000497", "task-00000496", "task-00000495", "task-00000494", "task-00000493",
			"task-00000492", "task-00000491", "task-00000490", "task-00000489", "task-00000488", "task-00000487",
		}
		if got := listTasks(t, s); !slices.Equal(got, want) {
			t.Errorf("kept are %v, want those that wait and the last three", got)
		}
		if _, err := s.Task(t.Context(), "task-00000486"); !errors.Is(err, claudepool.ErrUnknownTask) {
			t.Errorf("a dropped task: error %v", err)
		}
		count, err := s.Count(t.Context())
		if err != nil || count[claudepool.StateCompleted] != 3 || count[claudepool.StatePending] != 10 {
			t.Errorf("count is %v, error %v", count, err)
		}
		sums, err := s.Ledger(t.Context(), claudepool.LedgerQuery{})
		if err != nil || sums != (claudepool.Ledger{Spent: 490, Attempts: 490}) {
			t.Errorf("ledger is %+v, error %v: it must not forget", sums, err)
		}
		// Its id and its key can be used again; the key of one that is kept cannot.
		again := func(r *claudepool.TaskRecord) { r.Task.IdempotencyKey = string(r.ID) }
		addTasks(t, s, 486, 1, again)
		if got := listTasks(t, s); got[len(got)-1] != "task-00000486" || len(got) != 14 {
			t.Errorf("after its id was used again, kept are %v", got)
		}
		_, created, err := s.CreateTask(t.Context(), claudepool.TaskRecord{ID: "x", Task: claudepool.Task{Prompt: "work", IdempotencyKey: "task-00000488"}})
		if err != nil || created {
			t.Errorf("the key of a kept task: created %v, error %v", created, err)
		}
	})
	t.Run("fewer are kept at once, or all", func(t *testing.T) {
		t.Parallel()
		s := claudepool.NewMemoryStore()
		s.Retain(0)
		addTasks(t, s, 0, 50)
		finishTasks(t, s, 50)
		if n := len(listTasks(t, s)); n != 50 {
			t.Errorf("%d are kept, want all", n)
		}
		s.Retain(7)
		if n := len(listTasks(t, s)); n != 7 {
			t.Errorf("%d are kept, want 7", n)
		}
	})
	t.Run("a cancelled task is kept until its attempt is recorded", func(t *testing.T) {
		t.Parallel()
		s := claudepool.NewMemoryStore()
		s.Retain(1)
		addTasks(t, s, 0, 4)
		held := claimTask(t, s)
		endTask(t, s, held, claudepool.StateCancelled, nil)
		finishTasks(t, s, 3)
		if got := listTasks(t, s); !slices.Equal(got, []claudepool.TaskID{"task-00000003", held.ID}) {
			t.Errorf("kept are %v", got)
		}
		endTask(t, s, held, claudepool.StateCancelled, &claudepool.Attempt{Cost: 5})
		if got := listTasks(t, s); !slices.Equal(got, []claudepool.TaskID{held.ID}) {
			t.Errorf("kept are %v, want the one that was settled last", got)
		}
	})
	t.Run("an allowance is known as long as a task with it", func(t *testing.T) {
		t.Parallel()
		s := claudepool.NewMemoryStore()
		s.Retain(1)
		allowed := func(r *claudepool.TaskRecord) {
			r.Task.Allowance = &claudepool.Allowance{ID: "fan", Limit: 2}
			r.Task.Overrides.MaxCost = 1
		}
		addTasks(t, s, 0, 3, allowed)
		finishTasks(t, s, 2)
		_, err := s.Claim(t.Context(), claudepool.ClaimRequest{Now: storeTime})
		if none, ok := errors.AsType[*claudepool.NotRunnable](err); !ok || none.Budget == nil || none.Budget.Spent != 2 {
			t.Errorf("Claim: %+v, want both costs to count, also that of the dropped task", err)
		}
		r, err := s.Task(t.Context(), "task-00000002")
		if err != nil {
			t.Fatal(err)
		}
		endTask(t, s, r, claudepool.StateFailed, nil)
		addTasks(t, s, 3, 1)
		finishTasks(t, s, 1) // drops the last one with the allowance
		addTasks(t, s, 4, 1, allowed)
		finishTasks(t, s, 1)
	})
}

func TestMemoryStoreAsksWithoutItsLock(t *testing.T) {
	t.Parallel()
	s := claudepool.NewMemoryStore()
	pinned := func(slot string) func(*claudepool.TaskRecord) {
		return func(r *claudepool.TaskRecord) { r.Task.Slot = slot }
	}
	addTasks(t, s, 10, 1, pinned("slot-1"))
	var asked []string
	r, err := s.Claim(t.Context(), claudepool.ClaimRequest{Now: storeTime, Accepts: func(slot, _ string) bool {
		if asked = append(asked, slot); len(asked) == 1 {
			addTasks(t, s, 5, 1, pinned("slot-2")) // would wait for the lock for ever
		}
		return true
	}})
	if err != nil || r.ID != "task-00000005" {
		t.Errorf("Claim gave %q, error %v, want the task that came meanwhile", r.ID, err)
	}
	if !slices.Equal(asked, []string{"slot-1", "slot-2"}) {
		t.Errorf("asked for %v, want each pin once", asked)
	}
}

func TestMemoryStoreWatchEnds(t *testing.T) {
	t.Parallel()
	for range 100 { // whichever comes first, the context's end or the store's
		s := claudepool.NewMemoryStore()
		ctx, cancel := context.WithCancel(t.Context())
		changes, err := s.Watch(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(cancel)
		wg.Go(func() {
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
		for range changes {
			t.Error("a change came from nowhere")
		}
		wg.Wait()
	}
}

// take takes a change that must be there.
func take(t *testing.T, changes <-chan claudepool.Change) claudepool.Change {
	t.Helper()
	select {
	case c := <-changes:
		return c
	default:
		t.Fatal("no change is there")
		return claudepool.Change{}
	}
}

func TestMemoryStoreLosesChangesInTheirPlace(t *testing.T) {
	t.Parallel()
	s := claudepool.NewMemoryStore()
	changes, err := s.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const room = 1023
	next := 0
	for range 3 { // each time it falls behind anew
		addTasks(t, s, next, 3000)
		for i := range room {
			if c := take(t, changes); c.Lost {
				t.Fatalf("change %d is lost, want the first %d to be kept", i, room)
			}
		}
		if c := take(t, changes); !c.Lost {
			t.Fatalf("change %d is %+v, want it to say that others are lost", room, c)
		}
		addTasks(t, s, next+3000, 1)
		if c, want := take(t, changes), claudepool.TaskID(fmt.Sprintf("task-%08d", next+3000)); c.TaskID != want {
			t.Fatalf("the next change is %+v, want that of the new task %s", c, want)
		}
		next += 3001
	}
	select {
	case c := <-changes:
		t.Errorf("one more change: %+v", c)
	default:
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestMemoryStoreAllocations(t *testing.T) {
	s := claudepool.NewMemoryStore()
	addTasks(t, s, 0, 1000)
	id := 1000
	ids := make([]claudepool.TaskID, 3000)
	for i := range ids {
		ids[i] = claudepool.TaskID(fmt.Sprintf("task-%08d", i))
	}
	attempt, result := &claudepool.Attempt{Cost: 1}, &claudepool.TaskResult{Output: "done"}
	ctx := t.Context()
	got := testing.AllocsPerRun(1000, func() {
		id++
		if err := submitClaimFinish(ctx, s, ids[id], attempt, result); err != nil {
			t.Fatal(err)
		}
	})
	if got > 12 {
		t.Errorf("a task takes %v allocations, want at most 12", got)
	}
}

// submitClaimFinish is the store's part in the life of a task.
func submitClaimFinish(ctx context.Context, s claudepool.PoolStore, id claudepool.TaskID, a *claudepool.Attempt, result *claudepool.TaskResult) error {
	if _, _, err := s.CreateTask(ctx, claudepool.TaskRecord{ID: id, Task: claudepool.Task{Prompt: "work"}, Lane: string(id), Submitted: storeTime}); err != nil {
		return err
	}
	r, err := s.Claim(ctx, claudepool.ClaimRequest{
		Holder: "p", SlotID: "slot-0", Now: storeTime, Lease: time.Minute, Prefers: "warm",
		Budget: claudepool.BudgetTerms{Limit: 1 << 50, Since: storeTime, DefaultCap: 1000},
	})
	if err != nil {
		return err
	}
	_, err = s.Transition(ctx, claudepool.Transition{
		Task: r.ID, From: claudepool.StateRunning, Fence: r.Fence, To: claudepool.StateCompleted, At: storeTime,
		Outcome: claudepool.OutcomeOK, Attempt: a, Result: result,
	})
	return err
}

// BenchmarkMemoryStore shows what the store takes of a task's life, whatever
// else waits in the queue.
func BenchmarkMemoryStore(b *testing.B) {
	claimable := func(*claudepool.TaskRecord) {}
	for _, c := range []struct {
		name string
		edit func(*claudepool.TaskRecord)
	}{
		{"queued", claimable},
		{"of-another-key", func(r *claudepool.TaskRecord) { r.LaunchKey = "cold" }},
		{"pinned-elsewhere", func(r *claudepool.TaskRecord) { r.Task.Slot = "slot-9" }},
		{"delayed", func(r *claudepool.TaskRecord) { r.NotBefore = storeTime.Add(time.Hour) }},
		{"behind-others", func(r *claudepool.TaskRecord) { r.Lane = "one" }},
	} {
		for _, n := range []int{10, 1_000, 100_000} {
			b.Run(fmt.Sprintf("%s=%d", c.name, n), func(b *testing.B) {
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				s := claudepool.NewMemoryStore()
				s.Retain(1000)
				addTasks(b, s, 0, n, c.edit)
				runtime.GC()
				runtime.ReadMemStats(&after)
				perTask := float64(int64(after.HeapAlloc-before.HeapAlloc)) / float64(n)
				attempt, result := &claudepool.Attempt{Cost: 1}, &claudepool.TaskResult{Output: "done"}
				b.ReportAllocs()
				i := n
				for b.Loop() {
					i++
					if err := submitClaimFinish(b.Context(), s, claudepool.TaskID(fmt.Sprintf("task-%08d", i)), attempt, result); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(perTask, "B/queued")
			})
		}
	}
}
