package claudepool

import (
	"context"
	"slices"
)

// Status returns how the pool stands.
func (p *Pool) Status(ctx context.Context) (PoolStatus, error) {
	slots, err := p.allSlots(ctx)
	if err != nil {
		return PoolStatus{}, err
	}
	counts, err := p.store.Count(ctx)
	if err != nil {
		return PoolStatus{}, err
	}
	ledger, err := p.ledger(ctx)
	if err != nil {
		return PoolStatus{}, err
	}
	st := PoolStatus{
		Instance: p.instance, TotalSlots: len(slots), Slots: slots, Spares: p.spares.count(),
		PendingTasks: counts[StatePending], RunningTasks: counts[StateRunning], PendingReviewTasks: counts[StatePendingReview],
		TotalSpend: ledger.Spent, Assumed: ledger.Assumed, Reserved: ledger.Reserved, Budget: Microdollars(p.limit.Load()),
		Shutdown: p.open() != nil, Paused: p.sched.isPaused(), ClaudeVersion: p.ability.Version,
	}
	for _, s := range slots {
		switch s.State {
		case SlotIdle:
			st.IdleSlots++
		case SlotBusy:
			st.BusySlots++
		}
	}
	if st.Hold = p.gate.hopeless(); st.Hold == nil {
		st.Hold = p.gate.holding()
	}
	return st, nil
}

// allSlots returns the slots of this pool, then those of others on the store.
func (p *Pool) allSlots(ctx context.Context) ([]SlotStatus, error) {
	if err := p.usable(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	own := slices.Clone(p.slots)
	p.mu.Unlock()
	out := snapshots(own)
	others, err := p.otherSlots(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range others {
		out = append(out, SlotStatus{
			ID: r.ID, Instance: r.Instance, Name: r.Name, Role: r.Role, Description: r.Description, State: r.State, PID: r.PID, Since: r.Updated,
		})
	}
	return out, nil
}
