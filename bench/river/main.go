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
	f.IntVar(&p.closed, "closed", 100, "tasks of a closed loop")
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
	r, err := p.measure(ctx)
	if err != nil {
		return err
	}
	return r.print(out)
}

// measure measures all of the plan. In each round every contender has its turn,
// in the other order than in the round before.
func (p plan) measure(ctx context.Context) (*report, error) {
	w := countCommits()
	r := &report{plan: p, cells: map[place]*cell{}}
	var err error
	if r.syncs, err = syncRate(p.dir); err != nil {
		return nil, err
	}
	for _, sh := range shapes() {
		for _, workers := range p.workers {
			for round := range p.rounds + 1 {
				for i := range contenders() {
					if round%2 == 1 {
						i = len(contenders()) - 1 - i
					}
					c := contenders()[i]
					count := round == p.rounds // commits are counted apart: that takes time
					if count && c.kind == inMemory {
						continue
					}
					m, err := w.measure(ctx, p.dir, c, sh, workers, p.tasks(sh), count)
					if err != nil {
						return nil, fmt.Errorf("%s, %s with %d workers: %w", c.name, sh.name, workers, err)
					}
					r.add(place{sh.name, workers, c.name}, m, count)
				}
			}
		}
	}
	return r, nil
}
