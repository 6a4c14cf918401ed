package claudepool

import "time"

// Message is a text for a slot or for the coordinator.
type Message struct {
	ID string `json:"id"` // made by the pool; sorts by the time of sending
	// From is a label: who sent it, as the sender says.
	From string `json:"from"`
	// To is the id of a slot, or [Coordinator].
	To      string    `json:"to"`
	Content string    `json:"content"`
	Sent    time.Time `json:"sent"`
}

// Coordinator is the address of who talks to the pool.
const Coordinator = "coordinator"

// Bounds of messages.
const (
	MaxMessage     = 64 << 10 // bytes of the content
	MaxMessageFrom = 256      // bytes of the sender's label
	MaxMessages    = 1000     // messages that wait at one address
)
