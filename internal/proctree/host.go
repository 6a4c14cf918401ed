package proctree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"
)

// host is what a host program keeps for all its trees: its file in the registry
// and its watchdog, both only while there are trees.
type host struct {
	token string

	// turn is held by whoever uses the fields below. It is a channel because it
	// is held over I/O, so that a wait for it can end with a context.
	turn  chan struct{}
	users int // calls of open without their close
	path  string
	book  book
	gone  map[record]bool // trees in the book whose group is empty
	dog   *watchdog       // may have died

	minders sync.WaitGroup // goroutines that replace a dead watchdog
}

// program is the host that this program is. There is one, as a process has one
// identity and dies once.
var program = newHost()

func newHost() *host {
	return &host{token: newToken(), turn: make(chan struct{}, 1)}
}

func (h *host) take(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	select {
	case h.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (h *host) leave() { <-h.turn }

// open makes the host ready for one more tree: it is in the registry, even
// before its first tree, and has a live watchdog.
func (h *host) open(ctx context.Context) error {
	if err := h.take(ctx); err != nil {
		return err
	}
	defer h.leave()
	if h.users == 0 {
		if err := h.register(); err != nil {
			return err
		}
	}
	h.users++
	if err := h.ensureWatchdog(ctx); err != nil {
		return errors.Join(err, h.release())
	}
	return nil
}

func (h *host) register() error {
	dir, err := registryDir()
	if err != nil {
		return err
	}
	id, err := thisHost(h.token)
	if err != nil {
		return err
	}
	h.path = bookPath(dir, h.token)
	h.book = book{Version: bookVersion, Host: id}
	h.gone = make(map[record]bool)
	return h.book.write(h.path)
}

// add writes a tree down and puts it under the watchdog.
func (h *host) add(ctx context.Context, r record) error {
	if err := h.take(ctx); err != nil {
		return err
	}
	defer h.leave()
	h.book.Trees = append(h.book.Trees, r)
	if err := h.book.write(h.path); err != nil {
		return err
	}
	if h.dog.tell("+", r) == nil {
		return nil
	}
	// It has died since open. A new one hears of all trees.
	return h.ensureWatchdog(ctx)
}

// groupGone says that the number of the group of r may soon be that of another.
func (h *host) groupGone(r record) {
	h.turn <- struct{}{} // held for no longer than the I/O of one change
	defer h.leave()
	if slices.Contains(h.book.Trees, r) {
		h.gone[r] = true
		h.tell("-", r)
	}
}

// close takes back one open, and from the registry the tree r, if it was added.
// After an error it has changed nothing and can be called again.
func (h *host) close(r record) error {
	h.turn <- struct{}{} // as in groupGone
	defer h.leave()
	i := slices.Index(h.book.Trees, r)
	if i < 0 {
		return h.release()
	}
	before := h.book.Trees
	h.book.Trees = slices.Delete(slices.Clone(before), i, i+1)
	if h.users > 1 {
		if err := h.book.write(h.path); err != nil {
			h.book.Trees = before
			return err
		}
		if !h.gone[r] {
			h.tell("-", r)
		}
	}
	if err := h.release(); err != nil {
		h.book.Trees = before
		return err
	}
	delete(h.gone, r)
	return nil
}

// tell tells the watchdog, if there is one. One that cannot be told dies of it,
// and its successor hears of all that is true then.
func (h *host) tell(op string, r record) {
	if h.dog != nil {
		h.dog.tell(op, r)
	}
}

// release takes back one open; the last one removes the file and ends the
// watchdog. After an error it has changed nothing. The caller has the turn.
func (h *host) release() error {
	if h.users == 1 {
		if err := os.Remove(h.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the record of ended process trees: %w", err)
		}
		if h.dog != nil {
			h.dog.stop()
			h.dog = nil
		}
		h.minders.Wait()
	}
	h.users--
	return nil
}

// ensureWatchdog starts a watchdog when there is none alive and tells it of all
// trees. The caller has the turn.
func (h *host) ensureWatchdog(ctx context.Context) error {
	if h.dog != nil && h.dog.alive() {
		return nil
	}
	if h.dog != nil {
		h.dog.stop()
		h.dog = nil
	}
	dog, err := startWatchdog(ctx, h.token)
	if err != nil {
		return fmt.Errorf("start the watchdog that ends the process trees when this program dies: %w", err)
	}
	for _, r := range h.book.Trees {
		if h.gone[r] {
			continue
		}
		if err := dog.tell("+", r); err != nil {
			dog.stop()
			return fmt.Errorf("tell the watchdog of a process tree: %w", err)
		}
	}
	h.dog = dog
	h.minders.Go(func() { h.replace(dog) })
	return nil
}

// replace starts another watchdog when dog dies by itself. It ends at the
// latest when dog is stopped.
func (h *host) replace(dog *watchdog) {
	select {
	case <-dog.exited:
	case <-dog.stopping:
		return
	}
	select {
	case h.turn <- struct{}{}:
		defer h.leave()
	case <-dog.stopping:
		return
	}
	if h.dog != dog || time.Since(dog.started) < time.Second {
		return // one that dies at once would do so again
	}
	// When this fails, the next Start tries again and reports why; until then
	// the registry covers the trees.
	h.ensureWatchdog(context.Background())
}
