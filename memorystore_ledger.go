package claudepool

import (
	"slices"
	"time"
)

// memAllowance is what became of an allowance.
type memAllowance struct {
	Funds
	tasks   int // that have it and are kept
	waiting int // of them
}

// memLedger holds the sums of money.
type memLedger struct {
	total   Ledger
	entries []spend  // by time
	windows []window // sums that were asked for, the newest last
}

// spend is what was spent at a time. Old ones are merged into one a minute,
// with the time of the last, so that a window can only count too much.
type spend struct {
	at            time.Time
	cost, assumed Microdollars
	attempts      int
}

// window is the sum of what was spent since a time.
type window struct {
	since          time.Time
	spent, assumed Microdollars
	attempts       int
}

func (w *window) add(s spend) {
	w.spent, w.assumed = AddCost(w.spent, s.cost), AddCost(w.assumed, s.assumed)
	w.attempts += s.attempts
}

const (
	maxWindows = 8       // how many sums are kept up to date
	maxSpends  = 200_000 // above this number of entries the older half is merged
)

// add enters a cost.
func (l *memLedger) add(s spend) {
	s.at = s.at.Round(0) // compare by the wall clock alone
	l.total.Spent, l.total.Assumed = AddCost(l.total.Spent, s.cost), AddCost(l.total.Assumed, s.assumed)
	l.total.Attempts += s.attempts
	for i := range l.windows {
		if w := &l.windows[i]; !s.at.Before(w.since) {
			w.add(s)
		}
	}
	i := len(l.entries)
	for i > 0 && l.entries[i-1].at.After(s.at) { // entries come almost in order
		i--
	}
	l.entries = slices.Insert(l.entries, i, s)
	if len(l.entries) > maxSpends {
		l.merge(len(l.entries) / 2)
	}
}

// merge merges the first n entries into one a minute.
func (l *memLedger) merge(n int) {
	merged := l.entries[:0]
	for _, s := range l.entries[:n] {
		if last := len(merged) - 1; last >= 0 && merged[last].at.Truncate(time.Minute).Equal(s.at.Truncate(time.Minute)) {
			s.cost, s.assumed = AddCost(s.cost, merged[last].cost), AddCost(s.assumed, merged[last].assumed)
			s.attempts += merged[last].attempts
			merged = merged[:last]
		}
		merged = append(merged, s)
	}
	l.entries = append(merged, l.entries[n:]...)
}

// since returns the sums of what was spent at that time or later. The first
// call for a time adds it up; from then on the sum is kept up to date.
func (l *memLedger) since(at time.Time) Ledger {
	if at.IsZero() {
		return l.total
	}
	at = at.Round(0)
	i := slices.IndexFunc(l.windows, func(w window) bool { return w.since.Equal(at) })
	if i < 0 {
		w := window{since: at}
		first, _ := slices.BinarySearchFunc(l.entries, at, func(s spend, at time.Time) int { return s.at.Compare(at) })
		for _, s := range l.entries[first:] {
			w.add(s)
		}
		if len(l.windows) == maxWindows {
			l.windows = slices.Delete(l.windows, 0, 1)
		}
		l.windows = append(l.windows, w)
		i = len(l.windows) - 1
	}
	w := &l.windows[i]
	return Ledger{Spent: w.spent, Assumed: w.assumed, Reserved: l.total.Reserved, Attempts: w.attempts}
}
