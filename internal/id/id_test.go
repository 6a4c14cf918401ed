package id_test

import (
	"regexp"
	"testing"
	"time"

	"github.com/claudepool/claudepool/internal/id"
)

func TestNextSortsByOrderOfMaking(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^task-[0-9a-hjkmnp-tv-z]{26}$`)
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	var s id.Source
	last := ""
	for i, d := range []time.Duration{0, 0, 0, 1, -5, 1000, 1000, -3_600_000, 1001, 86_400_000} {
		v := s.Next("task", at.Add(d*time.Millisecond))
		if !form.MatchString(v) {
			t.Fatalf("Next = %q, want the form %v", v, form)
		}
		if v <= last {
			t.Errorf("identifier %d, %q, is not after %q", i, v, last)
		}
		last = v
	}
}

func TestSourcesDiffer(t *testing.T) {
	t.Parallel()
	at := time.Now()
	var a, b id.Source
	if x, y := a.Next("task", at), b.Next("task", at); x == y {
		t.Errorf("two sources both made %q", x)
	}
}
