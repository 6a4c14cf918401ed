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
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/bench/fault/internal/check"
	"github.com/claudepool/claudepool/sqlitestore"
)

// envHost holds a [hostConfig] and makes this program a host.
const envHost = "CLAUDEPOOL_FAULT_HOST"

// hostConfig is what a host is told.
type hostConfig struct {
	Seed   uint64
	Round  int
	Store  string
	Peer   bool
	Slots  int
	Dir    string // working directory of the slots
	Claude string
	Real   bool
	Env    map[string]string
	Config string // CLAUDE_CONFIG_DIR of the slots
	Budget int64
	Cap    int64 // of a task without one, with a budget
	Stall  time.Duration
	// Idle makes no work of its own.
	Idle bool
	// Waiting bounds how many tasks wait; Batch are submitted at once, however
	// many that are.
	Waiting, Batch int
	// Again are the prompts of tasks to submit once more, by their keys.
	Again map[string]string
	Shaky *shakyConfig
	// What is wrong with the store otherwise: the disk gets full, or a host that
	// shares it is stopped.
	FullDisk, FrozenPeer bool
}

// shakyConfig says how a host's store misbehaves.
type shakyConfig struct {
	Slow  time.Duration
	Fails int
	After bool
	Jumps bool
}

// Commands that the parent writes to a host, one on a line. When the parent has
// gone the host ends at once.
const (
	cmdDrain = "drain" // finish all work, close and exit
	cmdClose = "close" // close at once and exit
	cmdTerm  = "term"  // what a SIGTERM says: hand back what is not done soon, and exit
)

// handBackAfter is how long a host that drains after a SIGTERM waits for what
// runs. Some of it ends in this time, and some does not.
const handBackAfter = 300 * time.Millisecond

// linesFD is the file that a host writes its lines to.
const linesFD = 3

// host is a program with a pool.
type host struct {
	cfg  hostConfig
	pool *claudepool.Pool
	work *work
	shak *shaky

	mu    sync.Mutex
	lines *os.File

	ids   []claudepool.TaskID // that it has submitted
	waits sync.WaitGroup
}

// hostMain runs this program as a host, if it was started as one.
func hostMain() {
	text := os.Getenv(envHost)
	if text == "" {
		return
	}
	syscall.CloseOnExec(linesFD)
	h := &host{lines: os.NewFile(linesFD, "lines")}
	err := json.Unmarshal([]byte(text), &h.cfg)
	if err == nil {
		err = h.run(context.Background())
	}
	if err == nil {
		os.Exit(0)
	}
	if !h.expected(err) {
		h.say(check.Line{Op: check.OpFailed, Text: fmt.Sprintf("host of round %d: %v", h.cfg.Round, err)})
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
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

func (h *host) run(ctx context.Context) error {
	commands := make(chan string, 1)
	terms := make(chan os.Signal, 1)
	signal.Notify(terms, syscall.SIGTERM)
	go func() { // ends with the program
		<-terms
		commands <- cmdTerm
	}()
	go func() { // ends with the program
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			commands <- in.Text()
		}
		os.Exit(2)
	}()
	opened, err := sqlitestore.Open(ctx, h.cfg.Store, sqlitestore.Options{Peer: h.cfg.Peer})
	if err != nil {
		return err
	}
	if err := h.build(ctx, opened); err != nil {
		return errors.Join(err, opened.Close())
	}
	h.say(check.Line{Op: check.OpBuilt})
	h.waits.Go(func() { h.awaitTakeOver(ctx, opened) })
	last, err := h.act(ctx, commands)
	switch {
	case err != nil:
	case last == cmdDrain:
		err = h.finish(ctx)
	case last == cmdTerm:
		err = h.handBack(ctx)
	}
	if err := errors.Join(err, h.pool.Close(), opened.Close()); err != nil {
		return err
	}
	h.waits.Wait()
	op := check.OpClosed
	if last == cmdDrain {
		op = check.OpDrained
	}
	h.say(check.Line{Op: op})
	return nil
}

func (h *host) build(ctx context.Context, store claudepool.PoolStore) (err error) {
	seeded := rand.New(rand.NewPCG(h.cfg.Seed, uint64(h.cfg.Round)))
	h.work = &work{Rand: seeded, round: h.cfg.Round, real: h.cfg.Real}
	if s := h.cfg.Shaky; s != nil {
		h.shak = &shaky{PoolStore: store, slow: s.Slow, fails: s.Fails, after: s.After, jumps: s.Jumps, rand: rand.New(rand.NewPCG(h.cfg.Seed, 1))}
		store = h.shak
	}
	h.say(check.Line{Op: check.OpBudgeting, Amount: h.cfg.Budget, Cap: h.cfg.Cap})
	h.pool, err = claudepool.NewPoolBuilder().Config(claudepool.PoolConfig{
		Slots: h.cfg.Slots, Store: store, ClaudePath: h.cfg.Claude, Env: h.cfg.Env, ConfigDir: h.cfg.Config, WorkDir: h.cfg.Dir,
		Agent: agent(), Budget: claudepool.Microdollars(h.cfg.Budget), DefaultCap: claudepool.Microdollars(h.cfg.Cap),
		TagLimits: map[string]int{"one": 1}, SlotMemory: -1, StallTimeout: h.cfg.Stall, CheckEvery: 500 * time.Millisecond,
		Restart:     claudepool.RestartPolicy{First: 20 * time.Millisecond, Most: 200 * time.Millisecond, Failures: 100, Window: time.Minute, Cooldown: time.Second},
		Transcripts: filepath.Join(filepath.Dir(h.cfg.Dir), "transcripts"),
		Logger:      slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})),
	}).Build(ctx)
	return err
}

// awaitTakeOver says when no claim of a pool that has gone is left.
func (h *host) awaitTakeOver(ctx context.Context, store claudepool.PoolStore) {
	for {
		here, err := store.Instances(ctx)
		live := map[string]bool{}
		for _, i := range here {
			live[i.ID] = syscall.Kill(i.PID, 0) == nil
		}
		held := 0
		for r, lerr := range store.Tasks(ctx, claudepool.TaskFilter{LeaseBefore: time.Now().AddDate(1, 0, 0)}) {
			if err = errors.Join(err, lerr); err == nil && r.Claim != nil && !live[r.Claim.Holder] {
				held++
			}
		}
		if errors.Is(err, claudepool.ErrClosed) {
			return
		}
		if err == nil && held == 0 {
			h.say(check.Line{Op: check.OpTakenOver})
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// act does random things with the pool until it is told how to end.
func (h *host) act(ctx context.Context, commands <-chan string) (string, error) {
	for key, prompt := range h.cfg.Again {
		if err := h.submit(ctx, claudepool.Task{Prompt: prompt, IdempotencyKey: key}); err != nil && !h.expected(err) {
			return "", fmt.Errorf("submit what has the key %s again: %w", key, err)
		}
	}
	for range h.cfg.Batch {
		if err := h.submitSome(ctx); err != nil && !h.expected(err) {
			return "", err
		}
	}
	for {
		pause := time.Duration(h.work.IntN(15)) * time.Millisecond
		switch {
		case h.cfg.Idle:
			pause = time.Hour
		case h.cfg.Real: // they take longer for everything
			pause *= 10
		}
		select {
		case c := <-commands:
			return c, nil
		case <-time.After(pause):
		}
		if err := h.step(ctx); err != nil && !h.expected(err) {
			return "", err
		}
	}
}

// expected tells the errors that a pool may answer with: that something was
// faster, that the money is gone, or what is wrong with the store on purpose.
func (h *host) expected(err error) bool {
	_, budget := errors.AsType[*claudepool.BudgetExhausted](err)
	_, invalid := errors.AsType[*claudepool.InvalidError](err)
	return budget || invalid && h.shak != nil || errors.Is(err, claudepool.ErrNotInReview) || errors.Is(err, claudepool.ErrMailboxFull) ||
		h.cfg.Shaky != nil && h.cfg.Shaky.Fails > 0 && errors.Is(err, errShaky) ||
		h.cfg.FullDisk && errors.Is(err, sqlitestore.ErrFull) || h.cfg.FrozenPeer && errors.Is(err, sqlitestore.ErrBusy)
}

func (h *host) step(ctx context.Context) error {
	st, err := h.pool.Status(ctx)
	if err != nil {
		return err
	}
	if st.PendingTasks+st.RunningTasks < h.cfg.Waiting && h.work.chance(60) {
		return h.submitSome(ctx)
	}
	cancel := 10
	if h.cfg.Real && h.work.chance(95) {
		cancel = 0 // else few would ever be at work
	}
	switch n := h.work.IntN(100); {
	case n < cancel:
		return h.cancel(ctx)
	case n < 60:
		return h.review(ctx, 30)
	case n < 70:
		return h.message(ctx)
	case n < 72 && h.cfg.Budget > 0:
		h.cfg.Budget += 100_000
		h.say(check.Line{Op: check.OpBudgeting, Amount: h.cfg.Budget})
		return h.pool.SetBudget(claudepool.Microdollars(h.cfg.Budget))
	}
	return nil
}

// submitSome submits a random task or chain, some of those with a key twice.
func (h *host) submitSome(ctx context.Context) error {
	if h.work.chance(15) {
		return h.submitChain(ctx)
	}
	t := h.work.task(h.ids)
	err := h.submit(ctx, t)
	if err == nil && t.IdempotencyKey != "" && h.work.chance(30) {
		err = h.submit(ctx, t)
	}
	return err
}

// submit submits a task and watches over it.
func (h *host) submit(ctx context.Context, t claudepool.Task) error {
	id, err := h.pool.Submit(ctx, t)
	if err != nil {
		return fmt.Errorf("submit %q: %w", t.Prompt, err)
	}
	h.accepted(ctx, id, t.IdempotencyKey, t.Prompt)
	return nil
}

func (h *host) submitChain(ctx context.Context) error {
	key := ""
	c := h.work.chain()
	if h.work.chance(30) {
		key = "chain-" + check.Mark(c.Steps[0].Action.Prompt)
	}
	id, err := h.pool.SubmitChain(ctx, c, claudepool.ChainOptions{IdempotencyKey: key, Priority: h.work.IntN(3)})
	if err != nil {
		return fmt.Errorf("submit a chain: %w", err)
	}
	h.accepted(ctx, id, key, "")
	return nil
}

// accepted tells that a task was accepted, and later how it ended.
func (h *host) accepted(ctx context.Context, id claudepool.TaskID, key, prompt string) {
	h.say(check.Line{Op: check.OpAccepted, ID: string(id), Key: key, Text: prompt})
	h.ids = append(h.ids, id)
	h.waits.Go(func() {
		r, err := h.pool.Wait(ctx, id)
		if _, ended := errors.AsType[*claudepool.TaskError](err); err == nil || ended {
			h.say(check.Line{Op: check.OpResult, ID: string(id), State: string(r.State), Outcome: string(r.Outcome)})
		}
	})
}

// cancel cancels something, now and then a task that an earlier host has left.
func (h *host) cancel(ctx context.Context) error {
	ids := h.ids
	if len(ids) == 0 || h.work.chance(30) {
		ids = nil
		for r, err := range h.pool.Tasks(ctx, claudepool.TaskFilter{States: []claudepool.TaskState{claudepool.StatePending, claudepool.StateRunning}, Limit: 20}) {
			if err != nil {
				return err
			}
			ids = append(ids, r.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	id := one(h.work, ids...)
	h.say(check.Line{Op: check.OpCancelling, ID: string(id)})
	state, err := h.pool.Cancel(ctx, id)
	if err != nil {
		return fmt.Errorf("cancel %s: %w", id, err)
	}
	h.say(check.Line{Op: check.OpCancelled, ID: string(id), State: string(state)})
	return nil
}

// review reviews what waits for it; so many of a hundred are rejected.
func (h *host) review(ctx context.Context, reject int) error {
	for r, err := range h.pool.Tasks(ctx, claudepool.TaskFilter{States: []claudepool.TaskState{claudepool.StatePendingReview}}) {
		if err != nil {
			return err
		}
		h.say(check.Line{Op: check.OpReviewing, ID: string(r.ID)})
		op, state := check.OpApproved, claudepool.TaskState("")
		if h.work.chance(reject) {
			op = check.OpRejected
			state, err = h.pool.RejectResult(ctx, r.ID, "do it again")
		} else {
			state, err = h.pool.ApproveResult(ctx, r.ID)
		}
		if err != nil {
			return fmt.Errorf("review %s: %w", r.ID, err)
		}
		h.say(check.Line{Op: op, ID: string(r.ID), State: string(state)})
	}
	return nil
}

func (h *host) message(ctx context.Context) error {
	text := "message " + h.work.mark() + "."
	m, err := h.pool.SendMessage(ctx, "bench", fmt.Sprintf("slot-%d", h.work.IntN(h.cfg.Slots)), text)
	if err != nil {
		return fmt.Errorf("send a message: %w", err)
	}
	h.say(check.Line{Op: check.OpSent, ID: m.ID, Text: text})
	return nil
}

// handBack drains the pool: what does not end soon is for the next host.
func (h *host) handBack(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, handBackAfter)
	defer cancel()
	_, err := h.pool.Drain(ctx)
	return err
}

// finish waits until everything is done.
func (h *host) finish(ctx context.Context) error {
	if h.shak != nil {
		h.shak.settle()
	}
	if h.cfg.Budget > 0 { // nothing is to wait for money
		h.say(check.Line{Op: check.OpBudgeting, Amount: 1 << 50})
		if err := h.pool.SetBudget(1 << 50); err != nil {
			return err
		}
	}
	for {
		if err := h.review(ctx, 0); err != nil && !h.expected(err) {
			return err
		}
		st, err := h.pool.Status(ctx)
		if err != nil && !h.expected(err) {
			return err
		}
		if err == nil && st.PendingTasks+st.RunningTasks+st.PendingReviewTasks == 0 {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
}
