package main

import (
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestEverySystemAnswersDurably runs each comparison with small numbers. That
// each task was answered with its own prompt is checked where it runs.
func TestEverySystemAnswersDurably(t *testing.T) {
	p := plan{dir: t.TempDir(), closed: 4, burst: 20, rounds: 1}
	w := countCommits()
	for _, sh := range shapes() {
		g, err := p.group(t.Context(), w, sh, 2)
		if err != nil {
			t.Fatal(err)
		}
		for i, who := range contenders() {
			c := g.cells[i]
			if len(c.perSecond) != p.rounds || slices.Min(c.perSecond) <= 0 {
				t.Errorf("%s, %s: tasks per second are %v, want one figure for each round", sh.name, who.name, c.perSecond)
			}
			if sh.name == "closed loop" && len(c.each) != p.rounds*p.closed {
				t.Errorf("%s, %s: %d tasks were timed, want %d", sh.name, who.name, len(c.each), p.rounds*p.closed)
			}
			if who.kind != inMemory && c.commits <= 0 {
				t.Errorf("%s, %s: no commits were counted", sh.name, who.name)
			}
			if who.kind == durable && c.commits > 4 {
				t.Errorf("%s, %s: %.2f commits a task, want at most 4", sh.name, who.name, c.commits)
			}
		}
		var out strings.Builder
		if err := g.print(&out); err != nil {
			t.Fatal(err)
		}
		for _, who := range contenders() {
			if got := strings.Count(out.String(), who.name+" "); got != 1 {
				t.Errorf("the table has %d lines of %s, want 1:\n%s", got, who.name, out.String())
			}
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
