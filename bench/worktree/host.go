//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/claudepool/claudepool/bench/worktree/internal/check"
	"github.com/claudepool/claudepool/worktree"
)

// envHost holds a [hostConfig] and makes this program a host.
const envHost = "CLAUDEPOOL_WORKTREE_HOST"

// hostConfig is what a host is told.
type hostConfig struct {
	Seed   uint64
	Round  int
	Repo   string
	Home   string
	Places int
	// Works are some that have ended, to go on with.
	Works []string
	// Move allows that the checkout is moved forward by merges.
	Move bool
	Keep bool // leftovers stay out of the branch
}

// cmdDrain is what the parent writes to a host that is to end in good order.
const cmdDrain = "drain"

// linesFD is the file that a host writes its lines to.
const linesFD = 3

// host is a program whose agents work in places.
type host struct {
	cfg     hostConfig
	manager *worktree.Manager
	stash   sync.Mutex
	drain   atomic.Bool

	mu    sync.Mutex
	lines *os.File
	works []string
}

// hostMain runs this program as a host, if it was started as one.
func hostMain() {
	text := os.Getenv(envHost)
	if text == "" {
		return
	}
	os.Unsetenv(envHost) // not for what it starts
	syscall.CloseOnExec(linesFD)
	h := &host{lines: os.NewFile(linesFD, "lines")}
	err := json.Unmarshal([]byte(text), &h.cfg)
	if err == nil {
		err = h.run(context.Background())
	}
	if err != nil {
		h.fail("host of round %d: %v", h.cfg.Round, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// say writes a line in one write.
func (h *host) say(l check.Line) {
	b, err := json.Marshal(l)
	if err != nil {
		b = fmt.Appendf(nil, `{"op":"failed","text":%q}`, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, err := h.lines.Write(append(b, '\n')); err != nil {
		os.Exit(2) // the parent has gone
	}
}

func (h *host) fail(format string, args ...any) {
	h.say(check.Line{Op: check.OpFailed, Text: fmt.Sprintf(format, args...)})
}

func (h *host) run(ctx context.Context) (err error) {
	h.works = h.cfg.Works
	o := worktree.Options{
		Repo: h.cfg.Repo, Home: h.cfg.Home, Copy: []string{".env"},
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if h.cfg.Keep {
		o.Leftover = worktree.Keep
	}
	if h.manager, err = worktree.Open(ctx, o); err != nil {
		return err
	}
	h.say(check.Line{Op: check.OpOpened})
	go func() { // ends with the program
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			h.drain.Store(true)
		}
		os.Exit(2)
	}()
	var all sync.WaitGroup
	for i := range h.cfg.Places {
		all.Go(func() { h.serve(ctx, i) })
	}
	all.Go(func() { h.keep(ctx) })
	all.Wait()
	if err := h.manager.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	h.say(check.Line{Op: check.OpClosed})
	return nil
}

// serve takes places, one at a time, and has an agent work in each.
func (h *host) serve(ctx context.Context, i int) {
	a := &agent{Rand: rand.New(rand.NewPCG(h.cfg.Seed, uint64(h.cfg.Round)<<16+uint64(i))), say: h.say, name: fmt.Sprintf("r%da%d", h.cfg.Round, i)}
	for !h.drain.Load() {
		kind := worktree.Worktree
		if a.chance(35) {
			kind = worktree.Clone
		}
		p, err := h.manager.Acquire(ctx, kind)
		if err != nil {
			h.fail("P1: acquire a %s: %v", kind, err)
			return
		}
		a.root, a.clone = p.Root(), kind == worktree.Clone
		a.stash = func() func() { return func() {} }
		if !a.clone {
			a.stash = func() func() { h.stash.Lock(); return h.stash.Unlock }
		}
		h.say(check.Line{Op: check.OpAcquired, Root: p.Root(), Kind: string(kind)})
		last := false
		for works := 1 + a.IntN(4); works > 0 && !last && !h.drain.Load(); works-- {
			last, err = h.work(ctx, a, p)
			if err != nil {
				h.fail("%v", err)
				return
			}
		}
		if err := h.release(ctx, a, p); err != nil {
			h.fail("release %s: %v", p.Root(), err)
			return
		}
	}
}

// work has an agent do a piece of work. It may be left without its end.
func (h *host) work(ctx context.Context, a *agent, p *worktree.Place) (last bool, err error) {
	a.n++
	w := worktree.Work{ID: fmt.Sprintf("w-%s-%d", a.name, a.n)}
	if old := h.ended(a); old != "" && a.chance(30) {
		w.From = old
		if h.take(old) && a.chance(50) {
			w.ID = old // nobody else has it now
		}
	}
	l := check.Line{Op: check.OpBeginning, Root: p.Root(), Work: w.ID, From: w.From}
	h.say(l)
	err = p.Begin(ctx, w)
	if errors.Is(err, worktree.ErrUnknown) && w.From != "" {
		return false, nil // a clean-up has removed its branch
	}
	if err != nil {
		return false, fmt.Errorf("P1: begin %+v in %s: %w", w, p.Root(), err)
	}
	if err := a.begin(ctx); err != nil {
		return false, err
	}
	a.again = w.ID == w.From
	l.Op, l.Inv = check.OpBegun, a.inv
	h.say(l)
	for n := a.IntN(18); n > 0 && !h.drain.Load(); n-- {
		if err := a.act(ctx); err != nil {
			return false, fmt.Errorf("an agent in %s: %w", p.Root(), err)
		}
	}
	if a.chance(8) {
		return true, nil
	}
	if err := a.last(ctx); err != nil {
		return false, err
	}
	h.say(check.Line{Op: check.OpEnding, Root: p.Root(), Work: w.ID, Inv: a.inv})
	r, err := p.End(ctx)
	if err != nil {
		return false, fmt.Errorf("P6: end %s in %s: %w", w.ID, p.Root(), err)
	}
	a.inv = nil
	h.say(check.Line{Op: check.OpEnded, Root: p.Root(), Work: w.ID, Branch: r.Branch, After: r.Head})
	if a.chance(40) {
		h.merge(ctx, a, w.ID, r.Branch)
	}
	h.give(w.ID)
	return false, nil
}

// last looks at all that counts as written, just before the manager comes to it.
func (a *agent) last(ctx context.Context) error {
	if a.inv == nil {
		return nil
	}
	if err := a.same(); err != nil {
		return err
	}
	return a.look(ctx)
}

func (h *host) release(ctx context.Context, a *agent, p *worktree.Place) error {
	if err := a.last(ctx); err != nil {
		return err
	}
	h.say(check.Line{Op: check.OpReleasing, Root: p.Root(), Inv: a.inv})
	a.inv = nil
	if err := p.Release(ctx); err != nil {
		return err
	}
	h.say(check.Line{Op: check.OpReleased, Root: p.Root()})
	return nil
}

// ended returns some work that has ended.
func (h *host) ended(a *agent) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.works) == 0 {
		return ""
	}
	return h.works[a.IntN(len(h.works))]
}

// take takes work off the list, so that only one agent goes on with its branch.
func (h *host) take(work string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.Index(h.works, work)
	if i >= 0 {
		h.works = slices.Delete(slices.Clone(h.works), i, i+1)
	}
	return i >= 0
}

func (h *host) give(work string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.works = append(h.works, work); len(h.works) > 30 {
		h.works = h.works[1:]
	}
}

// merge merges work into a branch, checked out or not.
func (h *host) merge(ctx context.Context, a *agent, work, branch string) {
	all := worktree.Strategies()
	m := worktree.MergeRequest{Work: work, Target: "release", Strategy: all[a.IntN(len(all))], DryRun: a.chance(20)}
	if a.chance(25) {
		m.Target = "main"
		if h.cfg.Move && a.chance(70) {
			m.CheckedOut = worktree.FastForward
		}
	}
	if a.chance(10) {
		m.Check = []string{"sh", "-c", []string{"test -e README", "exit 1"}[a.IntN(2)]}
	}
	l := check.Line{Op: check.OpMerging, Branch: branch, Target: m.Target, All: m.CheckedOut == worktree.FastForward && !m.DryRun}
	h.say(l)
	r, err := h.manager.Merge(ctx, m)
	switch {
	case err == nil && r.Merged:
		l.Op, l.Before, l.After = check.OpMerged, r.Before, r.After
		h.say(l)
	case err == nil, errors.Is(err, worktree.ErrConflict), errors.Is(err, worktree.ErrCheckedOut), errors.Is(err, worktree.ErrInTheWay), errors.Is(err, worktree.ErrUnrelated), errors.Is(err, worktree.ErrMoved), errors.Is(err, worktree.ErrCheckFailed):
	default:
		h.fail("P8: merge %+v: %v", m, err)
	}
}

// keep looks at the places and cleans up, while agents are at work.
func (h *host) keep(ctx context.Context) {
	a := &agent{Rand: rand.New(rand.NewPCG(h.cfg.Seed, uint64(h.cfg.Round)<<16+1<<15))}
	for !h.drain.Load() {
		time.Sleep(time.Duration(a.IntN(200)) * time.Millisecond)
		var err error
		switch a.IntN(6) {
		case 0:
			_, err = h.manager.Places(ctx)
		case 1:
			err = h.recover(ctx, a)
		default:
			_, err = h.manager.Clean(ctx, worktree.CleanOptions{DryRun: a.chance(30)})
		}
		if err != nil && !errors.Is(err, worktree.ErrInUse) { // work may begin on a branch that is about to be removed
			h.fail("P8: look after places: %v", err)
			return
		}
	}
}

// recover makes a branch of something that was recovered.
func (h *host) recover(ctx context.Context, a *agent) error {
	all, err := h.manager.Recoveries(ctx)
	if err != nil || len(all) == 0 {
		return err
	}
	a.n++
	return h.manager.Recover(ctx, all[a.IntN(len(all))].Ref, fmt.Sprintf("side-recovered-%d-%d", h.cfg.Round, a.n))
}
