package id_test

import (
	"regexp"
	"testing"
	"time"

	"github.com/claudepool/claudepool/internal/id"
)

func TestNew(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^task-[0-9a-hjkmnp-tv-z]{26}$`)
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	seen := map[string]bool{}
	for range 1000 {
		v := id.New("task", at)
		if !form.MatchString(v) {
			t.Fatalf("New = %q, want the form %v", v, form)
		}
		if seen[v] {
			t.Fatalf("New gave %q twice", v)
		}
		seen[v] = true
	}
	for _, d := range []time.Duration{time.Millisecond, time.Second, time.Hour, 365 * 24 * time.Hour} {
		if a, b := id.New("task", at), id.New("task", at.Add(d)); a >= b {
			t.Errorf("%q is not before %q, made %v later", a, b, d)
		}
	}
}
