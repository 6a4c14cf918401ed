package sqlitestore

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/claudepool/claudepool"
)

// statements returns all that the writer has prepared while a store was used in
// every way that it often is, and the queries of listings.
func statements(t *testing.T, s *Store) []string {
	t.Helper()
	ctx := t.Context()
	now := time.Date(2026, time.March, 4, 12, 0, 0, 0, time.UTC)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 6 {
		r := claudepool.TaskRecord{ID: claudepool.TaskID(fmt.Sprint("a-", i)), LaunchKey: fmt.Sprint(i % 2), Lane: fmt.Sprint("lane-", i%3), Submitted: now}
		r.Task = claudepool.Task{Prompt: "p", Owner: "go", Tags: []string{"tag"}, IdempotencyKey: fmt.Sprint(i), Allowance: &claudepool.Allowance{ID: "x", Limit: 1 << 40}}
		if i == 5 {
			r.NotBefore = now.Add(time.Minute)
		}
		_, _, err := s.CreateTask(ctx, r)
		must(err)
	}
	for i := range 5 {
		r, err := s.Claim(ctx, claudepool.ClaimRequest{
			Holder: "p", Now: now.Add(time.Duration(i) * time.Minute), Lease: time.Minute, Prefers: "1",
			TagLimits: map[string]int{"tag": 10}, Budget: claudepool.BudgetTerms{Limit: 1 << 40, Since: now.Add(-time.Hour), Share: 2},
		})
		must(err)
		must(s.Extend(ctx, claudepool.ClaimRef{Task: r.ID, Fence: r.Fence}, now.Add(time.Hour), 1))
		to := []claudepool.TaskState{claudepool.StateCompleted, claudepool.StatePending, claudepool.StateCancelled}[i%3]
		_, err = s.Transition(ctx, claudepool.Transition{
			Task: r.ID, From: r.State, Fence: r.Fence, To: to, At: now,
			Attempt: &claudepool.Attempt{Cost: 1}, Result: &claudepool.TaskResult{Output: "o"},
		})
		must(err)
	}
	_, err := s.Ledger(ctx, claudepool.LedgerQuery{})
	must(err)
	must(s.SetContext(ctx, "k", "v"))
	must(s.SendMessage(ctx, claudepool.Message{ID: "m", To: "x", Sent: now}))
	_, err = s.TakeMessages(ctx, "x", nil)
	must(err)

	var all []string
	done := make(chan struct{})
	must(s.await(s.steps, &step{ctx: context.Background(), durable: true, run: func(x *tx) error {
		defer close(done)
		if _, err := s.pruneSome(x); err != nil {
			return err
		}
		all = slices.Sorted(maps.Keys(x.stmts))
		return nil
	}}))
	<-done
	live := []claudepool.TaskState{claudepool.StatePending, claudepool.StateRunning}
	for _, f := range []claudepool.TaskFilter{
		{Limit: 50},
		{Limit: 50, Before: "x"},
		{Limit: 50, Owner: "go", Before: "x"},
		{Owner: "go", IdempotencyKey: "1"},
		{Owner: "go", IdempotencyKey: "1", States: live, Tag: "tag", Before: "x", Limit: 1},
		{States: live},
		{States: live[:1], Limit: 50, Before: "x"},
		{Tag: "tag", Limit: 50},
		{Tag: "tag", Limit: 50, Before: "x"},
		{Tag: "tag", States: live},
		{LeaseBefore: now},
		{States: live[1:], LeaseBefore: now},
		{States: []claudepool.TaskState{claudepool.StateFailed}, Limit: 50},
	} {
		query, _ := filtered(f)
		all = append(all, query)
	}
	return append(all, selectTask, "SELECT state, tasks FROM counts")
}

// However many tasks, claims or entries there are, nothing that is done often
// looks at all of them.
func TestQueryPlans(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "pool.db"), Options{
		Synchronous: Normal, Retain: claudepool.Retention{Count: 1, Age: time.Hour},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	all := statements(t, s)
	db := s.lists
	// A scan of an index that holds only those that wait, run or are open, or in
	// the order that is asked for, is none.
	scan := regexp.MustCompile(`^SCAN (\w+)(?: USING (?:COVERING )?INDEX (\w+))?`)
	names := map[string]bool{"t": true, "tasks": true, "c": true, "claims": true, "ledger": true, "q": true, "r": true, "requests": true, "results": true, "tags": true, "g": true, "changes": true}
	bounded := map[string]bool{
		"tasks_line": true, "tasks_time": true, "tasks_held": true, "tasks_claimed": true, "tasks_live": true, "claims_open": true,
		"tasks_ended": true, // in the order in which they are dropped, as far as needed
	}
	looked := 0
	for _, query := range all {
		if regexp.MustCompile(`^(BEGIN|COMMIT|ROLLBACK|PRAGMA|SAVEPOINT|RELEASE)`).MatchString(query) {
			continue
		}
		args := make([]any, parameters(query))
		for i := range args {
			args[i] = 0
		}
		rows, err := db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		var plan []string
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, detail)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		looked++
		if strings.Contains(query, "seq > ?1 AND at") && !slices.Contains(plan, "SEARCH ledger USING INTEGER PRIMARY KEY (rowid>?)") {
			t.Errorf("%s\nreads what it has read before: %s", query, strings.Join(plan, "\n"))
		}
		for _, detail := range plan {
			m := scan.FindStringSubmatch(detail)
			newest := m != nil && m[2] == "sqlite_autoindex_tasks_1" && strings.Contains(query, "ORDER BY t.id DESC") && strings.Contains(query, "LIMIT")
			if strings.Contains(query, "g.tag = ? ORDER") && strings.Contains(detail, "TEMP B-TREE") {
				t.Errorf("%s\nsorts all tasks with the tag: %s", query, strings.Join(plan, "\n"))
			}
			if m != nil && names[m[1]] && !bounded[m[2]] && !newest {
				t.Errorf("%s\nlooks at all rows: %s", query, strings.Join(plan, "\n"))
			}
		}
	}
	if looked < 30 {
		t.Errorf("looked at %d statements only", looked)
	}
}

// parameters is how many values a statement takes.
func parameters(query string) int {
	n := 0
	for _, m := range regexp.MustCompile(`\?(\d*)`).FindAllStringSubmatch(query, -1) {
		if m[1] == "" {
			n++
			continue
		}
		var i int
		fmt.Sscan(m[1], &i)
		n = max(n, i)
	}
	return n
}
