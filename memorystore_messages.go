package claudepool

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// SendMessage implements [PoolStore].
func (s *MemoryStore) SendMessage(ctx context.Context, m Message) error {
	switch {
	case m.ID == "":
		return invalidField("id", "must not be empty")
	case m.To == "":
		return invalidField("to", "must not be empty")
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	for _, box := range s.messages { // one for each address, so there are few
		if _, found := slices.BinarySearchFunc(box, m.ID, byMessageID); found {
			return fmt.Errorf("message %s: %w", m.ID, ErrDuplicate)
		}
	}
	box := s.messages[m.To]
	if len(box) >= MaxMessages {
		return fmt.Errorf("%d messages wait for %s; they must be read before there is room for more: %w", len(box), m.To, ErrMailboxFull)
	}
	at, _ := slices.BinarySearchFunc(box, m.ID, byMessageID)
	s.messages[m.To] = slices.Insert(box, at, m)
	return nil
}

func byMessageID(m Message, id string) int { return cmp.Compare(m.ID, id) }

// Messages implements [PoolStore].
func (s *MemoryStore) Messages(ctx context.Context, to string) ([]Message, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return slices.Clone(s.messages[to]), nil
}

// TakeMessages implements [PoolStore].
func (s *MemoryStore) TakeMessages(ctx context.Context, to string, ids []string) ([]Message, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var taken, left []Message
	for _, m := range s.messages[to] {
		if ids == nil || slices.Contains(ids, m.ID) {
			taken = append(taken, m)
		} else {
			left = append(left, m)
		}
	}
	if left == nil {
		delete(s.messages, to)
	} else {
		s.messages[to] = left
	}
	return taken, nil
}
