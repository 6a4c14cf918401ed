package sqlitestore_test

import (
	"context"
	"errors"
	"iter"
	"sync/atomic"
	"testing"
	"time"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/sqlitestore"
	"github.com/claudepool/claudepool/storetest"
)

// twins are two stores on one file, which answer in turn.
type twins struct {
	stores [2]*sqlitestore.Store
	calls  atomic.Int64
}

var _ claudepool.PoolStore = (*twins)(nil)

func (w *twins) next() *sqlitestore.Store { return w.stores[w.calls.Add(1)%2] }

func (w *twins) CreateTask(ctx context.Context, r claudepool.TaskRecord) (claudepool.TaskRecord, bool, error) {
	return w.next().CreateTask(ctx, r)
}
func (w *twins) Task(ctx context.Context, id claudepool.TaskID) (claudepool.TaskRecord, error) {
	return w.next().Task(ctx, id)
}
func (w *twins) Tasks(ctx context.Context, f claudepool.TaskFilter) iter.Seq2[claudepool.TaskRecord, error] {
	return w.next().Tasks(ctx, f)
}
func (w *twins) Count(ctx context.Context) (map[claudepool.TaskState]int, error) {
	return w.next().Count(ctx)
}
func (w *twins) Claim(ctx context.Context, r claudepool.ClaimRequest) (claudepool.TaskRecord, error) {
	return w.next().Claim(ctx, r)
}
func (w *twins) Extend(ctx context.Context, ref claudepool.ClaimRef, lease time.Time, cost claudepool.Microdollars) error {
	return w.next().Extend(ctx, ref, lease, cost)
}
func (w *twins) Transition(ctx context.Context, t claudepool.Transition) (claudepool.TaskRecord, error) {
	return w.next().Transition(ctx, t)
}
func (w *twins) Attempts(ctx context.Context, id claudepool.TaskID) ([]claudepool.Attempt, error) {
	return w.next().Attempts(ctx, id)
}
func (w *twins) Ledger(ctx context.Context, q claudepool.LedgerQuery) (claudepool.Ledger, error) {
	return w.next().Ledger(ctx, q)
}
func (w *twins) Charge(ctx context.Context, at time.Time, cost claudepool.Microdollars, why string) error {
	return w.next().Charge(ctx, at, cost, why)
}
func (w *twins) PutSlot(ctx context.Context, r claudepool.SlotRecord) (claudepool.SlotRecord, error) {
	return w.next().PutSlot(ctx, r)
}
func (w *twins) DeleteSlot(ctx context.Context, instance, id string) error {
	return w.next().DeleteSlot(ctx, instance, id)
}
func (w *twins) Slots(ctx context.Context) ([]claudepool.SlotRecord, error) {
	return w.next().Slots(ctx)
}
func (w *twins) PutInstance(ctx context.Context, r claudepool.InstanceRecord) error {
	return w.next().PutInstance(ctx, r)
}
func (w *twins) DeleteInstance(ctx context.Context, id string) error {
	return w.next().DeleteInstance(ctx, id)
}
func (w *twins) Instances(ctx context.Context) ([]claudepool.InstanceRecord, error) {
	return w.next().Instances(ctx)
}
func (w *twins) SetContext(ctx context.Context, key, value string) error {
	return w.next().SetContext(ctx, key, value)
}
func (w *twins) DeleteContext(ctx context.Context, key string) error {
	return w.next().DeleteContext(ctx, key)
}
func (w *twins) Context(ctx context.Context) (map[string]string, error) { return w.next().Context(ctx) }
func (w *twins) SendMessage(ctx context.Context, m claudepool.Message) error {
	return w.next().SendMessage(ctx, m)
}
func (w *twins) Messages(ctx context.Context, to string) ([]claudepool.Message, error) {
	return w.next().Messages(ctx, to)
}
func (w *twins) TakeMessages(ctx context.Context, to string, ids []string) ([]claudepool.Message, error) {
	return w.next().TakeMessages(ctx, to, ids)
}
func (w *twins) Watch(ctx context.Context) (<-chan claudepool.Change, error) {
	return w.next().Watch(ctx)
}

func (w *twins) Close() error {
	return errors.Join(w.stores[0].Close(), w.stores[1].Close())
}

// Two stores on one file are one store, also to those who use both at once.
func TestTwinStores(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) claudepool.PoolStore {
		path := newFile(t)
		o := sqlitestore.Options{Peer: true, Synchronous: sqlitestore.Normal}
		return &twins{stores: [2]*sqlitestore.Store{open(t, path, o), open(t, path, o)}}
	})
}
