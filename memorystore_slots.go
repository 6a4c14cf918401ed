package claudepool

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
)

// PutSlot implements [PoolStore].
func (s *MemoryStore) PutSlot(ctx context.Context, r SlotRecord) (SlotRecord, error) {
	if err := s.begin(ctx); err != nil {
		return SlotRecord{}, err
	}
	defer s.mu.Unlock()
	key := slotKey{r.Instance, r.ID}
	if stored := s.slots[key].Version; stored != r.Version {
		return SlotRecord{}, fmt.Errorf("slot %s of %s has version %d, not %d: %w", r.ID, r.Instance, stored, r.Version, ErrConflict)
	}
	r.Version++
	s.slots[key] = r
	return r, nil
}

// DeleteSlot implements [PoolStore].
func (s *MemoryStore) DeleteSlot(ctx context.Context, instance, id string) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	delete(s.slots, slotKey{instance, id})
	return nil
}

// Slots implements [PoolStore].
func (s *MemoryStore) Slots(ctx context.Context) ([]SlotRecord, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.slots), func(a, b SlotRecord) int {
		return cmp.Or(cmp.Compare(a.Instance, b.Instance), cmp.Compare(a.ID, b.ID))
	}), nil
}

// PutInstance implements [PoolStore].
func (s *MemoryStore) PutInstance(ctx context.Context, r InstanceRecord) error {
	if r.ID == "" {
		return invalidField("id", "must not be empty")
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	s.instances[r.ID] = r
	return nil
}

// DeleteInstance implements [PoolStore].
func (s *MemoryStore) DeleteInstance(ctx context.Context, id string) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	delete(s.instances, id)
	maps.DeleteFunc(s.slots, func(k slotKey, _ SlotRecord) bool { return k.instance == id })
	return nil
}

// Instances implements [PoolStore].
func (s *MemoryStore) Instances(ctx context.Context) ([]InstanceRecord, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.instances), func(a, b InstanceRecord) int { return cmp.Compare(a.ID, b.ID) }), nil
}

// SetContext implements [PoolStore].
func (s *MemoryStore) SetContext(ctx context.Context, key, value string) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	s.context[key] = value
	return nil
}

// DeleteContext implements [PoolStore].
func (s *MemoryStore) DeleteContext(ctx context.Context, key string) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if _, ok := s.context[key]; !ok {
		return fmt.Errorf("%w %q in the run context", ErrUnknownKey, key)
	}
	delete(s.context, key)
	return nil
}

// Context implements [PoolStore].
func (s *MemoryStore) Context(ctx context.Context) (map[string]string, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return maps.Clone(s.context), nil
}
