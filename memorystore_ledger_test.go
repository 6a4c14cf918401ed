package claudepool

import (
	"testing"
	"time"
)

func TestLedgerMergesOldCosts(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, time.March, 1, 0, 0, 30, 0, time.UTC)
	var l memLedger
	const total = maxSpends + 1
	for i := range total {
		l.add(spend{at: begin.Add(time.Duration(i) * time.Second), cost: 1, attempts: 1})
	}
	if n := len(l.entries); n > total/2+total/2/60+5 {
		t.Errorf("%d entries are left of %d, want the older half to be one a minute", n, total)
	}
	for _, c := range []struct {
		name  string
		since time.Time
		want  Microdollars
	}{
		{"everything", time.Time{}, total},
		{"the beginning", begin, total},
		{"a full minute", begin.Add(30 * time.Second), total - 30},
		{"within a merged minute, which counts as a whole", begin.Add(60 * time.Second), total - 30},
		{"the last second of a merged minute", begin.Add(89 * time.Second), total - 30},
		{"a recent second", begin.Add((total - 7) * time.Second), 7},
		{"the future", begin.Add(total * time.Second), 0},
	} {
		for range 2 { // added up, and kept
			if got := l.since(c.since); got.Spent != c.want || got.Attempts != int(c.want) {
				t.Errorf("since %s: %v of %d attempts, want %v", c.name, got.Spent, got.Attempts, c.want)
			}
		}
	}
}

func TestLedgerKeepsFewWindows(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, time.March, 1, 0, 0, 0, 0, time.UTC)
	var l memLedger
	for i := range 5 * maxWindows {
		at := begin.Add(time.Duration(i) * time.Hour)
		l.add(spend{at: at, cost: 1, attempts: 1})
		if got := l.since(at).Spent; got != 1 {
			t.Errorf("since hour %d: %v, want the last cost alone", i, got)
		}
	}
	if len(l.windows) > maxWindows {
		t.Errorf("%d windows are kept, want at most %d", len(l.windows), maxWindows)
	}
	if got := l.since(begin).Spent; got != 5*maxWindows {
		t.Errorf("since the first hour, which was forgotten: %v, want %d", got, 5*maxWindows)
	}
}
