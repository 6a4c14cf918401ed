package main

import (
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestEverySystemAnswersDurably runs the whole comparison with small numbers.
// That each task was answered with its own prompt is checked where it runs.
func TestEverySystemAnswersDurably(t *testing.T) {
	p := plan{dir: t.TempDir(), workers: []int{2}, closed: 4, burst: 20, rounds: 1}
	r, err := p.measure(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, sh := range shapes() {
		for _, workers := range p.workers {
			for _, who := range contenders() {
				at := place{sh.name, workers, who.name}
				c := r.cells[at]
				if c == nil || len(c.perSecond) != p.rounds || slices.Min(c.perSecond) <= 0 {
					t.Fatalf("%+v: samples %+v, want one for each round", at, c)
				}
				if sh.name == "closed loop" && len(c.each) != p.rounds*p.closed {
					t.Errorf("%+v: %d tasks were timed, want %d", at, len(c.each), p.rounds*p.closed)
				}
				if who.kind == inMemory {
					continue
				}
				if c.commits <= 0 {
					t.Errorf("%+v: no commits were counted", at)
				}
				if who.kind == durable && c.commits > 4 {
					t.Errorf("%+v: %.2f commits a task, want at most 4", at, c.commits)
				}
			}
		}
	}
	var out strings.Builder
	if err := r.print(&out); err != nil {
		t.Fatal(err)
	}
	for _, who := range contenders() {
		if got, want := strings.Count(out.String(), who.name), len(shapes())*len(p.workers); got != want {
			t.Errorf("the table has %d lines of %s, want %d:\n%s", got, who.name, want, out.String())
		}
	}
}

// TestAnswersAreChecked has a system answer wrongly.
func TestAnswersAreChecked(t *testing.T) {
	s, err := openMemory(t.Context(), "", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	id, err := s.submit(t.Context(), "another prompt")
	if err != nil {
		t.Fatal(err)
	}
	if err := expect(t.Context(), s, id, 0); err == nil || !strings.Contains(err.Error(), "another prompt") {
		t.Errorf("expect = %v, want an error that names the wrong answer", err)
	}
}

func TestBadArgumentsAreRefused(t *testing.T) {
	for _, args := range [][]string{{"-workers", "0"}, {"-workers", "1,x"}, {"-rounds", "0"}, {"-burst", "-1"}, {"-closed", "0"}} {
		if err := run(t.Context(), args, io.Discard); err == nil || !strings.Contains(err.Error(), args[0]) {
			t.Errorf("run(%v) = %v, want an error that names %s", args, err, args[0])
		}
	}
}

func TestQuantile(t *testing.T) {
	v := []time.Duration{5, 1, 4, 2, 3}
	for _, c := range []struct {
		q    float64
		want time.Duration
	}{{0, 1}, {0.5, 3}, {0.99, 5}, {1, 5}} {
		if got := quantile(v, c.q); got != c.want {
			t.Errorf("quantile(%v, %v) = %v, want %v", v, c.q, got, c.want)
		}
	}
}
