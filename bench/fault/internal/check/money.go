package check

import "regexp"

// What the record of an attempt says whose host has died.
const (
	asWasLost      = "its holder was lost"
	unaskedWasLost = "its holder was lost before the agent was asked"
)

// lastMessage is what the last recorded attempt of a task says.
func (t *task) lastMessage() string {
	for i := len(t.claims) - 1; i >= 0; i-- {
		if a := t.claims[i].attempt; a != nil {
			return a.Message
		}
	}
	return ""
}

// known is what the attempts of a task are known to have cost.
func (t *task) known() int64 { return t.cost - t.assumed }

// broke reports whether a task can have failed for want of money: the cap of it
// or of its chain is used up by what is known to be spent, or the budget, even as
// it was when it was smallest, by what is spent or assumed to be.
func (t *task) broke(s *Snapshot, w *Witness) bool {
	limit, least := t.asked.Task.Overrides.MaxCost, int64(10_000)
	if limit == 0 && w.least > 0 {
		limit = w.cap
	}
	need := least
	if limit > 0 {
		if need = limit - t.known(); need <= 0 {
			return true
		}
	}
	if chain := s.tasks[t.chain.String]; chain != nil && chain.asked.Chain.MaxCost > 0 {
		var spent int64
		for _, o := range s.tasks {
			if o.chain == t.chain {
				spent += o.known()
			}
		}
		if spent+need > chain.asked.Chain.MaxCost {
			return true
		}
	}
	return w.least > 0 && s.totals.spent+need > w.least
}

// settled checks what a lost attempt was charged: c is its task when the host had
// just died, and nobody can have known more than what the claim said then.
func (c *task) settled(t *task, f *findings) {
	if !c.claimFence.Valid || c.isChain {
		return
	}
	for _, now := range t.claims {
		a := now.attempt
		if now.fence != c.claimFence.Int64 || a == nil || a.Message != asWasLost && a.Message != unaskedWasLost {
			continue
		}
		want := attempt{Outcome: a.Outcome, Message: unaskedWasLost, Late: a.Late}
		if c.claimAsked.Bool {
			want.Message, want.Estimated, want.Cost = asWasLost, true, c.claimLastCost.Int64
			if want.Cost == 0 {
				want.Cost, want.Assumed = now.reserved, now.reserved
			}
		}
		if *a != want {
			f.add("P5: attempt %d of task %v was charged %+v, and its host left %+v", now.fence, t, *a, want)
		}
	}
}

// unsteady are the marks in a prompt whose requests may be answered otherwise
// than the model is asked to.
var unsteady = regexp.MustCompile(`\[\[(status|fault):`)

// paid compares what tasks are charged with what the model's answers have cost: no
// more is known than was answered, and no more is missing than the requests that
// were under way when an attempt was cut off, and the ones before those, whose
// cost may not have been told yet.
func (s *Snapshot) paid(f *findings, w *Witness) {
	byMark := map[string]*task{}
	for _, t := range s.tasks {
		if !t.isChain {
			byMark[t.mark] = t
		}
	}
	for mark, t := range byMark {
		if unsteady.MatchString(t.asked.Task.Prompt) {
			continue
		}
		var cut int64
		for _, c := range t.claims {
			if c.attempt == nil || !completes[c.attempt.Outcome] {
				cut++
			}
		}
		answered := w.answered[mark]
		if t.known() > answered.cost {
			f.add("P5: task %v is known to have cost %d, and the model has answered for %d", t, t.known(), answered.cost)
		}
		charged := t.cost
		if c := t.claimLastCost.Int64; t.claimAsked.Bool { // what whoever takes over will charge
			charged += c
			if c == 0 {
				charged += t.claimReserved.Int64
			}
		}
		if answered.cost-charged > 2*cut*answered.most {
			f.add("P5: the model has answered task %v for %d, which was charged %d in %d attempts, %d of them cut off", t, answered.cost, charged, len(t.claims), cut)
		}
	}
}

// money checks the ledger against the attempts.
func (s *Snapshot) money(f *findings, budget int64) {
	type key struct {
		task  string
		fence int64
	}
	costs := map[key]attempt{}
	var charged, excess, reserved, attempts int64
	for _, t := range s.tasks {
		for _, c := range t.claims {
			if c.open {
				reserved += c.reserved
			}
			if a := c.attempt; a != nil {
				costs[key{t.id, c.fence}] = *a
				attempts++
				excess += max(0, a.Cost-c.reserved)
			}
		}
	}
	var spent, assumed, counted int64
	for _, e := range s.ledger {
		spent += e.cost
		assumed += e.assumed
		counted += e.attempts
		if !e.task.Valid {
			charged += e.cost
			continue
		}
		k := key{e.task.String, e.fence.Int64}
		if a, known := costs[k]; !known || a.Cost != e.cost || a.Assumed != e.assumed {
			f.add("P5: the ledger has %d (assumed %d) for attempt %d of %s, the attempt %d (%d; recorded: %v)", e.cost, e.assumed, k.fence, k.task, a.Cost, a.Assumed, known)
		}
		delete(costs, k)
	}
	for k, a := range costs {
		f.add("P5: the ledger lacks attempt %d of %s, which has cost %d", k.fence, k.task, a.Cost)
	}
	if spent != s.totals.spent || assumed != s.totals.assumed || counted != s.totals.attempts || counted != attempts {
		f.add("P5: totals say %d (assumed %d) for %d attempts, the ledger %d (%d) for %d, and there are %d attempts",
			s.totals.spent, s.totals.assumed, s.totals.attempts, spent, assumed, counted, attempts)
	}
	if budget > 0 && spent+reserved > budget+excess+charged {
		f.add("P5: %d is spent and %d reserved of %d, though attempts went beyond their reservations by %d only", spent, reserved, budget, excess)
	}
}
