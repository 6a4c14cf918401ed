package claudepool

import (
	"context"
	"fmt"
	"slices"
)

// ScaleUp adds n slots and returns how many there are then.
func (p *Pool) ScaleUp(ctx context.Context, n int) (int, error) {
	if n < 1 {
		return p.slotCount(), invalidField("count", "must be at least 1, not %d", n)
	}
	return p.scale(ctx, func(now int) int { return now + n })
}

// ScaleDown takes n slots away and returns how many are left. Idle slots go
// first; a busy one finishes its task before it stops.
func (p *Pool) ScaleDown(ctx context.Context, n int) (int, error) {
	if n < 1 {
		return p.slotCount(), invalidField("count", "must be at least 1, not %d", n)
	}
	return p.scale(ctx, func(now int) int { return now - n })
}

// SetTargetSlots adds or takes away slots until there are n. Like the others it
// refuses to leave the bounds MinSlots and MaxSlots.
func (p *Pool) SetTargetSlots(ctx context.Context, n int) (int, error) {
	return p.scale(ctx, func(int) int { return n })
}

// slotCount counts the slots that are to stay.
func (p *Pool) slotCount() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.staying()
}

func (p *Pool) staying() int {
	n := 0
	for _, s := range p.slots {
		if !s.isStopping() {
			n++
		}
	}
	return n
}

func (s *slot) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

func (p *Pool) scale(ctx context.Context, want func(now int) int) (int, error) {
	if err := ctx.Err(); err != nil {
		return p.slotCount(), err
	}
	p.scaling.Lock() // one at a time, or two would both see room for one more
	defer p.scaling.Unlock()
	if err := p.open(); err != nil {
		return p.slotCount(), err
	}
	now := p.slotCount()
	target := want(now)
	if target < p.cfg.MinSlots || target > p.cfg.MaxSlots {
		return now, invalidField("slots", "would be %d, outside min_slots to max_slots, %d to %d", target, p.cfg.MinSlots, p.cfg.MaxSlots)
	}
	for ; now < target; now++ {
		p.addSlot(SlotConfig{})
	}
	if now > target {
		for _, s := range p.leastNeeded(now - target) {
			s.stop()
		}
	}
	return target, nil
}

// leastNeeded returns n slots to stop: idle ones first, of these the newest.
func (p *Pool) leastNeeded(n int) []*slot {
	p.mu.Lock()
	slots := slices.DeleteFunc(slices.Clone(p.slots), (*slot).isStopping)
	p.mu.Unlock()
	slices.Reverse(slots)
	slices.SortStableFunc(slots, func(a, b *slot) int { return btoi(a.isBusy()) - btoi(b.isBusy()) })
	return slots[:n]
}

func (s *slot) isBusy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status.TaskID != ""
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// ConfigureSlot changes how a slot is called. Names must be unique in the pool.
// On a durable store the slot with the same id of the next pool is called the
// same, where its configuration does not say otherwise.
func (p *Pool) ConfigureSlot(ctx context.Context, id string, u SlotUpdate) (SlotStatus, error) {
	if err := p.open(); err != nil {
		return SlotStatus{}, err
	}
	s, err := p.slot(id)
	if err != nil {
		return SlotStatus{}, err
	}
	if u.Name != nil {
		if err := validSlotName("name", *u.Name); err != nil {
			return SlotStatus{}, err
		}
	}
	if u.Role != nil {
		if err := validName("role", *u.Role); err != nil {
			return SlotStatus{}, err
		}
	}
	p.scaling.Lock()
	defer p.scaling.Unlock()
	if u.Name != nil && *u.Name != "" {
		if other, err := p.slot(*u.Name); err == nil && other != s {
			return SlotStatus{}, invalidField("name", "%q is that of %s already", *u.Name, other.id)
		}
	}
	s.mu.Lock()
	for dst, v := range map[*string]*string{&s.status.Name: u.Name, &s.status.Role: u.Role, &s.status.Description: u.Description} {
		if v != nil {
			*dst = *v
		}
	}
	s.mu.Unlock()
	if err := s.record(ctx); err != nil {
		return SlotStatus{}, fmt.Errorf("slot %s is called so in this pool, but the store was not told: %w", s.id, err)
	}
	p.sched.kick() // a task may have waited for a slot of that name or role
	return s.snapshot(), nil
}

// FindSlots returns the slots that f selects, of all pools on the store.
func (p *Pool) FindSlots(ctx context.Context, f SlotFilter) ([]SlotStatus, error) {
	all, err := p.allSlots(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(s SlotStatus) bool {
		return f.Name != "" && s.Name != f.Name || f.Role != "" && s.Role != f.Role || f.State != "" && s.State != f.State
	}), nil
}
