package bench_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/claudepool/claudepool"
)

// BenchmarkStoreResult measures tasks from their submission to their result,
// with each store in turn: as many submitters as slots, each of which waits for
// the result before it submits the next task.
func BenchmarkStoreResult(b *testing.B) {
	const tasks = 400
	kinds := []storeKind{inMemory, normal, full}
	for _, slots := range []int{1, 2, 8} {
		b.Run(fmt.Sprintf("slots=%d", slots), func(b *testing.B) {
			took := map[storeKind][]time.Duration{}
			for b.Loop() {
				for _, k := range kinds {
					took[k] = append(took[k], results(b, k, slots, tasks))
				}
			}
			b.ReportMetric(0, "ns/op") // an iteration is no task
			memory := median(took[inMemory])
			for _, k := range kinds {
				m := median(took[k])
				b.ReportMetric(tasks/m.Seconds(), string(k)+"-tasks/s")
				if k != inMemory {
					b.ReportMetric(float64(m)/float64(memory), "x-memory-"+string(k))
				}
			}
		})
	}
}

func TestStoreResultsComeBack(t *testing.T) {
	for _, k := range []storeKind{inMemory, normal, full} {
		if took := results(t, k, 2, 20); took <= 0 {
			t.Errorf("%s: 20 tasks took %v, want some time", k, took)
		}
	}
}

// results returns how long a new pool with a new store takes for n tasks.
func results(tb testing.TB, k storeKind, slots, n int) time.Duration {
	tb.Helper()
	s := k.temporary(tb)
	p := poolOn(tb, s, slots, newAgent())
	defer closePool(tb, p)
	begin := time.Now()
	var next atomic.Int64
	var g errgroup.Group
	for range slots {
		g.Go(func() error {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				r, err := p.Run(tb.Context(), claudepool.Task{Prompt: prompt(int(i))})
				if err != nil {
					return err
				}
				if r.Output != prompt(int(i)) {
					return fmt.Errorf("task %d was answered %q, want its prompt", i, r.Output)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		tb.Fatal(err)
	}
	took := time.Since(begin)
	counts, err := s.Count(tb.Context())
	if err != nil || counts[claudepool.StateCompleted] != n {
		tb.Fatalf("the store counts %v (%v), want %d completed tasks", counts, err, n)
	}
	return took
}
