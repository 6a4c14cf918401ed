package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
)

// list lists what a filter selects.
func (s *store) list(f claudepool.TaskFilter) []claudepool.TaskRecord {
	s.t.Helper()
	var all []claudepool.TaskRecord
	for r, err := range s.Tasks(s.ctx(), f) {
		if err != nil {
			s.t.Fatalf("Tasks: %v", err)
		}
		all = append(all, r)
	}
	return all
}

// ids lists the ids of what a filter selects.
func (s *store) ids(f claudepool.TaskFilter) []claudepool.TaskID {
	s.t.Helper()
	var ids []claudepool.TaskID
	for _, r := range s.list(f) {
		ids = append(ids, r.ID)
	}
	return ids
}

// createShuffled creates n tasks out of order and returns their ids, the newest first.
func (s *store) createShuffled(n int, edit ...func(*claudepool.TaskRecord)) []claudepool.TaskID {
	s.t.Helper()
	ids := make([]claudepool.TaskID, n)
	for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(n) {
		ids[n-1-i] = s.create(fmt.Sprintf("task-%03d", i), edit...).ID
	}
	return ids
}

var listTests = []test{
	{"tasks come newest first", func(t *testing.T, s *store) {
		want := s.createShuffled(50)
		if diff := cmp.Diff(want, s.ids(claudepool.TaskFilter{})); diff != "" {
			t.Errorf("ids (-want +got):\n%s", diff)
		}
	}},
	{"a listing goes on after a cursor, in pages", func(t *testing.T, s *store) {
		want := s.createShuffled(25)
		var got []claudepool.TaskID
		f := claudepool.TaskFilter{Limit: 4}
		for page := s.ids(f); len(page) > 0; page = s.ids(f) {
			if len(page) > f.Limit {
				t.Fatalf("a page has %d tasks, want at most %d", len(page), f.Limit)
			}
			got = append(got, page...)
			f.Before = page[len(page)-1]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("ids (-want +got):\n%s", diff)
		}
		if got := s.ids(claudepool.TaskFilter{Before: "task-003x", Limit: 2}); !slices.Equal(got, []claudepool.TaskID{"task-003", "task-002"}) {
			t.Errorf("before an id that no task has: %v", got)
		}
	}},
	{"an idempotency key selects what was submitted with it", func(t *testing.T, s *store) {
		keyed := func(owner, key string) func(*claudepool.TaskRecord) {
			return func(r *claudepool.TaskRecord) {
				r.Task.Owner, r.Task.IdempotencyKey, r.Task.Tags = owner, key, []string{"x"}
			}
		}
		s.create("a", keyed("me", "k"))
		s.create("b", keyed("you", "k"))
		s.create("c", keyed("me", "other"))
		s.create("d", keyed("me", ""))
		s.finish(s.claimIs("a"), 1) // it stays known by its key when it has ended
		type filter = claudepool.TaskFilter
		pending, completed := []claudepool.TaskState{claudepool.StatePending}, []claudepool.TaskState{claudepool.StateCompleted}
		for _, c := range []struct {
			name string
			f    filter
			want []claudepool.TaskID
		}{
			{"of an owner", filter{Owner: "me", IdempotencyKey: "k"}, []claudepool.TaskID{"a"}},
			{"of anybody", filter{IdempotencyKey: "k"}, []claudepool.TaskID{"b", "a"}},
			{"of another owner", filter{Owner: "you", IdempotencyKey: "other"}, nil},
			{"that nobody has used", filter{Owner: "me", IdempotencyKey: "K"}, nil},
			{"and the state", filter{Owner: "me", IdempotencyKey: "k", States: completed}, []claudepool.TaskID{"a"}},
			{"and another state", filter{Owner: "me", IdempotencyKey: "k", States: pending}, nil},
			{"and a tag", filter{Owner: "me", IdempotencyKey: "k", Tag: "x"}, []claudepool.TaskID{"a"}},
			{"and another tag", filter{Owner: "me", IdempotencyKey: "k", Tag: "y"}, nil},
			{"and a lease", filter{Owner: "me", IdempotencyKey: "k", LeaseBefore: at(1e6)}, nil},
			{"before its task", filter{Owner: "me", IdempotencyKey: "k", Before: "a"}, nil},
			{"after its task", filter{Owner: "me", IdempotencyKey: "k", Before: "b", Limit: 1}, []claudepool.TaskID{"a"}},
		} {
			if diff := cmp.Diff(c.want, s.ids(c.f)); diff != "" {
				t.Errorf("a key %s (-want +got):\n%s", c.name, diff)
			}
		}
		want := s.task("a")
		if diff := cmp.Diff([]claudepool.TaskRecord{want}, s.list(filter{Owner: "me", IdempotencyKey: "k"}), equal); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
	}},
	{"the steps of a chain come right after it, whenever they are created", func(t *testing.T, s *store) {
		for _, id := range []string{"task-b", "task-a", "task-c", "task-a.step-1", "task-b.step-1", "task-a.step-0", "task-aa"} {
			s.create(id)
		}
		want := []claudepool.TaskID{"task-c", "task-b.step-1", "task-b", "task-aa", "task-a.step-1", "task-a.step-0", "task-a"}
		if diff := cmp.Diff(want, s.ids(claudepool.TaskFilter{})); diff != "" {
			t.Errorf("ids (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want[4:6], s.ids(claudepool.TaskFilter{Before: "task-a.\xff", Limit: 2})); diff != "" {
			t.Errorf("ids of steps (-want +got):\n%s", diff)
		}
		for _, id := range slices.Backward(want) { // claims go by id as well
			s.claimIs(id)
		}
	}},
	{"a listing can be left early, and run again", func(t *testing.T, s *store) {
		want := s.createShuffled(20)
		all := s.Tasks(t.Context(), claudepool.TaskFilter{})
		for range 3 {
			var got []claudepool.TaskID
			for r, err := range all {
				if err != nil {
					t.Fatal(err)
				}
				if got = append(got, r.ID); len(got) == 2 {
					break
				}
			}
			if diff := cmp.Diff(want[:2], got); diff != "" {
				t.Errorf("ids (-want +got):\n%s", diff)
			}
		}
	}},
	{"a listing shows tasks as they were when it began", func(t *testing.T, s *store) {
		want := s.createShuffled(20)
		var got []claudepool.TaskID
		for r, err := range s.Tasks(t.Context(), claudepool.TaskFilter{States: []claudepool.TaskState{claudepool.StatePending}}) {
			if err != nil {
				t.Fatal(err)
			}
			if len(got) == 0 { // the store can be used while a listing goes on
				s.create("task-000x")
				for _, id := range want {
					s.move(s.task(id), claudepool.StateCancelled)
				}
			}
			if r.State != claudepool.StatePending {
				t.Errorf("task %s is %s in the listing", r.ID, r.State)
			}
			got = append(got, r.ID)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("ids (-want +got):\n%s", diff)
		}
	}},
	{"a listing shows claims and results as they were, too", func(t *testing.T, s *store) {
		s.create("a")
		s.create("b")
		a, b := s.claimIs("a"), s.claimIs("b")
		want := []claudepool.TaskRecord{s.create("c"), s.move(b, claudepool.StateCancelled), a}
		var got []claudepool.TaskRecord
		for r, err := range s.Tasks(t.Context(), claudepool.TaskFilter{}) {
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, r); len(got) == 1 {
				s.move(b, claudepool.StateCancelled, costing(5))
				if err := s.Extend(t.Context(), claudepool.ClaimRef{Task: "a", Fence: a.Fence}, at(500), 5); err != nil {
					t.Fatal(err)
				}
			}
		}
		if diff := cmp.Diff(want, got, equal); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
	}},
	{"a listing shows the whole record", func(t *testing.T, s *store) {
		s.create("a", func(r *claudepool.TaskRecord) { r.Task = fullTask(t); r.Task.Slot, r.Task.Role = "", "" })
		want := s.finish(s.claim(), 5)
		for r, err := range s.Tasks(t.Context(), claudepool.TaskFilter{}) {
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, r, equal); diff != "" {
				t.Errorf("record (-want +got):\n%s", diff)
			}
		}
	}},
	{"filters select by state, tag, slot, owner and lease", func(t *testing.T, s *store) {
		owned := func(owner string, tags ...string) func(*claudepool.TaskRecord) {
			return func(r *claudepool.TaskRecord) { r.Task.Owner, r.Task.Tags = owner, tags }
		}
		s.create("a", owned("me", "x"))
		s.create("b", owned("you", "x", "y"))
		s.create("c", owned("me"))
		s.create("d", owned("you", "xy"))
		s.finish(s.claimIs("a"), 1)
		s.claimIs("b", func(r *claudepool.ClaimRequest) { r.SlotID = "slot-1" })
		type filter = claudepool.TaskFilter
		for _, c := range []struct {
			name string
			f    filter
			want []claudepool.TaskID
		}{
			{"all", filter{}, []claudepool.TaskID{"d", "c", "b", "a"}},
			{"one state", filter{States: []claudepool.TaskState{claudepool.StatePending}}, []claudepool.TaskID{"d", "c"}},
			{"two states", filter{States: []claudepool.TaskState{claudepool.StateCompleted, claudepool.StateRunning}}, []claudepool.TaskID{"b", "a"}},
			{"tag", filter{Tag: "x"}, []claudepool.TaskID{"b", "a"}},
			{"slot", filter{SlotID: "slot-1"}, []claudepool.TaskID{"b"}},
			{"slot of an ended task", filter{SlotID: "slot-0"}, []claudepool.TaskID{"a"}},
			{"owner", filter{Owner: "me"}, []claudepool.TaskID{"c", "a"}},
			{"lease has ended", filter{LeaseBefore: at(41)}, []claudepool.TaskID{"b"}},
			{"lease has not ended", filter{LeaseBefore: at(40)}, nil},
			{"several", filter{Owner: "you", Tag: "x"}, []claudepool.TaskID{"b"}},
			{"none", filter{Owner: "nobody"}, nil},
			{"limit counts what is selected", filter{Owner: "me", Limit: 1}, []claudepool.TaskID{"c"}},
		} {
			if diff := cmp.Diff(c.want, s.ids(c.f)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.name, diff)
			}
		}
	}},
	{"a cancelled task shows its lease until its attempt is recorded", func(t *testing.T, s *store) {
		s.create("a")
		held := s.claim()
		s.move(held, claudepool.StateCancelled)
		if got := s.ids(claudepool.TaskFilter{LeaseBefore: at(100)}); len(got) != 1 {
			t.Errorf("with the claim open, tasks whose lease has ended are %v, want the cancelled one", got)
		}
		s.move(held, claudepool.StateCancelled, costing(1))
		if got := s.ids(claudepool.TaskFilter{LeaseBefore: at(100)}); len(got) != 0 {
			t.Errorf("with the claim settled, tasks whose lease has ended are %v, want none", got)
		}
	}},
	{"counts are by state", func(t *testing.T, s *store) {
		s.createShuffled(6)
		s.claim()
		s.finish(s.claim(), 1)
		s.move(s.claim(), claudepool.StatePendingReview)
		s.move(s.task("task-005"), claudepool.StateCancelled)
		got, err := s.Count(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for state, want := range map[claudepool.TaskState]int{
			claudepool.StatePending: 2, claudepool.StateRunning: 1, claudepool.StatePendingReview: 1,
			claudepool.StateCompleted: 1, claudepool.StateFailed: 0, claudepool.StateCancelled: 1,
		} {
			if got[state] != want {
				t.Errorf("%d tasks are %s, want %d", got[state], state, want)
			}
		}
		got[claudepool.StatePending] = 99
		if again, err := s.Count(t.Context()); err != nil || again[claudepool.StatePending] != 2 {
			t.Errorf("after the counts were changed from outside: %v, error %v", again, err)
		}
	}},
}
