package bench_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claudepool/claudepool"
)

// The fan-out whose makespan is measured.
const (
	fanTasks = 1000
	fanSlots = 8
)

// BenchmarkMakespan runs a fan-out of 1,000 tasks of 10 to 100 ms over 8 slots,
// against the list schedule of the same lengths. On a machine that is busy with
// other things an agent's timer fires late, which is not the pool's doing: so
// it also compares with the list schedule of the lengths as they turned out.
func BenchmarkMakespan(b *testing.B) {
	lengths := lengths(fanTasks)
	want := listSchedule(lengths, fanSlots)
	var got []time.Duration
	var toRun []float64
	for b.Loop() {
		took, ran := fanOut(b, lengths, fanSlots)
		got, toRun = append(got, took), append(toRun, float64(took)/float64(listSchedule(ran, fanSlots)))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(median(got)), "ms/makespan")
	b.ReportMetric(ms(want), "ms/list")
	b.ReportMetric(float64(median(got))/float64(want), "x-list")
	b.ReportMetric(median(toRun), "x-list-as-run")
}

// Where the clock stands still while the pool works, only the order and the
// slots that are left idle count.
func TestMakespanIsThatOfTheListSchedule(t *testing.T) {
	lengths := lengths(fanTasks)
	want := listSchedule(lengths, fanSlots)
	synctest.Test(t, func(t *testing.T) {
		got, ran := fanOut(t, lengths, fanSlots)
		if got != want {
			t.Errorf("makespan = %v, want %v", got, want)
		}
		if !slices.Equal(ran, lengths) {
			t.Error("the tasks ran for other lengths than theirs")
		}
	})
}

func TestListSchedule(t *testing.T) {
	// Two slots: 3 and 1, 1 goes on with 4 until 5, 3 with 1 until 4.
	if got := listSchedule([]time.Duration{3, 1, 4, 1}, 2); got != 5 {
		t.Errorf("listSchedule = %d, want 5", got)
	}
}

// lengths returns n lengths of 10 to 100 ms, the same at each call.
func lengths(n int) []time.Duration {
	r := rand.New(rand.NewPCG(1, 2))
	l := make([]time.Duration, n)
	for i := range l {
		l[i] = 10*time.Millisecond + time.Duration(r.Int64N(int64(90*time.Millisecond)))
	}
	return l
}

// listSchedule returns the time in which n machines do jobs of these lengths,
// each taking the next one in order as soon as it is free.
func listSchedule(lengths []time.Duration, n int) time.Duration {
	free := make([]time.Duration, n) // when each machine is free
	for _, d := range lengths {
		i := slices.Index(free, slices.Min(free))
		free[i] += d
	}
	return slices.Max(free)
}

// sleep answers a prompt that is a length after that time, with the time that
// it really was.
func sleep(ctx context.Context, prompt string) (string, error) {
	d, err := time.ParseDuration(prompt)
	if err != nil {
		return "", err
	}
	begin := time.Now()
	select {
	case <-time.After(d):
		return prompt + " took " + time.Since(begin).String(), nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// fanOut returns how long the pool takes for tasks of these lengths, and which
// lengths they really had.
func fanOut(tb testing.TB, lengths []time.Duration, slots int) (took time.Duration, ran []time.Duration) {
	tb.Helper()
	a := newAgent()
	a.answer = sleep
	p := pool(tb, slots, a)
	defer closePool(tb, p)
	tasks := make([]claudepool.Task, len(lengths))
	for i, d := range lengths {
		tasks[i].Prompt = d.String()
	}
	begin := time.Now()
	out, err := p.FanOut(tb.Context(), tasks, claudepool.FanOutOptions{})
	took = time.Since(begin)
	if err != nil {
		tb.Fatal(err)
	}
	for i, r := range out.Results {
		text, found := strings.CutPrefix(r.Output, tasks[i].Prompt+" took ")
		d, err := time.ParseDuration(text)
		if !found || err != nil {
			tb.Fatalf("result %d of the task %q is %q (%s)", i, tasks[i].Prompt, r.Output, r.Outcome)
		}
		ran = append(ran, d)
	}
	return took, ran
}
