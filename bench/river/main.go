package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "river:", err)
		stop()
		os.Exit(1)
	}
}

// plan is what to measure.
type plan struct {
	dir     string
	workers []int
	closed  int
	burst   int
	rounds  int
}

// tasks returns how many tasks a measurement of a shape runs.
func (p plan) tasks(sh shape) int {
	if sh.name == shapes()[0].name {
		return p.closed
	}
	return p.burst
}

// run measures as the arguments say, and prints to out.
func run(ctx context.Context, args []string, out io.Writer) error {
	p := plan{}
	f := flag.NewFlagSet("river", flag.ContinueOnError)
	f.StringVar(&p.dir, "dir", "", "folder for the database files, on the disk to measure (default: that for temporary files)")
	workers := f.String("workers", "1,2,8", "numbers of workers")
	f.IntVar(&p.closed, "closed", 50, "tasks of a closed loop")
	f.IntVar(&p.burst, "burst", 1000, "tasks of a burst and of a bulk")
	f.IntVar(&p.rounds, "rounds", 3, "rounds, of which the median counts")
	if err := f.Parse(args); err != nil {
		return err
	}
	for _, s := range strings.Split(*workers, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return fmt.Errorf("-workers: %q is not a number above zero", s)
		}
		p.workers = append(p.workers, n)
	}
	if p.closed < 1 || p.burst < 1 || p.rounds < 1 {
		return fmt.Errorf("-closed, -burst and -rounds must be above zero")
	}
	return p.measure(ctx, out)
}

// measure measures all of the plan, and prints each group when it is done.
func (p plan) measure(ctx context.Context, out io.Writer) error {
	syncs, err := syncRate(p.dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "The disk does %.0f writes of 4 KiB with fsync a second. Medians of %d rounds; %d tasks in a closed loop, %d in a burst or a bulk.\n"+
		"x-river: against the best row of river in the group; x-memory: against the pool that stores nothing.\n", syncs, p.rounds, p.closed, p.burst)
	w := countCommits()
	for _, sh := range shapes() {
		for _, workers := range p.workers {
			g, err := p.group(ctx, w, sh, workers)
			if err != nil {
				return err
			}
			if err := g.print(out); err != nil {
				return err
			}
		}
	}
	return nil
}

// group measures a shape with so many workers. In each round every contender
// has its turn, in the other order than in the round before. Commits are counted
// in a round of their own, for that takes time.
func (p plan) group(ctx context.Context, w *commitCounter, sh shape, workers int) (*group, error) {
	g := &group{shape: sh.name, workers: workers, cells: make([]cell, len(contenders()))}
	for round := range p.rounds + 1 {
		for i := range g.cells {
			if round%2 == 1 {
				i = len(g.cells) - 1 - i
			}
			c, count := contenders()[i], round == p.rounds
			if count && c.kind == inMemory {
				continue
			}
			m, err := w.measure(ctx, p.dir, c, sh, workers, p.tasks(sh), count)
			if err != nil {
				return nil, fmt.Errorf("%s, %s with %d workers: %w", c.name, sh.name, workers, err)
			}
			g.cells[i].add(m, count)
		}
	}
	return g, nil
}
