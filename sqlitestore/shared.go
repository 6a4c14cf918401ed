package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/claudepool/claudepool"
)

// PutSlot implements [claudepool.PoolStore]. It does not wait for the disk: a
// slot ends with its program.
func (s *Store) PutSlot(ctx context.Context, r claudepool.SlotRecord) (claudepool.SlotRecord, error) {
	out := r
	err := s.note(ctx, func(x *tx) error {
		var version int64
		err := x.row("SELECT version FROM slots WHERE instance = ? AND id = ?", []any{r.Instance, r.ID}, &version)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if version != r.Version {
			return fmt.Errorf("slot %s of %s has version %d, not %d: %w", r.ID, r.Instance, version, r.Version, claudepool.ErrConflict)
		}
		out.Version = version + 1
		_, err = x.change(`INSERT INTO slots (instance, id, name, role, description, state, pid, version, updated) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (instance, id) DO UPDATE SET name = excluded.name, role = excluded.role, description = excluded.description,
				state = excluded.state, pid = excluded.pid, version = excluded.version, updated = excluded.updated`,
			r.Instance, r.ID, r.Name, r.Role, r.Description, string(r.State), r.PID, out.Version, nanos(r.Updated))
		return err
	})
	if err != nil {
		return claudepool.SlotRecord{}, err
	}
	return out, nil
}

// DeleteSlot implements [claudepool.PoolStore].
func (s *Store) DeleteSlot(ctx context.Context, instance, id string) error {
	return s.note(ctx, func(x *tx) error {
		_, err := x.change("DELETE FROM slots WHERE instance = ? AND id = ?", instance, id)
		return err
	})
}

// Slots implements [claudepool.PoolStore].
func (s *Store) Slots(ctx context.Context) ([]claudepool.SlotRecord, error) {
	var slots []claudepool.SlotRecord
	err := s.query(ctx, func(row scanner) error {
		var r claudepool.SlotRecord
		var updated timestamp
		err := row.Scan(&r.Instance, &r.ID, &r.Name, &r.Role, &r.Description, &r.State, &r.PID, &r.Version, &updated)
		r.Updated = updated.Time
		slots = append(slots, r)
		return err
	}, "SELECT instance, id, name, role, description, state, pid, version, updated FROM slots ORDER BY instance, id")
	if err != nil {
		return nil, err
	}
	return slots, nil
}

// PutInstance implements [claudepool.PoolStore]. It does not wait for the disk.
func (s *Store) PutInstance(ctx context.Context, r claudepool.InstanceRecord) error {
	if r.ID == "" {
		return &claudepool.InvalidError{Field: "id", Reason: "must not be empty"}
	}
	return s.note(ctx, func(x *tx) error {
		_, err := x.change("INSERT OR REPLACE INTO instances (id, machine, pid, process, started, seen) VALUES (?, ?, ?, ?, ?, ?)",
			r.ID, r.Machine, r.PID, r.Process, nanos(r.Started), nanos(r.Seen))
		return err
	})
}

// DeleteInstance implements [claudepool.PoolStore].
func (s *Store) DeleteInstance(ctx context.Context, id string) error {
	return s.note(ctx, func(x *tx) error {
		_, err := x.change("DELETE FROM instances WHERE id = ?", id)
		if err == nil {
			_, err = x.change("DELETE FROM slots WHERE instance = ?", id)
		}
		return err
	})
}

// Instances implements [claudepool.PoolStore].
func (s *Store) Instances(ctx context.Context) ([]claudepool.InstanceRecord, error) {
	var all []claudepool.InstanceRecord
	err := s.query(ctx, func(row scanner) error {
		var r claudepool.InstanceRecord
		var started, seen timestamp
		err := row.Scan(&r.ID, &r.Machine, &r.PID, &r.Process, &started, &seen)
		r.Started, r.Seen = started.Time, seen.Time
		all = append(all, r)
		return err
	}, "SELECT id, machine, pid, process, started, seen FROM instances ORDER BY id")
	if err != nil {
		return nil, err
	}
	return all, nil
}

// SetContext implements [claudepool.PoolStore].
func (s *Store) SetContext(ctx context.Context, key, value string) error {
	return s.do(ctx, func(x *tx) error {
		_, err := x.change("INSERT OR REPLACE INTO context (key, value) VALUES (?, ?)", key, value)
		return err
	})
}

// DeleteContext implements [claudepool.PoolStore].
func (s *Store) DeleteContext(ctx context.Context, key string) error {
	return s.do(ctx, func(x *tx) error {
		n, err := x.change("DELETE FROM context WHERE key = ?", key)
		if err == nil && n == 0 {
			err = fmt.Errorf("%w %q in the run context", claudepool.ErrUnknownKey, key)
		}
		return err
	})
}

// Context implements [claudepool.PoolStore].
func (s *Store) Context(ctx context.Context) (map[string]string, error) {
	all := map[string]string{}
	err := s.query(ctx, func(row scanner) error {
		var key, value string
		err := row.Scan(&key, &value)
		all[key] = value
		return err
	}, "SELECT key, value FROM context")
	if err != nil {
		return nil, err
	}
	return all, nil
}

// SendMessage implements [claudepool.PoolStore].
func (s *Store) SendMessage(ctx context.Context, m claudepool.Message) error {
	switch {
	case m.ID == "":
		return &claudepool.InvalidError{Field: "id", Reason: "must not be empty"}
	case m.To == "":
		return &claudepool.InvalidError{Field: "to", Reason: "must not be empty"}
	}
	return s.do(ctx, func(x *tx) error {
		var known bool
		var waiting int
		err := x.row("SELECT EXISTS (SELECT 1 FROM messages WHERE id = ?), (SELECT count(*) FROM messages WHERE address = ?)", []any{m.ID, m.To}, &known, &waiting)
		switch {
		case err != nil:
			return err
		case known:
			return fmt.Errorf("message %s: %w", m.ID, claudepool.ErrDuplicate)
		case waiting >= claudepool.MaxMessages:
			return fmt.Errorf("%d messages wait for %s; they must be read before there is room for more: %w", waiting, m.To, claudepool.ErrMailboxFull)
		}
		_, err = x.change("INSERT INTO messages (id, sender, address, content, sent) VALUES (?, ?, ?, ?, ?)", m.ID, m.From, m.To, m.Content, nanos(m.Sent))
		return err
	})
}

const selectMessages = "SELECT id, sender, address, content, sent FROM messages WHERE address = ?"

func scanMessage(row scanner) (claudepool.Message, error) {
	var m claudepool.Message
	var sent timestamp
	err := row.Scan(&m.ID, &m.From, &m.To, &m.Content, &sent)
	m.Sent = sent.Time
	return m, err
}

// Messages implements [claudepool.PoolStore].
func (s *Store) Messages(ctx context.Context, to string) ([]claudepool.Message, error) {
	var all []claudepool.Message
	err := s.query(ctx, func(row scanner) error {
		m, err := scanMessage(row)
		all = append(all, m)
		return err
	}, selectMessages+" ORDER BY id", to)
	if err != nil {
		return nil, err
	}
	return all, nil
}

// TakeMessages implements [claudepool.PoolStore].
func (s *Store) TakeMessages(ctx context.Context, to string, ids []string) ([]claudepool.Message, error) {
	var taken []claudepool.Message
	query, args := selectMessages, []any{to}
	if ids != nil {
		list, err := encode(ids)
		if err != nil {
			return nil, err
		}
		query += " AND id IN (SELECT value FROM json_each(?))"
		args = append(args, list)
	}
	err := s.do(ctx, func(x *tx) error {
		taken = nil
		err := x.rows(query+" ORDER BY id", args, func(row scanner) error {
			m, err := scanMessage(row)
			taken = append(taken, m)
			return err
		})
		if err != nil || len(taken) == 0 {
			return err
		}
		_, err = x.change(strings.Replace(query, "SELECT id, sender, address, content, sent", "DELETE", 1), args...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return taken, nil
}
