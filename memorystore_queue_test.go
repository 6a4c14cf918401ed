package claudepool

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestTaskHeap(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	h := taskHeap{before: byRank}
	var want []*memTask // what is in it, by rank
	for i := range 5000 {
		if len(want) > 0 && r.IntN(5) < 2 {
			n := r.IntN(len(want)) // any of them can be cancelled
			h.remove(want[n])
			want = slices.Delete(want, n, n+1)
		} else {
			task := &memTask{rec: &TaskRecord{ID: TaskID(fmt.Sprintf("%06d", r.IntN(1e6))), Task: Task{Priority: r.IntN(3)}}}
			h.push(task)
			n, _ := slices.BinarySearchFunc(want, task, func(a, b *memTask) int {
				if byRank(a, b) {
					return -1
				}
				return 1
			})
			want = slices.Insert(want, n, task)
		}
		for pos, task := range h.tasks {
			if task.pos != pos || task.queue != &h {
				t.Fatalf("step %d: the task at %d believes to be at %d", i, pos, task.pos)
			}
			if pos > 0 && byRank(task, h.tasks[(pos-1)/2]) {
				t.Fatalf("step %d: the task at %d comes before its parent", i, pos)
			}
		}
		if len(want) != len(h.tasks) || len(want) > 0 && byRank(want[0], h.first()) {
			t.Fatalf("step %d: first of %d is %v, want %v of %d", i, len(h.tasks), h.first(), want[0], len(want))
		}
	}
}

// What has been used once must not stay for ever in a program that runs for long.
func TestMemoryStoreLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	s := NewMemoryStore()
	s.Retain(1)
	now := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	claim := ClaimRequest{Now: now, TagLimits: map[string]int{"tag": 0}, Accepts: func(_, _ string) bool { return true }}
	for i := range 300 {
		name := fmt.Sprint(i / 3)
		for range 2 {
			r := TaskRecord{ID: TaskID(fmt.Sprintf("%05d-%d", i, len(s.tasks))), Lane: name}
			r.Task = Task{
				Slot: name, Role: name, Tags: []string{name, "tag" + name}, IdempotencyKey: fmt.Sprint(i, len(s.tasks)),
				Allowance: &Allowance{ID: name, Limit: 100}, Prompt: "work",
			}
			if _, _, err := s.CreateTask(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 { // the second waits behind the first
			held, err := s.Claim(t.Context(), claim)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Claim(t.Context(), claim); err == nil {
				t.Fatal("two tasks of one lane run")
			}
			if _, err := s.Transition(t.Context(), Transition{Task: held.ID, From: StateRunning, Fence: held.Fence, To: StateCompleted, At: now, Attempt: &Attempt{Cost: 1}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for what, n := range map[string]int{
		"tasks": len(s.tasks), "keys": len(s.keys), "listed": len(s.order), "lines": len(s.queue.lines), "lanes": len(s.queue.lanes),
		"delayed": len(s.queue.delayed.tasks), "running tags": len(s.running), "allowances": len(s.allowances), "ended": len(s.ended),
	} {
		if n > 3 {
			t.Errorf("%d %s are left, want those of one task", n, what)
		}
	}
	if l := s.ledger.total; l != (Ledger{Spent: 600, Attempts: 600}) {
		t.Errorf("ledger is %+v", l)
	}
}
