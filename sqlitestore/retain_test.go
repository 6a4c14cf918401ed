package sqlitestore_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/sqlitestore"
)

// keepAll leaves what is stored alone.
var keepAll = sqlitestore.Options{Synchronous: sqlitestore.Normal, Retain: claudepool.Retention{Count: -1, Age: -1}}

// prune opens the file with that retention, lets it be applied at that time,
// and returns the store.
func prune(t *testing.T, path string, keep claudepool.Retention, now time.Time) user {
	t.Helper()
	s := open(t, path, sqlitestore.Options{Synchronous: sqlitestore.Normal, Retain: keep})
	t.Cleanup(func() { s.Close() })
	for range 20 { // a little is dropped after each
		_, err := s.Claim(t.Context(), claudepool.ClaimRequest{Holder: "nobody", Now: now, Lease: time.Minute, TagLimits: map[string]int{"held": 0}})
		if !errors.Is(err, claudepool.ErrNotRunnable) {
			t.Fatalf("claim: %v", err)
		}
	}
	return user{s, t, now}
}

func TestRetainCount(t *testing.T) {
	t.Parallel()
	s := openNew(t, keepAll)
	u := user{s, t, noon}
	const all, kept = 700, 30
	var want []claudepool.TaskID
	for i := range all {
		r := u.create(fmt.Sprintf("task-%04d", i), func(r *claudepool.TaskRecord) {
			r.Task.IdempotencyKey, r.Task.Tags = fmt.Sprint(i), []string{"a", "b"}
			r.Task.Allowance = &claudepool.Allowance{ID: fmt.Sprint("allowance-", i), Limit: 100}
		})
		u.after(time.Duration(i)*time.Second).end(u.claim(), claudepool.OutcomeOK, 3)
		if i >= all-kept {
			want = append(want, r.ID)
		}
	}
	slices.Reverse(want)
	waiting := u.create("waiting", func(r *claudepool.TaskRecord) { r.Task.Tags = []string{"held"} })
	closeStore(t, s)

	u = prune(t, s.Path(), claudepool.Retention{Count: kept, Age: -1}, noon.Add(time.Hour))
	if diff := cmp.Diff(append([]claudepool.TaskID{waiting.ID}, want...), u.ids(claudepool.TaskFilter{})); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	if _, err := u.Attempts(t.Context(), "task-0000"); !errors.Is(err, claudepool.ErrUnknownTask) {
		t.Errorf("a dropped task: error %v, want ErrUnknownTask", err)
	}
	l, err := u.Ledger(t.Context(), claudepool.LedgerQuery{})
	if err != nil || l.Spent != 3*all || l.Attempts != all {
		t.Errorf("ledger %+v, error %v", l, err)
	}
	u.create("task-0000", func(r *claudepool.TaskRecord) {
		r.Task.IdempotencyKey, r.Task.Tags = "0", []string{"held"} // id and key are free again
	})
	counts, err := u.Count(t.Context())
	if err != nil || counts[claudepool.StateCompleted] != kept || counts[claudepool.StatePending] != 2 {
		t.Errorf("counted %v, error %v", counts, err)
	}
	// Nothing is left of them anywhere.
	db := raw(t, s.Path())
	for table_, n := range map[string]int{"tasks": kept + 2, "requests": kept + 2, "results": kept, "claims": kept, "tags": 2*kept + 2, "allowances": kept} {
		if got := table(t, db, "SELECT count(*) FROM "+table_); got[0] != strconv.Itoa(n) {
			t.Errorf("%s has %s rows, want %d", table_, got[0], n)
		}
	}
}

func TestRetainAge(t *testing.T) {
	t.Parallel()
	s := openNew(t, keepAll)
	for day := range 10 {
		u := user{s, t, noon.Add(time.Duration(day) * 24 * time.Hour)}
		u.create(fmt.Sprint("day-", day))
		u.end(u.claim(), claudepool.OutcomeAgentError, 1)
	}
	closeStore(t, s)
	u := prune(t, s.Path(), claudepool.Retention{Count: -1, Age: 3*24*time.Hour + time.Hour}, noon.Add(9*24*time.Hour))
	if diff := cmp.Diff([]claudepool.TaskID{"day-9", "day-8", "day-7", "day-6"}, u.ids(claudepool.TaskFilter{})); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	// A pool that runs on drops more as time goes by.
	if _, err := u.Claim(t.Context(), claudepool.ClaimRequest{Holder: "p", Now: u.now.Add(48 * time.Hour)}); !errors.Is(err, claudepool.ErrNotRunnable) {
		t.Fatal(err)
	}
	if err := u.SetContext(t.Context(), "k", "v"); err != nil { // comes after the look
		t.Fatal(err)
	}
	if diff := cmp.Diff([]claudepool.TaskID{"day-9", "day-8"}, u.ids(claudepool.TaskFilter{})); diff != "" {
		t.Errorf("kept two days later (-want +got):\n%s", diff)
	}
}

// What is still needed stays, whatever its age.
func TestRetainKeeps(t *testing.T) {
	t.Parallel()
	s := openNew(t, keepAll)
	u := user{s, t, noon}
	u.create("a-alone")
	u.end(u.claim(), claudepool.OutcomeOK, 1)
	u.create("b-cancelled")
	held := u.claim()
	cancelled := u.end(held, claudepool.OutcomeCancelled, 0, func(tr *claudepool.Transition) { tr.Attempt = nil })
	u.create("c-review")
	u.end(u.claim(), claudepool.OutcomeOK, 1, func(tr *claudepool.Transition) { tr.To = claudepool.StatePendingReview })
	for _, id := range []string{"live", "over"} {
		u.create(id, func(r *claudepool.TaskRecord) {
			r.Chain = &claudepool.Chain{Steps: []claudepool.ChainStep{{Name: "one", Action: claudepool.StepAction{Prompt: "p"}}}}
		})
		chain := u.claim(chains)
		u.create(id+".one", func(r *claudepool.TaskRecord) { r.Task.Parent = claudepool.TaskID(id) })
		u.end(u.claim(), claudepool.OutcomeOK, 1)
		if id == "over" {
			u.end(chain, claudepool.OutcomeOK, 0)
		}
	}
	closeStore(t, s)
	later := noon.Add(1000 * time.Hour)
	u = prune(t, s.Path(), claudepool.Retention{Count: 1, Age: time.Hour}, later)
	if diff := cmp.Diff([]claudepool.TaskID{"live.one", "live", "c-review", "b-cancelled"}, u.ids(claudepool.TaskFilter{})); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	// What the holder of the cancelled one has to say is heard, and then it goes.
	_, err := u.Transition(t.Context(), claudepool.Transition{
		Task: cancelled.ID, From: claudepool.StateCancelled, Fence: held.Fence, To: claudepool.StateCancelled, At: later,
		Attempt: &claudepool.Attempt{Cost: 5},
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := u.Ledger(t.Context(), claudepool.LedgerQuery{})
	if err != nil || l.Spent != 9 {
		t.Errorf("ledger %+v, error %v, want 9 spent", l, err)
	}
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	u = prune(t, s.Path(), claudepool.Retention{Count: 1, Age: time.Hour}, later)
	if diff := cmp.Diff([]claudepool.TaskID{"live.one", "live", "c-review"}, u.ids(claudepool.TaskFilter{})); diff != "" {
		t.Errorf("kept at last (-want +got):\n%s", diff)
	}
}

// Old entries of the ledger are merged, and every sum stays as it was, also one
// that was read before and is read on.
func TestLedgerIsMerged(t *testing.T) {
	t.Parallel()
	s := openNew(t, sqlitestore.Options{Peer: true, Synchronous: sqlitestore.Normal})
	day := time.Date(2026, time.March, 4, 0, 0, 0, 0, time.UTC)
	sums := func(s claudepool.PoolStore) (all []claudepool.Ledger) {
		t.Helper()
		for _, since := range []time.Time{{}, day, day.Add(24 * time.Hour), day.Add(48 * time.Hour), day.Add(7 * 24 * time.Hour)} {
			l, err := s.Ledger(t.Context(), claudepool.LedgerQuery{Since: since})
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, l)
		}
		return all
	}
	charge := func(at time.Time, cost claudepool.Microdollars) {
		t.Helper()
		if err := s.Charge(t.Context(), at, cost, "test"); err != nil {
			t.Fatal(err)
		}
	}
	for minute := range 3 * 24 * 4 {
		charge(day.Add(time.Duration(minute)*15*time.Minute), claudepool.Microdollars(1+minute))
	}
	charge(time.Date(1960, 1, 1, 0, 0, 0, 0, time.UTC), 7)
	charge(time.Time{}, 5)
	charge(time.Time{}, 4)
	sums(s)
	charge(day.Add(26*time.Hour+time.Minute), 1000) // after sums were read, and to be merged with what is in them
	fresh := open(t, s.Path(), sqlitestore.Options{Peer: true, Synchronous: sqlitestore.Normal})
	want := sums(fresh)
	closeStore(t, fresh)
	db := raw(t, s.Path())
	if got := table(t, db, "SELECT count(*) FROM ledger"); got[0] != "292" {
		t.Fatalf("%s entries, want 292", got[0])
	}
	// A peer merges.
	peer := open(t, s.Path(), sqlitestore.Options{Peer: true, Synchronous: sqlitestore.Normal})
	defer peer.Close()
	for range 3 {
		if _, err := peer.Claim(t.Context(), claudepool.ClaimRequest{Holder: "p", Now: day.Add(30 * 24 * time.Hour)}); !errors.Is(err, claudepool.ErrNotRunnable) {
			t.Fatal(err)
		}
	}
	if got := table(t, db, "SELECT count(*) FROM ledger"); got[0] != "75" { // 72 hours, and three before there were any
		t.Errorf("%s entries are left, want 75", got[0])
	}
	for name, s := range map[string]claudepool.PoolStore{"one that knows the sums of before": s, "the one that has merged": peer} {
		if diff := cmp.Diff(want, sums(s)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// A watcher learns of what other programs do, and that it has lost something when
// they forget that sooner than it looks.
func TestWatcherOfAPeer(t *testing.T) {
	t.Parallel()
	s := openNew(t, sqlitestore.Options{Peer: true, Synchronous: sqlitestore.Normal})
	changes, err := s.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	db := raw(t, s.Path())
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, query := range []string{
		`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10500)
			INSERT INTO changes (task, state, outcome, slot, is_chain) SELECT 'task-' || i, 'pending', '', '', 0 FROM n`,
		"DELETE FROM changes WHERE seq < (SELECT max(seq) FROM changes)",
	} {
		if _, err := tx.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if c := <-changes; !c.Lost {
		t.Errorf("first it is told of %+v, want a loss", c)
	}
	if c := <-changes; c.TaskID != "task-10500" {
		t.Errorf("then it is told of %+v", c)
	}
}

func TestChangesAreForgotten(t *testing.T) {
	t.Parallel()
	s := openNew(t, keepAll)
	closeStore(t, s)
	db := raw(t, s.Path())
	run(t, db, `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10500)
		INSERT INTO changes (task, state, outcome, slot, is_chain) SELECT 'task-' || i, 'pending', '', '', 0 FROM n`)
	prune(t, s.Path(), claudepool.Retention{}, noon)
	if got := table(t, db, "SELECT count(*), max(seq) FROM changes"); got[0] != "10000|10500" {
		t.Errorf("count and last of the changes: %s", got[0])
	}
}
