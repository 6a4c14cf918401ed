package sqlitestore_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/sqlitestore"
)

// filled returns a file that has pages of every kind: inner ones and leaves of
// tables and of indexes, long texts, and free ones.
func filled(t *testing.T) []byte {
	t.Helper()
	s := openNew(t, keepAll)
	u := user{s, t, noon}
	for i := range 60 {
		u.create(fmt.Sprintf("task-%04d", i), func(r *claudepool.TaskRecord) {
			r.Task.Tags = []string{"a", fmt.Sprint("tag-", i%7)}
			r.Task.IdempotencyKey = fmt.Sprint(i)
			if i%20 == 0 {
				r.Task.Prompt = string(slices.Repeat([]byte("long "), 3000))
			}
		})
		if i%3 > 0 {
			u.end(u.claim(), claudepool.OutcomeOK, 1)
		}
	}
	closeStore(t, s)
	db := raw(t, s.Path())
	run(t, db, "DELETE FROM changes")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// use does all that a pool does at its start and a little work, and returns what
// is wrong. It is not to panic or hang, whatever the file.
func use(t *testing.T, path string) (listed int, err error) {
	t.Helper()
	s, err := sqlitestore.Open(t.Context(), path, keepAll)
	if err != nil {
		return 0, err
	}
	ids, listErr := list(t.Context(), s, claudepool.TaskFilter{})
	errs := []error{listErr}
	for _, id := range ids {
		_, err := s.Task(t.Context(), id)
		_, err2 := s.Attempts(t.Context(), id)
		errs = append(errs, err, err2)
	}
	_, err = s.Count(t.Context())
	errs = append(errs, err)
	_, err = s.Ledger(t.Context(), claudepool.LedgerQuery{Since: noon})
	errs = append(errs, err)
	_, _, err = s.CreateTask(t.Context(), claudepool.TaskRecord{ID: "new", Task: claudepool.Task{Prompt: "p", Owner: "go", Tags: []string{"a"}}, Submitted: noon})
	errs = append(errs, err)
	r, err := s.Claim(t.Context(), claudepool.ClaimRequest{Holder: "p", Now: noon, Lease: 1, TagLimits: map[string]int{"a": 5}})
	if err == nil {
		_, err = s.Transition(t.Context(), claudepool.Transition{Task: r.ID, From: r.State, Fence: r.Fence, To: claudepool.StateCompleted, At: noon, Attempt: &claudepool.Attempt{Cost: 1}})
	}
	errs = append(errs, err, s.Close())
	if listErr != nil {
		return -1, errors.Join(errs...)
	}
	return len(ids), errors.Join(errs...)
}

// What is wrong with a file is said clearly. A listing that has no error has all
// tasks that SQLite can read.
func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	sound := filled(t)
	const page = 4096
	dir := t.TempDir()
	n := 0
	check := func(what string, content []byte) (err error) {
		t.Helper()
		n++
		path := filepath.Join(dir, fmt.Sprint(n))
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		readable, broken := countRows(t, path)
		listed, err := use(t, path)
		known := false
		for _, want := range []error{
			sqlitestore.ErrCorrupt, sqlitestore.ErrNotAStore, sqlitestore.ErrNewer,
			claudepool.ErrUnknownTask, claudepool.ErrNotRunnable, claudepool.ErrDuplicate, claudepool.ErrConflict, claudepool.ErrFenced, // of an index that has lost its way
		} {
			known = known || errors.Is(err, want)
		}
		if err != nil && !known {
			t.Errorf("%s: error %v", what, err)
		}
		if err == nil && broken != nil {
			t.Errorf("%s: SQLite says %v, the store nothing", what, broken)
		}
		if listed >= 0 && err == nil && listed < readable {
			t.Errorf("%s: %d tasks are listed without an error, SQLite can read %d", what, listed, readable)
		}
		return err
	}
	if err := check("sound", sound); err != nil {
		t.Fatal(err)
	}
	wrong := 0
	for size := page; size < len(sound); size += len(sound) / 12 / 512 * 512 {
		if check(fmt.Sprintf("%d of %d bytes", size, len(sound)), sound[:size]) != nil {
			wrong++
		}
	}
	for at := 0; at+page <= len(sound); at += page {
		zeroed := slices.Clone(sound)
		clear(zeroed[at : at+page])
		if check(fmt.Sprintf("page %d zeroed", at/page), zeroed) != nil {
			wrong++
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for at := 0; at+page <= len(sound); at += page {
		flipped := slices.Clone(sound)
		flipped[at+random.IntN(12)] ^= 1 << random.IntN(8) // the head of the page
		flipped[at+random.IntN(page)] ^= 1 << random.IntN(8)
		if check(fmt.Sprintf("page %d flipped", at/page), flipped) != nil {
			wrong++
		}
	}
	if wrong < n/4 {
		t.Errorf("of %d damaged files %d were found out", n, wrong)
	}
	t.Logf("of %d damaged files %d were found out", n, wrong)
}

// countRows reads all tasks as SQLite does.
func countRows(t *testing.T, path string) (int, error) {
	t.Helper()
	db := raw(t, path)
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), "SELECT t.id, q.request FROM tasks t JOIN requests q ON q.task = t.seq ORDER BY t.id DESC")
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		n++
	}
	return n, rows.Err()
}
