package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/claudepool/claudepool/sqlitestore"
)

// storeOptions say where what the pool knows outlives the server.
type storeOptions struct {
	path string // empty means nowhere
	opts sqlitestore.Options
}

// open opens the store, or returns nil when there is to be none.
func (o storeOptions) open(ctx context.Context) (*sqlitestore.Store, error) {
	if o.path == "" {
		return nil, nil
	}
	s, err := sqlitestore.Open(ctx, o.path, o.opts)
	switch {
	case errors.Is(err, sqlitestore.ErrInUse) && !o.opts.Peer:
		return nil, fmt.Errorf("flag --store: %w: servers share a file only if each of them says --peer", err)
	case errors.Is(err, sqlitestore.ErrInUse): // the others do not share it, or the file needs an upgrade
		return nil, fmt.Errorf("flag --peer: %w", err)
	case err != nil:
		return nil, fmt.Errorf("flag --store: %w", err)
	}
	return s, nil
}
