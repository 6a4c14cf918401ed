package sqlitestore

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/claudepool/claudepool"
)

// taskRow is a task as the database has it.
type taskRow struct {
	seq int64
	rec claudepool.TaskRecord
	// place and line say where a pending task waits.
	place sql.NullInt64
	line  sql.NullString
}

// taskColumns are what [scanTask] reads, of tasks t, requests q and results r.
const taskColumns = `t.seq, t.id, t.state, t.outcome, t.version, t.launch_key, t.lane,
	t.submitted, t.not_before, t.first_started, t.started, t.ended,
	t.fence, t.attempts, t.retries, t.crashes, t.rejections, t.feedback,
	t.cost, t.estimated, t.assumed, t.session, t.resume_session, t.slot,
	t.claim_fence, t.claim_holder, t.claim_slot, t.claim_session, t.claim_lease, t.claim_reserved, t.claim_last_cost, t.claim_asked,
	t.place, t.line, q.request, r.result`

const taskJoins = " JOIN requests q ON q.task = t.seq LEFT JOIN results r ON r.task = t.seq"

const selectTask = "SELECT " + taskColumns + " FROM tasks t" + taskJoins + " WHERE t.id = ?"

// request is what was asked for.
type request struct {
	Task  claudepool.Task   `json:"task"`
	Chain *claudepool.Chain `json:"chain,omitempty"`
}

// scanTask reads a row of [taskColumns].
func scanTask(row scanner) (*taskRow, error) {
	t := &taskRow{}
	r := &t.rec
	var (
		submitted, notBefore, first, started, ended, lease timestamp
		claim                                              struct {
			fence, reserved, lastCost sql.NullInt64
			holder, slot, session     sql.NullString
			asked                     sql.NullBool
		}
		asked, result sql.RawBytes
	)
	err := row.Scan(&t.seq, &r.ID, &r.State, &r.Outcome, &r.Version, &r.LaunchKey, &r.Lane,
		&submitted, &notBefore, &first, &started, &ended,
		&r.Fence, &r.Attempts, &r.Retries, &r.Crashes, &r.Rejections, &r.Feedback,
		&r.Cost, &r.Estimated, &r.Assumed, &r.SessionID, &r.ResumeSession, &r.SlotID,
		&claim.fence, &claim.holder, &claim.slot, &claim.session, &lease, &claim.reserved, &claim.lastCost, &claim.asked,
		&t.place, &t.line, &asked, &result)
	if err != nil {
		return nil, err
	}
	r.Submitted, r.NotBefore, r.First, r.Started, r.Ended = submitted.Time, notBefore.Time, first.Time, started.Time, ended.Time
	if claim.fence.Valid {
		r.Claim = &claudepool.TaskClaim{
			Holder: claim.holder.String, SlotID: claim.slot.String, Fence: claim.fence.Int64, Lease: lease.Time,
			Reserved: claudepool.Microdollars(claim.reserved.Int64), LastCost: claudepool.Microdollars(claim.lastCost.Int64),
			SessionID: claim.session.String, Asked: claim.asked.Bool,
		}
	}
	if !slices.Contains(claudepool.TaskStates(), r.State) {
		return nil, damaged("state", r.ID, fmt.Errorf("it is %q", r.State))
	}
	var q request
	if err := json.Unmarshal(asked, &q); err != nil {
		return nil, damaged("request", r.ID, err)
	}
	r.Task, r.Chain = q.Task, q.Chain
	if result != nil {
		if err := json.Unmarshal(result, &r.Result); err != nil {
			return nil, damaged("result", r.ID, err)
		}
	}
	return t, nil
}

// damaged is the error of something that cannot be read.
func damaged(what string, id claudepool.TaskID, err error) error {
	return fmt.Errorf("%s of task %s: %w: %w", what, id, ErrCorrupt, err)
}

// task returns a task by its id.
func (x *tx) task(id claudepool.TaskID) (*taskRow, error) {
	st, err := x.statement(selectTask)
	if err != nil {
		return nil, err
	}
	return oneTask(id)(st.QueryContext(background, string(id)))
}

// oneTask reads the only row of a query for a task.
func oneTask(id claudepool.TaskID) func(rows *sql.Rows, err error) (*taskRow, error) {
	return func(rows *sql.Rows, err error) (*taskRow, error) {
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		if !rows.Next() {
			return nil, errors.Join(rows.Err(), unknownTask(id))
		}
		return scanTask(rows)
	}
}

func unknownTask(id claudepool.TaskID) error {
	return fmt.Errorf("%w %q", claudepool.ErrUnknownTask, id)
}

// update writes what of a task can change, its place in the queue and its result
// aside.
func (x *tx) update(t *taskRow) error {
	r := &t.rec
	var claim claudepool.TaskClaim
	var fence, lease any
	if r.Claim != nil {
		claim, fence, lease = *r.Claim, r.Claim.Fence, nanos(r.Claim.Lease)
	}
	ifClaimed := func(v any) any {
		if r.Claim == nil {
			return nil
		}
		return v
	}
	_, err := x.change(`UPDATE tasks SET state = ?, outcome = ?, version = ?,
		not_before = ?, first_started = ?, started = ?, ended = ?,
		fence = ?, attempts = ?, retries = ?, crashes = ?, rejections = ?, feedback = ?,
		cost = ?, estimated = ?, assumed = ?, session = ?, resume_session = ?, slot = ?,
		claim_fence = ?, claim_holder = ?, claim_slot = ?, claim_session = ?, claim_lease = ?, claim_reserved = ?, claim_last_cost = ?, claim_asked = ?,
		place = ?, line = ? WHERE seq = ?`,
		string(r.State), string(r.Outcome), r.Version,
		nanos(r.NotBefore), nanos(r.First), nanos(r.Started), nanos(r.Ended),
		r.Fence, r.Attempts, r.Retries, r.Crashes, r.Rejections, r.Feedback,
		int64(r.Cost), r.Estimated, int64(r.Assumed), r.SessionID, r.ResumeSession, r.SlotID,
		fence, ifClaimed(claim.Holder), ifClaimed(claim.SlotID), ifClaimed(claim.SessionID), lease, ifClaimed(int64(claim.Reserved)), ifClaimed(int64(claim.LastCost)), ifClaimed(claim.Asked),
		t.place, t.line, t.seq)
	return err
}

// timestamp reads a time.
type timestamp struct{ time.Time }

// Scan implements [sql.Scanner].
func (t *timestamp) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		t.Time = time.Time{}
	case int64:
		t.Time = time.Unix(0, v).UTC()
	default:
		return fmt.Errorf("%w: a time is %v", ErrCorrupt, v)
	}
	return nil
}

// nanos is the form in which times are stored. Zero is NULL; times that do not
// fit are stored as the first or last that does.
func nanos(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return clamped(t)
}

// clamped returns t in nanoseconds since 1970, or the nearest that there is.
func clamped(t time.Time) int64 {
	switch {
	case t.Before(earliest):
		t = earliest
	case t.After(latest):
		t = latest
	}
	return t.UnixNano()
}

var (
	earliest = time.Unix(0, -1<<63)
	latest   = time.Unix(0, 1<<63-1)
)

// encode returns v as JSON, for people to read: with < and > as they are.
func encode(v any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "", err
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), nil
}

// nullable is NULL for an empty text.
func nullable(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// readTask is [Store.Task] without the words of this package for errors.
func (s *Store) readTask(ctx context.Context, id claudepool.TaskID) (*taskRow, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	return oneTask(id)(s.one.QueryContext(ctx, string(id)))
}
