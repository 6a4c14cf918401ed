package sqlitestore_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/sqlitestore"
)

// quick does not wait for the disk, which few tests are about.
var quick = sqlitestore.Options{Synchronous: sqlitestore.Normal}

func newFile(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "pool.db")
}

func openNew(t *testing.T, o sqlitestore.Options) *sqlitestore.Store {
	t.Helper()
	s := open(t, newFile(t), o)
	t.Cleanup(func() { s.Close() }) // a test that closes it has looked at the error
	return s
}

func closeStore(t *testing.T, s *sqlitestore.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// raw opens the file as another program would.
func raw(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func run(t *testing.T, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// table returns what a query gives, one line a row.
func table(t *testing.T, db *sql.DB, query string, args ...any) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for rows.Next() {
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(any)
		}
		if err := rows.Scan(values...); err != nil {
			t.Fatal(err)
		}
		var cells []string
		for _, v := range values {
			cells = append(cells, fmt.Sprint(*v.(*any)))
		}
		lines = append(lines, strings.Join(cells, "|"))
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return lines
}

// user is a store and what tests do with it; all of it must work.
type user struct {
	claudepool.PoolStore
	t   *testing.T
	now time.Time
}

type edit = func(*claudepool.TaskRecord)

func (u user) create(id string, edits ...edit) claudepool.TaskRecord {
	u.t.Helper()
	r := claudepool.TaskRecord{ID: claudepool.TaskID(id), Task: claudepool.Task{Prompt: "do " + id, Owner: "go"}, Submitted: u.now}
	for _, e := range edits {
		e(&r)
	}
	r, created, err := u.CreateTask(u.t.Context(), r)
	if err != nil || !created {
		u.t.Fatalf("create %s: %v, %v", id, created, err)
	}
	return r
}

func (u user) claim(edits ...func(*claudepool.ClaimRequest)) claudepool.TaskRecord {
	u.t.Helper()
	c := claudepool.ClaimRequest{Holder: "pool-1", SlotID: "slot-0", Now: u.now, Lease: time.Minute}
	for _, e := range edits {
		e(&c)
	}
	r, err := u.Claim(u.t.Context(), c)
	if err != nil {
		u.t.Fatalf("claim: %v", err)
	}
	return r
}

func (u user) end(r claudepool.TaskRecord, o claudepool.Outcome, cost claudepool.Microdollars, edits ...func(*claudepool.Transition)) claudepool.TaskRecord {
	u.t.Helper()
	tr := claudepool.Transition{Task: r.ID, From: r.State, Fence: r.Fence, To: o.State(), At: u.now, Outcome: o}
	if r.Claim != nil {
		tr.Attempt = &claudepool.Attempt{Outcome: o, Cost: cost, SlotID: r.SlotID, Holder: r.Claim.Holder, Started: r.Started, Ended: u.now}
	}
	for _, e := range edits {
		e(&tr)
	}
	r, err := u.Transition(u.t.Context(), tr)
	if err != nil {
		u.t.Fatalf("end %s: %v", r.ID, err)
	}
	return r
}

func (u user) after(d time.Duration) user { u.now = u.now.Add(d); return u }

func (u user) ids(f claudepool.TaskFilter) []claudepool.TaskID {
	u.t.Helper()
	ids, err := list(u.t.Context(), u, f)
	if err != nil {
		u.t.Fatal(err)
	}
	return ids
}

func list(ctx context.Context, s claudepool.PoolStore, f claudepool.TaskFilter) (ids []claudepool.TaskID, err error) {
	for r, err := range s.Tasks(ctx, f) {
		if err != nil {
			return ids, err
		}
		ids = append(ids, r.ID)
	}
	return ids, nil
}

func chains(c *claudepool.ClaimRequest) { c.Chains = true }
