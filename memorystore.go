package claudepool

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/claudepool/claudepool/internal/feed"
)

// DefaultRetain is how many terminal tasks a [MemoryStore] keeps unless
// [MemoryStore.Retain] says otherwise.
const DefaultRetain = 100_000

// MemoryStore is a [PoolStore] in the memory of this program: quick, and gone
// with it. Make one with [NewMemoryStore].
//
// It keeps the last [DefaultRetain] terminal tasks; see [MemoryStore.Retain].
// The reason given to Charge is not kept.
type MemoryStore struct {
	mu      sync.Mutex
	closed  bool
	tasks   map[TaskID]*memTask
	order   []orderEntry // by id
	dropped int          // entries of order without a task
	keys    map[ownerKey]*memTask
	counts  map[TaskState]int

	queue      taskQueue
	lines      []*line        // room for those a claim looks at
	running    map[string]int // claims, by the tags of their tasks
	ledger     memLedger
	allowances map[string]*memAllowance

	retain int
	ended  []*memTask // that can be dropped, the oldest first

	slots     map[slotKey]SlotRecord
	instances map[string]InstanceRecord
	context   map[string]string
	messages  map[string][]Message // by address, each by id

	changes *feed.Feed[Change]
}

var _ PoolStore = (*MemoryStore)(nil)

// orderEntry is a task in the listing; without one after it was dropped.
type orderEntry struct {
	id   TaskID
	task *memTask
}

type ownerKey struct{ owner, key string }

type slotKey struct{ instance, id string }

// NewMemoryStore returns an empty store.
func NewMemoryStore() *MemoryStore {
	return &MemoryStore{
		tasks:      map[TaskID]*memTask{},
		keys:       map[ownerKey]*memTask{},
		counts:     map[TaskState]int{},
		queue:      newTaskQueue(),
		running:    map[string]int{},
		allowances: map[string]*memAllowance{},
		retain:     DefaultRetain,
		slots:      map[slotKey]SlotRecord{},
		instances:  map[string]InstanceRecord{},
		context:    map[string]string{},
		messages:   map[string][]Message{},
		changes:    feed.New(Change{Lost: true}),
	}
}

// Volatile reports that what the store holds ends with the program.
func (s *MemoryStore) Volatile() bool { return true }

// begin starts a step: it returns with the lock held, or with an error.
func (s *MemoryStore) begin(ctx context.Context) error {
	s.mu.Lock()
	err := context.Cause(ctx)
	if s.closed {
		err = ErrClosed
	}
	if err != nil {
		s.mu.Unlock()
	}
	return err
}

// task returns a task that the store holds.
func (s *MemoryStore) task(id TaskID) (*memTask, error) {
	if t := s.tasks[id]; t != nil {
		return t, nil
	}
	return nil, fmt.Errorf("%w %q", ErrUnknownTask, id)
}

// CreateTask implements [PoolStore].
func (s *MemoryStore) CreateTask(ctx context.Context, r TaskRecord) (TaskRecord, bool, error) {
	rec, err := r.Created()
	if err != nil {
		return TaskRecord{}, false, err
	}
	if err := s.begin(ctx); err != nil {
		return TaskRecord{}, false, err
	}
	defer s.mu.Unlock()

	key := ownerKey{rec.Task.Owner, rec.Task.IdempotencyKey}
	if old := s.keys[key]; key.key != "" && old != nil {
		if !old.rec.SameRequest(rec) {
			return TaskRecord{}, false, keyReused(old.rec)
		}
		return old.rec.clone(), false, nil
	}
	if s.tasks[rec.ID] != nil {
		return TaskRecord{}, false, fmt.Errorf("task %s: %w", rec.ID, ErrDuplicate)
	}
	t := &memTask{rec: rec, chain: s.chainOf(rec)}
	s.tasks[rec.ID] = t
	s.list(t)
	if key.key != "" {
		s.keys[key] = t
	}
	if a := rec.Task.Allowance; a != nil {
		s.allow(*a)
	}
	s.counts[StatePending]++
	s.queue.add(t)
	s.waits(t, 1)
	s.tell(t)
	return rec.clone(), true, nil
}

// chainOf returns the chain whose step a new task runs, or nil.
func (s *MemoryStore) chainOf(r *TaskRecord) *memTask {
	if parent := s.tasks[r.Task.Parent]; parent != nil && parent.rec.Chain != nil && chainOf(r.ID) == r.Task.Parent {
		return parent
	}
	return nil
}

// allow notes that one more task has the allowance.
func (s *MemoryStore) allow(a Allowance) {
	m := s.allowances[a.ID]
	if m == nil {
		m = &memAllowance{Funds: Funds{Scope: a.ID, Limit: a.Limit}}
		s.allowances[a.ID] = m
	}
	m.Limit = min(m.Limit, a.Limit)
	m.tasks++
}

// list puts t into the order of ids. New ids are nearly always the greatest.
func (s *MemoryStore) list(t *memTask) {
	entry := orderEntry{t.rec.ID, t}
	i, found := len(s.order), false
	if i > 0 && s.order[i-1].id >= entry.id {
		i, found = s.find(entry.id)
	}
	if found { // one that was dropped
		s.order[i] = entry
		s.dropped--
		return
	}
	s.order = slices.Insert(s.order, i, entry)
}

// find returns where the id is, or would be, in the order.
func (s *MemoryStore) find(id TaskID) (int, bool) {
	return slices.BinarySearchFunc(s.order, id, func(e orderEntry, id TaskID) int { return cmp.Compare(e.id, id) })
}

// Task implements [PoolStore].
func (s *MemoryStore) Task(ctx context.Context, id TaskID) (TaskRecord, error) {
	if err := s.begin(ctx); err != nil {
		return TaskRecord{}, err
	}
	defer s.mu.Unlock()
	t, err := s.task(id)
	if err != nil {
		return TaskRecord{}, err
	}
	return t.rec.clone(), nil
}

// Tasks implements [PoolStore].
func (s *MemoryStore) Tasks(ctx context.Context, f TaskFilter) iter.Seq2[TaskRecord, error] {
	return func(yield func(TaskRecord, error) bool) {
		recs, err := s.selected(ctx, f)
		if err != nil {
			yield(TaskRecord{}, err)
			return
		}
		for _, rec := range recs {
			if err := context.Cause(ctx); err != nil {
				yield(TaskRecord{}, err)
				return
			}
			if !yield(rec.clone(), nil) {
				return
			}
		}
	}
}

// selected returns what f selects, as it is now.
func (s *MemoryStore) selected(ctx context.Context, f TaskFilter) ([]*TaskRecord, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	if f.Owner != "" && f.IdempotencyKey != "" {
		if t := s.keys[ownerKey{f.Owner, f.IdempotencyKey}]; t != nil && f.Match(t.rec) {
			t.shared = true
			return []*TaskRecord{t.rec}, nil
		}
		return nil, nil
	}
	end := len(s.order)
	if f.Before != "" {
		end, _ = s.find(f.Before)
	}
	var recs []*TaskRecord
	for _, entry := range slices.Backward(s.order[:end]) {
		if t := entry.task; t != nil && f.Match(t.rec) {
			t.shared = true
			if recs = append(recs, t.rec); len(recs) == f.Limit {
				break
			}
		}
	}
	return recs, nil
}

// Count implements [PoolStore].
func (s *MemoryStore) Count(ctx context.Context) (map[TaskState]int, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return maps.Clone(s.counts), nil
}

// Attempts implements [PoolStore].
func (s *MemoryStore) Attempts(ctx context.Context, id TaskID) ([]Attempt, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	t, err := s.task(id)
	if err != nil {
		return nil, err
	}
	var attempts []Attempt
	for _, c := range t.claims {
		if c.attempt != nil {
			attempts = append(attempts, c.attempt.clone())
		}
	}
	return attempts, nil
}

// Ledger implements [PoolStore].
func (s *MemoryStore) Ledger(ctx context.Context, q LedgerQuery) (Ledger, error) {
	if err := s.begin(ctx); err != nil {
		return Ledger{}, err
	}
	defer s.mu.Unlock()
	return s.ledger.since(q.Since), nil
}

// Charge implements [PoolStore].
func (s *MemoryStore) Charge(ctx context.Context, at time.Time, cost Microdollars, _ string) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	s.ledger.add(spend{at: at, cost: max(cost, 0)})
	return nil
}

// Close implements [PoolStore]. It closes the channels of all watchers.
func (s *MemoryStore) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.closed = true
	s.mu.Unlock()
	s.changes.Close()
	return nil
}
