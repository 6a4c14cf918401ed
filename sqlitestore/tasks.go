package sqlitestore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/claudepool/claudepool"
)

// CreateTask implements [claudepool.PoolStore].
func (s *Store) CreateTask(ctx context.Context, r claudepool.TaskRecord) (stored claudepool.TaskRecord, created bool, err error) {
	rec, err := r.Created()
	if err != nil {
		return claudepool.TaskRecord{}, false, err
	}
	asked, err := encode(request{rec.Task, rec.Chain})
	if err != nil {
		return claudepool.TaskRecord{}, false, &claudepool.InvalidError{Field: "task", Reason: "cannot be stored: " + err.Error()}
	}
	err = s.do(ctx, func(x *tx) error {
		stored, created = claudepool.TaskRecord{}, false
		old, err := x.sameKey(rec)
		switch {
		case err != nil:
			return err
		case old != nil && !old.SameRequest(rec):
			return fmt.Errorf("%w: %q of %q belongs to task %s", claudepool.ErrKeyReused, rec.Task.IdempotencyKey, rec.Task.Owner, old.ID)
		case old != nil:
			stored = *old
			return nil
		}
		stored, created = *rec, true
		return x.insert(rec, asked)
	})
	if err != nil {
		return claudepool.TaskRecord{}, false, err
	}
	return stored, created, nil
}

// sameKey returns the task that has the owner's idempotency key already, or nil.
func (x *tx) sameKey(r *claudepool.TaskRecord) (*claudepool.TaskRecord, error) {
	if r.Task.IdempotencyKey == "" {
		return nil, nil
	}
	var id claudepool.TaskID
	err := x.row("SELECT id FROM tasks WHERE owner = ? AND idempotency_key = ?", []any{r.Task.Owner, r.Task.IdempotencyKey}, &id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	t, err := x.task(id)
	if err != nil {
		return nil, err
	}
	return &t.rec, nil
}

// insert stores a new task, and lets it wait.
func (x *tx) insert(r *claudepool.TaskRecord, asked string) error {
	t := &taskRow{rec: *r}
	if err := x.enqueue(t); err != nil {
		return err
	}
	if a := r.Task.Allowance; a != nil {
		if _, err := x.change(`INSERT INTO allowances (id, allowance) VALUES (?, ?)
			ON CONFLICT (id) DO UPDATE SET allowance = min(allowance, excluded.allowance)`, a.ID, int64(a.Limit)); err != nil {
			return err
		}
	}
	st, err := x.statement(`INSERT INTO tasks (id, state, version, is_chain, chain, owner, idempotency_key, priority, tags, allowance, launch_key, lane,
		submitted, not_before, resume_session, place, line)
		VALUES (?, ?, ?, ?, (SELECT id FROM tasks WHERE id = ? AND is_chain), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	if err != nil {
		return err
	}
	tags, tagList := uniqueTags(r), any(nil)
	if len(tags) > 0 {
		if tagList, err = encode(tags); err != nil {
			return err
		}
	}
	x.writes++
	res, err := st.ExecContext(background, string(r.ID), string(r.State), r.Version, r.Chain != nil, chainOf(r), r.Task.Owner, nullable(r.Task.IdempotencyKey),
		r.Task.Priority, tagList, nullable(allowanceID(r)), r.LaunchKey, r.Lane,
		nanos(r.Submitted), nanos(r.NotBefore), r.ResumeSession, t.place, t.line)
	if constraint(err) {
		return fmt.Errorf("task %s: %w", r.ID, claudepool.ErrDuplicate)
	}
	if err != nil {
		return err
	}
	seq, err := res.LastInsertId()
	if err != nil {
		return err
	}
	if _, err := x.change("INSERT INTO requests (task, request) VALUES (?, ?)", seq, asked); err != nil {
		return err
	}
	for _, tag := range tags {
		if _, err := x.change("INSERT INTO tags (tag, task) VALUES (?, ?)", tag, string(r.ID)); err != nil {
			return err
		}
	}
	return nil
}

// chainOf is the id of the chain whose step the task may be, or nil.
func chainOf(r *claudepool.TaskRecord) any {
	chain, _, step := strings.Cut(string(r.ID), ".")
	if !step || chain != string(r.Task.Parent) {
		return nil
	}
	return chain
}

func allowanceID(r *claudepool.TaskRecord) string {
	if r.Task.Allowance == nil {
		return ""
	}
	return r.Task.Allowance.ID
}

// uniqueTags are the tags of a task, each once, in order.
func uniqueTags(r *claudepool.TaskRecord) []string {
	return slices.Compact(slices.Sorted(slices.Values(r.Task.Tags)))
}

// Task implements [claudepool.PoolStore].
func (s *Store) Task(ctx context.Context, id claudepool.TaskID) (claudepool.TaskRecord, error) {
	t, err := s.readTask(ctx, id)
	if err != nil {
		return claudepool.TaskRecord{}, s.failedRead(err)
	}
	return t.rec, nil
}

// Tasks implements [claudepool.PoolStore]. While the loop runs it has a
// connection, and sees the file as it was.
func (s *Store) Tasks(ctx context.Context, f claudepool.TaskFilter) iter.Seq2[claudepool.TaskRecord, error] {
	return func(yield func(claudepool.TaskRecord, error) bool) {
		if err := s.list(ctx, f, yield); err != nil {
			yield(claudepool.TaskRecord{}, s.failedRead(err))
		}
	}
}

// list calls yield for each task that f selects, until it returns false.
func (s *Store) list(ctx context.Context, f claudepool.TaskFilter, yield func(claudepool.TaskRecord, error) bool) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	query, args := filtered(f)
	rows, err := s.lists.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		t, err := scanTask(rows)
		if err != nil {
			return err
		}
		if !yield(t.rec, nil) {
			return nil
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
	}
	return rows.Err()
}

// filtered returns the query for a filter.
func filtered(f claudepool.TaskFilter) (query string, args []any) {
	index := ""
	var where []string
	add := func(condition string, values ...any) {
		where = append(where, condition)
		args = append(args, values...)
	}
	if f.Tag != "" {
		add("g.tag = ?", f.Tag)
	}
	if len(f.States) > 0 {
		var marks []string
		for _, state := range f.States {
			marks = append(marks, "?")
			args = append(args, string(state))
		}
		where = append(where, "t.state IN ("+strings.Join(marks, ", ")+")")
		if !slices.ContainsFunc(f.States, claudepool.TaskState.Terminal) {
			where = append(where, "t.state IN ('pending', 'running', 'pending_review')")
			index = "tasks_live"
		}
	}
	if f.SlotID != "" {
		add("t.slot = ?", f.SlotID)
	}
	if f.Owner != "" {
		add("t.owner = ?", f.Owner)
	}
	if !f.LeaseBefore.IsZero() {
		add("t.claim_fence IS NOT NULL AND t.claim_lease < ?", nanos(f.LeaseBefore))
		index = "tasks_claimed"
	}
	if f.IdempotencyKey != "" {
		add("t.idempotency_key = ?", f.IdempotencyKey)
		if f.Owner != "" {
			index = "tasks_key"
		}
	}
	from, id := "tasks t", "t.id"
	if index != "" {
		from += " INDEXED BY " + index // few of all tasks are in it
	}
	switch {
	case f.Tag == "":
	case index != "":
		from += " JOIN tags g ON g.task = t.id"
	default: // the order is that of the tags' entries, so that a page ends early
		from, id = "tags g CROSS JOIN tasks t ON t.id = g.task", "g.task"
	}
	if f.Before != "" {
		add(id+" < ?", string(f.Before))
	}
	query = "SELECT " + taskColumns + " FROM " + from + taskJoins
	if len(where) > 0 {
		query += " WHERE " + strings.Join(where, " AND ")
	}
	query += " ORDER BY " + id + " DESC"
	if f.Limit > 0 {
		query += " LIMIT ?"
		args = append(args, f.Limit)
	}
	return query, args
}

// Count implements [claudepool.PoolStore].
func (s *Store) Count(ctx context.Context) (map[claudepool.TaskState]int, error) {
	counts := map[claudepool.TaskState]int{}
	err := s.query(ctx, func(row scanner) error {
		var state claudepool.TaskState
		var n int
		err := row.Scan(&state, &n)
		counts[state] = n
		return err
	}, "SELECT state, tasks FROM counts")
	if err != nil {
		return nil, err
	}
	return counts, nil
}

// Attempts implements [claudepool.PoolStore].
func (s *Store) Attempts(ctx context.Context, id claudepool.TaskID) ([]claudepool.Attempt, error) {
	var attempts []claudepool.Attempt
	known := false
	err := s.query(ctx, func(row scanner) error {
		var text sql.RawBytes
		if err := row.Scan(&text); err != nil || text == nil {
			known = known || err == nil
			return err
		}
		known = true
		var a claudepool.Attempt
		if err := json.Unmarshal(text, &a); err != nil {
			return damaged("attempt", id, err)
		}
		attempts = append(attempts, a)
		return nil
	}, "SELECT c.attempt FROM tasks t LEFT JOIN claims c ON c.task = t.seq AND c.attempt IS NOT NULL WHERE t.id = ? ORDER BY c.fence", string(id))
	if err == nil && !known {
		err = unknownTask(id)
	}
	if err != nil {
		return nil, err
	}
	return attempts, nil
}

// query reads rows, outside of the writer.
func (s *Store) query(ctx context.Context, scan func(scanner) error, query string, args ...any) error {
	err := s.ready(ctx)
	if err == nil {
		err = eachRow(s.read.QueryContext(ctx, query, args...))(scan)
	}
	return s.failedRead(err)
}
