package sqlitestore

import (
	"database/sql"
	"encoding/json"
	"errors"
	"slices"

	"github.com/claudepool/claudepool"
)

// Places where a pending task waits.
const (
	inLine  = 0 // for its turn
	forTime = 1 // for its earliest start
	forLane = 2 // for another task of its lane
)

// line names tasks that wait and stand or fall together: all have the same pin
// and allowance, and the same tags out of those that were found at their limit.
// A claim looks at the head of each line only, so tasks that it cannot take cost
// it nothing, however many they are.
type line struct {
	chains    bool
	slot      string
	role      string
	allowance string
	tags      []string
}

// lineOf returns the line for a task, given which tags have a limit.
func lineOf(r *claudepool.TaskRecord, limited func(tag string) bool) line {
	if r.Chain != nil {
		return line{chains: true}
	}
	l := line{slot: r.Task.Slot, role: r.Task.Role, allowance: allowanceID(r)}
	for _, tag := range uniqueTags(r) {
		if limited(tag) {
			l.tags = append(l.tags, tag)
		}
	}
	return l
}

// chainLine is where chains wait.
const chainLine = "chains"

// key is the form in which the database has it.
func (l line) key() string {
	if l.chains {
		return chainLine
	}
	key, err := encode(append([]string{l.slot, l.role, l.allowance}, l.tags...))
	if err != nil {
		panic(err) // texts can always be encoded
	}
	return key
}

// parseLine reads a key.
func parseLine(key string) (line, error) {
	if key == chainLine {
		return line{chains: true}, nil
	}
	var parts []string
	if err := json.Unmarshal([]byte(key), &parts); err != nil || len(parts) < 3 {
		return line{}, errors.Join(ErrCorrupt, errors.New("a task waits in line "+key))
	}
	return line{slot: parts[0], role: parts[1], allowance: parts[2], tags: parts[3:]}, nil
}

// enqueue lets a pending task wait; the caller stores that.
func (x *tx) enqueue(t *taskRow) error {
	r := &t.rec
	t.line = sql.NullString{String: lineOf(r, func(tag string) bool { return x.limited[tag] }).key(), Valid: true}
	t.place = sql.NullInt64{Int64: inLine, Valid: true}
	if !r.NotBefore.IsZero() {
		t.place.Int64 = forTime
		return nil
	}
	busy, err := x.busy(r.Lane)
	if busy {
		t.place.Int64 = forLane
	}
	return err
}

// dequeue ends the wait of a task; the caller stores that, and then calls
// release for its lane.
func (t *taskRow) dequeue() { t.place, t.line = sql.NullInt64{}, sql.NullString{} }

// busy reports whether a task of the lane has a claim.
func (x *tx) busy(lane string) (bool, error) {
	if lane == "" {
		return false, nil
	}
	var one int
	err := x.row("SELECT 1 FROM tasks INDEXED BY tasks_claimed WHERE lane = ? AND claim_fence IS NOT NULL LIMIT 1", []any{lane}, &one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// release lets the first of those that wait for the lane stand in line, one of
// each line and set of tags, unless the lane is busy.
func (x *tx) release(lane string) error {
	busy, err := x.busy(lane)
	if lane == "" || busy || err != nil {
		return err
	}
	_, err = x.change(`UPDATE tasks SET place = 0 WHERE seq IN (SELECT seq FROM
		(SELECT seq, row_number() OVER (PARTITION BY line, tags ORDER BY priority DESC, id) AS n FROM tasks WHERE place = 2 AND lane = ?)
		WHERE n = 1)`, lane)
	return err
}

// mature lets the tasks whose time has come stand in line.
func (x *tx) mature(now any) error {
	var one int
	err := x.row("SELECT 1 FROM tasks WHERE place = 1 AND not_before <= ? LIMIT 1", []any{now}, &one)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err == nil {
		_, err = x.change(`UPDATE tasks SET place = iif(lane <> '' AND EXISTS (
				SELECT 1 FROM tasks c WHERE c.lane = tasks.lane AND c.claim_fence IS NOT NULL), 2, 0)
			WHERE place = 1 AND not_before <= ?`, now)
	}
	return err
}

// head is the first task of a line.
type head struct {
	line
	key      string
	id       claudepool.TaskID
	priority int
}

// before reports whether h comes before other.
func (h *head) before(other *head) bool {
	if h.priority != other.priority {
		return h.priority > other.priority
	}
	return h.id < other.id
}

// heads returns the first task of each line.
func (x *tx) heads() ([]*head, error) {
	var heads []*head
	err := x.rows(`WITH RECURSIVE lines (line) AS (
			SELECT min(line) FROM tasks WHERE place = 0
			UNION ALL
			SELECT (SELECT min(line) FROM tasks WHERE place = 0 AND line > lines.line) FROM lines WHERE lines.line IS NOT NULL)
		SELECT lines.line, t.id, t.priority FROM lines JOIN tasks t ON t.seq = (
			SELECT seq FROM tasks WHERE place = 0 AND line = lines.line ORDER BY priority DESC, id LIMIT 1)
		WHERE lines.line IS NOT NULL`, nil, func(row scanner) error {
		h := &head{}
		err := row.Scan(&h.key, &h.id, &h.priority)
		if err == nil {
			h.line, err = parseLine(h.key)
		}
		heads = append(heads, h)
		return err
	})
	return heads, err
}

// next makes h the first task of its line as it is now. It reports whether there
// is one.
func (x *tx) next(h *head) (bool, error) {
	err := x.row("SELECT id, priority FROM tasks WHERE place = 0 AND line = ? ORDER BY priority DESC, id LIMIT 1", []any{h.key}, &h.id, &h.priority)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// move lets a task wait elsewhere.
func (x *tx) move(t *taskRow, place int, to string) error {
	_, err := x.change("UPDATE tasks SET place = ?, line = ? WHERE seq = ?", place, to, t.seq)
	return err
}

// view is what decides whether a claim can take a task, money aside.
type view struct {
	now     int64
	chains  bool
	limits  map[string]int         // by tag
	running map[string]int         // claims, by tag
	accepts map[[2]string]bool     // the claim's answers for pins
	short   []string               // allowances that wait for what others of them have reserved
	unasked map[[2]string]struct{} // pins without an answer
}

// full reports whether as many tasks with the tag run as may.
func (v *view) full(tag string) bool {
	limit, limited := v.limits[tag]
	return limited && v.running[tag] >= limit
}

// open reports whether tasks of the line can be taken.
func (v *view) open(l line) bool {
	if l.chains || v.chains {
		return l.chains && v.chains
	}
	if pin := [2]string{l.slot, l.role}; pin != [2]string{} {
		accepted, asked := v.accepts[pin]
		if !asked {
			v.unasked[pin] = struct{}{}
		}
		if !accepted {
			return false
		}
	}
	return !slices.ContainsFunc(l.tags, v.full) && !slices.Contains(v.short, l.allowance)
}

// countRunning counts the claims of tasks by their tags.
func (x *tx) countRunning() (map[string]int, error) {
	running := map[string]int{}
	err := x.rows("SELECT tags FROM tasks INDEXED BY tasks_claimed WHERE claim_fence IS NOT NULL AND NOT is_chain AND tags IS NOT NULL", nil, func(row scanner) error {
		var text sql.RawBytes
		var tags []string
		err := row.Scan(&text)
		if err == nil {
			err = json.Unmarshal(text, &tags)
		}
		for _, tag := range tags {
			running[tag]++
		}
		return err
	})
	return running, err
}
