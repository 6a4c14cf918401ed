package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
)

// pool returns the record of a pool.
func pool(id string) claudepool.InstanceRecord {
	return claudepool.InstanceRecord{
		ID: id, Machine: "m", PID: 42, Process: `{"of":"` + id + `"}`, Started: at(1), Seen: at(2).Add(123456 * time.Microsecond),
	}
}

func (s *store) putInstance(r claudepool.InstanceRecord) {
	s.t.Helper()
	if err := s.PutInstance(s.ctx(), r); err != nil {
		s.t.Fatalf("PutInstance(%s): %v", r.ID, err)
	}
}

func (s *store) wantInstances(want ...claudepool.InstanceRecord) {
	s.t.Helper()
	got, err := s.Instances(s.ctx())
	if err != nil {
		s.t.Fatalf("Instances: %v", err)
	}
	if diff := cmp.Diff(want, got, equal); diff != "" {
		s.t.Errorf("instances (-want +got):\n%s", diff)
	}
}

var instanceTests = []test{
	{"a pool is stored in the place of what was known of it", func(t *testing.T, s *store) {
		first, other := pool("pool-1"), pool("pool-2")
		s.putInstance(first)
		s.putInstance(other)
		s.wantInstances(first, other)
		second := claudepool.InstanceRecord{ID: "pool-1", Seen: at(9)}
		s.putInstance(second)
		s.wantInstances(second, other)
	}},
	{"pools come by id", func(t *testing.T, s *store) {
		for _, id := range []string{"b", "a10", "c", "a9"} {
			s.putInstance(pool(id))
		}
		s.wantInstances(pool("a10"), pool("a9"), pool("b"), pool("c"))
	}},
	{"a pool needs an id", func(t *testing.T, s *store) {
		err := s.PutInstance(t.Context(), pool(""))
		var invalid *claudepool.InvalidError
		if !errors.As(err, &invalid) || invalid.Field != "id" {
			t.Errorf("PutInstance without an id: %v, want an InvalidError about id", err)
		}
		s.wantInstances()
	}},
	{"a pool that is forgotten takes its slots with it, and no others", func(t *testing.T, s *store) {
		for _, id := range []string{"pool-1", "pool-10", "pool-2"} {
			s.putInstance(pool(id))
			s.putSlot(claudepool.SlotRecord{Instance: id, ID: "slot-0"})
			s.putSlot(claudepool.SlotRecord{Instance: id, ID: "slot-1"})
		}
		for _, id := range []string{"pool-1", "pool-1", "unknown"} { // an unknown one is no error
			if err := s.DeleteInstance(t.Context(), id); err != nil {
				t.Errorf("DeleteInstance(%s): %v", id, err)
			}
		}
		s.wantInstances(pool("pool-10"), pool("pool-2"))
		if diff := cmp.Diff([]string{"pool-10/slot-0", "pool-10/slot-1", "pool-2/slot-0", "pool-2/slot-1"}, s.slotsOf()); diff != "" {
			t.Errorf("slots (-want +got):\n%s", diff)
		}
		s.putSlot(claudepool.SlotRecord{Instance: "pool-1", ID: "slot-0"}) // it is new
	}},
	{"slots need no pool that is known", func(t *testing.T, s *store) {
		s.putSlot(claudepool.SlotRecord{Instance: "pool-1", ID: "slot-0"})
		s.wantInstances()
		if err := s.DeleteInstance(t.Context(), "pool-1"); err != nil {
			t.Error(err)
		}
		if left := s.slotsOf(); len(left) != 0 {
			t.Errorf("slots %v, want none", left)
		}
	}},
	{"what a forgotten pool has claimed stays claimed", func(t *testing.T, s *store) {
		s.putInstance(pool("pool-1"))
		s.create("task-1", capped(50))
		claimed := s.claim()
		if err := s.DeleteInstance(t.Context(), "pool-1"); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(claimed, s.task("task-1")); diff != "" {
			t.Errorf("task (-claimed +got):\n%s", diff)
		}
		s.wantLedger(claudepool.Ledger{Reserved: 50})
	}},
}
