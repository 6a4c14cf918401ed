package sqlitestore_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool/sqlitestore"
)

// Peers that wait for one another, and one that does not.
var (
	patient   = sqlitestore.Options{Peer: true, Synchronous: sqlitestore.Normal, BusyTimeout: time.Hour}
	impatient = sqlitestore.Options{Peer: true, Synchronous: sqlitestore.Normal, BusyTimeout: time.Nanosecond}
)

func openOlder(t *testing.T, path string) *sqlitestore.Older {
	t.Helper()
	o, err := sqlitestore.OpenOlder(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// olderFile makes a file of an older release, with something in it.
func olderFile(t *testing.T) string {
	t.Helper()
	path := newFile(t)
	o := openOlder(t, path)
	note(t, o, "before")
	closeOlder(t, o)
	return path
}

// note stores something as an older release does.
func note(t *testing.T, o *sqlitestore.Older, key string) {
	t.Helper()
	if _, err := o.Conn().ExecContext(t.Context(), "INSERT INTO context (key, value) VALUES (?, 'v')", key); err != nil {
		t.Fatal(err)
	}
}

func closeOlder(t *testing.T, o *sqlitestore.Older) {
	t.Helper()
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
}

// schema returns what a file consists of.
func schema(t *testing.T, path string) []string {
	t.Helper()
	db := raw(t, path)
	defer db.Close()
	return append(table(t, db, "PRAGMA user_version"), table(t, db, "SELECT type, name, sql FROM sqlite_schema ORDER BY name")...)
}

// wantNewest checks that a file is as if it had been made by this release, and
// has what an older one has stored.
func wantNewest(t *testing.T, path string, keys ...string) {
	t.Helper()
	fresh := openNew(t, quick)
	if diff := cmp.Diff(schema(t, fresh.Path()), schema(t, path)); diff != "" {
		t.Errorf("schema (-new file +this one):\n%s", diff)
	}
	db := raw(t, path)
	defer db.Close()
	if diff := cmp.Diff(keys, table(t, db, "SELECT key FROM context ORDER BY key")); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

// Programs of an older release go on by the old schema's meaning, so a file that
// they have open is not changed under them.
func TestNoUpgradeUnderAPeer(t *testing.T) {
	t.Parallel()
	path := olderFile(t)
	first, second := openOlder(t, path), openOlder(t, path)
	before := schema(t, path)
	refused := func(o sqlitestore.Options, says ...string) {
		t.Helper()
		s, err := sqlitestore.Open(t.Context(), path, o)
		if err == nil {
			s.Close()
		}
		if !errors.Is(err, sqlitestore.ErrInUse) {
			t.Fatalf("error %v, want ErrInUse", err)
		}
		for _, text := range append(says, path) {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("the error does not say %q: %v", text, err)
			}
		}
		if diff := cmp.Diff(before, schema(t, path)); diff != "" {
			t.Errorf("schema (-before +after):\n%s", diff)
		}
	}
	refused(impatient, "of an older release", "other programs have it open", "end them all")
	refused(quick)
	note(t, first, "meanwhile")
	closeOlder(t, first)
	refused(impatient, "of an older release")
	closeOlder(t, second)
	closeStore(t, open(t, path, impatient))
	wantNewest(t, path, "before", "meanwhile")
}

// Who comes while the older ones end need not be started again.
func TestUpgradeWaitsForTheOthers(t *testing.T) {
	t.Parallel()
	path := olderFile(t)
	older := openOlder(t, path)
	opened := make(chan *sqlitestore.Store)
	go func() {
		defer close(opened)
		s, err := sqlitestore.Open(t.Context(), path, patient)
		if err != nil {
			t.Error(err)
			return
		}
		opened <- s
	}()
	closeOlder(t, older)
	if s := <-opened; s != nil {
		closeStore(t, s)
	}
	wantNewest(t, path, "before")
	older, err := sqlitestore.OpenOlder(t.Context(), path)
	if err == nil {
		older.Close()
	}
	if !errors.Is(err, sqlitestore.ErrNewer) || !strings.Contains(err.Error(), path) {
		t.Errorf("an older release opens the file: error %v, want ErrNewer, with the path", err)
	}
}

// Newcomers that come at once find one of them to migrate the file. Each has its
// part of the lock then, as the last of them as well.
func TestUpgradeOfManyAtOnce(t *testing.T) {
	t.Parallel()
	const newcomers = 3
	for last := range newcomers {
		path := olderFile(t)
		var stores [newcomers]*sqlitestore.Store
		var wg sync.WaitGroup
		for i := range stores {
			wg.Go(func() {
				var err error
				if stores[i], err = sqlitestore.Open(t.Context(), path, patient); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
		for i, s := range stores {
			if i != last {
				closeStore(t, s)
			}
		}
		s, err := sqlitestore.Open(t.Context(), path, quick)
		if err == nil {
			s.Close()
		}
		if !errors.Is(err, sqlitestore.ErrInUse) {
			t.Errorf("for itself alone, while newcomer %d has it: error %v, want ErrInUse", last, err)
		}
		closeStore(t, stores[last])
		if last == 0 {
			wantNewest(t, path, "before")
		}
	}
}

// As long as any program of an older release has the file, it is as that one knows
// it, whoever comes and goes.
func TestUpgradeAfterTheLastOlderOne(t *testing.T) {
	t.Parallel()
	path := olderFile(t)
	older := openOlder(t, path)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			s, err := sqlitestore.Open(t.Context(), path, patient)
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	for range 20 {
		next, err := sqlitestore.OpenOlder(t.Context(), path)
		if err != nil {
			t.Errorf("one comes while another has the file open: %v", err)
			break
		}
		closeOlder(t, older)
		older = next
	}
	closeOlder(t, older)
	wg.Wait()
	wantNewest(t, path, "before")
}

// A peer that has the file for itself alone for a moment is waited for.
func TestPeerThatMigrates(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	end, err := sqlitestore.Borrow(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sqlitestore.Open(t.Context(), path, impatient); !errors.Is(err, sqlitestore.ErrInUse) {
		t.Errorf("for ever: error %v, want ErrInUse", err)
	}
	opened := make(chan error)
	go func() {
		s, err := sqlitestore.Open(t.Context(), path, patient)
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	if err := end(); err != nil {
		t.Error(err)
	}
	if err := <-opened; err != nil {
		t.Error(err)
	}
}
