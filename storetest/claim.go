package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
)

// now sets when a claim is made.
func now(seconds int) func(*claudepool.ClaimRequest) {
	return func(r *claudepool.ClaimRequest) { r.Now = at(seconds) }
}

// accepting lets a claim take tasks with these pins, written "slot" or "/role".
func accepting(pins ...string) func(*claudepool.ClaimRequest) {
	return func(r *claudepool.ClaimRequest) {
		r.Accepts = func(slot, role string) bool {
			for _, p := range pins {
				if p == slot || p == "/"+role || p == slot+"/"+role {
					return true
				}
			}
			return false
		}
	}
}

// pinned pins a task.
func pinned(slot, role string) func(*claudepool.TaskRecord) {
	return func(r *claudepool.TaskRecord) { r.Task.Slot, r.Task.Role = slot, role }
}

// priority sets a task's priority.
func priority(p int) func(*claudepool.TaskRecord) {
	return func(r *claudepool.TaskRecord) { r.Task.Priority = p }
}

// notBefore delays a task.
func notBefore(seconds int) func(*claudepool.TaskRecord) {
	return func(r *claudepool.TaskRecord) { r.NotBefore = at(seconds) }
}

var claimTests = []test{
	{"the highest priority goes first, then the smallest id", func(t *testing.T, s *store) {
		for _, c := range []struct {
			id       string
			priority int
		}{{"e", -1}, {"c", 0}, {"f", 5}, {"a", 0}, {"d", -1}, {"b", 5}} {
			s.create(c.id, priority(c.priority))
		}
		var got []claudepool.TaskID
		for range 6 {
			got = append(got, s.claim().ID)
		}
		if diff := cmp.Diff([]claudepool.TaskID{"b", "f", "a", "c", "d", "e"}, got); diff != "" {
			t.Errorf("order of claims (-want +got):\n%s", diff)
		}
		if none := s.noClaim(); !none.NextAt.IsZero() || none.Budget != nil || none.Task != "" {
			t.Errorf("with nothing waiting, NotRunnable is %+v, want nothing in it", none)
		}
	}},
	{"a claim says who holds the task, until when and with which fence", func(t *testing.T, s *store) {
		want := s.create("a")
		got := s.claim(now(10))
		want.State, want.Started, want.First, want.SlotID = claudepool.StateRunning, at(10), at(10), "slot-0"
		want.Fence, want.Attempts = 1, 1
		want.Claim = &claudepool.TaskClaim{Holder: "pool-1", SlotID: "slot-0", Fence: 1, Lease: at(40)}
		if diff := cmp.Diff(want, got, equal, anyVersion); diff != "" {
			t.Errorf("record (-want +got):\n%s", diff)
		}
		if got.Version <= want.Version {
			t.Errorf("version is %d after %d, want it to grow", got.Version, want.Version)
		}
		if diff := cmp.Diff(got, s.task("a"), equal); diff != "" {
			t.Errorf("what Task returns differs (-claimed +read):\n%s", diff)
		}
	}},
	{"each further claim has a greater fence and keeps the first start", func(t *testing.T, s *store) {
		s.create("a")
		first := s.claim(now(10))
		s.move(first, claudepool.StatePending, costing(1))
		second := s.claim(now(50), func(r *claudepool.ClaimRequest) { r.SlotID = "slot-7" })
		if second.Fence <= first.Fence || second.Claim.Fence != second.Fence {
			t.Errorf("fences are %d, then %d with %d in the claim", first.Fence, second.Fence, second.Claim.Fence)
		}
		if !second.First.Equal(at(10)) || !second.Started.Equal(at(50)) || !second.Ended.IsZero() {
			t.Errorf("first %v, started %v, ended %v", second.First, second.Started, second.Ended)
		}
		if second.Attempts != 2 || second.SlotID != "slot-7" {
			t.Errorf("attempts %d in slot %q, want 2 in slot-7", second.Attempts, second.SlotID)
		}
	}},
	{"a task that was requeued keeps its place", func(t *testing.T, s *store) {
		s.create("a")
		s.create("b")
		s.move(s.claimIs("a"), claudepool.StatePending, costing(1))
		s.create("c")
		s.claimIs("a")
		s.claimIs("b")
	}},
	{"a task waits for its earliest start, and the next one is told", func(t *testing.T, s *store) {
		s.create("a", notBefore(100), priority(9))
		s.create("b", func(r *claudepool.TaskRecord) { r.Task.NotBefore = at(50) }) // said by the task alone
		s.create("c", notBefore(70), pinned("slot-9", ""))
		s.create("d")
		s.claimIs("d", now(49))
		if got := s.noClaim(now(49)).NextAt; !got.Equal(at(50)) {
			t.Errorf("NextAt is %v, want %v", got, at(50))
		}
		s.claimIs("b", now(50))
		if got := s.noClaim(now(50)).NextAt; !got.Equal(at(70)) && !got.Equal(at(100)) { // c waits for its slot too
			t.Errorf("NextAt is %v, want %v or %v", got, at(70), at(100))
		}
		if got := s.noClaim(now(80)).NextAt; !got.Equal(at(100)) {
			t.Errorf("NextAt is %v, want %v", got, at(100))
		}
		s.claimIs("a", now(100))
		if got := s.noClaim(now(100)).NextAt; !got.IsZero() {
			t.Errorf("NextAt is %v, want none: what waits, waits for a slot", got)
		}
	}},
	{"a clock that goes back makes no task runnable", func(t *testing.T, s *store) {
		s.create("a", notBefore(50))
		s.create("b")
		s.claimIs("a", now(60))
		s.create("c", notBefore(55), priority(1))
		s.claimIs("c", now(60))
		s.create("d", notBefore(55), priority(1), pinned("slot-9", ""))
		s.claimIs("b", now(60)) // by now d has been seen to be due
		if got := s.noClaim(now(54), accepting("slot-9")).NextAt; !got.Equal(at(55)) {
			t.Errorf("NextAt is %v, want %v", got, at(55))
		}
		s.claimIs("d", now(55), accepting("slot-9"))
	}},
	{"a retry waits for its earliest start", func(t *testing.T, s *store) {
		s.create("a")
		s.create("b")
		s.move(s.claimIs("a"), claudepool.StatePending, costing(1), func(tr *claudepool.Transition) { tr.NotBefore = at(60) })
		s.claimIs("b")
		if got := s.noClaim(now(59)).NextAt; !got.Equal(at(60)) {
			t.Errorf("NextAt is %v, want %v", got, at(60))
		}
		s.claimIs("a", now(60))
	}},
	{"a pinned task goes only to who accepts its pin", func(t *testing.T, s *store) {
		for _, c := range []struct{ id, slot, role string }{
			{"a", "slot-1", ""}, {"b", "", "reviewer"}, {"c", "slot-1", "reviewer"}, {"d", "", ""}, {"e", "slot-2", ""},
		} {
			s.create(c.id, pinned(c.slot, c.role))
		}
		s.claimIs("d") // without Accepts
		s.noClaim()
		s.noClaim(accepting("slot-3"))
		s.claimIs("b", accepting("/reviewer"))
		s.claimIs("c", accepting("slot-1/reviewer"))
		s.claimIs("a", accepting("slot-1", "slot-2"))
		s.claimIs("e", accepting("slot-1", "slot-2"))
	}},
	{"pins do not change the order", func(t *testing.T, s *store) {
		s.create("a", pinned("slot-1", ""))
		s.create("b")
		s.create("c", pinned("slot-1", ""))
		s.create("d", pinned("slot-2", ""), priority(1))
		s.create("e", pinned("", "reviewer"), priority(-1))
		for _, want := range []claudepool.TaskID{"d", "a", "b", "c", "e"} {
			s.claimIs(want, accepting("slot-1", "slot-2", "/reviewer"))
		}
	}},
	{"a task that is not pending is not claimed", func(t *testing.T, s *store) {
		for _, id := range []string{"a", "b", "c", "d"} {
			s.create(id)
		}
		s.move(s.task("a"), claudepool.StateCancelled)
		s.move(s.task("b"), claudepool.StateFailed)
		s.move(s.claimIs("c"), claudepool.StatePendingReview, costing(1))
		s.claimIs("d")
		s.noClaim()
	}},
	{"each task is claimed once, by whoever asks", func(t *testing.T, s *store) {
		const tasks, holders = 200, 8
		for i := range tasks {
			s.create(fmt.Sprintf("task-%03d", i), func(r *claudepool.TaskRecord) { r.Task.Priority = i % 3 })
		}
		var mu sync.Mutex
		claimed := map[claudepool.TaskID]int{}
		var wg sync.WaitGroup
		for h := range holders {
			wg.Go(func() {
				for {
					r, err := s.Claim(t.Context(), request(func(r *claudepool.ClaimRequest) { r.Holder = fmt.Sprint("pool-", h) }))
					if errors.Is(err, claudepool.ErrNotRunnable) {
						return
					}
					if err != nil {
						t.Errorf("Claim: %v", err)
						return
					}
					mu.Lock()
					claimed[r.ID]++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if len(claimed) != tasks {
			t.Errorf("%d tasks were claimed, want %d", len(claimed), tasks)
		}
		for id, n := range claimed {
			if n != 1 {
				t.Errorf("task %s was claimed %d times", id, n)
			}
		}
	}},
}

var laneTests = []test{
	{"of the tasks of a lane one has a claim at a time", func(t *testing.T, s *store) {
		s.create("a", lane("x"))
		s.create("b", lane("x"))
		s.create("c", lane("x"), priority(-1))
		s.create("d", lane("y"))
		s.create("e")
		a := s.claimIs("a")
		s.claimIs("d")
		s.claimIs("e")
		s.noClaim()
		s.finish(a, 1)
		b := s.claimIs("b")
		s.noClaim()
		s.move(b, claudepool.StateFailed, costing(1))
		s.claimIs("c")
	}},
	{"a lane goes by rank, not by who waited longer", func(t *testing.T, s *store) {
		s.create("b", lane("x"))
		b := s.claimIs("b")
		s.create("c", lane("x"))
		s.noClaim()
		s.create("d", lane("x"), priority(1))
		s.noClaim()
		s.create("a", lane("x"))
		s.finish(b, 1)
		s.finish(s.claimIs("d"), 1)
		s.finish(s.claimIs("a"), 1)
		s.finish(s.claimIs("c"), 1)
	}},
	{"a task that returns to the queue goes on before others of its lane", func(t *testing.T, s *store) {
		s.create("a", lane("x"))
		s.create("b", lane("x"))
		a := s.claimIs("a")
		s.noClaim()
		s.move(a, claudepool.StatePending, costing(1))
		s.claimIs("a")
		s.noClaim()
	}},
	{"a retry that waits leaves its lane to others", func(t *testing.T, s *store) {
		s.create("a", lane("x"))
		s.create("b", lane("x"))
		a := s.claimIs("a")
		s.noClaim()
		s.move(a, claudepool.StatePending, costing(1), func(tr *claudepool.Transition) { tr.NotBefore = at(60) })
		b := s.claimIs("b", now(20))
		s.noClaim(now(60))
		s.finish(b, 1)
		s.claimIs("a", now(60))
	}},
	{"the lane is free when the last of many that wait is cancelled or gone", func(t *testing.T, s *store) {
		for i := range 6 {
			s.create(fmt.Sprint("a", i), lane("x"))
		}
		first := s.claimIs("a0")
		s.noClaim()
		s.move(s.task("a1"), claudepool.StateCancelled) // while it waits behind another
		s.finish(first, 1)
		s.move(s.task("a2"), claudepool.StateCancelled) // while it is the next
		s.move(s.task("a3"), claudepool.StateFailed)
		s.finish(s.claimIs("a4"), 1)
		s.finish(s.claimIs("a5"), 1)
		s.create("a6", lane("x"))
		s.claimIs("a6")
	}},
	{"pins and tags in a lane hide nobody behind them", func(t *testing.T, s *store) {
		s.create("a", lane("x"))
		a := s.claimIs("a")
		s.create("b", lane("x"), pinned("slot-9", ""))
		s.create("c", lane("x"), tagged("full"))
		s.create("d", lane("x"))
		s.create("z", tagged("full"))
		limit := tagLimit("full", 1)
		s.claimIs("z", limit)
		s.noClaim(limit, accepting("slot-9"))
		s.finish(a, 1)
		d := s.claimIs("d", limit)
		s.finish(d, 1)
		s.claimIs("b", limit, accepting("slot-9"))
		s.noClaim(limit)
	}},
	{"a task that is not due leaves its lane to others, also when the clock goes back", func(t *testing.T, s *store) {
		s.create("0", lane("x"))
		s.create("a", lane("x"), notBefore(55))
		s.create("b", lane("x"))
		first := s.claimIs("0", now(60))
		s.noClaim(now(60))
		s.finish(first, 1)
		s.finish(s.claimIs("b", now(54)), 1)
		s.claimIs("a", now(55))
	}},
	{"a cancelled task holds its lane until its attempt is recorded", func(t *testing.T, s *store) {
		s.create("a", lane("x"))
		s.create("b", lane("x"))
		a := s.claimIs("a")
		s.move(a, claudepool.StateCancelled)
		s.noClaim()
		s.move(a, claudepool.StateCompleted, costing(1), ignoreConflict(t, s))
		s.claimIs("b")
	}},
}

// ignoreConflict makes the transition itself, which fails, and leaves for the
// caller one that changes nothing.
func ignoreConflict(t *testing.T, s *store) func(*claudepool.Transition) {
	return func(tr *claudepool.Transition) {
		t.Helper()
		_, err := s.Transition(t.Context(), *tr)
		wantError(t, "Transition of a cancelled task", err, claudepool.ErrConflict)
		tr.To = claudepool.StateCancelled
	}
}

func lane(name string) func(*claudepool.TaskRecord) {
	return func(r *claudepool.TaskRecord) { r.Lane = name }
}

func tagged(tags ...string) func(*claudepool.TaskRecord) {
	return func(r *claudepool.TaskRecord) { r.Task.Tags = tags }
}

// tagLimit adds a limit for a tag.
func tagLimit(tag string, n int) func(*claudepool.ClaimRequest) {
	return func(r *claudepool.ClaimRequest) {
		limits := map[string]int{tag: n}
		for k, v := range r.TagLimits {
			limits[k] = v
		}
		r.TagLimits = limits
	}
}

var tagTests = []test{
	{"tasks whose tag is at its limit let others go first, and come back", func(t *testing.T, s *store) {
		for i := range 5 {
			s.create(fmt.Sprint("a", i), tagged("db"))
		}
		s.create("b")
		limit := tagLimit("db", 2)
		first := s.claimIs("a0", limit)
		s.claimIs("a1", limit)
		s.claimIs("b", limit)
		s.noClaim(limit)
		s.finish(first, 1)
		s.claimIs("a2", limit)
		s.noClaim(limit)
		s.create("a00", tagged("db"))
		s.finish(s.task("a2"), 1)
		s.claimIs("a00", limit) // the order is that of all tasks
	}},
	{"a task needs room for each of its tags", func(t *testing.T, s *store) {
		both := []func(*claudepool.ClaimRequest){tagLimit("x", 1), tagLimit("y", 1)}
		s.create("a", tagged("x"))
		s.create("b", tagged("y"))
		s.create("c", tagged("x", "y", "x"))
		s.create("d", tagged("y", "x"))
		a, b := s.claimIs("a", both...), s.claimIs("b", both...)
		s.noClaim(both...)
		s.finish(a, 1)
		s.noClaim(both...)
		s.finish(b, 1)
		c := s.claimIs("c", both...)
		s.noClaim(both...)
		s.finish(c, 1)
		s.claimIs("d", both...)
	}},
	{"a tag that a task has twice counts once", func(t *testing.T, s *store) {
		for i := range 4 {
			s.create(fmt.Sprint("a", i), tagged("x", "x"))
		}
		limit := tagLimit("x", 2)
		first := s.claimIs("a0", limit)
		s.claimIs("a1", limit)
		s.noClaim(limit)
		s.finish(first, 1)
		s.claimIs("a2", limit)
		s.noClaim(limit)
	}},
	{"limits are those of the claim", func(t *testing.T, s *store) {
		for i := range 4 {
			s.create(fmt.Sprint("a", i), tagged("x"))
		}
		s.noClaim(tagLimit("x", 0))
		s.claimIs("a0", tagLimit("x", 1))
		s.noClaim(tagLimit("x", 1))
		s.claimIs("a1", tagLimit("x", 2))
		s.claimIs("a2", tagLimit("y", 1))
		s.claimIs("a3")
	}},
	{"a tag has room again however its task leaves its claim", func(t *testing.T, s *store) {
		s.create("a", tagged("x"))
		s.create("b", tagged("x"))
		limit := tagLimit("x", 1)
		s.move(s.claimIs("a", limit), claudepool.StatePending) // given back
		s.move(s.claimIs("a", limit), claudepool.StatePendingReview, costing(1))
		b := s.claimIs("b", limit)
		s.move(b, claudepool.StateCancelled)
		s.create("c", tagged("x"))
		s.noClaim(limit) // the holder of b may still be at work
		s.move(b, claudepool.StateCancelled, costing(1))
		s.claimIs("c", limit)
	}},
	{"a task that waits for its tag can be cancelled", func(t *testing.T, s *store) {
		limit := tagLimit("x", 1)
		for i := range 3 {
			s.create(fmt.Sprint("a", i), tagged("x"))
		}
		first := s.claimIs("a0", limit)
		s.noClaim(limit)
		s.move(s.task("a1"), claudepool.StateCancelled)
		s.finish(first, 1)
		s.claimIs("a2", limit)
		s.noClaim(limit)
	}},
}

// preferring prefers a launch key.
func preferring(key string) func(*claudepool.ClaimRequest) {
	return func(r *claudepool.ClaimRequest) { r.Prefers = key }
}

func launchKey(key string) func(*claudepool.TaskRecord) {
	return func(r *claudepool.TaskRecord) { r.LaunchKey = key }
}

// The preference is a leave, not a duty: a store may ignore it. So these tests
// check what it must not do.
var preferTests = []test{
	{"a preferred task never passes one of higher priority", func(t *testing.T, s *store) {
		s.create("a", launchKey("cold"), priority(1))
		s.create("b", launchKey("warm"))
		s.claimIs("a", preferring("warm"))
		s.claimIs("b", preferring("warm"))
	}},
	{"no task is passed over more often than allowed", func(t *testing.T, s *store) {
		s.create("a0", launchKey("cold"))
		s.create("a1", launchKey("cold"))
		for i := range 5 * claudepool.MaxPassed {
			s.create(fmt.Sprintf("b%03d", i), launchKey("warm"))
		}
		waited := map[claudepool.TaskID]int{"a0": 0, "a1": 0}
		for len(waited) > 0 {
			r := s.claim(preferring("warm"))
			delete(waited, r.ID)
			for id := range waited {
				if r.ID < id {
					continue // it was its turn
				}
				if waited[id]++; waited[id] > claudepool.MaxPassed {
					t.Fatalf("task %s was passed over %d times", id, waited[id])
				}
			}
		}
	}},
	{"a newcomer does not make others wait for longer", func(t *testing.T, s *store) {
		s.create("b", launchKey("cold"))
		for i := range 3 * claudepool.MaxPassed {
			s.create(fmt.Sprintf("c%03d", i), launchKey("warm"))
		}
		for n := 1; s.claim(preferring("warm")).ID != "b"; n++ {
			if n > claudepool.MaxPassed {
				t.Fatalf("task b was passed over %d times", n)
			}
			if n == claudepool.MaxPassed {
				s.create("a", launchKey("cold"))
				s.claimIs("a", preferring("warm")) // the only way to pass it over would pass over b too
			}
		}
	}},
	{"a preferred task gets no money that the best one could not have", func(t *testing.T, s *store) {
		s.create("a", launchKey("cold"), capped(100))
		s.create("b", launchKey("warm"), capped(1))
		none := s.noClaim(preferring("warm"), limited(50))
		if none.Budget == nil || none.Task != "a" {
			t.Errorf("NotRunnable is %+v, want the budget to refuse a", none)
		}
	}},
	{"a preferred task that is too dear leaves the best one its turn", func(t *testing.T, s *store) {
		s.create("a", launchKey("cold"), capped(10))
		s.create("b", launchKey("warm"), capped(100))
		s.claimIs("a", preferring("warm"), limited(50))
	}},
	{"a preferred task is one that can run", func(t *testing.T, s *store) {
		s.create("a", launchKey("cold"))
		s.create("b", launchKey("warm"), notBefore(100))
		s.create("c", launchKey("warm"), pinned("slot-9", ""))
		s.create("d", launchKey("warm"), tagged("x"))
		s.create("e", launchKey("warm"), lane("y"), priority(1))
		s.claimIs("e")
		s.create("f", launchKey("warm"), lane("y"))
		s.claimIs("a", preferring("warm"), tagLimit("x", 0))
		s.noClaim(preferring("warm"), tagLimit("x", 0))
	}},
}

// limited sets a budget.
func limited(limit claudepool.Microdollars) func(*claudepool.ClaimRequest) {
	return func(r *claudepool.ClaimRequest) { r.Budget.Limit = limit }
}
