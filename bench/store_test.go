package bench_test

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/sqlitestore"
)

// rows bounds the sizes of stores: a million rows take half a minute to make,
// and a gigabyte of disk.
var rows = flag.Int("rows", 1000, "the largest number of tasks in the benchmarks of stores")

// sizes returns those of the sizes that the flag allows.
func sizes(all ...int) []int {
	return slices.DeleteFunc(all, func(n int) bool { return n > *rows })
}

// storeKind is a store that is compared. What is not in memory is in a file,
// with this setting.
type storeKind string

const (
	inMemory storeKind = "memory"
	normal   storeKind = "normal"
	full     storeKind = "full"
)

// open opens the store in a file, or makes it. The caller closes it.
func (k storeKind) open(tb testing.TB, path string) claudepool.PoolStore {
	tb.Helper()
	if k == inMemory {
		return claudepool.NewMemoryStore()
	}
	s, err := sqlitestore.Open(tb.Context(), path, sqlitestore.Options{Synchronous: sqlitestore.Synchronous(k)})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// temporary opens a new store, which is closed when the test ends.
func (k storeKind) temporary(tb testing.TB) claudepool.PoolStore {
	s := k.open(tb, filepath.Join(tb.TempDir(), "pool.db"))
	tb.Cleanup(func() { closeStore(tb, s) })
	return s
}

func closeStore(tb testing.TB, s claudepool.PoolStore) {
	tb.Helper()
	if err := s.Close(); err != nil {
		tb.Errorf("closing the store: %v", err)
	}
}

// taskID names task i of those that have the same first part. As with a pool's
// own, a later one is larger.
func taskID(first string, i int) claudepool.TaskID {
	return claudepool.TaskID(fmt.Sprintf("task_%s_%09d", first, i))
}

// create stores a pending task.
func create(tb testing.TB, s claudepool.PoolStore, id claudepool.TaskID) {
	tb.Helper()
	_, created, err := s.CreateTask(tb.Context(), claudepool.TaskRecord{
		ID: id, Task: claudepool.Task{Prompt: prompt(0), Owner: "go"}, LaunchKey: "key", Lane: string(id), Submitted: time.Now(),
	})
	if err != nil || !created {
		tb.Fatalf("CreateTask(%s): created %v, %v", id, created, err)
	}
}

// claim takes the best task.
func claim(tb testing.TB, s claudepool.PoolStore) claudepool.TaskRecord {
	tb.Helper()
	r, err := s.Claim(tb.Context(), claudepool.ClaimRequest{
		Holder: "pool", SlotID: "slot-0", Now: time.Now(), Lease: 30 * time.Second, Prefers: "key",
	})
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// giveBack ends a claim unused.
func giveBack(tb testing.TB, s claudepool.PoolStore, r claudepool.TaskRecord) {
	tb.Helper()
	if _, err := s.Transition(tb.Context(), claudepool.Transition{
		Task: r.ID, From: claudepool.StateRunning, Fence: r.Fence, To: claudepool.StatePending, At: time.Now(),
	}); err != nil {
		tb.Fatal(err)
	}
}

// finish ends a claim as a pool does when the agent has answered.
func finish(tb testing.TB, s claudepool.PoolStore, r claudepool.TaskRecord) {
	tb.Helper()
	now := time.Now()
	if _, err := s.Transition(tb.Context(), claudepool.Transition{
		Task: r.ID, From: claudepool.StateRunning, Fence: r.Fence, To: claudepool.StateCompleted, At: now, Outcome: claudepool.OutcomeOK,
		Attempt: &claudepool.Attempt{SlotID: "slot-0", SessionID: "session", Started: r.Started, Ended: now, Outcome: claudepool.OutcomeOK, Cost: 1},
		Result:  &claudepool.TaskResult{Output: prompt(0), Turns: 1, SlotID: "slot-0", SessionID: "session", Model: "model"},
	}); err != nil {
		tb.Fatal(err)
	}
}

// storeWith makes a file with that many pending and finished tasks, and
// returns its path. One of each is made by the store, the others are copies of
// its rows: a million by the store would take minutes.
func storeWith(tb testing.TB, pending, finished int) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "pool.db")
	s := normal.open(tb, path)
	if finished > 0 {
		create(tb, s, taskID("finished", 0))
		finish(tb, s, claim(tb, s))
	}
	if pending > 0 {
		create(tb, s, taskID("pending", 0))
	}
	closeStore(tb, s) // it takes itself for the only one that writes
	copies(tb, path, "finished", finished)
	copies(tb, path, "pending", pending)
	s = normal.open(tb, path)
	defer closeStore(tb, s)
	counts, err := s.Count(tb.Context())
	if err != nil || counts[claudepool.StatePending] != pending || counts[claudepool.StateCompleted] != finished {
		tb.Fatalf("the store counts %v (%v), want %d pending and %d completed tasks", counts, err, pending, finished)
	}
	return path
}

// copies copies the rows of a task in the file of a store until there are n
// such tasks. The copies differ in nothing but the id.
func copies(tb testing.TB, path, first string, n int) {
	tb.Helper()
	if n < 2 {
		return
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_pragma=busy_timeout(10000)")
	if err != nil {
		tb.Fatal(err)
	}
	defer db.Close()
	tx, err := db.BeginTx(tb.Context(), nil)
	if err == nil {
		err = copyTask(tb.Context(), tx, first, n)
	}
	if err == nil {
		err = tx.Commit()
	}
	if err != nil {
		tb.Fatalf("copying a task: %v", err)
	}
}

// copyTask copies what each table has of a task.
func copyTask(ctx context.Context, tx *sql.Tx, first string, n int) error {
	id := taskID(first, 0)
	var seq, last int
	if err := tx.QueryRowContext(ctx, "SELECT seq, (SELECT max(seq) FROM tasks) FROM tasks WHERE id = ?", string(id)).Scan(&seq, &last); err != nil {
		return err
	}
	for _, table := range []string{"tasks", "requests", "results", "claims", "ledger"} {
		columns, values, err := copiedColumns(ctx, tx, table, last-seq)
		if err != nil {
			return err
		}
		key := map[string]any{"tasks": string(id), "ledger": string(id)}[table]
		where := "id = ?"
		if table != "tasks" {
			where = "task = ?"
		}
		if key == nil {
			key = seq
		}
		q := fmt.Sprintf(`WITH RECURSIVE copies (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM copies WHERE i < %d)
			INSERT INTO %s (%s) SELECT %s FROM copies, %s WHERE %s ORDER BY i`, n-1, table, columns, values, table, where)
		if _, err := tx.ExecContext(ctx, q, string(id), string(id)[:len(id)-9], key); err != nil {
			return fmt.Errorf("%w in %s", err, q)
		}
	}
	return nil
}

// copiedColumns lists the columns of a table, and what they are in a copy: where
// there is the id in a text, another one. ?1 is the id, ?2 its first part.
func copiedColumns(ctx context.Context, tx *sql.Tx, table string, offset int) (columns, values string, err error) {
	rows, err := tx.QueryContext(ctx, "SELECT name, type FROM pragma_table_info(?)", table)
	if err != nil {
		return "", "", err
	}
	defer rows.Close()
	var names, copied []string
	for rows.Next() {
		var name, kind string
		if err := rows.Scan(&name, &kind); err != nil {
			return "", "", err
		}
		switch {
		case table == "ledger" && name == "seq":
			continue // numbers itself
		case name == "seq" || name == "task" && kind == "INTEGER":
			copied = append(copied, fmt.Sprintf("%s + %d + i", name, offset))
		case kind == "TEXT":
			copied = append(copied, fmt.Sprintf("replace(%s, ?1, ?2 || printf('%%09d', i))", name))
		default:
			copied = append(copied, name)
		}
		names = append(names, name)
	}
	return strings.Join(names, ", "), strings.Join(copied, ", "), rows.Err()
}

// TestCopiesAreLikeTheOriginal reads copied tasks through the store.
func TestCopiesAreLikeTheOriginal(t *testing.T) {
	s := normal.open(t, storeWith(t, 5, 7))
	defer closeStore(t, s)
	for first, n := range map[string]int{"pending": 5, "finished": 7} {
		want, err := s.Task(t.Context(), taskID(first, 0))
		if err != nil {
			t.Fatal(err)
		}
		tried, err := s.Attempts(t.Context(), want.ID)
		if err != nil {
			t.Fatal(err)
		}
		for i := 1; i < n; i++ {
			id := taskID(first, i)
			got, err := s.Task(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			want := want
			want.ID, want.Lane = id, string(id)
			if want.Result != nil {
				want.Result = new(*want.Result)
				want.Result.TaskID = id
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("copy %d of a %s task (-want +got):\n%s", i, first, diff)
			}
			attempts, err := s.Attempts(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			wantAttempts := slices.Clone(tried)
			for i := range wantAttempts {
				wantAttempts[i].TaskID = id
			}
			if diff := cmp.Diff(wantAttempts, attempts); diff != "" {
				t.Errorf("attempts of copy %d of a %s task (-want +got):\n%s", i, first, diff)
			}
		}
	}
	l, err := s.Ledger(t.Context(), claudepool.LedgerQuery{})
	if want := (claudepool.Ledger{Spent: 7, Attempts: 7}); err != nil || l != want {
		t.Errorf("Ledger = %+v, %v, want %+v", l, err, want)
	}
	for i := range 5 { // they stand in the queue, in order
		if got, want := claim(t, s).ID, taskID("pending", i); got != want {
			t.Fatalf("claim %d got %s, want %s", i, got, want)
		}
	}
	_, err = s.Claim(t.Context(), claudepool.ClaimRequest{Holder: "pool", Now: time.Now(), Lease: time.Second})
	if !errors.Is(err, claudepool.ErrNotRunnable) {
		t.Errorf("a sixth claim: %v, want %v", err, claudepool.ErrNotRunnable)
	}
}
