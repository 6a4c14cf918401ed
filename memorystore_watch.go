package claudepool

import "context"

// watchBuffer is how many changes wait for a reader of [MemoryStore.Watch].
const watchBuffer = 1024

// watcher is a reader of changes.
type watcher struct {
	changes chan Change
	// lost says that the last change sent was the one with Lost set.
	lost bool
	stop func() bool // stops waiting for the reader's context
}

// send never blocks: the store is the only sender and holds its lock, so the
// buffer can only get emptier. Its last place is for the change that says that
// others are lost. While that one is the last in the buffer the reader has not
// looked for itself yet and will find what is dropped now.
func (w *watcher) send(c Change) {
	switch room := cap(w.changes) - len(w.changes); {
	case room > 1:
		w.changes <- c
		w.lost = false
	case !w.lost:
		w.changes <- Change{Lost: true}
		w.lost = true
	}
}

// Watch implements [PoolStore]. 1,023 changes can wait for the reader.
func (s *MemoryStore) Watch(ctx context.Context) (<-chan Change, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	w := &watcher{changes: make(chan Change, watchBuffer)}
	s.watchers[w] = struct{}{}
	s.watching.Add(1)
	w.stop = context.AfterFunc(ctx, func() {
		defer s.watching.Done()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.unwatch(w)
	})
	return w.changes, nil
}

// unwatch ends a watcher, unless that has been done.
func (s *MemoryStore) unwatch(w *watcher) {
	if _, watches := s.watchers[w]; !watches {
		return
	}
	delete(s.watchers, w)
	close(w.changes)
	if w.stop() {
		s.watching.Done()
	}
}

// tell tells the watchers of the task's state.
func (s *MemoryStore) tell(t *memTask) {
	c := Change{TaskID: t.rec.ID, State: t.rec.State, SlotID: t.rec.SlotID, Chain: t.rec.Chain != nil}
	if c.State.Terminal() {
		c.Outcome = t.rec.Outcome
	}
	for w := range s.watchers {
		w.send(c)
	}
}
