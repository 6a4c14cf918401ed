package bench_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/claudepool/claudepool"
)

// BenchmarkMemory measures what a queued task and an idle slot keep in memory,
// the stacks of goroutines included, against the least that could hold them: a
// task in a slice, a goroutine that waits at a channel. The agents take nothing.
func BenchmarkMemory(b *testing.B) {
	b.Run("task", func(b *testing.B) {
		report(b, "task", func() (got, least float64) { return queuedTasks(b, 100_000), plainTasks(100_000) })
	})
	b.Run("slot", func(b *testing.B) {
		report(b, "slot", func() (got, least float64) { return idleSlots(b, 1000), plainGoroutines(1000) })
	})
}

func report(b *testing.B, what string, measure func() (got, least float64)) {
	var got, least []float64
	for b.Loop() {
		g, l := measure()
		got, least = append(got, g), append(least, l)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(got), "B/"+what)
	b.ReportMetric(median(least), "B/least")
	b.ReportMetric(median(got)/median(least), "x-least")
}

func TestMemoryIsMeasured(t *testing.T) {
	if got := queuedTasks(t, 10_000); got <= 0 {
		t.Errorf("a queued task takes %.0f bytes, want more than none", got)
	}
	if got := idleSlots(t, 1000); got <= 0 {
		t.Errorf("an idle slot takes %.0f bytes, want more than none", got)
	}
}

// inUse returns the bytes in the heap and in stacks, without garbage.
func inUse() float64 {
	runtime.GC()
	runtime.GC() // what the first one has finalized is gone after the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}

// prompt makes a text of about 100 bytes.
func prompt(i int) string {
	return fmt.Sprintf("Read the file number %d and say in a sentence what it is for, and which other file needs it the most.", i)
}

// queuedTasks returns the bytes of each of n queued tasks.
func queuedTasks(tb testing.TB, n int) float64 {
	tb.Helper()
	p := pool(tb, 1, newAgent())
	defer closePool(tb, p)
	p.Pause()
	before := inUse()
	for i := range n {
		if _, err := p.Submit(tb.Context(), claudepool.Task{Prompt: prompt(i)}); err != nil {
			tb.Fatal(err)
		}
	}
	after := inUse()
	st, err := p.Status(tb.Context())
	if err != nil || st.PendingTasks != n {
		tb.Fatalf("%d tasks wait (%v), want %d", st.PendingTasks, err, n)
	}
	return (after - before) / float64(n)
}

func plainTasks(n int) float64 {
	before := inUse()
	tasks := make([]claudepool.Task, n)
	for i := range tasks {
		tasks[i].Prompt = prompt(i)
	}
	after := inUse()
	runtime.KeepAlive(tasks)
	return (after - before) / float64(n)
}

// idleSlots returns the bytes of each of n idle slots, without the pool that
// they are in.
func idleSlots(tb testing.TB, n int) float64 {
	tb.Helper()
	one := pool(tb, 1, newAgent())
	defer closePool(tb, one)
	before := inUse()
	all := pool(tb, n+1, newAgent())
	defer closePool(tb, all)
	first := inUse()
	other := pool(tb, 1, newAgent())
	defer closePool(tb, other)
	alone := inUse() - first
	return (first - before - alone) / float64(n)
}

func plainGoroutines(n int) float64 {
	before := inUse()
	stop, running := make(chan struct{}), make(chan struct{})
	for range n {
		go func() {
			running <- struct{}{}
			<-stop
			running <- struct{}{}
		}()
	}
	for range n {
		<-running
	}
	after := inUse()
	close(stop)
	for range n {
		<-running
	}
	return (after - before) / float64(n)
}
