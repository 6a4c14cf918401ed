package sqlitestore

import (
	"errors"
	"time"
)

const (
	pruneEvery  = 500            // tasks that end between two looks
	pruneAfter  = time.Hour      // time between two, at most
	pruneChunk  = 200            // tasks that are dropped in one transaction
	keptChanges = 10_000         // for watchers of other programs that lag behind
	mergeAfter  = 48 * time.Hour // age at which entries of the ledger are merged
	mergeChunk  = 100            // hours that are merged in one transaction
)

// prune drops what is not to be kept any more, a little at a time. It runs in the
// writer, after a batch. When it fails it is tried again later; that the file
// cannot be written to is what the next step of a caller reports.
func (s *Store) prune() {
	if s.tx.ended < pruneEvery && s.tx.now < s.tx.looked+int64(pruneAfter) {
		return
	}
	more := false
	err := s.tx.transaction([]*step{{run: func(x *tx) (err error) {
		more, err = s.pruneSome(x)
		return err
	}}})
	if err == nil && !more {
		s.tx.ended, s.tx.looked = 0, s.tx.now
	}
}

// pruneSome drops some of what is too much, and reports whether there may be more.
func (s *Store) pruneSome(x *tx) (more bool, err error) {
	keep := s.opts.Retain
	dropped := 0
	if keep.Age > 0 {
		n, err := x.drop("t.ended < ?", x.now-int64(keep.Age), pruneChunk)
		if err != nil {
			return false, err
		}
		dropped += n
	}
	if keep.Count > 0 {
		var ended int
		if err := x.row("SELECT sum(tasks) FROM counts WHERE state IN ('completed', 'failed', 'cancelled')", nil, &ended); err != nil {
			return false, err
		}
		if ended > keep.Count {
			n, err := x.drop("? = 0", 0, min(pruneChunk, ended-keep.Count))
			if err != nil {
				return false, err
			}
			dropped += n
		}
	}
	merged, err := x.mergeLedger(x.now - int64(mergeAfter))
	if err != nil {
		return false, err
	}
	_, err = x.change("DELETE FROM changes WHERE seq <= (SELECT max(seq) FROM changes) - ?", keptChanges)
	return dropped >= pruneChunk || merged == mergeChunk, err
}

// drop forgets tasks that have ended, those first that ended first. The steps of
// a chain stay until it has ended, and a cancelled task until the attempt of its
// last holder is recorded.
func (x *tx) drop(condition string, value any, limit int) (int, error) {
	return x.change(`DELETE FROM tasks WHERE seq IN (SELECT seq FROM tasks t INDEXED BY tasks_ended
		WHERE t.state IN ('completed', 'failed', 'cancelled') AND t.claim_fence IS NULL AND `+condition+`
			AND NOT EXISTS (SELECT 1 FROM claims c WHERE c.task = t.seq AND c.open = 1)
			AND (t.chain IS NULL OR NOT EXISTS (SELECT 1 FROM tasks c WHERE c.id = t.chain AND c.state IN ('pending', 'running', 'pending_review')))
		ORDER BY t.ended LIMIT ?)`, value, limit)
}

// mergeLedger merges the entries before a time into one an hour, which has the
// time of the last: a window can only count too much. Sums that somebody has read
// are read anew, for an entry may have come since that is merged with them.
func (x *tx) mergeLedger(before int64) (int, error) {
	type hour struct{ from, to, seq, at, cost, assumed, attempts int64 }
	var hours []hour
	before -= before % int64(time.Hour)
	err := x.rows(`SELECT at / ?1, max(seq), max(at), sum(cost), sum(assumed), sum(attempts) FROM ledger
		WHERE at >= 0 AND at < ?2 GROUP BY at / ?1 HAVING count(*) > 1 LIMIT ?3`, []any{int64(time.Hour), before, mergeChunk}, func(row scanner) error {
		var h hour
		err := row.Scan(&h.from, &h.seq, &h.at, &h.cost, &h.assumed, &h.attempts)
		h.from *= int64(time.Hour)
		h.to = h.from + int64(time.Hour)
		hours = append(hours, h)
		return err
	})
	if overflows(err) {
		return 0, nil // sums that do not fit are left as they are
	}
	if err != nil {
		return 0, err
	}
	for _, h := range hours {
		_, gone := x.change("DELETE FROM ledger WHERE at >= ? AND at < ? AND seq <> ?", h.from, h.to, h.seq)
		_, sum := x.change("UPDATE ledger SET at = ?, cost = ?, assumed = ?, attempts = ?, task = NULL, fence = NULL, why = 'the hour before' WHERE seq = ?", h.at, h.cost, h.assumed, h.attempts, h.seq)
		if err := errors.Join(gone, sum); err != nil {
			return 0, err
		}
	}
	if len(hours) == 0 {
		return 0, nil
	}
	_, err = x.change("UPDATE totals SET merges = merges + 1")
	return len(hours), err
}
