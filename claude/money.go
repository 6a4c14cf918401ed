package claude

import (
	"fmt"
	"math"
)

// Microdollars is an amount of money: one millionth of a US dollar. All sums
// are made in it, never in floating point.
type Microdollars int64

// Dollar is one US dollar.
const Dollar Microdollars = 1_000_000

// USD converts an amount in dollars, rounded to the nearest microdollar. Values
// that are not finite or do not fit become the nearest amount that does; NaN
// becomes zero.
func USD(dollars float64) Microdollars {
	v := math.Round(dollars * float64(Dollar))
	switch {
	case math.IsNaN(v):
		return 0
	case v >= math.MaxInt64:
		return math.MaxInt64
	case v <= math.MinInt64:
		return math.MinInt64
	}
	return Microdollars(v)
}

// USD returns m in dollars, for display and for interfaces that speak dollars.
func (m Microdollars) USD() float64 { return float64(m) / float64(Dollar) }

// String formats m as dollars with up to six digits and at least two, such as
// "$0.25" or "$0.000260".
func (m Microdollars) String() string {
	sign := ""
	u := uint64(m)
	if m < 0 {
		sign, u = "-", -u
	}
	whole, frac := u/uint64(Dollar), u%uint64(Dollar)
	if frac%10_000 == 0 {
		return fmt.Sprintf("%s$%d.%02d", sign, whole, frac/10_000)
	}
	return fmt.Sprintf("%s$%d.%06d", sign, whole, frac)
}
