package bench_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/claudepool/claudepool/worktree"
)

// switchFiles is how many files the repository has whose places are switched.
const switchFiles = 50_000

// switchCases are how many files a task changes, and in how many folders.
var switchCases = []struct{ files, folders int }{{0, 0}, {500, 50}, {500, 500}}

// BenchmarkSwitch compares what lies between two tasks in a warm place, from the
// end of one to the beginning of the next with all that was changed kept, with
// "git worktree add" and "git worktree remove --force" for each task.
func BenchmarkSwitch(b *testing.B) {
	for _, c := range switchCases {
		b.Run(fmt.Sprintf("%d-files-in-%d-folders", c.files, c.folders), func(b *testing.B) {
			s := newSwitcher(b, switchFiles)
			var warm, cold []time.Duration
			var ratio []float64
			for i := 0; b.Loop(); i++ {
				pair := []func() time.Duration{func() time.Duration { return s.warm(b, c.files, c.folders) }, func() time.Duration { return s.cold(b, c.files, c.folders) }}
				took := make([]time.Duration, 2)
				for j := range pair {
					k := (i + j) % 2
					took[k] = pair[k]()
				}
				warm, cold = append(warm, took[0]), append(cold, took[1])
				ratio = append(ratio, float64(took[1])/float64(took[0]))
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(ms(median(warm)), "ms/warm")
			b.ReportMetric(ms(median(cold)), "ms/add+remove")
			b.ReportMetric(median(ratio), "x-add+remove")
			b.ReportMetric(float64(s.kept)/float64(s.n)/1024, "KiB-kept/task")
			b.ReportMetric(float64(s.checkout)/(1<<20), "MiB/checkout")
		})
	}
}

func TestSwitchKeepsWhatWasChanged(t *testing.T) {
	s := newSwitcher(t, 2000)
	s.warm(t, 10, 5)
	s.cold(t, 10, 5)
	head := s.git(t, "rev-parse", "HEAD")
	if got := s.git(t, "diff", "--name-only", head, "claude-pool/w1"); len(strings.Fields(got)) != 10 {
		t.Errorf("the branch of the first task has %q; want its 10 files", got)
	}
	if s.kept == 0 || s.checkout == 0 {
		t.Errorf("kept %d bytes, a checkout has %d", s.kept, s.checkout)
	}
}

// switcher is a repository with a place in which work has begun.
type switcher struct {
	repo, dir string
	place     *worktree.Place
	n         int   // tasks in the place so far
	kept      int64 // bytes that the repository has grown by them
	checkout  int64 // bytes of a fresh checkout
}

func newSwitcher(tb testing.TB, files int) *switcher {
	tb.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		tb.Skip("needs git: ", err)
	}
	s := &switcher{repo: tb.TempDir(), dir: tb.TempDir()}
	for i := range files {
		path := filepath.Join(s.repo, switchFile(i%500, i/500))
		if i < 500 {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				tb.Fatal(err)
			}
		}
		// About 1 KB, unlike that of any other.
		if err := os.WriteFile(path, []byte(strings.Repeat(fmt.Sprintln("the file", i), 60)), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"init", "-q", "-b", "main"}, {"config", "user.name", "Person"}, {"config", "user.email", "person@example.com"}, {"config", "gc.auto", "0"},
		{"add", "."}, {"commit", "-q", "-m", "one"}, {"repack", "-q", "-a", "-d"},
	} {
		s.git(tb, args...)
	}
	m, err := worktree.Open(tb.Context(), worktree.Options{Repo: s.repo, Home: filepath.Join(s.dir, "home")})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := m.Close(); err != nil {
			tb.Error(err)
		}
	})
	if s.place, err = m.Acquire(tb.Context(), worktree.Worktree); err != nil {
		tb.Fatal(err)
	}
	s.begin(tb)
	return s
}

// switchFile names a file.
func switchFile(folder, n int) string { return fmt.Sprintf("d%d/f%d", folder, n) }

func (s *switcher) git(tb testing.TB, args ...string) string {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), "git", args...)
	cmd.Dir = s.repo
	out, err := cmd.CombinedOutput()
	if err != nil {
		tb.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (s *switcher) begin(tb testing.TB) {
	s.n++
	if err := s.place.Begin(tb.Context(), worktree.Work{ID: fmt.Sprint("w", s.n)}); err != nil {
		tb.Fatal(err)
	}
}

// change does what a task does in a checkout.
func change(tb testing.TB, top string, task, files, folders int) {
	for i := range files {
		text := strings.Repeat(fmt.Sprintln("the file", i, "as task", task, "has it"), 40)
		if err := os.WriteFile(filepath.Join(top, switchFile(i%folders, i/folders)), []byte(text), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
}

// warm returns how long it takes from the end of a task to the beginning of the next.
func (s *switcher) warm(tb testing.TB, files, folders int) time.Duration {
	change(tb, s.place.Root(), s.n, files, folders)
	before := size(tb, filepath.Join(s.repo, ".git"))
	begin := time.Now()
	if _, err := s.place.End(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	s.begin(tb)
	took := time.Since(begin)
	s.kept += size(tb, filepath.Join(s.repo, ".git")) - before
	return took
}

// cold returns how long it takes to make a worktree for a task and to remove it.
func (s *switcher) cold(tb testing.TB, files, folders int) time.Duration {
	top := filepath.Join(s.dir, "cold")
	begin := time.Now()
	s.git(tb, "worktree", "add", "-q", "--detach", top)
	took := time.Since(begin)
	s.checkout = size(tb, top)
	change(tb, top, -s.n, files, folders)
	begin = time.Now()
	s.git(tb, "worktree", "remove", "--force", top)
	return took + time.Since(begin)
}

// size returns how many bytes the files below a folder have.
func size(tb testing.TB, dir string) (sum int64) {
	tb.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return sum
}
