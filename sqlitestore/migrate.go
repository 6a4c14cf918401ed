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

// migrate brings the file to the newest schema, in one transaction.
func migrate(ctx context.Context, conn *sql.Conn) error {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err = migrateFrom(ctx, conn, files)
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
	var id, version, tables int
	for query, v := range map[string]*int{
		"PRAGMA application_id": &id, "PRAGMA user_version": &version, "SELECT count(*) FROM sqlite_schema": &tables,
	} {
		if err := conn.QueryRowContext(ctx, query).Scan(v); err != nil {
			return err
		}
	}
	switch {
	case id != applicationID && (id != 0 || version != 0 || tables != 0):
		return fmt.Errorf("%w: it is a database of another program", ErrNotAStore)
	case version > len(files):
		return fmt.Errorf("%w: its schema has version %d, this program knows %d: use the program that wrote it, or a later one", ErrNewer, version, len(files))
	case version == len(files):
		return nil
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
	_, err := conn.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", applicationID, len(files)))
	return err
}
