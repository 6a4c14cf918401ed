package claudepool_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/claudetest"
)

func TestSessionsOfSlotsArePruned(t *testing.T) {
	t.Parallel()
	o := claudetest.StandIn(t)
	sessionsOfSlotsArePruned(t, claudepool.PoolConfig{ClaudePath: o.Path, Env: o.Env, ConfigDir: o.ConfigDir}, 4)
}

func TestRealSessionsOfSlotsArePruned(t *testing.T) {
	t.Parallel()
	iso := claudetest.Isolate(t, claudetest.NewAPI(t, claudetest.Echo))
	sessionsOfSlotsArePruned(t, claudepool.PoolConfig{ClaudePath: claudetest.CLI(t), Env: iso.Env, ConfigDir: iso.ConfigDir}, 5)
}

// What slots began goes when it is old, in the next pool, which knows it from
// the config folder alone. What a person began stays, though a task continued
// it, and so does what waiting work needs.
//
// There are to be at least so many transcripts: those of tasks, and what the
// real CLI keeps of a session that no task followed in.
func sessionsOfSlotsArePruned(t *testing.T, c claudepool.PoolConfig, atLeast int) {
	c.WorkDir, c.Transcripts = t.TempDir(), t.TempDir()
	person := ofAPerson(t, c)
	first := build(t, c)
	run := func(p *claudepool.Pool, task claudepool.Task) claudepool.TaskResult {
		t.Helper()
		r, err := p.Run(t.Context(), task)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	one, two := run(first, claudepool.Task{Prompt: "one"}), run(first, claudepool.Task{Prompt: "two"})
	if r := run(first, claudepool.Task{Prompt: "go on", Session: claudepool.Session{ID: person}}); r.SessionID != person {
		t.Fatalf("the person's session %s went on as %s", person, r.SessionID)
	}
	fork := run(first, claudepool.Task{Prompt: "go on", Session: claudepool.Session{ID: person, Fork: true}})
	again := run(first, claudepool.Task{Prompt: "again", Session: claudepool.Session{Task: one.TaskID}})
	if again.SessionID != one.SessionID || fork.SessionID == person {
		t.Fatalf("sessions: %s, %s, %s", one.SessionID, again.SessionID, fork.SessionID)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	kept := func() []string {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(c.ConfigDir, "projects", "*", "*.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, f := range found {
			b, err := os.ReadFile(f)
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			// A stand-in that was never asked anything keeps an empty one.
			if bytes.Contains(b, []byte(`"type":"user"`)) {
				ids = append(ids, strings.TrimSuffix(filepath.Base(f), ".jsonl"))
			}
		}
		slices.Sort(ids)
		return ids
	}
	before := kept()
	for _, s := range []string{one.SessionID, two.SessionID, fork.SessionID, person} {
		if !slices.Contains(before, s) {
			t.Fatalf("session %s has no transcript; there are %v", s, before)
		}
	}
	if len(before) < atLeast {
		t.Errorf("transcripts of %v: want %d or more", before, atLeast)
	}
	age(t, c.ConfigDir, c.Transcripts)

	// A pool of somebody who waits to go on with the second one.
	store := claudepool.NewMemoryStore()
	t.Cleanup(func() { store.Close() }) // after the pool
	needs := claudepool.Task{Prompt: "later", Session: claudepool.Session{ID: two.SessionID}}
	if _, _, err := store.CreateTask(t.Context(), claudepool.TaskRecord{ID: "task-1", Task: needs, NotBefore: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	c.Store = store
	second := build(t, c)
	want := []string{two.SessionID, person}
	slices.Sort(want)
	deadline := time.Now().Add(time.Minute)
	left := func() []string { // without those of the second pool's own processes
		return slices.DeleteFunc(kept(), func(s string) bool { return !slices.Contains(before, s) })
	}
	for !cmp.Equal(want, left()) || len(glob(t, c.Transcripts)) > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("transcripts (-want +got):\n%s, and of attempts: %v", cmp.Diff(want, left()), glob(t, c.Transcripts))
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
}

// ofAPerson begins a session without any pool and returns its id.
func ofAPerson(t *testing.T, c claudepool.PoolConfig) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p, err := claude.Start(ctx, claude.Options{Path: c.ClaudePath, Dir: c.WorkDir, Env: c.Env, ConfigDir: c.ConfigDir})
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.Turn(ctx, claude.Prompt{Text: "mine"}, func(claude.Event) {})
	if err != nil {
		t.Fatal(err)
	}
	if dir := p.Info().ConfigDir; dir != c.ConfigDir {
		t.Errorf("Info().ConfigDir = %q, want %q", dir, c.ConfigDir)
	}
	if err := p.Close(ctx); err != nil {
		t.Fatal(err)
	}
	return r.SessionID
}

func glob(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// age makes all files in some folders half a year older.
func age(t *testing.T, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			return os.Chtimes(path, time.Time{}, info.ModTime().AddDate(0, -6, 0))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A pool that keeps all writes nothing down, and removes nothing.
func TestSessionsAreKeptOnRequest(t *testing.T) {
	t.Parallel()
	o := claudetest.StandIn(t)
	p := build(t, claudepool.PoolConfig{ClaudePath: o.Path, Env: o.Env, ConfigDir: o.ConfigDir, SessionRetention: -1})
	if _, err := p.Run(t.Context(), claudepool.Task{Prompt: "x"}); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(o.ConfigDir, "claudepool")); !os.IsNotExist(err) {
		t.Errorf("stat = %v, want nothing there", err)
	}
}
