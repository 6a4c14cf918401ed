package bench_test

import (
	"slices"
	"testing"
	"time"
)

// median returns the middle value of v, which must not be empty.
func median[T int64 | float64 | time.Duration](v []T) T {
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// quantile returns the value of v, which must not be empty, that the share q of
// the others are below.
func quantile[T int64 | float64 | time.Duration](v []T, q float64) T {
	s := slices.Sorted(slices.Values(v))
	return s[min(int(q*float64(len(s))), len(s)-1)]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []int64
		want int64
	}{
		{[]int64{7}, 7},
		{[]int64{9, 1, 5}, 5},
		{[]int64{4, 100, 2, 8}, 6},
	} {
		if got := median(c.in); got != c.want {
			t.Errorf("median(%v) = %d, want %d", c.in, got, c.want)
		}
	}
}

func TestQuantile(t *testing.T) {
	v := []int64{50, 10, 40, 20, 30}
	for _, c := range []struct {
		q    float64
		want int64
	}{{0, 10}, {0.5, 30}, {0.99, 50}, {1, 50}} {
		if got := quantile(v, c.q); got != c.want {
			t.Errorf("quantile(%v, %v) = %d, want %d", v, c.q, got, c.want)
		}
	}
}
