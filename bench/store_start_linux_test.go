package bench_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/sqlitestore"
)

// startEnv names the file that this program is to start a pool on instead of
// running tests: a start is measured in a process of its own.
const startEnv = "CLAUDEPOOL_BENCH_START"

func init() {
	path := os.Getenv(startEnv)
	if path == "" {
		return
	}
	if err := startAndTell(context.Background(), path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// started is what a start took.
type started struct {
	Open, Build, First time.Duration // each from the beginning of Open
	Resident, Peak     int           // kB, once a task has been run
	Completed          int           // tasks that the store counts then
}

// startAndTell starts a pool on a store, has it run a task, and writes what that
// took to the standard output.
func startAndTell(ctx context.Context, path string) error {
	var st started
	begin := time.Now()
	s, err := sqlitestore.Open(ctx, path, sqlitestore.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	st.Open = time.Since(begin)
	p, err := claudepool.NewPoolBuilder().Config(claudepool.PoolConfig{Launcher: newAgent(), Store: s, SlotMemory: -1}).Build(ctx)
	if err != nil {
		return err
	}
	defer p.Close()
	st.Build = time.Since(begin)
	if _, err := p.Run(ctx, claudepool.Task{Prompt: prompt(0)}); err != nil {
		return err
	}
	st.First = time.Since(begin)
	counts, err := s.Count(ctx)
	if err != nil {
		return err
	}
	st.Completed = counts[claudepool.StateCompleted]
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range bytes.Lines(text) {
		for name, value := range map[string]*int{"VmRSS:": &st.Resident, "VmHWM:": &st.Peak} {
			if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
				if _, err := fmt.Sscan(string(rest), value); err != nil {
					return fmt.Errorf("/proc/self/status: %w in %q", err, line)
				}
			}
		}
	}
	return json.NewEncoder(os.Stdout).Encode(st)
}

// start starts a pool on a store in a process of its own.
func start(tb testing.TB, path string) started {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), startEnv+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("starting a pool on %s: %v", path, err)
	}
	var st started
	if err := json.Unmarshal(out, &st); err != nil {
		tb.Fatalf("starting a pool on %s: %v in %q", path, err, out)
	}
	return st
}

// BenchmarkStoreStart measures how long a new process takes to open a store and
// to start a pool on it, and its memory when that has run a task, with many
// finished tasks in the store and with none.
func BenchmarkStoreStart(b *testing.B) {
	for _, finished := range sizes(1000, 1_000_000) {
		b.Run(fmt.Sprintf("finished=%d", finished), func(b *testing.B) {
			path, empty := storeWith(b, 0, finished), storeWith(b, 0, 0)
			var open, build, first, base []time.Duration
			var resident, peak, less []float64
			for b.Loop() {
				e := start(b, empty)
				s := start(b, path)
				open, build, first = append(open, s.Open), append(build, s.Build), append(first, s.First)
				base = append(base, e.First)
				resident, peak = append(resident, float64(s.Resident)/1024), append(peak, float64(s.Peak)/1024)
				less = append(less, float64(e.Resident)/1024)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(ms(median(open)), "ms/open")
			b.ReportMetric(ms(median(build)), "ms/build")
			b.ReportMetric(ms(median(first)), "ms/first-result")
			b.ReportMetric(float64(median(first))/float64(median(base)), "x-empty")
			b.ReportMetric(median(resident), "MiB")
			b.ReportMetric(median(peak), "MiB/peak")
			b.ReportMetric(median(resident)-median(less), "MiB-more-than-empty")
		})
	}
}

func TestStoreStartIsMeasured(t *testing.T) {
	path := storeWith(t, 0, 5)
	for n := range 2 {
		st := start(t, path)
		if st.Completed != 6+n {
			t.Errorf("start %d: the store counts %d completed tasks, want %d", n, st.Completed, 6+n)
		}
		if st.Open <= 0 || st.Build <= st.Open || st.First <= st.Build || st.Resident <= 0 || st.Peak < st.Resident {
			t.Errorf("start %d took %+v, want times one after the other, and memory", n, st)
		}
	}
}
