package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// shape is a way to give work to a system and to wait for its results.
type shape struct {
	name string
	// run submits n tasks and waits for all. It returns how long each took from
	// its submission to its result, where that says something.
	run func(ctx context.Context, s system, workers, n int) ([]time.Duration, error)
}

// shapes are all that are measured.
func shapes() []shape {
	return []shape{{"closed loop", closedLoop}, {"burst", burst}, {"bulk", bulk}}
}

// closedLoop has as many submitters as there are workers, each of which waits
// for a result before it submits the next task.
func closedLoop(ctx context.Context, s system, workers, n int) ([]time.Duration, error) {
	each := make([]time.Duration, n)
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range workers {
		g.Go(func() error {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				begin := time.Now()
				t, err := s.submit(ctx, prompt(int(i)))
				if err != nil {
					return err
				}
				if err := expect(ctx, s, t, int(i)); err != nil {
					return err
				}
				each[i] = time.Since(begin)
			}
			return nil
		})
	}
	return each, g.Wait()
}

// burst submits all tasks one after the other, while the workers work already.
func burst(ctx context.Context, s system, _, n int) ([]time.Duration, error) {
	tickets := make([]ticket, n)
	for i := range tickets {
		var err error
		if tickets[i], err = s.submit(ctx, prompt(i)); err != nil {
			return nil, err
		}
	}
	return nil, expectAll(ctx, s, tickets)
}

// bulk submits all tasks in the quickest way that the system has.
func bulk(ctx context.Context, s system, _, n int) ([]time.Duration, error) {
	prompts := make([]string, n)
	for i := range prompts {
		prompts[i] = prompt(i)
	}
	tickets, err := s.submitAll(ctx, prompts)
	if err != nil {
		return nil, err
	}
	return nil, expectAll(ctx, s, tickets)
}

func expectAll(ctx context.Context, s system, tickets []ticket) error {
	for i, t := range tickets {
		if err := expect(ctx, s, t, i); err != nil {
			return err
		}
	}
	return nil
}

// expect waits for the answer to task i, and checks it.
func expect(ctx context.Context, s system, t ticket, i int) error {
	answer, err := s.wait(ctx, t)
	if err == nil && answer != prompt(i) {
		err = fmt.Errorf("task %d was answered %q, want its prompt %q", i, answer, prompt(i))
	}
	return err
}

// prompt makes a text of about 100 bytes.
func prompt(i int) string {
	return fmt.Sprintf("Read the file number %d and say in a sentence what it is for, and which other file needs it the most.", i)
}

// sample is one measurement.
type sample struct {
	perSecond float64
	each      []time.Duration // from submission to result
	commits   float64         // per task, if they were counted
}

// measure runs a shape once, on a new system. The system has run a task for
// each worker before: what a start costs is not in the figures.
func (w *commitCounter) measure(ctx context.Context, dir string, c contender, sh shape, workers, n int, count bool) (m sample, err error) {
	if dir, err = os.MkdirTemp(dir, "bench-"); err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	w.on.Store(count)
	s, err := c.open(ctx, dir, workers)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if _, err := closedLoop(ctx, s, workers, workers); err != nil {
		return m, err
	}
	before := w.commits.Load()
	begin := time.Now()
	m.each, err = sh.run(ctx, s, workers, n)
	m.perSecond = float64(n) / time.Since(begin).Seconds()
	m.commits = float64(w.commits.Load()-before) / float64(n)
	return m, err
}
