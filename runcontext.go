package claudepool

import (
	"context"
	"fmt"
	"unicode/utf8"
)

// The run context is a set of key-values that every task is given at the start
// of its prompt, from the next task on.

// MaxContext bounds a value of the run context in bytes.
const MaxContext = 64 << 10

// SetContext sets a key of the run context.
func (p *Pool) SetContext(ctx context.Context, key, value string) error {
	if err := p.open(); err != nil {
		return err
	}
	switch {
	case key == "" || len(key) > 256 || !utf8.ValidString(key):
		return invalidField("key", "must be 1 to 256 bytes of valid UTF-8")
	case len(value) > MaxContext || !utf8.ValidString(value):
		return invalidField("value", "must be at most %d bytes of valid UTF-8; put longer texts into files and name those", MaxContext)
	}
	return p.store.SetContext(ctx, key, value)
}

// GetContext returns the value of a key, or [ErrUnknownKey].
func (p *Pool) GetContext(ctx context.Context, key string) (string, error) {
	all, err := p.Context(ctx)
	if err != nil {
		return "", err
	}
	v, ok := all[key]
	if !ok {
		return "", fmt.Errorf("%w %q", ErrUnknownKey, key)
	}
	return v, nil
}

// DeleteContext removes a key, or fails with [ErrUnknownKey].
func (p *Pool) DeleteContext(ctx context.Context, key string) error {
	if err := p.open(); err != nil {
		return err
	}
	return p.store.DeleteContext(ctx, key)
}

// Context returns the whole run context.
func (p *Pool) Context(ctx context.Context) (map[string]string, error) {
	if err := p.usable(); err != nil {
		return nil, err
	}
	return p.store.Context(ctx)
}
