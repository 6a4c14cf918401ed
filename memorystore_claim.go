package claudepool

import (
	"context"
	"slices"
)

// memClaim is what the store knows of a claim, also after it has ended.
type memClaim struct {
	fence    int64
	reserved Microdollars
	open     bool     // its attempt is still to be settled
	attempt  *Attempt // once it is
}

// claim returns the claim with that fence, or nil.
func (t *memTask) claim(fence int64) *memClaim {
	for i := range t.claims {
		if t.claims[i].fence == fence {
			return &t.claims[i]
		}
	}
	return nil
}

// Claim implements [PoolStore]. It calls r.Accepts without holding its lock.
func (s *MemoryStore) Claim(ctx context.Context, r ClaimRequest) (TaskRecord, error) {
	view := claimView{now: r.Now, limits: r.TagLimits, running: s.running, chains: r.Chains}
	if r.Chains { // none of these has a bearing on them
		view.limits, r.Accepts, r.Prefers, r.Budget = nil, nil, "", BudgetTerms{}
	}
	if err := s.beginClaim(ctx, &view, r.Accepts); err != nil {
		return TaskRecord{}, err
	}
	defer s.mu.Unlock()

	t, lines, reserved, none := s.affordable(&view, r.Budget)
	defer func() { clear(lines); s.lines = lines }()
	if none != nil {
		return TaskRecord{}, none
	}
	if r.Prefers != "" && t.rec.LaunchKey != r.Prefers {
		if other, passed := s.queue.preferred(&view, lines, t, r.Prefers); other != nil {
			if need, refused := s.reserve(other, r.Budget); refused == nil {
				for _, p := range passed {
					p.passed++
				}
				t, reserved = other, need
			}
		}
	}
	s.start(t, r, reserved)
	return t.rec.clone(), nil
}

// affordable returns the best task that there is money for, the lines that are
// open, and what the task reserves; or why there is none. A task that waits
// for what others of its allowance have reserved holds up that allowance only.
func (s *MemoryStore) affordable(view *claimView, b BudgetTerms) (*memTask, []*line, Microdollars, *NotRunnable) {
	none := &NotRunnable{}
	lines := s.lines
	for {
		var t *memTask
		t, lines = s.queue.best(view, lines[:0])
		if t == nil {
			break
		}
		reserved, refused := s.reserve(t, b)
		if refused == nil {
			return t, lines, reserved, nil
		}
		waits := refused.Scope == allowanceID(t.rec) && refused.Reserved > 0
		if none.Budget == nil || !waits {
			none.Budget, none.Task = refused, t.rec.ID
		}
		if !waits {
			break
		}
		view.short = append(view.short, refused.Scope)
	}
	none.NextAt = s.queue.next()
	return nil, lines, 0, none
}

// beginClaim begins a step in which the view knows whether the claim accepts
// each pin that tasks wait with.
func (s *MemoryStore) beginClaim(ctx context.Context, view *claimView, accepts func(slot, role string) bool) error {
	for {
		if err := s.begin(ctx); err != nil {
			return err
		}
		s.queue.mature(view.now)
		if accepts == nil {
			return nil
		}
		pins := s.queue.unasked(view.accepts)
		if len(pins) == 0 {
			return nil
		}
		s.mu.Unlock()
		if view.accepts == nil {
			view.accepts = make(map[pin]bool, len(pins))
		}
		for _, p := range pins {
			view.accepts[p] = accepts(p.slot, p.role)
		}
	}
}

// reserve returns how much a claim of t reserves.
func (s *MemoryStore) reserve(t *memTask, terms BudgetTerms) (Microdollars, *BudgetExhausted) {
	if t.rec.Chain != nil {
		return 0, nil // its steps are paid for one by one
	}
	var room [2]Funds
	budgets := room[:0]
	if a := t.rec.Task.Allowance; a != nil {
		m := s.allowances[a.ID]
		m.Share = max(1, min(terms.Share, m.waiting))
		budgets = append(budgets, m.Funds)
	}
	if terms.Limit != 0 {
		sums := s.ledger.since(terms.Since)
		budgets = append(budgets, Funds{Scope: ScopePool, Limit: terms.Limit, Spent: sums.Spent, Assumed: sums.Assumed, Reserved: sums.Reserved, Share: max(1, terms.Share)})
	}
	return terms.Reserve(t.rec, budgets...)
}

// start gives t, which waits, to the one who asked.
func (s *MemoryStore) start(t *memTask, r ClaimRequest, reserved Microdollars) {
	rec := t.edit()
	rec.Begin(r, s.hold(t, reserved))
	t.claims = append(t.claims, memClaim{fence: rec.Fence, reserved: rec.Claim.Reserved, open: true})
	s.countTags(rec, 1)
	s.queue.occupy(rec.Lane)
	s.moved(t, StatePending)
}

// hold adds a reservation to the sums. It returns how much that was: less than
// asked for when the sum of all would be more than can be counted.
func (s *MemoryStore) hold(t *memTask, amount Microdollars) Microdollars {
	amount = AddCost(s.ledger.total.Reserved, amount) - s.ledger.total.Reserved
	s.ledger.total.Reserved += amount
	if a := t.rec.Task.Allowance; a != nil {
		s.allowances[a.ID].Reserved += amount
	}
	return amount
}

// release takes a claim's reservation from the sums.
func (s *MemoryStore) release(t *memTask, c *memClaim) {
	if !c.open {
		return
	}
	c.open = false
	s.ledger.total.Reserved -= c.reserved
	if a := t.rec.Task.Allowance; a != nil {
		s.allowances[a.ID].Reserved -= c.reserved
	}
}

// moved keeps in step what depends on the state of t, which was another.
func (s *MemoryStore) moved(t *memTask, from TaskState) {
	s.counts[from]--
	s.counts[t.rec.State]++
	if from == StatePending {
		s.queue.remove(t)
		s.waits(t, -1)
	}
	if t.rec.State == StatePending {
		s.queue.add(t)
		s.waits(t, 1)
	}
	s.tell(t)
}

// waits counts a task of an allowance that begins or ends to wait.
func (s *MemoryStore) waits(t *memTask, by int) {
	if a := t.rec.Task.Allowance; a != nil {
		s.allowances[a.ID].waiting += by
	}
}

// countTags counts a claim of r that begins or ends, by its tags. That of a
// chain does not count: its steps have the same tags.
func (s *MemoryStore) countTags(r *TaskRecord, by int) {
	if r.Chain != nil {
		return
	}
	tags := r.Task.Tags
	for i, tag := range tags {
		if slices.Contains(tags[:i], tag) {
			continue
		}
		if s.running[tag] += by; s.running[tag] == 0 {
			delete(s.running, tag)
		}
	}
}
