package storetest

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
)

func message(id, to string) claudepool.Message {
	return claudepool.Message{ID: id, From: "me", To: to, Content: "about " + id, Sent: at(3)}
}

// send sends a message to each of the ids, in their order.
func (s *store) send(to string, ids ...string) {
	s.t.Helper()
	for _, id := range ids {
		if err := s.SendMessage(s.ctx(), message(id, to)); err != nil {
			s.t.Fatalf("SendMessage(%s to %s): %v", id, to, err)
		}
	}
}

func messageIDs(all []claudepool.Message) []string {
	var ids []string
	for _, m := range all {
		ids = append(ids, m.ID)
	}
	return ids
}

// wantMessages checks which messages wait at an address.
func (s *store) wantMessages(to string, want ...string) {
	s.t.Helper()
	all, err := s.Messages(s.ctx(), to)
	if err != nil {
		s.t.Fatalf("Messages(%s): %v", to, err)
	}
	if diff := cmp.Diff(want, messageIDs(all), equal); diff != "" {
		s.t.Errorf("messages to %s (-want +got):\n%s", to, diff)
	}
}

// take takes messages and checks which that gives.
func (s *store) take(to string, ids []string, want ...string) {
	s.t.Helper()
	all, err := s.TakeMessages(s.ctx(), to, ids)
	if err != nil {
		s.t.Fatalf("TakeMessages(%s, %v): %v", to, ids, err)
	}
	if diff := cmp.Diff(want, messageIDs(all), equal); diff != "" {
		s.t.Errorf("taken from %s of %v (-want +got):\n%s", to, ids, diff)
	}
}

var messageTests = []test{
	{"every field of a message is kept", func(t *testing.T, s *store) {
		want := claudepool.Message{ID: "msg-1", From: "me \U0001F600", To: "slot-0", Content: "héllo\n\x00 'quoted' \"double\" {x}", Sent: at(3)}
		wantFull(t, reflect.ValueOf(want), "Message")
		if err := s.SendMessage(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		read, err := s.Messages(t.Context(), "slot-0")
		if err != nil {
			t.Fatal(err)
		}
		taken, err := s.TakeMessages(t.Context(), "slot-0", nil)
		if err != nil {
			t.Fatal(err)
		}
		for what, got := range map[string][]claudepool.Message{"read": read, "taken": taken} {
			if diff := cmp.Diff([]claudepool.Message{want}, got); diff != "" {
				t.Errorf("messages %s (-want +got):\n%s", what, diff)
			}
		}
	}},
	{"messages come by id, however they were sent", func(t *testing.T, s *store) {
		s.send("slot-0", "m3", "m1", "m20", "m2")
		s.wantMessages("slot-0", "m1", "m2", "m20", "m3")
		s.take("slot-0", nil, "m1", "m2", "m20", "m3")
	}},
	{"reading leaves messages, taking removes them", func(t *testing.T, s *store) {
		s.send("slot-0", "m1", "m2")
		for range 2 {
			s.wantMessages("slot-0", "m1", "m2")
		}
		s.take("slot-0", nil, "m1", "m2")
		s.wantMessages("slot-0")
		s.take("slot-0", nil)
		s.send("slot-0", "m3")
		s.wantMessages("slot-0", "m3")
	}},
	{"what is named is taken, and nothing else", func(t *testing.T, s *store) {
		s.send("slot-0", "m1", "m2", "m3", "m4")
		s.take("slot-0", []string{})
		s.take("slot-0", []string{"m4", "gone", "m2", "m4"}, "m2", "m4")
		s.wantMessages("slot-0", "m1", "m3")
		s.take("slot-0", []string{"m2"})
		s.wantMessages("slot-0", "m1", "m3")
	}},
	{"each address has its own messages", func(t *testing.T, s *store) {
		s.send("slot-0", "m1", "m4")
		s.send("slot-1", "m2")
		s.send(claudepool.Coordinator, "m3")
		s.wantMessages("slot-0", "m1", "m4")
		s.wantMessages("slot-1", "m2")
		s.wantMessages("slot")
		s.take("slot-1", []string{"m1", "m3"})
		s.take("slot-0", nil, "m1", "m4")
		s.wantMessages("slot-1", "m2")
		s.wantMessages(claudepool.Coordinator, "m3")
	}},
	{"an id is used once until its message is taken", func(t *testing.T, s *store) {
		s.send("slot-0", "m1")
		for _, to := range []string{"slot-0", "slot-1"} {
			other := message("m1", to)
			other.Content = "other"
			wantError(t, "SendMessage to "+to+" with an id in use", s.SendMessage(t.Context(), other), claudepool.ErrDuplicate)
		}
		s.wantMessages("slot-1")
		if got, err := s.Messages(t.Context(), "slot-0"); err != nil || len(got) != 1 || got[0].Content != "about m1" {
			t.Errorf("messages to slot-0 are %+v, %v; want the first one as it was", got, err)
		}
		s.take("slot-0", nil, "m1")
		s.send("slot-1", "m1")
	}},
	{"a message has an id and an address", func(t *testing.T, s *store) {
		for _, m := range []claudepool.Message{message("", "slot-0"), message("m1", "")} {
			err := s.SendMessage(t.Context(), m)
			var invalid *claudepool.InvalidError
			if !errors.As(err, &invalid) {
				t.Errorf("SendMessage(%+v): error %v, want an InvalidError", m, err)
			}
		}
		s.wantMessages("slot-0")
		s.wantMessages("")
	}},
	{"an address holds so many messages and no more", func(t *testing.T, s *store) {
		for i := range claudepool.MaxMessages {
			s.send("slot-0", fmt.Sprintf("m%04d", i))
		}
		wantError(t, "SendMessage to a full address", s.SendMessage(t.Context(), message("x", "slot-0")), claudepool.ErrMailboxFull)
		s.send("slot-1", "x")
		s.take("slot-0", []string{"m0500"}, "m0500")
		s.send("slot-0", "y")
		wantError(t, "SendMessage when it is full again", s.SendMessage(t.Context(), message("z", "slot-0")), claudepool.ErrMailboxFull)
		if got, err := s.Messages(t.Context(), "slot-0"); err != nil || len(got) != claudepool.MaxMessages {
			t.Errorf("%d messages wait (%v), want %d", len(got), err, claudepool.MaxMessages)
		}
	}},
	{"what is returned can be changed without effect", func(t *testing.T, s *store) {
		s.send("slot-0", "m1", "m2")
		all, err := s.Messages(t.Context(), "slot-0")
		if err != nil {
			t.Fatal(err)
		}
		scribble(&all)
		taken, err := s.TakeMessages(t.Context(), "slot-0", []string{"m1"})
		if err != nil {
			t.Fatal(err)
		}
		scribble(&taken)
		s.wantMessages("slot-0", "m2")
	}},
	{"of all who take a message at once one gets it", func(t *testing.T, s *store) {
		const senders, each, takers = 4, 50, 4
		var wg sync.WaitGroup
		for n := range senders {
			wg.Go(func() {
				for i := range each {
					if err := s.SendMessage(t.Context(), message(fmt.Sprintf("m%d-%02d", n, i), "slot-0")); err != nil {
						t.Errorf("SendMessage: %v", err)
					}
				}
			})
		}
		var mu sync.Mutex
		var got []string
		takeAll := func() {
			taken, err := s.TakeMessages(t.Context(), "slot-0", nil)
			if err != nil {
				t.Errorf("TakeMessages: %v", err)
			}
			if ids := messageIDs(taken); !slices.IsSorted(ids) {
				t.Errorf("taken out of order: %v", ids)
			}
			mu.Lock()
			defer mu.Unlock()
			got = append(got, messageIDs(taken)...)
		}
		for range takers {
			wg.Go(func() {
				for range each {
					takeAll()
				}
			})
		}
		wg.Wait()
		takeAll() // what was sent after the last of them looked
		slices.Sort(got)
		if once := slices.Compact(slices.Clone(got)); len(got) != senders*each || len(once) != len(got) {
			t.Errorf("%d messages were taken, %d of them different; want each of %d once", len(got), len(once), senders*each)
		}
	}},
}
