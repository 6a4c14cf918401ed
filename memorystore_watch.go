package claudepool

import "context"

// Watch implements [PoolStore]. 1,023 changes can wait for the reader.
func (s *MemoryStore) Watch(ctx context.Context) (<-chan Change, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return s.changes.Read(ctx), nil
}

// tell tells the watchers of the task's state.
func (s *MemoryStore) tell(t *memTask) {
	c := Change{TaskID: t.rec.ID, State: t.rec.State, SlotID: t.rec.SlotID, Chain: t.rec.Chain != nil}
	if c.State.Terminal() {
		c.Outcome = t.rec.Outcome
	}
	s.changes.Send(c)
}
