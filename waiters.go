package claudepool

import (
	"slices"
	"sync"
)

// waiters are those who wait for a task to end or to need a review.
type waiters struct {
	mu sync.Mutex
	by map[TaskID][]chan struct{}
}

func newWaiters() *waiters { return &waiters{by: map[TaskID][]chan struct{}{}} }

// add returns a channel that is closed at the next wake. Look at the task after
// add, not before, or a change in between goes unseen.
func (w *waiters) add(id TaskID) chan struct{} {
	c := make(chan struct{})
	w.mu.Lock()
	w.by[id] = append(w.by[id], c)
	w.mu.Unlock()
	return c
}

// remove forgets a channel that was not waited for to its end.
func (w *waiters) remove(id TaskID, c chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	left := slices.DeleteFunc(w.by[id], func(o chan struct{}) bool { return o == c })
	if len(left) == 0 {
		delete(w.by, id)
	} else {
		w.by[id] = left
	}
}

func (w *waiters) wake(id TaskID) {
	w.mu.Lock()
	list := w.by[id]
	delete(w.by, id)
	w.mu.Unlock()
	for _, c := range list {
		close(c)
	}
}

func (w *waiters) wakeAll() {
	w.mu.Lock()
	all := w.by
	w.by = map[TaskID][]chan struct{}{}
	w.mu.Unlock()
	for _, list := range all {
		for _, c := range list {
			close(c)
		}
	}
}
