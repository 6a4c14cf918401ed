package claude

import "sync"

// mailbox passes things from the reader to a turn, in order and without limit,
// so that a slow turn never holds up the reader.
type mailbox struct {
	wake chan struct{} // room for one

	mu    sync.Mutex
	items []any
}

func newMailbox() *mailbox { return &mailbox{wake: make(chan struct{}, 1)} }

func (m *mailbox) put(item any) {
	m.mu.Lock()
	m.items = append(m.items, item)
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default: // it has been woken already
	}
}

// take returns what has come since the last take.
func (m *mailbox) take() []any {
	m.mu.Lock()
	defer m.mu.Unlock()
	items := m.items
	m.items = nil
	return items
}

// What a turn gets, besides events that are ready.
type (
	passed struct { // a line as it came
		header
		line []byte
	}
	noticed struct { // a line of the type "system"
		header
		wireSystem
	}
	finished struct { // the turn's own result
		wireResult
		spent
	}
)
