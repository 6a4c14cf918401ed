package sqlitestore_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/sqlitestore"
)

// What must survive the end of the machine is waited for, once, and nothing else is.
func TestOneWaitForTheDisk(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		synchronous sqlitestore.Synchronous
		waits       int64 // for each task
	}{{sqlitestore.Full, 2}, {sqlitestore.Normal, 0}} {
		t.Run(string(c.synchronous), func(t *testing.T) {
			t.Parallel()
			s := open(t, filepath.Join(t.TempDir(), "pool.db"), sqlitestore.Options{Synchronous: c.synchronous})
			defer s.Close()
			const tasks = 5
			for i := range tasks {
				id := claudepool.TaskID(fmt.Sprint("task-", i))
				if _, _, err := s.CreateTask(t.Context(), claudepool.TaskRecord{ID: id, Task: claudepool.Task{Prompt: "p"}, Submitted: time.Now()}); err != nil {
					t.Fatal(err)
				}
				r, err := s.Claim(t.Context(), claudepool.ClaimRequest{Holder: "h", SlotID: "slot-0", Now: time.Now(), Lease: time.Minute})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := s.PutSlot(t.Context(), claudepool.SlotRecord{Instance: "h", ID: string(id)}); err != nil {
					t.Fatal(err)
				}
				if err := s.Sync(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := s.Sync(t.Context()); err != nil { // nothing is new
					t.Fatal(err)
				}
				if err := s.Extend(t.Context(), claudepool.ClaimRef{Task: id, Fence: r.Fence}, time.Now().Add(time.Minute), 1); err != nil {
					t.Fatal(err)
				}
			}
			waits, synchronous, err := sqlitestore.Waits(s)
			if err != nil || waits != c.waits*tasks || synchronous != 1 {
				t.Errorf("%d tasks, each stored, claimed and made sure of, waited %d times for the disk, want %d; SQLite waits as %d, want 1 (%v)",
					tasks, waits, c.waits*tasks, synchronous, err)
			}
		})
	}
}
