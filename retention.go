package claudepool

import "time"

// Retention says how much of what has ended is kept: the last Count, and of
// those what is not older than Age. Zero means the default of whoever keeps it,
// a negative value no bound.
type Retention struct {
	Count int
	Age   time.Duration
}
