package sqlitestore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
)

// migrations bring a file from each version of the schema to the next. They are
// never changed once released; a new one is added instead.
//
//go:embed migrations/*.sql
var migrations embed.FS

// applicationID marks a file as one of this package ("clpl").
const applicationID = 0x636c706c

// schemaFiles are the migrations, in order.
func schemaFiles() ([]string, error) { return fs.Glob(migrations, "migrations/*.sql") }

// upgrade brings the file to the newest schema. A peer does that only while it has
// the file for itself alone: programs of an older release that have it open would
// go on writing by the old one's meaning. A new file has no meaning yet.
func (s *Store) upgrade(ctx context.Context, conn *sql.Conn, files []string) error {
	for s.opts.Peer {
		// Nobody can change it while this store is one of the peers, but for
		// what makes a new file.
		if err := migrateNew(ctx, conn, files); err != nil {
			return err
		}
		current, err := s.current(ctx, conn, files)
		if err != nil {
			return err
		}
		if current {
			break
		}
		err = s.insist(ctx, inUse, func() error { return s.migrateAlone(ctx, conn, files) })
		if inUse(err) {
			return fmt.Errorf("task store %s: %w: it is of an older release, and other programs have it open: end them all, then start this one", s.path, err)
		}
		if err != nil {
			return err
		}
		if err := s.join(ctx); err != nil {
			return err
		}
	}
	return migrate(ctx, conn, files)
}

// migrateAlone migrates the file if nobody else has it open. It need not if
// another newcomer was faster.
func (s *Store) migrateAlone(ctx context.Context, conn *sql.Conn, files []string) error {
	held := s.lock.borrow()
	if held == nil {
		return migrate(ctx, conn, files)
	}
	if current, err := s.current(ctx, conn, files); err != nil || current {
		return err
	}
	return held
}

// current reports whether the file has the newest schema. It fails if the file is
// not one that this program can use.
func (s *Store) current(ctx context.Context, conn *sql.Conn, files []string) (bool, error) {
	version, err := versionOf(ctx, conn, len(files))
	if errors.Is(err, ErrNotAStore) || errors.Is(err, ErrNewer) {
		err = fmt.Errorf("task store %s: %w", s.path, err)
	}
	return version == len(files), err
}

// migrate brings the file to the newest schema, in one transaction.
func migrate(ctx context.Context, conn *sql.Conn, files []string) error {
	return transact(ctx, conn, func() error { return migrateFrom(ctx, conn, files) })
}

// migrateNew does so with a file that has no schema yet.
func migrateNew(ctx context.Context, conn *sql.Conn, files []string) error {
	version, err := versionOf(ctx, conn, len(files))
	if version != 0 || err != nil {
		return nil // whoever looks next says what it is
	}
	return transact(ctx, conn, func() error {
		if version, err := versionOf(ctx, conn, len(files)); version != 0 || err != nil {
			return err // another newcomer was faster
		}
		return migrateFrom(ctx, conn, files)
	})
}

// transact makes changes in one transaction.
func transact(ctx context.Context, conn *sql.Conn, change func() error) error {
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := change()
	if err == nil {
		_, err = conn.ExecContext(ctx, "COMMIT")
	}
	if err != nil {
		_, rollback := conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		if rollback != nil && !noTransaction(rollback) {
			err = errors.Join(err, rollback)
		}
	}
	return err
}

func migrateFrom(ctx context.Context, conn *sql.Conn, files []string) error {
	version, err := versionOf(ctx, conn, len(files))
	if err != nil {
		return err
	}
	if version == len(files) {
		// SQLite opens a file that is read-only too, and says so only here.
		_, err := conn.ExecContext(ctx, "UPDATE totals SET spent = spent WHERE false")
		return err
	}
	for _, name := range files[version:] {
		text, err := migrations.ReadFile(name)
		if err != nil {
			return err
		}
		if _, err := conn.ExecContext(ctx, string(text)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	_, err = conn.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", applicationID, len(files)))
	return err
}

// versionOf returns the version of a file's schema, 0 of a new file. It fails if
// the file is not one that this package can use.
func versionOf(ctx context.Context, conn *sql.Conn, newest int) (int, error) {
	var id, version, tables int
	err := conn.QueryRowContext(ctx, `SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema)
		FROM pragma_application_id, pragma_user_version`).Scan(&id, &version, &tables)
	switch {
	case err != nil:
		return 0, err
	case id != applicationID && (id != 0 || version != 0 || tables != 0):
		return 0, fmt.Errorf("%w: it is a database of another program", ErrNotAStore)
	case version > newest:
		return 0, fmt.Errorf("%w: its schema has version %d, this program knows %d: use the program that wrote it, or a later one", ErrNewer, version, newest)
	}
	return version, nil
}
