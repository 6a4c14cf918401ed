//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// fault is one way to make life hard for a pool.
type fault struct {
	name, what string
	real       bool
	// share is how many rounds there are for a hundred of the flag; perLife how
	// many one store goes through. Each life ends with a host that does all work.
	share, perLife int
	slow           bool // takes minutes; left out of short runs
	// excused are the classes that tasks may fail with because of the fault.
	excused []string
	prepare func(*life) error
	round   func(context.Context, *life) error
	// settle, if set, changes the host that does the last work.
	settle func(*hostConfig)
}

// faults lists all there are.
func faults() []fault {
	return []fault{
		{name: "kill", what: "SIGKILL of the host", share: 100, perLife: 50, round: killHost},
		{name: "real", what: "the same with the real CLI", real: true, share: 100, perLife: 10, round: killRealHost},
		{name: "real-slots", what: "SIGKILL of processes of slots, real CLIs", real: true, share: 20, perLife: 3, excused: []string{"launch"}, round: killRealSlots},
		{name: "real-freeze", what: "SIGSTOP of processes of slots, real CLIs", real: true, share: 10, perLife: 2, excused: []string{"stalled", "launch"}, round: freezeRealSlots},
		{name: "real-term", what: "SIGTERM of the host with real CLIs, and an upgrade of it", real: true, share: 20, perLife: 5, round: upgradeHost},
		{name: "slots", what: "SIGKILL of processes of slots", share: 3, perLife: 3, excused: []string{"launch"}, round: killSlots},
		{name: "freeze-slots", what: "SIGSTOP of processes of slots", share: 1, perLife: 2, excused: []string{"stalled", "launch"}, round: freezeSlots},
		{name: "freeze-host", what: "SIGSTOP of the host for a minute, beside a peer", share: 1, perLife: 1, slow: true, prepare: shareStore, round: freezeHost, settle: asPeer},
		{name: "disk", what: "disk full, and SIGKILL", share: 2, perLife: 4, prepare: smallDisk, round: fillDisk},
		{name: "clock", what: "clock that jumps, and SIGKILL", share: 3, perLife: 6, excused: []string{"expired"}, round: jumpClock, settle: jumping},
		{name: "store", what: "store that is slow and fails, and SIGKILL", share: 3, perLife: 6, round: shakeStore},
	}
}

// some is a random time up to d.
func (l *life) some(d time.Duration) time.Duration { return time.Duration(l.rand.Int64N(int64(d))) }

// killHost kills a host at a random instant: in one of four rounds while it
// starts, in some twice in a row; now and then it may end in good order.
func killHost(_ context.Context, l *life) error {
	h, err := l.start(nil)
	if err != nil {
		return err
	}
	switch n := l.rand.IntN(100); {
	case n < 25:
		h.pass(l.some(120 * time.Millisecond))
	case n < 30:
		h.up()
		h.pass(l.some(200 * time.Millisecond))
		h.tell(cmdClose)
		return nil
	case n < 50:
		h.up()
		h.pass(l.some(400 * time.Millisecond))
	default:
		h.work()
		h.pass(l.some(800 * time.Millisecond))
	}
	h.kill()
	if l.rand.IntN(10) == 0 { // before what was left has been ended
		if h, err = l.start(nil); err != nil {
			return err
		}
		h.pass(l.some(30 * time.Millisecond))
		h.kill()
	}
	return nil
}

// killRealHost is killHost for processes that take most of a second to start: in
// five of six rounds agents are at work.
func killRealHost(_ context.Context, l *life) error {
	before := l.turns.Load()
	h, err := l.start(nil)
	if err != nil {
		return err
	}
	h.work()
	if l.rand.IntN(6) > 0 {
		h.asked(before + 4 + l.rand.Int64N(5))
	}
	h.pass(l.some(time.Second))
	h.kill()
	return nil
}

// asked waits until so many turns have begun. When there is no money for more they
// never will, so it does not wait for long.
func (r *running) asked(turns int64) {
	for end := time.Now().Add(10 * time.Second); r.l.turns.Load() < turns && time.Now().Before(end); {
		select {
		case <-r.over:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// leaders returns the processes that a host has started for its slots.
func (r *running) leaders() ([]process, error) {
	all, err := marked(r.l.mark)
	var of []process
	for _, p := range all {
		if p.parent == r.cmd.Process.Pid && !strings.Contains(p.command, "--version") {
			of = append(of, p)
		}
	}
	return of, err
}

// strike sends a signal to processes of slots at work, at random instants.
func (l *life) strike(s syscall.Signal, times int, within time.Duration) error {
	h, err := l.start(nil)
	if err != nil {
		return err
	}
	h.work()
	return h.strike(s, times, within)
}

// strikeReal is strike for processes that take most of a second to start.
func (l *life) strikeReal(s syscall.Signal, times int, within time.Duration) error {
	before := l.turns.Load()
	h, err := l.start(nil)
	if err != nil {
		return err
	}
	h.work()
	h.asked(before + 2 + l.rand.Int64N(3))
	return h.strike(s, times, within)
}

func (r *running) strike(s syscall.Signal, times int, within time.Duration) error {
	for range times {
		r.pass(r.l.some(within))
		all, err := r.leaders()
		if err != nil {
			return err
		}
		if len(all) > 0 {
			syscall.Kill(all[r.l.rand.IntN(len(all))].pid, s) // it may have ended just now
		}
	}
	switch r.l.rand.IntN(3) {
	case 0:
		r.tell(cmdDrain)
	case 1:
		r.term()
	default:
		r.kill()
	}
	return nil
}

func killSlots(_ context.Context, l *life) error {
	return l.strike(syscall.SIGKILL, 12, 100*time.Millisecond)
}

func freezeSlots(_ context.Context, l *life) error {
	l.config.Stall = 500 * time.Millisecond
	return l.strike(syscall.SIGSTOP, 4, 150*time.Millisecond)
}

func killRealSlots(_ context.Context, l *life) error {
	return l.strikeReal(syscall.SIGKILL, 6, 400*time.Millisecond)
}

// freezeRealSlots has a stall limit that neither the start of a real CLI on a busy
// machine nor anything that it is asked here comes near.
func freezeRealSlots(_ context.Context, l *life) error {
	l.config.Stall = 4 * time.Second
	return l.strikeReal(syscall.SIGSTOP, 3, 400*time.Millisecond)
}

// upgradeHost replaces the program while it works: the host hands back what it
// has not done, and another file goes on. In one of four rounds it is killed
// while it does so.
func upgradeHost(ctx context.Context, l *life) error {
	before := l.turns.Load()
	h, err := l.start(nil)
	if err != nil {
		return err
	}
	h.work()
	if l.rand.IntN(4) > 0 {
		h.asked(before + 1 + l.rand.Int64N(4))
	}
	h.pass(l.some(800 * time.Millisecond))
	if l.rand.IntN(4) == 0 {
		h.signal(syscall.SIGTERM)
		h.pass(l.some(2 * handBackAfter))
		h.kill()
	} else {
		h.term()
		if err := l.handedBack(ctx, h); err != nil {
			return err
		}
	}
	return l.upgrade()
}

// handedBack checks that a host that has ended in good order holds nothing.
func (l *life) handedBack(ctx context.Context, h *running) error {
	if err := l.look(ctx, false); err != nil || !h.cmd.ProcessState.Success() {
		return err
	}
	if s := &l.row.sums; s.Running > 0 || s.Orphaned > 0 {
		l.row.find(l, fmt.Sprintf("P1: %d tasks run and %d are claimed after the host of round %d has handed them back", s.Running, s.Orphaned, l.round))
	}
	return nil
}

// upgrade has the next hosts run from another file than those before.
func (l *life) upgrade() error {
	b, err := os.ReadFile(l.program)
	if err != nil {
		return err
	}
	l.program = filepath.Join(l.dir, fmt.Sprintf("program-%d", l.round))
	return os.WriteFile(l.program, b, 0o700)
}

// besideFrozen is for a host that shares the store with one that is stopped: that
// one may be stopped while it writes.
func besideFrozen(c *hostConfig) { c.FrozenPeer = true }

// shareStore lets several hosts use the store at once.
func shareStore(l *life) error { l.config.Peer = true; return nil }

func asPeer(c *hostConfig) { c.Peer = true }

// freezeHost stops a host for longer than its claims last, while another goes on
// and takes over its work; then it wakes up.
func freezeHost(_ context.Context, l *life) error {
	first, err := l.start(besideFrozen)
	if err != nil {
		return err
	}
	first.up()
	second, err := l.start(besideFrozen)
	if err != nil {
		return err
	}
	second.up()
	first.pass(500 * time.Millisecond)
	first.signal(syscall.SIGSTOP)
	second.pass(time.Minute)
	first.signal(syscall.SIGCONT)
	second.pass(time.Second)
	// The one that was frozen is told to end with a result in its hands.
	first.tell(cmdClose)
	second.tell(cmdClose)
	return nil
}

// smallDisk puts the store on a file system of a few megabytes.
func smallDisk(l *life) error {
	umount, err := mountSmall(filepath.Dir(l.config.Store), 8)
	l.umount, l.config.FullDisk = umount, true
	return err
}

// fillDisk fills the disk under a host at work, makes room again, and kills it
// before or after that.
func fillDisk(_ context.Context, l *life) error {
	h, err := l.start(nil)
	if err != nil {
		return err
	}
	h.work()
	h.pass(l.some(200 * time.Millisecond))
	ballast := filepath.Join(filepath.Dir(l.config.Store), "ballast")
	if err := fill(ballast); err != nil {
		return err
	}
	h.pass(l.some(500 * time.Millisecond))
	early := l.rand.IntN(3) == 0
	if early {
		h.kill()
		if h, err = l.start(nil); err != nil { // it says that the disk is full, or begins
			return err
		}
		h.pass(l.some(500 * time.Millisecond))
		h.kill()
	}
	if err := os.Remove(ballast); err != nil {
		return err
	}
	if !early {
		h.pass(l.some(time.Second))
		h.kill()
	}
	return nil
}

// fill writes into a file until there is no room.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	for chunk := make([]byte, 64<<10); len(chunk) > 0; {
		if _, err = f.Write(chunk); err != nil {
			chunk = chunk[:len(chunk)/2]
		}
	}
	if cerr := f.Close(); !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("fill the disk: %w", errors.Join(err, cerr))
	}
	return nil
}

func jumping(c *hostConfig) { c.Shaky = &shakyConfig{Jumps: true} }

func jumpClock(_ context.Context, l *life) error { return l.shake(jumping) }

func shakeStore(_ context.Context, l *life) error {
	return l.shake(func(c *hostConfig) {
		c.Shaky = &shakyConfig{Slow: 20 * time.Millisecond, Fails: 20, After: true}
	})
}

// shake kills a host on a store that misbehaves.
func (l *life) shake(change func(*hostConfig)) error {
	h, err := l.start(change)
	if err != nil {
		return err
	}
	h.work()
	h.pass(l.some(time.Second))
	h.kill()
	return nil
}

// drain has a last host do all that is left, and looks at what came of it.
func (l *life) drain(ctx context.Context, f fault) error {
	h, err := l.start(func(c *hostConfig) {
		c.Idle, c.Batch = true, 0
		if f.settle != nil {
			f.settle(c)
		}
	})
	if err != nil {
		return err
	}
	h.up()
	h.tell(cmdDrain)
	return l.look(ctx, true)
}

// run runs rounds of a fault.
func (m *machine) run(ctx context.Context, f fault, rounds int, seed uint64) (*row, error) {
	r := newRow(f, m.log)
	for n := 0; r.rounds < rounds; n++ {
		if err := m.live(ctx, f, n, min(f.perLife, rounds-r.rounds), seed, r); err != nil {
			return r, err
		}
	}
	return r, nil
}

// live is one life of a store.
func (m *machine) live(ctx context.Context, f fault, n, rounds int, seed uint64, r *row) (err error) {
	l, err := m.newLife(f, n, seed, r)
	if err != nil {
		return err
	}
	before := len(r.findings)
	defer func() { err = errors.Join(err, l.end(err != nil || len(r.findings) > before)) }()
	for range rounds {
		if err := ctx.Err(); err != nil {
			return err
		}
		r.rounds++
		if err := errors.Join(f.round(ctx, l), l.look(ctx, false)); err != nil {
			return err
		}
	}
	if err := l.drain(ctx, f); err != nil {
		return err
	}
	r.add(l)
	return nil
}
