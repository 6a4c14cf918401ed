package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// group is what is compared: all contenders at the same work.
type group struct {
	shape   string
	workers int
	cells   []cell // by contender
}

// cell collects the samples of a contender.
type cell struct {
	perSecond []float64
	each      []time.Duration // of all rounds
	commits   float64
}

// add adds a sample: one that was timed, or one in which commits were counted.
func (c *cell) add(m sample, counted bool) {
	if counted {
		c.commits = m.commits
		return
	}
	c.perSecond = append(c.perSecond, m.perSecond)
	c.each = append(c.each, m.each...)
}

// rate returns the tasks per second.
func (c *cell) rate() float64 { return quantile(c.perSecond, 0.5) }

// best returns the rate of the best contender of a kind.
func (g *group) best(k kind) float64 {
	var best float64
	for i, c := range contenders() {
		if c.kind == k {
			best = max(best, g.cells[i].rate())
		}
	}
	return best
}

// print prints the group as a table. Columns have the same width in all groups.
func (g *group) print(out io.Writer) error {
	workers := "workers"
	if g.workers == 1 {
		workers = "worker"
	}
	text := fmt.Sprintf("\n%-28s%9s%9s%10s%12s%12s%14s\n", fmt.Sprintf("%s, %d %s", g.shape, g.workers, workers),
		"tasks/s", "x-river", "x-memory", "p50", "p99", "commits/task")
	for i, who := range contenders() {
		c := &g.cells[i]
		commits, p50, p99 := "-", "-", "-"
		if who.kind != inMemory {
			commits = fmt.Sprintf("%.2f", c.commits)
		}
		if len(c.each) > 0 {
			p50, p99 = inMS(quantile(c.each, 0.5)), inMS(quantile(c.each, 0.99))
		}
		text += fmt.Sprintf("%-28s%9.0f%9.2f%10.3f%12s%12s%14s\n", who.name, c.rate(),
			c.rate()/g.best(rival), c.rate()/g.best(inMemory), p50, p99, commits)
	}
	_, err := io.WriteString(out, text)
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
