package claudepool

import "slices"

// Retain sets how many terminal tasks are kept, so that a program that runs
// for long does not grow for ever; the default is [DefaultRetain]. When there
// are more, the one that ended first is dropped with its attempts and its
// idempotency key: it is unknown from then on. Zero or less keeps all.
//
// The steps of a chain are kept until it has ended. A cancelled task is kept at
// least until the attempt of its last holder is recorded. Sums of money stay as
// they are; those of an allowance are kept as long as a task with it is. Beyond
// the last 100,000 costs, the sum for a new [LedgerQuery].Since is exact to the
// minute and counts the whole one.
func (s *MemoryStore) Retain(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retain = n
	s.trim()
}

// retire lets t be dropped when its time comes, if nothing is to be recorded of
// it any more.
func (s *MemoryStore) retire(t *memTask) {
	if !t.rec.State.Terminal() || t.retired || slices.ContainsFunc(t.claims, func(c memClaim) bool { return c.open }) {
		return
	}
	t.retired = true
	if c := t.chain; c != nil && !c.retired {
		c.steps = append(c.steps, t)
		return
	}
	s.ended = append(append(s.ended, t.steps...), t)
	t.steps = nil
	s.trim()
}

// trim drops the terminal tasks that are too many.
func (s *MemoryStore) trim() {
	excess := len(s.ended) - s.retain
	if s.retain <= 0 || excess <= 0 {
		return
	}
	for i, t := range s.ended[:excess] {
		s.drop(t)
		s.ended[i] = nil
	}
	s.ended = s.ended[excess:]
}

// drop forgets a terminal task.
func (s *MemoryStore) drop(t *memTask) {
	rec := t.rec
	delete(s.tasks, rec.ID)
	if key := (ownerKey{rec.Task.Owner, rec.Task.IdempotencyKey}); s.keys[key] == t {
		delete(s.keys, key)
	}
	s.counts[rec.State]--
	if a := rec.Task.Allowance; a != nil {
		m := s.allowances[a.ID]
		if m.tasks--; m.tasks == 0 {
			delete(s.allowances, a.ID)
		}
	}
	i, _ := s.find(rec.ID)
	s.order[i].task = nil
	if s.dropped++; s.dropped > len(s.order)/2 {
		s.order = slices.DeleteFunc(s.order, func(e orderEntry) bool { return e.task == nil })
		s.dropped = 0
	}
}
