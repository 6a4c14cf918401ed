package mcp

import (
	"context"
	"sync"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/claudepool/claudepool"
)

// updateWindow is how long changes are collected, so that a busy pool tells a
// subscriber of a resource a few times a second at most.
const updateWindow = 250 * time.Millisecond

// updates collects the URIs of resources that have changed.
type updates struct {
	mu    sync.Mutex
	dirty map[string]bool
	kick  chan struct{} // holds one token while there are any
}

func newUpdates() *updates {
	return &updates{dirty: map[string]bool{}, kick: make(chan struct{}, 1)}
}

func (u *updates) mark(uris ...string) {
	u.mu.Lock()
	for _, uri := range uris {
		u.dirty[uri] = true
	}
	u.mu.Unlock()
	select {
	case u.kick <- struct{}{}:
	default:
	}
}

func (u *updates) take() map[string]bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	taken := u.dirty
	u.dirty = map[string]bool{}
	return taken
}

// follow marks what the pool's events change, until the server closes.
func (s *Server) follow() {
	kinds := []claudepool.EventKind{
		claudepool.EventTask, claudepool.EventSlot, claudepool.EventSpend, claudepool.EventRateLimit, claudepool.EventPool,
	}
	for e := range s.pool.Events(s.ctx, claudepool.EventFilter{Kinds: kinds}) {
		s.fresh.mark(changedBy(e)...)
	}
}

// changedBy lists the resources that an event changes.
func changedBy(e claudepool.Event) []string {
	uris := []string{statusURI}
	switch e.Kind {
	case claudepool.EventSpend:
		uris = append(uris, budgetURI)
	case claudepool.EventLagged:
		uris = append(uris, slotsURI, budgetURI, contextURI)
	}
	if e.TaskID != "" {
		id := string(e.TaskID)
		uris = append(uris, taskPrefix+id, resultPrefix+id, transcriptPrefix+id, chainURI(e.TaskID))
	}
	if e.Chain != "" {
		uris = append(uris, chainURI(e.Chain))
	}
	if e.SlotID != "" {
		uris = append(uris, slotsURI, slotPrefix+e.SlotID)
	}
	return uris
}

// announce tells subscribers what has changed. The SDK writes to one after the
// other and waits for each, so this has a goroutine to itself.
func (s *Server) announce() {
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.fresh.kick:
		}
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(updateWindow):
		}
		for uri := range s.fresh.take() {
			if err := s.mcp.ResourceUpdated(s.ctx, &sdk.ResourceUpdatedNotificationParams{URI: uri}); err != nil {
				s.log.Warn("subscribers were not told of a change", "uri", uri, "err", err)
			}
		}
	}
}

// subscribe refuses to watch what is no resource of this server.
func (s *Server) subscribe(_ context.Context, req *sdk.SubscribeRequest) error {
	uri := req.Params.URI
	switch uri {
	case statusURI, slotsURI, budgetURI, contextURI:
		return nil
	}
	for _, prefix := range []string{slotPrefix, taskPrefix, chainPrefix, resultPrefix, transcriptPrefix} {
		if _, ok := idIn(uri, prefix); ok {
			return nil
		}
	}
	return sdk.ResourceNotFoundError(uri)
}
