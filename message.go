package claudepool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

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
	// MaxDelivery bounds what of the messages to a slot one prompt is given, in
	// bytes; the rest comes with the next ones. The first is given whatever its
	// size.
	MaxDelivery = 256 << 10
)

// SendMessage leaves a message for a slot, which gets it at the start of its
// next task, or for the [Coordinator], who reads it. to is the id or the name of
// a slot of this pool, else of another one on its store; pools that share a
// store share the address of slots with the same id. Any other is
// [ErrUnknownSlot], an address where [MaxMessages] wait [ErrMailboxFull], and a
// text or a label that breaks its bounds an [*InvalidError].
func (p *Pool) SendMessage(ctx context.Context, from, to, content string) (Message, error) {
	if err := p.open(); err != nil {
		return Message{}, err
	}
	if err := validMessage(from, content); err != nil {
		return Message{}, err
	}
	address, err := p.address(ctx, to)
	if err != nil {
		return Message{}, err
	}
	return p.send(ctx, from, address, content)
}

// Broadcast sends a message to every slot that is alive now, of all pools on the
// store, but not to the one whose id or name from is. It returns what was sent,
// also when the error tells that some could not be.
func (p *Pool) Broadcast(ctx context.Context, from, content string) ([]Message, error) {
	if err := p.open(); err != nil {
		return nil, err
	}
	if err := validMessage(from, content); err != nil {
		return nil, err
	}
	slots, err := p.aliveSlots(ctx)
	if err != nil {
		return nil, err
	}
	var sent []Message
	var errs []error
	reached := map[string]bool{}
	for _, s := range slots {
		if s.ID == from || s.Name != "" && s.Name == from || reached[s.ID] {
			continue
		}
		reached[s.ID] = true
		m, err := p.send(ctx, from, s.ID, content)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		sent = append(sent, m)
	}
	return sent, errors.Join(errs...)
}

// aliveSlots returns the slots of all pools on the store that have not been
// told to stop.
func (p *Pool) aliveSlots(ctx context.Context) ([]SlotStatus, error) {
	all, err := p.allSlots(ctx)
	return slices.DeleteFunc(all, func(s SlotStatus) bool {
		if s.Instance != "" { // another pool's
			return s.State == SlotDraining || s.State == SlotStopped
		}
		own, err := p.slot(s.ID)
		return err != nil || own.isStopping()
	}), err
}

// ReadMessages takes the messages that wait for a slot, by id or name, or for
// the [Coordinator], the oldest first. Nobody else gets them after that.
func (p *Pool) ReadMessages(ctx context.Context, slot string) ([]Message, error) {
	return p.readMessages(ctx, slot, func(address string) ([]Message, error) {
		return p.store.TakeMessages(ctx, address, nil)
	})
}

// PeekMessages is like [Pool.ReadMessages] but leaves the messages.
func (p *Pool) PeekMessages(ctx context.Context, slot string) ([]Message, error) {
	return p.readMessages(ctx, slot, func(address string) ([]Message, error) {
		return p.store.Messages(ctx, address)
	})
}

func (p *Pool) readMessages(ctx context.Context, slot string, read func(address string) ([]Message, error)) ([]Message, error) {
	if err := p.usable(); err != nil {
		return nil, err
	}
	address, unknown := p.address(ctx, slot)
	if unknown != nil {
		address = slot // what waits for a slot that has gone can still be read
	}
	all, err := read(address)
	if unknown != nil && len(all) == 0 {
		return nil, unknown
	}
	return all, err
}

func validMessage(from, content string) error {
	switch {
	case from == "" || len(from) > MaxMessageFrom || !utf8.ValidString(from):
		return invalidField("from", "must be 1 to %d bytes of valid UTF-8", MaxMessageFrom)
	case strings.TrimSpace(content) == "":
		return invalidField("content", "is empty")
	case len(content) > MaxMessage || !utf8.ValidString(content):
		return invalidField("content", "must be at most %d bytes of valid UTF-8; put longer texts into files and name those", MaxMessage)
	}
	return nil
}

// address returns where messages to a slot, by id or name, wait.
func (p *Pool) address(ctx context.Context, to string) (string, error) {
	if to == Coordinator {
		return to, nil
	}
	own, unknown := p.slot(to)
	if unknown == nil {
		return own.id, nil
	}
	others, err := p.otherSlots(ctx)
	if err != nil {
		return "", fmt.Errorf("look for slot %q: %w", to, err)
	}
	i := slices.IndexFunc(others, func(s SlotRecord) bool { return s.ID == to || s.Name != "" && s.Name == to })
	if i < 0 {
		return "", unknown
	}
	return others[i].ID, nil
}

func (p *Pool) send(ctx context.Context, from, address, content string) (Message, error) {
	now := time.Now().UTC()
	m := Message{ID: p.ids.Next("msg", now), From: from, To: address, Content: content, Sent: now}
	if err := p.store.SendMessage(ctx, m); err != nil {
		return Message{}, err
	}
	return m, nil
}

// acknowledge removes the messages that the attempt was given, if it was the
// one with which its task ended or went to a review. One that was cut off, or
// ended from outside before the model said anything, leaves them for the next
// task of the slot. Any other end takes them along, or one that no model can cope
// with would spoil every task after it.
func (a *attempt) acknowledge(o Outcome, state TaskState) {
	ended := state.Terminal() || state == StatePendingReview
	unheard := (o == OutcomeCancelled || o == OutcomeTimeout || o == OutcomeStalled) && !a.heard.Load()
	if len(a.given) == 0 || !a.prompt || !ended || unheard || o.machinery() || o == OutcomeLaunch {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.ctx), storeTimeout)
	defer cancel()
	if _, err := a.p.store.TakeMessages(ctx, a.s.id, a.given); err != nil {
		a.p.log.Warn("messages that were delivered could not be removed; they are delivered again",
			"slot", a.s.id, "task", a.rec.ID, "messages", len(a.given), "err", err)
	}
}
