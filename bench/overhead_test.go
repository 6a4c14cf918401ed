package bench_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/claudepool/claudepool"
)

// load is one point of the curve: this many tasks wait when the slots begin.
type load struct{ slots, queued int }

// smallest is what the others are compared with.
var smallest = load{slots: 1, queued: 10}

// tasks is at least how many a measurement runs, in as many rounds as it takes.
const tasks = 20_000

// overhead is what one task costs the pool: from Submit to the return of Wait.
type overhead struct {
	perTask time.Duration
	allocs  float64
}

// BenchmarkOverhead measures what the pool itself needs for a task: the agent
// answers at once, nobody reads events, no transcripts are kept.
func BenchmarkOverhead(b *testing.B) {
	for _, slots := range []int{1, 8, 64, 1000} {
		for _, queued := range []int{10, 1000, 10_000, 100_000} {
			b.Run(fmt.Sprintf("slots=%d/queued=%d", slots, queued), func(b *testing.B) {
				var this, base []time.Duration
				var allocs []float64
				for b.Loop() {
					base = append(base, measure(b, smallest, tasks).perTask)
					o := measure(b, load{slots, queued}, tasks)
					this, allocs = append(this, o.perTask), append(allocs, o.allocs)
				}
				b.ReportMetric(0, "ns/op") // an iteration is no task
				b.ReportMetric(float64(median(this)), "ns/task")
				b.ReportMetric(median(allocs), "allocs/task")
				b.ReportMetric(float64(median(this))/float64(median(base)), "x-smallest")
			})
		}
	}
}

func TestOverheadRunsEveryTask(t *testing.T) {
	for _, l := range []load{{1, 10}, {3, 100}} {
		if o := measure(t, l, 200); o.perTask <= 0 || o.allocs < 1 {
			t.Errorf("measure(%+v) = %+v, want a time and allocations", l, o)
		}
	}
}

// measure runs at least n tasks on a new pool: as many as l says are queued
// before the slots begin, and again when all of them have ended.
func measure(tb testing.TB, l load, n int) overhead {
	tb.Helper()
	p := pool(tb, l.slots, newAgent())
	defer closePool(tb, p)
	ids := make([]claudepool.TaskID, l.queued)
	rounds := (n + l.queued - 1) / l.queued
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	begin := time.Now()
	for range rounds {
		round(tb, p, ids)
	}
	took := time.Since(begin)
	runtime.ReadMemStats(&after)
	if got := p.Metrics().Outcomes[claudepool.OutcomeOK].Count; got != rounds*l.queued {
		tb.Fatalf("%d tasks ended well, want %d", got, rounds*l.queued)
	}
	ran := rounds * l.queued
	return overhead{took / time.Duration(ran), float64(after.Mallocs-before.Mallocs) / float64(ran)}
}

// round queues a task for each place in ids, lets the slots begin, and waits
// for all of them.
func round(tb testing.TB, p *claudepool.Pool, ids []claudepool.TaskID) {
	p.Pause()
	for i := range ids {
		id, err := p.Submit(tb.Context(), claudepool.Task{Prompt: "answer at once"})
		if err != nil {
			tb.Fatal(err)
		}
		ids[i] = id
	}
	p.Resume()
	for _, id := range ids {
		if _, err := p.Wait(tb.Context(), id); err != nil {
			tb.Fatal(err)
		}
	}
}
