package sqlitestore_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/sqlitestore"
)

func TestOpenRefusesWhatCannotBe(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		field string
		path  string
		o     sqlitestore.Options
	}{
		{"path", "", quick},
		{"synchronous", "pool.db", sqlitestore.Options{Synchronous: "off"}},
		{"busy_timeout", "pool.db", sqlitestore.Options{BusyTimeout: -1}},
	} {
		_, err := sqlitestore.Open(t.Context(), c.path, c.o)
		if invalid, ok := errors.AsType[*claudepool.InvalidError](err); !ok || invalid.Field != c.field {
			t.Errorf("%+v: error %v, want one of field %s", c.o, err, c.field)
		}
	}
	_, err := sqlitestore.Open(t.Context(), filepath.Join(t.TempDir(), "none", "pool.db"), quick)
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "make its folder first") {
		t.Errorf("in a folder that is not there: error %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the caller has gone")
	cancel(cause)
	if _, err := sqlitestore.Open(ctx, newFile(t), quick); err == nil {
		t.Error("a context that has ended: no error")
	}
}

// One program has the file for itself, or all share it.
func TestInUse(t *testing.T) {
	t.Parallel()
	peer := sqlitestore.Options{Peer: true, Synchronous: sqlitestore.Normal}
	refused := func(t *testing.T, path string, o sqlitestore.Options, says ...string) {
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
	}
	t.Run("alone", func(t *testing.T) {
		t.Parallel()
		s := openNew(t, quick)
		var who []string
		if runtime.GOOS != "windows" { // there the lock keeps others from reading the file
			who = []string{"process " + strconv.Itoa(os.Getpid())}
		}
		refused(t, s.Path(), quick, append(who, "share it")...)
		refused(t, s.Path(), peer, append(who, "must all say so")...)
		closeStore(t, s)
		closeStore(t, open(t, s.Path(), peer)) // free again
	})
	t.Run("shared", func(t *testing.T) {
		t.Parallel()
		s := openNew(t, peer)
		closeStore(t, open(t, s.Path(), peer))
		refused(t, s.Path(), quick, "another program")
	})
}

// Peers may come at once, also when there is no file yet.
func TestPeersOpenTogether(t *testing.T) {
	t.Parallel()
	for range 5 {
		path := newFile(t)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				s, err := sqlitestore.Open(t.Context(), path, sqlitestore.Options{Peer: true, BusyTimeout: time.Hour})
				if err != nil {
					t.Error(err)
					return
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
}

func TestOddPaths(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"with space", "what?", "a#b", "100%", "%41", "naïve-空", "a&b=c;d", "'quoted'", "file:x", "colon:y"} {
		if runtime.GOOS == "windows" && strings.ContainsAny(name, "?:") {
			continue // no file can have such a name
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), name)
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, name+".db")
			s := open(t, path, quick)
			user{s, t, noon}.create("a")
			closeStore(t, s)
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, e := range entries {
				names = append(names, e.Name())
			}
			if diff := cmp.Diff([]string{name + ".db", name + ".db.lock"}, names); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			s = open(t, path, quick)
			defer s.Close()
			if got := (user{s, t, noon}).ids(claudepool.TaskFilter{}); len(got) != 1 {
				t.Errorf("%d tasks are there again, want 1", len(got))
			}
		})
	}
}

func TestOnlyItsOwnerReadsTheFile(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		return // there permissions are those of the folder
	}
	s := openNew(t, quick)
	user{s, t, noon}.create("a")
	for _, name := range []string{s.Path(), s.Path() + "-wal", s.Path() + "-shm", s.Path() + ".lock"} {
		fi, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, fi.Mode())
		}
	}
}

// What is not a store of ours is refused, and left as it was.
func TestNotAStore(t *testing.T) {
	t.Parallel()
	foreign := func(statements ...string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			db := raw(t, path)
			for _, st := range statements {
				run(t, db, st)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	content := func(text string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		make func(t *testing.T, path string)
		want error
	}{
		"text":                   {content(strings.Repeat("dear diary, ", 1000)), sqlitestore.ErrNotAStore},
		"a few bytes":            {content("x"), sqlitestore.ErrNotAStore},
		"of another program":     {foreign("CREATE TABLE tasks (id)"), sqlitestore.ErrNotAStore},
		"with a mark of its own": {foreign("PRAGMA application_id = 7"), sqlitestore.ErrNotAStore},
		"with a version":         {foreign("PRAGMA user_version = 1"), sqlitestore.ErrNotAStore},
		"newer": {func(t *testing.T, path string) {
			closeStore(t, open(t, path, quick))
			foreign("PRAGMA user_version = 1000")(t, path)
		}, sqlitestore.ErrNewer},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := newFile(t)
			c.make(t, path)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			s, err := sqlitestore.Open(t.Context(), path, quick)
			if err == nil {
				s.Close()
			}
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v, want %v, with the path", err, c.want)
			}
			after, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !cmp.Equal(before, after) {
				t.Error("the file has changed")
			}
		})
	}
	t.Run("a folder", func(t *testing.T) {
		t.Parallel()
		if _, err := sqlitestore.Open(t.Context(), t.TempDir(), quick); !errors.Is(err, sqlitestore.ErrNotAStore) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("an empty file becomes one", func(t *testing.T) {
		t.Parallel()
		path := newFile(t)
		content("")(t, path)
		closeStore(t, open(t, path, quick))
	})
}

// Who has a lock is waited for, but not for ever.
func TestLocked(t *testing.T) {
	t.Parallel()
	s := openNew(t, sqlitestore.Options{Synchronous: sqlitestore.Normal, BusyTimeout: 50 * time.Millisecond})
	u := user{s, t, noon}
	u.create("before")
	other, err := raw(t, s.Path()).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.ExecContext(t.Context(), "BEGIN EXCLUSIVE"); err != nil {
		t.Fatal(err)
	}
	// Many at once fail after one wait, not one after the other.
	var wg sync.WaitGroup
	began := time.Now()
	for i := range 100 {
		wg.Go(func() {
			err := s.SetContext(t.Context(), strconv.Itoa(i), "v")
			if !errors.Is(err, sqlitestore.ErrBusy) || !strings.Contains(err.Error(), s.Path()) {
				t.Errorf("error %v, want ErrBusy, with the path", err)
			}
		})
	}
	wg.Wait()
	if took := time.Since(began); took < 50*time.Millisecond {
		t.Errorf("they waited %v, want at least 50ms", took)
	}
	if got := u.ids(claudepool.TaskFilter{}); len(got) != 1 { // one can read all the same
		t.Errorf("%d tasks, want 1", len(got))
	}
	if _, err := other.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	u.create("after")
	kv, err := s.Context(t.Context())
	if err != nil || len(kv) != 0 {
		t.Errorf("the run context is %v, error %v; want nothing of what failed", kv, err)
	}
}

// A call that waits behind a lock for its turn ends with its context, and has no
// effect; one that waits when the store closes is refused.
func TestWaitingCallsEnd(t *testing.T) {
	t.Parallel()
	s := openNew(t, sqlitestore.Options{Synchronous: sqlitestore.Normal, BusyTimeout: time.Hour})
	other, err := raw(t, s.Path()).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.ExecContext(t.Context(), "BEGIN EXCLUSIVE"); err != nil {
		t.Fatal(err)
	}
	second, third := make(chan error, 1), make(chan error, 1)
	first := sqlitestore.SetContextTaken(t.Context(), s, "first", "v") // the writer waits for the lock with it
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the caller has gone")
	go func() { second <- s.SetContext(ctx, "second", "v") }()
	go func() { third <- s.SetContext(t.Context(), "third", "v") }()
	sqlitestore.AwaitQueued(s, 2)
	cancel(cause)
	if err := <-second; !errors.Is(err, cause) {
		t.Errorf("the one whose context has ended: %v, want its cause", err)
	}
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	sqlitestore.AwaitClosing(s)
	if _, err := other.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if err := <-first; err != nil {
		t.Errorf("the one under way: %v", err)
	}
	err = <-third // its turn may come before the writer sees that it is to end
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if err != nil && !errors.Is(err, claudepool.ErrClosed) {
		t.Errorf("the one that waits: %v, want ErrClosed", err)
	}
	got := table(t, raw(t, s.Path()), "SELECT key FROM context ORDER BY key")
	want := []string{"first"}
	if err == nil {
		want = append(want, "third")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	s := openNew(t, quick)
	u := user{s, t, noon}
	for _, id := range []string{"a", "b", "c"} {
		u.create(id)
	}
	changes, err := s.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range s.Tasks(t.Context(), claudepool.TaskFilter{}) { // one that has begun goes on
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 1 {
			closeStore(t, s)
		}
	}
	if n != 3 {
		t.Errorf("the listing gave %d tasks, want 3", n)
	}
	for range changes {
	}
	_, listed := list(t.Context(), s, claudepool.TaskFilter{})
	_, watched := s.Watch(t.Context())
	_, counted := s.Count(t.Context())
	_, read := s.Task(t.Context(), "a")
	for what, err := range map[string]error{"Close": s.Close(), "Tasks": listed, "Watch": watched, "Count": counted, "Task": read, "SetContext": s.SetContext(t.Context(), "k", "v")} {
		if !errors.Is(err, claudepool.ErrClosed) {
			t.Errorf("%s: error %v, want ErrClosed", what, err)
		}
	}
}

// Calls that race with Close work, or say that the store is closed.
func TestCloseRaces(t *testing.T) {
	t.Parallel()
	for range 10 {
		s := openNew(t, quick)
		user{s, t, noon}.create("a")
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for {
					_, err := s.Task(t.Context(), "a")
					if err == nil {
						err = s.SetContext(t.Context(), "k", "v")
					}
					if err != nil {
						if !errors.Is(err, claudepool.ErrClosed) {
							t.Errorf("error %v, want ErrClosed", err)
						}
						return
					}
				}
			})
		}
		closeStore(t, s)
		wg.Wait()
	}
}
