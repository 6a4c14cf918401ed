package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"
)

// report holds what was measured.
type report struct {
	plan  plan
	syncs float64 // of the disk, per second
	cells map[place]*cell
}

// place is where a figure stands in the table.
type place struct {
	shape   string
	workers int
	name    string // of the contender
}

// cell collects the samples of a place.
type cell struct {
	perSecond []float64
	each      []time.Duration // of all rounds
	commits   float64
}

// add adds a sample: one that was timed, or one in which commits were counted.
func (r *report) add(at place, m sample, counted bool) {
	c := r.cells[at]
	if c == nil {
		c = &cell{}
		r.cells[at] = c
	}
	if counted {
		c.commits = m.commits
	} else {
		c.perSecond = append(c.perSecond, m.perSecond)
		c.each = append(c.each, m.each...)
	}
}

// rate returns the tasks per second.
func (c *cell) rate() float64 { return quantile(c.perSecond, 0.5) }

// best returns the rate of the best contender of a kind.
func (r *report) best(shape string, workers int, k kind) float64 {
	var best float64
	for _, c := range contenders() {
		if c.kind == k {
			best = max(best, r.cells[place{shape, workers, c.name}].rate())
		}
	}
	return best
}

// print prints the table, and what there is to know about it.
func (r *report) print(out io.Writer) error {
	fmt.Fprintf(out, "The disk does %.0f writes of 4 KiB with fsync a second. Medians of %d rounds; %d tasks in a closed loop, %d in a burst or a bulk.\n\n",
		r.syncs, r.plan.rounds, r.plan.closed, r.plan.burst)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "shape\tworkers\tsystem\ttasks/s\tx-river\tx-memory\tp50\tp99\tcommits/task")
	for _, sh := range shapes() {
		for _, workers := range r.plan.workers {
			rivals, memory := r.best(sh.name, workers, rival), r.best(sh.name, workers, inMemory)
			for _, who := range contenders() {
				c := r.cells[place{sh.name, workers, who.name}]
				commits, p50, p99 := "-", "-", "-"
				if who.kind != inMemory {
					commits = fmt.Sprintf("%.2f", c.commits)
				}
				if len(c.each) > 0 {
					p50, p99 = inMS(quantile(c.each, 0.5)), inMS(quantile(c.each, 0.99))
				}
				fmt.Fprintf(t, "%s\t%d\t%s\t%.0f\t%.2f\t%.3f\t%s\t%s\t%s\n", sh.name, workers, who.name, c.rate(),
					c.rate()/rivals, c.rate()/memory, p50, p99, commits)
			}
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, "\nx-river: against the best row of river with as many workers; x-memory: against the pool that stores nothing.")
	return err
}

func inMS(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}

// quantile returns the value of v, which must not be empty, that the share q of
// the others are below.
func quantile[T cmp.Ordered](v []T, q float64) T {
	s := slices.Sorted(slices.Values(v))
	return s[min(int(q*float64(len(s))), len(s)-1)]
}

// syncRate returns how many small writes a second the disk of dir can make safe
// one after the other. Without group commit no store commits more often.
func syncRate(dir string) (rate float64, err error) {
	f, err := os.CreateTemp(dir, "bench-")
	if err != nil {
		return 0, err
	}
	defer func() { err = cmp.Or(err, f.Close(), os.Remove(f.Name())) }()
	const n = 300
	page := make([]byte, 4096)
	begin := time.Now()
	for range n {
		if _, err := f.Write(page); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
	}
	return n / time.Since(begin).Seconds(), nil
}
