package sqlitestore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/claudepool/claudepool"
)

// disk waits for the disk, beside the writer, which goes on meanwhile: one wait
// serves all that was committed before it began. What it waits for is the
// write-ahead log, to which SQLite has written each commit; the database itself
// SQLite takes care of.
type disk struct {
	s    *Store
	log  *os.File      // nil when nobody wants to wait
	wake chan struct{} // holds one token while there is something to do
	done chan struct{} // closed when run has ended

	waits atomic.Int64 // for the disk, so far

	mu     sync.Mutex
	queue  []committed
	ended  bool
	broken error // after it the disk cannot be trusted with what it has taken
}

// committed is what a transaction leaves to be done.
type committed struct {
	wrote bool                // something is to reach the disk
	soon  bool                // at once
	steps []*step             // to be answered when it has
	news  []claudepool.Change // to be told then
	watch *step               // a watcher that begins after that, or nil
}

func openDisk(s *Store) (*disk, error) {
	d := &disk{s: s, wake: make(chan struct{}, 1), done: make(chan struct{})}
	if s.opts.Synchronous != Full {
		return d, nil
	}
	log, err := os.OpenFile(s.path+"-wal", os.O_RDWR, 0)
	if err != nil {
		return nil, openError(s.path, fmt.Errorf("write-ahead log: %w", err))
	}
	if err := errors.Join(syncFile(log), syncFolder(filepath.Dir(s.path))); err != nil {
		return nil, errors.Join(openError(s.path, err), log.Close())
	}
	d.log = log
	return d, nil
}

// add leaves to the disk what a transaction has left. It never waits.
func (d *disk) add(c committed) {
	if !c.wrote && len(c.steps) == 0 && len(c.news) == 0 && c.watch == nil {
		return
	}
	d.mu.Lock()
	d.queue = append(d.queue, c)
	d.mu.Unlock()
	d.kick()
}

// end says that nothing more will be added.
func (d *disk) end() {
	d.mu.Lock()
	d.ended = true
	d.mu.Unlock()
	d.kick()
}

func (d *disk) kick() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// run waits for the disk and answers, until end.
func (d *disk) run() {
	defer close(d.done)
	dirty := false // something has been written since the last wait
	for range d.wake {
		d.mu.Lock()
		queue, ended := d.queue, d.ended
		d.queue = nil
		d.mu.Unlock()
		wanted := false
		for _, c := range queue {
			dirty = dirty || c.wrote
			wanted = wanted || c.soon || len(c.steps) > 0
		}
		if dirty && wanted {
			d.sync()
			dirty = false
		}
		for _, c := range queue {
			d.answer(c)
		}
		if ended {
			return
		}
	}
}

// sync waits for the disk. What it fails to take once it may claim to have later,
// so that the store is of no more use then.
func (d *disk) sync() {
	if d.log == nil || d.failed() != nil {
		return
	}
	d.waits.Add(1)
	if err := syncFile(d.log); err != nil {
		d.mu.Lock()
		d.broken = fmt.Errorf("task store %s: the disk has not taken what was written; end the program, see to the disk, and start again: %w", d.s.path, err)
		d.mu.Unlock()
	}
}

// failed returns why the store cannot be used any more, or nil.
func (d *disk) failed() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.broken
}

// answer tells all concerned of a transaction that is on the disk.
func (d *disk) answer(c committed) {
	err := d.failed()
	for _, st := range c.steps {
		st.err = err
		close(st.done)
	}
	if err == nil {
		d.s.watch.publish(c.news)
	}
	if c.watch != nil {
		if c.watch.err = err; err == nil {
			c.watch.err = c.watch.run(nil)
		}
		close(c.watch.done)
	}
}

func (d *disk) close() error {
	if d.log == nil {
		return nil
	}
	return d.log.Close()
}
