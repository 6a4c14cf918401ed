package claudepool

import "math"

// AddCost returns a+b, or the largest amount when that does not fit. Neither may be negative.
func AddCost(a, b Microdollars) Microdollars {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// Funds are a budget that a claim draws on, and what became of it.
type Funds struct {
	// Scope names it: [ScopePool], or the id of an allowance.
	Scope                  string
	Limit, Spent, Reserved Microdollars
	Assumed                Microdollars // part of Spent; of an allowance none
	// Share is among how many claims what is left is shared, at least one.
	Share int
}

// left returns what can still be reserved.
func (f Funds) left() Microdollars {
	left := f.Limit
	for _, used := range []Microdollars{f.Spent, f.Reserved} {
		if used >= left {
			return 0
		}
		left -= used
	}
	return left
}

// refuse returns the error for what needs more than is left.
func (f Funds) refuse(needed Microdollars) *BudgetExhausted {
	return &BudgetExhausted{Scope: f.Scope, Spent: f.Spent, Assumed: f.Assumed, Reserved: f.Reserved, Limit: f.Limit, Needed: needed}
}

// Reserve returns how much a claim of the task r reserves, or why that cannot be
// had from one of the budgets, which are looked at in order: that of its
// allowance and that of the pool, each if there is one. It is here so that every
// [PoolStore] can share it. Chains reserve nothing; they are not to be asked about.
func (b BudgetTerms) Reserve(r *TaskRecord, budgets ...Funds) (Microdollars, *BudgetExhausted) {
	limit := r.Task.Overrides.MaxCost
	if limit == 0 {
		limit = b.DefaultCap
	}
	capped := limit > 0
	seen := r.Cost - r.Assumed
	need := limit - seen
	switch {
	case capped && need <= 0:
		return 0, Funds{Scope: ScopeTask, Limit: limit, Spent: seen}.refuse(MinShare)
	case !capped && len(budgets) == 0:
		return 0, nil
	case !capped:
		need = math.MaxInt64
		for _, f := range budgets {
			left := f.left()
			if left == 0 {
				return 0, f.refuse(MinShare)
			}
			need = min(need, left, max(left/Microdollars(max(f.Share, 1)), MinShare))
		}
	}
	for _, f := range budgets {
		if need > f.left() {
			return 0, f.refuse(need)
		}
	}
	return need, nil
}
