package claudepool

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// expiry fails the tasks that have waited longer than they may.
type expiry struct {
	p    *Pool
	wake chan struct{}

	mu    sync.Mutex
	queue expiryQueue
}

type expiring struct {
	id TaskID
	at time.Time
}

// expiryQueue is a heap of tasks, the next to expire first.
type expiryQueue []expiring

func (q expiryQueue) Len() int           { return len(q) }
func (q expiryQueue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q expiryQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *expiryQueue) Push(x any)        { *q = append(*q, x.(expiring)) }
func (q *expiryQueue) Pop() any {
	last := len(*q) - 1
	x := (*q)[last]
	*q = (*q)[:last]
	return x
}

func newExpiry(p *Pool) *expiry { return &expiry{p: p, wake: make(chan struct{}, 1)} }

// load takes up the tasks that wait in the store already.
func (e *expiry) load(ctx context.Context) error {
	for r, err := range e.p.store.Tasks(ctx, TaskFilter{States: []TaskState{StatePending}}) {
		if err != nil {
			return err
		}
		if r.Task.QueueTimeout > 0 && r.First.IsZero() {
			e.add(r.ID, r.Submitted.Add(r.Task.QueueTimeout))
		}
	}
	return nil
}

func (e *expiry) add(id TaskID, at time.Time) {
	e.mu.Lock()
	heap.Push(&e.queue, expiring{id, at})
	first := e.queue[0].id == id
	e.mu.Unlock()
	if first {
		select {
		case e.wake <- struct{}{}:
		default:
		}
	}
}

// due takes the next task whose time has come. If there is none, wait is how
// long until there is one; negative means that none waits.
func (e *expiry) due(now time.Time) (id TaskID, wait time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.queue) == 0 {
		return "", -1
	}
	if wait = e.queue[0].at.Sub(now); wait > 0 {
		return "", wait
	}
	return heap.Pop(&e.queue).(expiring).id, 0
}

func (e *expiry) loop() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-e.wake:
		case <-e.p.ctx.Done():
			return
		}
		for {
			id, wait := e.due(time.Now())
			if id == "" {
				if wait > 0 {
					timer.Reset(wait)
				}
				break
			}
			e.expire(id)
		}
	}
}

// expire fails a task if it still waits for its first start.
func (e *expiry) expire(id TaskID) {
	p := e.p
	r, err := p.store.Task(p.ctx, id)
	if err != nil && !errors.Is(err, ErrUnknownTask) && p.ctx.Err() == nil {
		e.add(id, time.Now().Add(time.Second)) // the store may answer then
		return
	}
	if err != nil || r.State != StatePending || !r.First.IsZero() {
		return
	}
	message := fmt.Sprintf("waited longer than %v for a slot; give it more time, or the pool more slots", r.Task.QueueTimeout)
	_, err = p.store.Transition(p.ctx, Transition{
		Task: id, From: StatePending, To: StateFailed, At: time.Now(),
		Outcome: OutcomeExpired, Result: p.endedEarly(r, OutcomeExpired, message),
	})
	if err != nil && !errors.Is(err, ErrConflict) && p.ctx.Err() == nil {
		p.log.Warn("task that waited too long could not be ended; trying again", "task", id, "err", err)
		e.add(id, time.Now().Add(time.Second))
	}
}
