package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// tx is the connection that writes, and what is known about the database while
// nobody else writes. It belongs to the goroutine of [Store.write].
type tx struct {
	conn    *sql.Conn
	stmts   map[string]*sql.Stmt
	writes  int             // statements that changed something
	windows []window        // sums of money that were asked for
	limited map[string]bool // tags that claims have named a limit for
	now     int64           // the latest time that anybody has named
	ended   int             // tasks that have ended since the last pruning
	looked  int64           // that time, at the last pruning
}

// background is the context of all statements: what is under way is finished.
var background = context.Background()

// transaction makes the changes of some steps. If it fails none of them has been
// made; else each has its own error or has been made.
func (x *tx) transaction(steps []*step) error {
	if len(steps) == 0 {
		return nil
	}
	if err := x.exec("BEGIN IMMEDIATE"); err != nil {
		return notBegun{err}
	}
	err := x.each(steps)
	if err == nil {
		err = x.exec("COMMIT")
	}
	if err == nil {
		return nil
	}
	x.windows = nil
	if undo := x.exec("ROLLBACK"); undo != nil && !noTransaction(undo) {
		return errors.Join(err, undo)
	}
	return err
}

// notBegun is the error of a transaction in which no step was tried: it would be
// the same for each of them alone, after as long a wait.
type notBegun struct{ error }

func (e notBegun) Unwrap() error { return e.error }

// each makes the changes of steps that share a transaction. Its error means that
// the transaction cannot go on: then each is to have one of its own. That is dear
// and rare; what the rules refuse is refused before anything is written.
func (x *tx) each(steps []*step) error {
	for _, st := range steps {
		writes := x.writes
		st.err = st.run(x)
		if st.err != nil && x.writes != writes {
			return st.err
		}
	}
	return nil
}

// statement prepares a statement, once.
func (x *tx) statement(query string) (*sql.Stmt, error) {
	if st := x.stmts[query]; st != nil {
		return st, nil
	}
	st, err := x.conn.PrepareContext(background, query)
	if err != nil {
		return nil, fmt.Errorf("%w in %s", err, query)
	}
	x.stmts[query] = st
	return st, nil
}

// exec runs a statement that is no change of its own.
func (x *tx) exec(query string, args ...any) error {
	st, err := x.statement(query)
	if err == nil {
		_, err = st.ExecContext(background, args...)
	}
	return err
}

// change runs a statement that changes something, and returns how many rows.
func (x *tx) change(query string, args ...any) (int, error) {
	x.writes++
	st, err := x.statement(query)
	if err != nil {
		return 0, err
	}
	res, err := st.ExecContext(background, args...)
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	return int(n), err
}

// row runs a query for one row, which [sql.ErrNoRows] says is not there.
func (x *tx) row(query string, args []any, dest ...any) error {
	st, err := x.statement(query)
	if err != nil {
		return err
	}
	return st.QueryRowContext(background, args...).Scan(dest...)
}

// rows runs a query, and scan for each row of it.
func (x *tx) rows(query string, args []any, scan func(scanner) error) error {
	st, err := x.statement(query)
	if err != nil {
		return err
	}
	return eachRow(st.QueryContext(background, args...))(scan)
}

// scanner is a row.
type scanner interface{ Scan(dest ...any) error }

// eachRow calls a function for each row, and closes them.
func eachRow(rows *sql.Rows, err error) func(scan func(scanner) error) error {
	return func(scan func(scanner) error) error {
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
}

// saw notes a time that a caller has named.
func (x *tx) saw(ns int64) { x.now = max(x.now, ns) }
