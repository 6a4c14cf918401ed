package storetest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
)

// slotsOf lists "instance/id" of all slots.
func (s *store) slotsOf() []string {
	s.t.Helper()
	slots, err := s.Slots(s.ctx())
	if err != nil {
		s.t.Fatalf("Slots: %v", err)
	}
	var names []string
	for _, r := range slots {
		names = append(names, r.Instance+"/"+r.ID)
	}
	return names
}

func (s *store) putSlot(r claudepool.SlotRecord) claudepool.SlotRecord {
	s.t.Helper()
	got, err := s.PutSlot(s.ctx(), r)
	if err != nil {
		s.t.Fatalf("PutSlot(%s/%s): %v", r.Instance, r.ID, err)
	}
	return got
}

var slotTests = []test{
	{"a slot is stored when the caller knows its version", func(t *testing.T, s *store) {
		want := claudepool.SlotRecord{
			Instance: "pool-1", ID: "slot-0", Name: "n", Role: "r", Description: "d", State: claudepool.SlotBusy, PID: 42, Updated: at(3),
		}
		got := s.putSlot(want)
		want.Version = 1
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("first version (-want +got):\n%s", diff)
		}
		stale := got
		got.State = claudepool.SlotIdle
		got = s.putSlot(got)
		want.State, want.Version = claudepool.SlotIdle, 2
		for _, version := range []int64{0, stale.Version, 3, -1} {
			stale.Version = version
			_, err := s.PutSlot(t.Context(), stale)
			wantError(t, fmt.Sprint("PutSlot with version ", version), err, claudepool.ErrConflict)
		}
		slots, err := s.Slots(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]claudepool.SlotRecord{want}, slots); diff != "" {
			t.Errorf("slots (-want +got):\n%s", diff)
		}
	}},
	{"of all who change a slot at once one succeeds", func(t *testing.T, s *store) {
		r := s.putSlot(claudepool.SlotRecord{Instance: "p", ID: "slot-0"})
		var won atomic.Int64
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if _, err := s.PutSlot(t.Context(), r); err == nil {
					won.Add(1)
				} else {
					wantError(t, "PutSlot", err, claudepool.ErrConflict)
				}
			})
		}
		wg.Wait()
		if n := won.Load(); n != 1 {
			t.Errorf("%d changes succeeded, want 1", n)
		}
	}},
	{"slots come by instance and id", func(t *testing.T, s *store) {
		for _, r := range []claudepool.SlotRecord{{Instance: "b", ID: "slot-0"}, {Instance: "a", ID: "slot-1"}, {Instance: "b", ID: "slot-1"}, {Instance: "a", ID: "slot-0"}} {
			s.putSlot(r)
		}
		if diff := cmp.Diff([]string{"a/slot-0", "a/slot-1", "b/slot-0", "b/slot-1"}, s.slotsOf()); diff != "" {
			t.Errorf("slots (-want +got):\n%s", diff)
		}
	}},
	{"a deleted slot is gone, and can be made anew", func(t *testing.T, s *store) {
		old := s.putSlot(claudepool.SlotRecord{Instance: "a", ID: "slot-0"})
		s.putSlot(claudepool.SlotRecord{Instance: "b", ID: "slot-0"})
		for range 2 { // an unknown one is no error
			if err := s.DeleteSlot(t.Context(), "a", "slot-0"); err != nil {
				t.Errorf("DeleteSlot: %v", err)
			}
		}
		if diff := cmp.Diff([]string{"b/slot-0"}, s.slotsOf()); diff != "" {
			t.Errorf("slots (-want +got):\n%s", diff)
		}
		_, err := s.PutSlot(t.Context(), old)
		wantError(t, "PutSlot of the version before", err, claudepool.ErrConflict)
		s.putSlot(claudepool.SlotRecord{Instance: "a", ID: "slot-0"})
	}},
}

var contextTests = []test{
	{"keys are set, replaced and removed", func(t *testing.T, s *store) {
		steps := []struct {
			key, value string
			want       map[string]string
		}{
			{"a", "1", map[string]string{"a": "1"}},
			{"b", "", map[string]string{"a": "1", "b": ""}},
			{"a", "2\n\U0001F600", map[string]string{"a": "2\n\U0001F600", "b": ""}},
			{"", "no name", map[string]string{"a": "2\n\U0001F600", "b": "", "": "no name"}},
		}
		for _, step := range steps {
			if err := s.SetContext(t.Context(), step.key, step.value); err != nil {
				t.Fatal(err)
			}
			s.wantContext(step.want)
		}
		if err := s.DeleteContext(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		wantError(t, "DeleteContext again", s.DeleteContext(t.Context(), "a"), claudepool.ErrUnknownKey)
		s.wantContext(map[string]string{"b": "", "": "no name"})
	}},
	{"what is returned can be changed without effect", func(t *testing.T, s *store) {
		if err := s.SetContext(t.Context(), "a", "1"); err != nil {
			t.Fatal(err)
		}
		got, err := s.Context(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got["a"], got["b"] = "2", "3"
		s.wantContext(map[string]string{"a": "1"})
	}},
}

func (s *store) wantContext(want map[string]string) {
	s.t.Helper()
	got, err := s.Context(s.ctx())
	if err != nil {
		s.t.Fatalf("Context: %v", err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("context (-want +got):\n%s", diff)
	}
}
