package check

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver
)

// ErrEmpty says that the file has no tables yet.
var ErrEmpty = errors.New("the file has no tables")

// Snapshot is what a store holds at one moment.
type Snapshot struct {
	tasks  map[string]*task
	ledger []entry
	totals struct{ spent, assumed, attempts int64 }
	counts map[string]int64
	// left are the messages that wait, by id.
	left             map[string]bool
	instances, slots int
}

// task is a row of tasks, with what other tables have of it.
type task struct {
	seq                                    int64
	id, state, outcome                     string
	version, fence                         int64
	isChain                                bool
	chain, key, holder                     sql.NullString
	attempts, retries, crashes, rejections int
	cost, assumed                          int64
	estimated                              bool
	claimFence, claimReserved, place       sql.NullInt64
	claimLastCost                          sql.NullInt64
	claimAsked                             sql.NullBool
	asked                                  request
	result                                 string // JSON, empty when there is none
	claims                                 []claim
	mark                                   string
}

// request is what of a stored request matters here.
type request struct {
	Task struct {
		Prompt       string `json:"prompt"`
		OnCrash      string `json:"on_crash"`
		QueueTimeout int64  `json:"queue_timeout"`
		Retry        struct{ Max int }
		Overrides    struct {
			MaxCost int64 `json:"max_cost_microdollars"`
		} `json:"overrides"`
		Review *struct {
			MaxRejections int `json:"max_rejections"`
		} `json:"review"`
	} `json:"task"`
	Chain *struct {
		MaxCost int64 `json:"max_cost_microdollars"`
		Steps   []struct {
			Name   string `json:"name"`
			Action struct {
				Prompt string `json:"prompt"`
			} `json:"action"`
		} `json:"steps"`
	} `json:"chain"`
}

// claim is a row of claims.
type claim struct {
	fence, reserved int64
	open            bool
	attempt         *attempt
}

// attempt is what of a recorded attempt matters here.
type attempt struct {
	Outcome   string `json:"outcome"`
	Message   string `json:"message"`
	Cost      int64  `json:"cost_microdollars"`
	Assumed   int64  `json:"cost_assumed_microdollars"`
	Estimated bool   `json:"cost_estimated"`
	Late      bool   `json:"late"`
}

// entry is a row of the ledger.
type entry struct {
	cost, assumed, attempts int64
	task                    sql.NullString
	fence                   sql.NullInt64
}

// read reads the store at path. While nobody has it open, a copy is looked at,
// so that the next to open the file finds it as the last one left it; live says
// that somebody has.
func read(ctx context.Context, path string, live bool) (_ *Snapshot, err error) {
	if !live {
		dir, err := os.MkdirTemp("", "fault-look-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		copied := filepath.Join(dir, "copy.db")
		if err := errors.Join(copyFile(path, copied), copyFile(path+"-wal", copied+"-wal")); err != nil {
			return nil, err
		}
		path = copied
	}
	mode := "rw"
	if live {
		mode = "ro"
	}
	db, err := sql.Open("sqlite", "file:"+path+"?mode="+mode+"&_pragma=busy_timeout(10000)")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true}) // all of it at one moment
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	s := &Snapshot{tasks: map[string]*task{}, counts: map[string]int64{}, left: map[string]bool{}}
	return s, s.fill(ctx, tx)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func (s *Snapshot) fill(ctx context.Context, tx *sql.Tx) error {
	var sound string
	if err := tx.QueryRowContext(ctx, "PRAGMA quick_check").Scan(&sound); err != nil {
		return err
	}
	if sound != "ok" {
		return fmt.Errorf("the file is damaged: %s", sound)
	}
	var tables int
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil {
		return err
	}
	if tables == 0 {
		return ErrEmpty
	}
	bySeq := map[int64]*task{}
	return errors.Join(
		each(ctx, tx, `SELECT t.seq, t.id, t.state, t.outcome, t.version, t.fence, t.is_chain, t.chain, t.idempotency_key, t.claim_holder,
			t.attempts, t.retries, t.crashes, t.rejections, t.cost, t.assumed, t.estimated, t.claim_fence, t.claim_reserved, t.claim_last_cost, t.claim_asked, t.place,
			q.request, ifnull(r.result, '') FROM tasks t LEFT JOIN requests q ON q.task = t.seq LEFT JOIN results r ON r.task = t.seq`,
			func(row *sql.Rows) error {
				t := &task{}
				var asked sql.NullString
				err := row.Scan(&t.seq, &t.id, &t.state, &t.outcome, &t.version, &t.fence, &t.isChain, &t.chain, &t.key, &t.holder,
					&t.attempts, &t.retries, &t.crashes, &t.rejections, &t.cost, &t.assumed, &t.estimated, &t.claimFence, &t.claimReserved, &t.claimLastCost, &t.claimAsked, &t.place,
					&asked, &t.result)
				if err == nil {
					err = json.Unmarshal([]byte(asked.String), &t.asked)
				}
				t.mark = t.named()
				s.tasks[t.id], bySeq[t.seq] = t, t
				return err
			}),
		each(ctx, tx, "SELECT task, fence, reserved, open, ifnull(attempt, '') FROM claims ORDER BY task, fence", func(row *sql.Rows) error {
			var seq int64
			var c claim
			var text string
			err := row.Scan(&seq, &c.fence, &c.reserved, &c.open, &text)
			if err == nil && text != "" {
				err = json.Unmarshal([]byte(text), &c.attempt)
			}
			t := bySeq[seq]
			if t == nil {
				return errors.Join(err, fmt.Errorf("claim %d is of row %d of tasks, which is not there", c.fence, seq))
			}
			t.claims = append(t.claims, c)
			return err
		}),
		each(ctx, tx, "SELECT cost, assumed, attempts, task, fence FROM ledger", func(row *sql.Rows) error {
			var e entry
			err := row.Scan(&e.cost, &e.assumed, &e.attempts, &e.task, &e.fence)
			s.ledger = append(s.ledger, e)
			return err
		}),
		each(ctx, tx, "SELECT state, tasks FROM counts", func(row *sql.Rows) error {
			var state string
			var n int64
			err := row.Scan(&state, &n)
			s.counts[state] = n
			return err
		}),
		each(ctx, tx, "SELECT id FROM messages", func(row *sql.Rows) error {
			var id string
			err := row.Scan(&id)
			s.left[id] = true
			return err
		}),
		tx.QueryRowContext(ctx, "SELECT spent, assumed, attempts FROM totals").Scan(&s.totals.spent, &s.totals.assumed, &s.totals.attempts),
		tx.QueryRowContext(ctx, "SELECT (SELECT count(*) FROM instances), (SELECT count(*) FROM slots)").Scan(&s.instances, &s.slots),
	)
}

func each(ctx context.Context, tx *sql.Tx, query string, scan func(*sql.Rows) error) error {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// named returns the mark of a task: that in its prompt, or of a chain what the
// marks of its steps begin with.
func (t *task) named() string {
	if t.asked.Chain == nil {
		return Mark(t.asked.Task.Prompt)
	}
	for _, s := range t.asked.Chain.Steps {
		return chainMark(s.Action.Prompt)
	}
	return ""
}

func (t *task) terminal() bool {
	return t.state == "completed" || t.state == "failed" || t.state == "cancelled"
}

func (t *task) String() string {
	return fmt.Sprintf("%s (%s, %s %s)", t.id, t.mark, t.state, t.outcome)
}
