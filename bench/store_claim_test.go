package bench_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/claudepool/claudepool"
)

// BenchmarkStoreClaim measures how long it takes to find and take the best task
// among many that wait, and beside many that have ended. In each iteration a
// store with one pending task has its turn too, before or after.
func BenchmarkStoreClaim(b *testing.B) {
	for _, pending := range sizes(1, 1000, 100_000, 1_000_000) {
		b.Run(fmt.Sprintf("pending=%d", pending), func(b *testing.B) { claims(b, pending, 0) })
	}
	for _, finished := range sizes(1000, 1_000_000) {
		b.Run(fmt.Sprintf("pending=10/finished=%d", finished), func(b *testing.B) { claims(b, 10, finished) })
	}
}

// claims measures claims in a file with each setting, and in memory if nothing
// has ended there: a [claudepool.MemoryStore] does not keep that many.
func claims(b *testing.B, pending, finished int) {
	path, single := storeWith(b, pending, finished), storeWith(b, 1, 0)
	for _, k := range []storeKind{full, normal} {
		b.Run("store="+string(k), func(b *testing.B) {
			s, one := k.open(b, path), k.open(b, single)
			defer closeStore(b, s)
			defer closeStore(b, one)
			reportClaims(b, s, one)
		})
	}
	if finished > 0 {
		return
	}
	b.Run("store="+string(inMemory), func(b *testing.B) {
		s, one := inMemory.temporary(b), inMemory.temporary(b)
		for i := range pending {
			create(b, s, taskID("pending", i))
		}
		create(b, one, taskID("pending", 0))
		reportClaims(b, s, one)
	})
}

func reportClaims(b *testing.B, s, single claudepool.PoolStore) {
	var this, base []time.Duration
	for first := true; b.Loop(); first = !first {
		if first {
			base = append(base, claimOnce(b, single))
		}
		this = append(this, claimOnce(b, s))
		if !first {
			base = append(base, claimOnce(b, single))
		}
	}
	b.ReportMetric(0, "ns/op") // an iteration gives the claim back as well
	b.ReportMetric(float64(median(this))/1000, "µs/claim")
	b.ReportMetric(float64(quantile(this, 0.99))/1000, "µs/claim-p99")
	b.ReportMetric(float64(median(this))/float64(median(base)), "x-one")
}

// claimOnce returns how long a claim takes, and gives it back.
func claimOnce(tb testing.TB, s claudepool.PoolStore) time.Duration {
	begin := time.Now()
	r := claim(tb, s)
	took := time.Since(begin)
	giveBack(tb, s, r)
	return took
}

// BenchmarkStoreTask measures the three steps of a task's life that every store
// makes: it is created, claimed and finished. The steps in memory are measured
// in the same iterations.
func BenchmarkStoreTask(b *testing.B) {
	for _, k := range []storeKind{full, normal} {
		b.Run("store="+string(k), func(b *testing.B) {
			s, memory := k.temporary(b), inMemory.temporary(b)
			var this, base [3][]time.Duration
			for i := 0; b.Loop(); i++ {
				for step, took := range life(b, memory, i) {
					base[step] = append(base[step], took)
				}
				for step, took := range life(b, s, i) {
					this[step] = append(this[step], took)
				}
			}
			b.ReportMetric(0, "ns/op")
			for step, name := range []string{"create", "claim", "finish"} {
				b.ReportMetric(float64(median(this[step]))/1000, "µs/"+name)
				b.ReportMetric(float64(median(this[step]))/float64(median(base[step])), "x-memory-"+name)
			}
		})
	}
}

// life returns how long it takes to create, claim and finish a task.
func life(tb testing.TB, s claudepool.PoolStore, i int) (took [3]time.Duration) {
	begin := time.Now()
	create(tb, s, taskID("life", i))
	took[0] = time.Since(begin)
	begin = time.Now()
	r := claim(tb, s)
	took[1] = time.Since(begin)
	begin = time.Now()
	finish(tb, s, r)
	took[2] = time.Since(begin)
	return took
}

// TestStoreStepsAreMeasured makes sure that what is measured happens.
func TestStoreStepsAreMeasured(t *testing.T) {
	for _, k := range []storeKind{inMemory, normal, full} {
		s := k.temporary(t)
		for i := range 3 {
			for step, took := range life(t, s, i) {
				if took <= 0 {
					t.Errorf("%s: step %d took %v, want some time", k, step, took)
				}
			}
		}
		create(t, s, taskID("pending", 0))
		for range 3 {
			if took := claimOnce(t, s); took <= 0 {
				t.Errorf("%s: a claim took %v, want some time", k, took)
			}
		}
		got, err := s.Count(t.Context())
		if err != nil || got[claudepool.StateCompleted] != 3 || got[claudepool.StatePending] != 1 || got[claudepool.StateRunning] != 0 {
			t.Errorf("%s: Count = %v, %v, want 3 completed tasks and a pending one", k, got, err)
		}
	}
}
