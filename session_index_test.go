package claudepool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sessionN is the id of a session.
func sessionN(n int) string { return fmt.Sprintf("%08x-0000-4000-8000-000000000000", n) }

// put writes a file that was last changed at a time.
func put(t *testing.T, at time.Time, elem ...string) {
	t.Helper()
	path := filepath.Join(elem...)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, time.Time{}, at); err != nil {
		t.Fatal(err)
	}
}

// files lists what is under a folder, links included and not followed.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			all = append(all, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

func none() (map[string]bool, error) { return nil, nil }

func TestPruneSessions(t *testing.T) {
	t.Parallel()
	const keep = 24 * time.Hour
	now := time.Now().Truncate(time.Second)
	id, other := sessionN(1), sessionN(2)
	note, transcript := "claudepool/sessions/"+id, "projects/-x/"+id+".jsonl"
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for name, c := range map[string]struct {
		begun  time.Duration // ago, when the slot began the session; 0 means that no slot did
		used   time.Duration // ago, when the CLI last wrote to it; 0 means that there is nothing
		needed bool
		more   func(t *testing.T, config string)
		want   []string      // what is there after two passes
		again  time.Duration // when it is looked at again, if the note is there
	}{
		"old":                 {begun: 2 * keep, used: 2 * keep},
		"young":               {begun: keep / 2, used: keep / 2, want: []string{note, transcript}, again: keep / 2},
		"used since":          {begun: 9 * keep, used: keep / 4, want: []string{note, transcript}, again: 3 * keep / 4},
		"needed":              {begun: 9 * keep, used: 9 * keep, needed: true, want: []string{note, transcript}, again: keep},
		"needed, almost due":  {begun: keep - time.Minute, used: keep - time.Minute, needed: true, want: []string{note, transcript}, again: keep},
		"almost due":          {begun: keep - time.Minute, used: keep - time.Minute, want: []string{note, transcript}, again: time.Minute},
		"of somebody else":    {used: 99 * keep, want: []string{transcript}},
		"the CLI kept none":   {begun: 2 * keep},
		"the CLI keeps none":  {begun: keep / 2, want: []string{note}, again: keep / 2},
		"in two projects":     {begun: 2 * keep, used: 2 * keep, more: func(t *testing.T, c string) { put(t, ago(2*keep), c, "projects", "-y", id+".jsonl") }},
		"used in another one": {begun: 2 * keep, used: 2 * keep, more: func(t *testing.T, c string) { put(t, now, c, "projects", "-y", id+".jsonl") }, want: []string{note, transcript, "projects/-y/" + id + ".jsonl"}, again: keep},
		"with a side folder": {begun: 2 * keep, used: 2 * keep, more: func(t *testing.T, c string) {
			put(t, now, c, "projects", "-x", id, "subagents", "agent-1.jsonl")
			put(t, ago(99*keep), c, "projects", "-x", other+".jsonl")
			put(t, ago(99*keep), c, "projects", "-x", other, "subagents", "agent-1.jsonl")
		}, want: []string{"projects/-x/" + other + ".jsonl", "projects/-x/" + other + "/subagents/agent-1.jsonl"}},
		"a side folder alone": {begun: 2 * keep, more: func(t *testing.T, c string) {
			put(t, ago(2*keep), c, "projects", "-x", id, "tool-results", "a.txt")
		}},
		"a torn note": {begun: 2 * keep, used: 2 * keep, more: func(t *testing.T, c string) {
			put(t, ago(keep), c, note) // holds no duration: the usual time counts
		}, want: []string{note, transcript}, again: month - 2*keep},
		"a link for a transcript": {begun: 2 * keep, more: func(t *testing.T, c string) {
			put(t, ago(2*keep), c, "precious")
			link(t, filepath.Join(c, "precious"), c, transcript)
		}, want: []string{"precious", transcript}},
		"a link for a side folder": {begun: 2 * keep, used: 2 * keep, more: func(t *testing.T, c string) {
			put(t, now, c, "precious", "file")
			link(t, filepath.Join(c, "precious"), c, "projects", "-x", id)
		}, want: []string{"precious/file", "projects/-x/" + id}},
		"a link in a side folder": {begun: 2 * keep, used: 2 * keep, more: func(t *testing.T, c string) {
			put(t, now, c, "precious", "file")
			link(t, filepath.Join(c, "precious"), c, "projects", "-x", id, "out")
		}, want: []string{"precious/file"}},
		"a link for a project": {begun: 2 * keep, more: func(t *testing.T, c string) {
			put(t, ago(2*keep), c, "precious", id+".jsonl")
			link(t, filepath.Join(c, "precious"), c, "projects", "-x")
		}, want: []string{"precious/" + id + ".jsonl", "projects/-x"}},
		"notes that name no session": {more: func(t *testing.T, c string) {
			for _, name := range []string{"..x", "x", strings.ToUpper(sessionN(10)), id + ".jsonl"} {
				put(t, ago(99*keep), c, "claudepool", "sessions", name)
			}
			link(t, filepath.Join(c, transcript), c, note)
		}, used: 2 * keep, want: []string{
			"claudepool/sessions/..x", "claudepool/sessions/0000000A-0000-4000-8000-000000000000", note, note + ".jsonl", "claudepool/sessions/x", transcript,
		}, again: -2 * keep},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := t.TempDir()
			if c.begun != 0 {
				if err := noteSession(config, id, keep, ago(c.begun)); err != nil {
					t.Fatal(err)
				}
				if err := noteSession(config, id, 99*keep, now); err != nil { // the first one counts
					t.Fatal(err)
				}
			}
			if c.used != 0 {
				put(t, ago(c.used), config, transcript)
			}
			if c.more != nil {
				c.more(t, config)
			}
			for range 2 {
				more, err := pruneSessions(t.Context(), config, now, func() (map[string]bool, error) {
					return map[string]bool{id: c.needed}, nil
				})
				if more || err != nil {
					t.Errorf("pruneSessions = %v, %v", more, err)
				}
			}
			slices.Sort(c.want)
			if diff := cmp.Diff(c.want, files(t, config)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if info, err := os.Stat(filepath.Join(config, note)); err == nil && !info.ModTime().Equal(now.Add(c.again)) {
				t.Errorf("it is looked at again in %v, want %v", info.ModTime().Sub(now), c.again)
			}
		})
	}
}

func link(t *testing.T, target string, elem ...string) {
	t.Helper()
	path := filepath.Join(elem...)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, path); err != nil {
		t.Skip(err)
	}
}

// A folder of projects on another disk is the CLI's all the same.
func TestPruneSessionsFollowsALinkToTheProjects(t *testing.T) {
	t.Parallel()
	config, elsewhere, long := t.TempDir(), t.TempDir(), time.Now().Add(-99*time.Hour)
	link(t, elsewhere, config, "projects")
	if err := noteSession(config, sessionN(1), time.Hour, long); err != nil {
		t.Fatal(err)
	}
	put(t, long, elsewhere, "-x", sessionN(1)+".jsonl")
	if _, err := pruneSessions(t.Context(), config, time.Now(), none); err != nil {
		t.Fatal(err)
	}
	if left := files(t, elsewhere); left != nil {
		t.Errorf("left: %v", left)
	}
}

func TestPruneSessionsRemovesNothingWhenItCannotKnow(t *testing.T) {
	t.Parallel()
	config, long := t.TempDir(), time.Now().Add(-99*time.Hour)
	if err := noteSession(config, sessionN(1), time.Hour, long); err != nil {
		t.Fatal(err)
	}
	put(t, long, config, "projects", "-x", sessionN(1)+".jsonl")
	failure := errors.New("the store does not answer")
	if _, err := pruneSessions(t.Context(), config, time.Now(), func() (map[string]bool, error) { return nil, failure }); !errors.Is(err, failure) {
		t.Errorf("error = %v", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := pruneSessions(ended, config, time.Now(), none); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v", err)
	}
	if left := files(t, config); len(left) != 2 {
		t.Errorf("left: %v", left)
	}
}

// One pass has a bound, and tells that there is more.
func TestPruneSessionsIsBounded(t *testing.T) {
	t.Parallel()
	config, now := t.TempDir(), time.Now()
	const all = pruneMost + 3
	for i := range all {
		if err := noteSession(config, sessionN(i), time.Hour, now.Add(-time.Duration(all+i)*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if more, err := pruneSessions(t.Context(), config, now, none); !more || err != nil {
		t.Fatalf("more = %v, %v", more, err)
	}
	want := []string{ // those that were due last
		"claudepool/sessions/" + sessionN(0), "claudepool/sessions/" + sessionN(1), "claudepool/sessions/" + sessionN(2),
	}
	if diff := cmp.Diff(want, files(t, config)); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	if more, err := pruneSessions(t.Context(), config, now, none); more || err != nil || files(t, config) != nil {
		t.Errorf("more = %v, %v, left %v", more, err, files(t, config))
	}
}

func TestPruneSessionsWithoutAnyIsNoError(t *testing.T) {
	t.Parallel()
	if more, err := pruneSessions(t.Context(), filepath.Join(t.TempDir(), "none"), time.Now(), none); more || err != nil {
		t.Errorf("pruneSessions = %v, %v", more, err)
	}
}

func TestPruneTranscripts(t *testing.T) {
	t.Parallel()
	const id = "task-0123456789abcdefghjkmnpqrs"
	now := time.Now().Truncate(time.Second)
	name := func(n int) string { return transcriptName(id, n) }
	busy := func(n string) bool { return n == name(4) }
	for what, c := range map[string]struct {
		keep Retention
		want []string // of 1 to 4, where n is n hours old, and 4 is being written
	}{
		"all":           {Retention{-1, -1}, []string{name(1), name(2), name(3), name(4)}},
		"by count":      {Retention{2, -1}, []string{name(1), name(2), name(4)}},
		"by age":        {Retention{-1, 90 * time.Minute}, []string{name(1), name(4)}},
		"by both":       {Retention{3, 150 * time.Minute}, []string{name(1), name(2), name(4)}},
		"young, enough": {Retention{4, 5 * time.Hour}, []string{name(1), name(2), name(3), name(4)}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir, long := t.TempDir(), now.Add(-999*time.Hour)
			for n := range 4 {
				put(t, now.Add(-time.Duration(n+1)*time.Hour), dir, name(n+1))
			}
			foreign := []string{ // not ours, however old
				"notes.jsonl", "task-x.1.jsonl", id + ".jsonl", id + ".0.jsonl", id + ".1.json", id + ".1.jsonl.bak", "x" + id + ".1.jsonl",
			}
			for _, f := range foreign {
				put(t, long, dir, f)
			}
			put(t, long, dir, transcriptName(id, 9), "inside") // a folder of that name
			link(t, filepath.Join(dir, "notes.jsonl"), dir, transcriptName(id, 8))
			tr, err := openTranscripts(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer tr.close()
			if more, err := tr.prune(t.Context(), c.keep, busy, now); more || err != nil {
				t.Errorf("prune = %v, %v", more, err)
			}
			want := slices.Concat(c.want, foreign, []string{transcriptName(id, 8), transcriptName(id, 9) + "/inside"})
			slices.Sort(want)
			if diff := cmp.Diff(want, files(t, dir)); diff != "" {
				t.Errorf("left (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("is bounded", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		for n := range pruneMost + 5 {
			put(t, now.Add(-time.Duration(n)*time.Second), dir, transcriptName(id+".1.2", n+1))
		}
		tr, err := openTranscripts(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer tr.close()
		for i, want := range []int{5, 2} {
			more, err := tr.prune(t.Context(), Retention{Count: 2, Age: -1}, busy, now)
			if left := files(t, dir); err != nil || more != (i == 0) || len(left) != want {
				t.Errorf("prune %d = %v, %v; %d are left, want %d", i, more, err, len(left), want)
			}
		}
	})
}
