package sqlitestore

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"modernc.org/sqlite"

	"github.com/claudepool/claudepool"
)

// entry is a line of the ledger.
type entry struct {
	at       time.Time
	cost     claudepool.Microdollars
	assumed  claudepool.Microdollars
	attempts int
	task     claudepool.TaskID
	fence    int64
	why      string
}

// enter writes a line into the ledger.
func (x *tx) enter(e entry) error {
	var task, fence any
	if e.task != "" {
		task, fence = string(e.task), e.fence
	}
	_, err := x.change("INSERT INTO ledger (at, cost, assumed, attempts, task, fence, why) VALUES (?, ?, ?, ?, ?, ?, ?)",
		clamped(e.at), int64(e.cost), int64(e.assumed), e.attempts, task, fence, nullable(e.why))
	return err
}

// Charge implements [claudepool.PoolStore].
func (s *Store) Charge(ctx context.Context, at time.Time, cost claudepool.Microdollars, why string) error {
	return s.do(ctx, func(x *tx) error { return x.enter(entry{at: at, cost: max(cost, 0), why: why}) })
}

// Ledger implements [claudepool.PoolStore].
func (s *Store) Ledger(ctx context.Context, q claudepool.LedgerQuery) (claudepool.Ledger, error) {
	var l claudepool.Ledger
	err := s.note(ctx, func(x *tx) (err error) {
		l, err = x.ledger(q.Since)
		return err
	})
	return l, err
}

// window is the sum of what was spent since a time, as far as the ledger was
// read. Entries are only ever added, with rising numbers, by whatever program.
type window struct {
	since    int64
	merges   int64 // how often entries were merged until then
	last     int64 // number of the last entry that is in it
	spent    claudepool.Microdollars
	assumed  claudepool.Microdollars
	attempts int
}

// maxWindows is how many sums are kept.
const maxWindows = 8

// ledger returns the sums of what was spent at that time or later.
func (x *tx) ledger(since time.Time) (l claudepool.Ledger, err error) {
	if l.Reserved, err = x.reserved(""); err != nil {
		return l, err
	}
	if since.IsZero() {
		err = x.row("SELECT spent, assumed, attempts FROM totals", nil, &l.Spent, &l.Assumed, &l.Attempts)
		return l, err
	}
	w, err := x.window(clamped(since))
	if err != nil {
		return l, err
	}
	l.Spent, l.Assumed, l.Attempts = w.spent, w.assumed, w.attempts
	return l, nil
}

// window returns the sum since a time, brought up to date.
func (x *tx) window(since int64) (*window, error) {
	i := slices.IndexFunc(x.windows, func(w window) bool { return w.since == since })
	if i < 0 {
		if len(x.windows) == maxWindows {
			x.windows = slices.Delete(x.windows, 0, 1)
		}
		i = len(x.windows)
		x.windows = append(x.windows, window{since: since})
	}
	w := &x.windows[i]
	merges := w.merges
	if err := x.row("SELECT merges FROM totals", nil, &merges); err != nil {
		return nil, err
	}
	if merges != w.merges { // what was read before may have become part of later entries
		*w = window{since: since, merges: merges}
	}
	var last int64
	var spent, assumed claudepool.Microdollars
	var attempts int
	const sums = "SELECT ifnull(max(seq), ?1), ifnull(sum(cost), 0), ifnull(sum(assumed), 0), ifnull(sum(attempts), 0) FROM ledger "
	query := sums + "NOT INDEXED WHERE seq > ?1 AND at >= ?2"
	if w.last == 0 {
		query = sums + "INDEXED BY ledger_at WHERE at >= ?2"
	}
	err := x.row(query, []any{w.last, since}, &last, &spent, &assumed, &attempts)
	if overflows(err) { // costs are not negative: the sum is more than can be counted
		spent = math.MaxInt64
		err = x.row("SELECT max(seq), CAST(min(total(assumed), 9e18) AS INTEGER), sum(attempts) FROM ledger NOT INDEXED WHERE seq > ? AND at >= ?", []any{w.last, since}, &last, &assumed, &attempts)
	}
	if err != nil {
		return nil, err
	}
	w.last, w.attempts = last, w.attempts+attempts
	w.spent, w.assumed = claudepool.AddCost(w.spent, spent), claudepool.AddCost(w.assumed, assumed)
	return w, nil
}

// overflows reports whether a sum does not fit.
func overflows(err error) bool {
	var failed *sqlite.Error
	return errors.As(err, &failed) && failed.Code() == 1 && failed.Error() == "SQL logic error: integer overflow (1)"
}
