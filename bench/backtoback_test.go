package bench_test

import (
	"testing"
	"time"

	"github.com/claudepool/claudepool"
)

// BenchmarkBackToBack runs tasks through one warm slot, each with the proven
// reset that follows it, and as many with a process of its own for each. One
// iteration is a pair of both.
func BenchmarkBackToBack(b *testing.B) {
	bed := newBed(b)
	s := bed.newSlot()
	s.runAndReset("the first turn of a process is not yet a warm one")
	var warm, single pairs
	for i := 0; b.Loop(); i++ {
		alternate(i,
			func() { warm.add(s.runAndReset(taskText(i))) },
			func() { single.add(bed.single(taskText(i))) })
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(median(warm.wall)), "ms/warm")
	b.ReportMetric(ms(median(single.wall)), "ms/single")
	b.ReportMetric(float64(median(single.wall))/float64(median(warm.wall)), "x-faster")
	b.ReportMetric(ms(median(warm.cpu)), "cpu-ms/warm")
	b.ReportMetric(ms(median(single.cpu)), "cpu-ms/single")
	b.ReportMetric(float64(median(single.cpu))/float64(median(warm.cpu)), "x-less-cpu")
	s.allWarm()
}

func TestBackToBackUsesOneWarmProcess(t *testing.T) {
	bed := newBed(t)
	s := bed.newSlot()
	before := bed.api.Count()
	for i := range 2 {
		if u := s.runAndReset(taskText(i)); u.wall <= 0 || u.cpu <= 0 {
			t.Errorf("runAndReset = %+v, want a time and CPU time", u)
		}
	}
	warm := bed.api.Count() - before
	if u := bed.single(taskText(2)); u.wall <= 0 || u.cpu <= 0 {
		t.Errorf("single = %+v, want a time and CPU time", u)
	}
	if single := bed.api.Count() - before - warm; warm != 2 || single != 1 {
		t.Errorf("2 tasks of the slot asked the model %d times, 1 of its own process %d times; want as many as tasks", warm, single)
	}
	s.allWarm()
}

// pairs collects one side of all pairs.
type pairs struct{ wall, cpu []time.Duration }

func (p *pairs) add(u usage) { p.wall, p.cpu = append(p.wall, u.wall), append(p.cpu, u.cpu) }

// allWarm fails unless every task so far ran in the same process, which was
// reset after each.
func (s *slot) allWarm() {
	s.tb.Helper()
	m := s.pool.Metrics()
	if m.Warm != m.Total.Count || m.Restarts+m.ResetFailures > 0 || m.Outcomes[claudepool.OutcomeOK].Count != m.Total.Count {
		s.tb.Errorf("of %d tasks %d ran warm, with %d resets that failed and %d restarts; want all, none and none", m.Total.Count, m.Warm, m.ResetFailures, m.Restarts)
	}
}
