package claudepool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/claudepool/claudepool/internal/proctree"
)

// closedProcess stands in the record of a pool that has ended and is kept for
// the names of its slots.
const closedProcess = "closed"

// instance is another pool on the store, as it is seen from here.
type instance struct {
	InstanceRecord
	life proctree.Life
	here bool // it is in this program
}

// closed reports whether the pool has ended in good order.
func (i *instance) closed() bool { return i.Process == closedProcess }

// present reports whether the pool is to be reckoned with: it is not known to
// have ended, and has said not long ago that it is there. That its program lives
// is not enough: it may hang, or have closed the pool.
func (i *instance) present(now time.Time) bool {
	return !i.closed() && i.life != proctree.Dead && now.Sub(i.Seen) < leaseTime
}

// instances returns the other pools on the store, by id.
func (p *Pool) instances(ctx context.Context) (map[string]*instance, error) {
	records, err := p.store.Instances(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the pools on the store: %w", err)
	}
	others := make(map[string]*instance, len(records))
	for _, r := range records {
		if r.ID != p.instance {
			others[r.ID] = &instance{r, proctree.Judge(r.Process), proctree.IsSelf(r.Process)}
		}
	}
	return others, nil
}

// otherSlots returns the slots of other pools on the store that are there.
func (p *Pool) otherSlots(ctx context.Context) ([]SlotRecord, error) {
	slots, err := p.store.Slots(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the slots on the store: %w", err)
	}
	if !slices.ContainsFunc(slots, func(s SlotRecord) bool { return s.Instance != p.instance }) {
		return nil, nil
	}
	others, err := p.instances(ctx)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return slices.DeleteFunc(slots, func(s SlotRecord) bool {
		o := others[s.Instance]
		return o == nil || !o.present(now)
	}), nil
}

// ableSlots returns the slots of other pools that are not known to fail.
func (p *Pool) ableSlots(ctx context.Context) ([]SlotRecord, error) {
	others, err := p.otherSlots(ctx)
	return slices.DeleteFunc(others, func(s SlotRecord) bool {
		return s.State == SlotErrored || s.State == SlotDraining || s.State == SlotStopped
	}), err
}

// anyRuns reports whether one of the slots may run the task.
func anyRuns(slots []SlotRecord, r *TaskRecord) bool {
	return slices.ContainsFunc(slots, func(s SlotRecord) bool {
		return (r.Task.Slot == "" || r.Task.Slot == s.ID || r.Task.Slot == s.Name) && (r.Task.Role == "" || r.Task.Role == s.Role)
	})
}

// register tells the store of the pool, before it claims anything.
func (p *Pool) register(ctx context.Context) error {
	process, err := proctree.Identity()
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		p.log.Warn("other pools cannot tell whether this program lives; they wait for its leases to end", "err", err)
	}
	machine, err := os.Hostname()
	if err != nil {
		p.log.Warn("the name of this machine is not known", "err", err)
	}
	p.self = InstanceRecord{ID: p.instance, Machine: machine, PID: os.Getpid(), Process: process, Started: p.started, Seen: time.Now()}
	return p.store.PutInstance(ctx, p.self)
}

// stayRegistered keeps telling the store that the pool is there, until it ends,
// and how its slots are whenever that is news to others.
func (p *Pool) stayRegistered() {
	timer := time.NewTimer(leaseExtend)
	defer timer.Stop()
	failing := false
	for {
		var err error
		select {
		case <-timer.C:
			err = p.sayPresent()
		case <-p.news:
			p.recordSlots()
			continue
		case <-p.ctx.Done():
			return
		}
		switch {
		case err == nil:
			timer.Reset(leaseExtend)
			if failing {
				p.log.Info("store knows again that the pool is there")
			}
		case p.ctx.Err() == nil:
			timer.Reset(leaseRetry)
			if !failing {
				p.log.Warn("store cannot be told that the pool is there; trying again", "err", err)
			}
		}
		failing = err != nil
	}
}

func (p *Pool) sayPresent() error {
	ctx, cancel := context.WithTimeout(p.ctx, storeTimeout)
	defer cancel()
	p.self.Seen = time.Now()
	return p.store.PutInstance(ctx, p.self)
}

// unregister takes the pool off the store when it has ended. If its slots were
// given names, they stay for the next pool.
func (p *Pool) unregister() {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	err := p.retire(ctx, p.self)
	if err != nil && !errors.Is(err, ErrClosed) {
		p.log.Warn("pool could not be taken off the store; the next one sees to it", "err", err)
	}
}

// retire removes a pool that has ended and its slots, but for those with names.
func (p *Pool) retire(ctx context.Context, r InstanceRecord) error {
	slots, err := p.store.Slots(ctx)
	if err != nil {
		return err
	}
	named := false
	for _, s := range slots {
		if s.Instance != r.ID {
			continue
		}
		if s.named() {
			named = true
		} else if err := p.store.DeleteSlot(ctx, s.Instance, s.ID); err != nil {
			return err
		}
	}
	if !named {
		return p.store.DeleteInstance(ctx, r.ID)
	}
	r.Process = closedProcess
	return p.store.PutInstance(ctx, r)
}

// named reports whether the slot is called anything.
func (r SlotRecord) named() bool { return r.Name != "" || r.Role != "" || r.Description != "" }

// inherit finds out how the slots of the last pool that has ended were called,
// if they were called anything: the slots of this pool with their ids, now or
// later, are called the same where their configuration does not say otherwise.
// It returns that pool, to be forgotten once this one has recorded its slots.
func (p *Pool) inherit(ctx context.Context) (from string, err error) {
	others, err := p.instances(ctx)
	if err != nil {
		return "", err
	}
	slots, err := p.store.Slots(ctx)
	if err != nil {
		return "", err
	}
	now := time.Now()
	var last *instance
	taken := map[string]bool{} // names of this pool's slots, and of others that are there
	for _, sc := range p.cfg.SlotConfigs {
		taken[sc.Name] = true
	}
	for _, s := range slots {
		o := others[s.Instance]
		switch {
		case o == nil:
		case o.present(now):
			taken[s.Name] = true
		case o.closed() && (last == nil || o.Seen.After(last.Seen)):
			last = o
		}
	}
	if last == nil {
		return "", nil
	}
	for _, s := range slots {
		if s.Instance != last.ID {
			continue
		}
		if taken[s.Name] {
			s.Name = ""
		}
		p.inherited[s.ID] = s
	}
	return last.ID, nil
}

// forget removes a pool that has ended, once the names of its slots stand in the
// records of this one's.
func (p *Pool) forget(ctx context.Context, id string) {
	if id == "" {
		return
	}
	p.recordSlots()
	if err := p.store.DeleteInstance(ctx, id); err != nil {
		p.log.Warn("pool that has ended could not be taken off the store", "pool", id, "err", err)
	}
}

// recordSlots records every slot of the pool as it is now.
func (p *Pool) recordSlots() {
	p.mu.Lock()
	slots := slices.Clone(p.slots)
	p.mu.Unlock()
	for _, s := range slots {
		s.tellStore()
	}
}
