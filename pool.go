package claudepool

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/internal/id"
)

// Pool hands tasks to slots. Build one with [NewPoolBuilder]; its methods are
// safe for concurrent use. After Close they fail with [ErrClosed], save those
// that say otherwise.
type Pool struct {
	cfg      PoolConfig
	log      *slog.Logger
	store    PoolStore
	ownStore bool
	durable  bool // the store outlives this program
	launcher Launcher
	ability  Ability
	instance string
	self     InstanceRecord // owned by stayRegistered while that runs
	started  time.Time
	ids      id.Source
	sessions sessionLanes

	// ctx ends when the pool closes; its cause says why. The goroutines of the
	// pool end with it, and Close waits for them.
	ctx  context.Context
	stop context.CancelCauseFunc
	work sync.WaitGroup

	defaults claude.Options // of a slot without a configuration of its own
	key      string         // its launch key

	sched  *scheduler
	gate   *gate
	starts *admission
	spares *spares
	events *broadcast
	waits  *waiters
	expiry *expiry
	chains *chains
	meter  *meter

	overdue   overdue
	news      chan struct{}         // holds one token while the slots are to be recorded
	inherited map[string]SlotRecord // how slots were called before a restart, by id
	pruner    *pruner

	limit      atomic.Int64 // the budget; 0 means none
	transcript *transcripts // nil when none are kept

	stopWatch context.CancelFunc // ends the watch of the store, after all else
	scaling   sync.Mutex         // held while slots are added, stopped or named

	drainDone chan struct{} // closed when the fields below are set
	drained   DrainSummary
	drainErr  error
	closing   sync.Once
	closeErr  error
	closed    chan struct{} // closed when Close is through

	trees *trees

	mu      sync.Mutex
	phase   phase
	slots   []*slot
	next    int // number of the next slot
	running map[TaskID]*attempt
	whyBack map[TaskID]string // why a task could not begin when it was last tried
}

// phase is how far a pool's life has come.
type phase int

const (
	phaseOpen phase = iota
	phaseDraining
	phaseClosed
)

func newPool(ctx context.Context, cfg PoolConfig) (*Pool, error) {
	cfg = cfg.clone().withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if err := cfg.registries(); err != nil {
		return nil, err
	}
	cfg.Agent.DisallowedTools = union(cfg.Agent.DisallowedTools, cfg.guards())
	p := &Pool{
		cfg:      cfg,
		log:      cfg.Logger,
		store:    cfg.Store,
		launcher: cfg.Launcher,
		started:  time.Now(),
		running:  map[TaskID]*attempt{},
		whyBack:  map[TaskID]string{},
		overdue:  overdue{fresh: map[TaskID]sighting{}},
		news:     make(chan struct{}, 1), inherited: map[string]SlotRecord{},
		closed: make(chan struct{}), drainDone: make(chan struct{}),
		defaults: cfg.options(SlotConfig{}, nil),
		trees:    newTrees(cfg.Worktrees),
	}
	if p.launcher == nil {
		p.launcher = claudeLauncher{path: cfg.ClaudePath, env: cfg.Env}
		recoverOrphans(ctx, p.log)
	}
	if cfg.Permission != nil {
		p.defaults.Permission = refuseAll // tells the options apart; each slot puts its own in
	}
	if err := p.defaults.Validate(); err != nil {
		return nil, namedAs("agent.", err)
	}
	p.key = p.defaults.LaunchKey()
	for i, sc := range cfg.SlotConfigs {
		if err := cfg.options(sc, nil).Validate(); err != nil {
			return nil, namedAs(fmt.Sprintf("slot_configs[%d].", i), err)
		}
	}
	if err := p.checkIsolation(ctx, &Task{Isolation: cfg.Isolation}); err != nil {
		return nil, err
	}
	if err := p.probe(ctx); err != nil {
		return nil, err
	}
	if cfg.Transcripts != "" {
		t, err := openTranscripts(cfg.Transcripts)
		if err != nil {
			return nil, err
		}
		p.transcript = t
	}
	if p.store == nil {
		p.store, p.ownStore = NewMemoryStore(), true
	}
	p.durable = !volatile(p.store)
	p.limit.Store(int64(cfg.Budget))
	p.instance = p.ids.Next("pool", p.started)
	p.ctx, p.stop = context.WithCancelCause(context.Background())
	p.events = newBroadcast()
	p.waits = newWaiters()
	p.meter = newMeter(p.started)
	p.gate = newGate(p)
	p.starts = newAdmission(cfg)
	p.sched = newScheduler(p)
	p.spares = newSpares(p)
	p.expiry = newExpiry(p)
	p.chains = newChains(p)
	p.pruner = newPruner(p)

	watch, stopWatch := context.WithCancel(context.Background())
	p.stopWatch = stopWatch
	changes, err := p.store.Watch(watch)
	var before string // the pool whose slots' names this one has inherited
	if err == nil {
		before, err = p.enter(ctx)
	}
	if err != nil {
		p.stop(ErrClosed)
		stopWatch()
		return nil, errors.Join(fmt.Errorf("begin with the store: %w", err), p.transcript.close(), p.closeStore())
	}
	p.work.Go(func() { p.follow(changes) })
	p.work.Go(p.stayRegistered)
	p.work.Go(p.sched.loop)
	p.work.Go(p.expiry.loop)
	p.work.Go(p.chains.loop)
	p.work.Go(p.spares.loop)
	p.work.Go(p.pruner.loop)
	if cfg.CheckEvery > 0 {
		p.work.Go(p.supervise)
	}
	for i := range cfg.Slots {
		var sc SlotConfig
		if i < len(cfg.SlotConfigs) {
			sc = cfg.SlotConfigs[i]
		}
		p.addSlot(sc)
	}
	p.forget(ctx, before)
	return p, nil
}

// enter makes the pool known to the store, and takes up what others have left
// there, before anything is dispatched.
func (p *Pool) enter(ctx context.Context) (before string, err error) {
	if err := p.register(ctx); err != nil {
		return "", err
	}
	if _, err := p.recoverLost(ctx); err != nil {
		p.log.Warn("not all that lost pools have left could be taken over", "err", err)
	}
	if p.durable {
		before, err = p.inherit(ctx)
	}
	if err == nil {
		err = p.expiry.load(ctx)
	}
	if err != nil {
		p.unregister()
	}
	return before, err
}

// refuseAll is the permission function of options that no process was started with.
func refuseAll(context.Context, claude.PermissionRequest) (claude.PermissionAnswer, error) {
	return claude.PermissionAnswer{}, nil
}

// probe finds out what the launcher can do.
func (p *Pool) probe(ctx context.Context) error {
	if pr, ok := p.launcher.(Prober); ok {
		a, err := pr.Probe(ctx)
		if err != nil {
			return err
		}
		p.ability = a
		return nil
	}
	_, spares := p.launcher.(SpareLauncher)
	p.ability = Ability{Warm: true, Spares: spares}
	return nil
}

// syncStore returns when all that the store was told survives the end of the machine.
func (p *Pool) syncStore(ctx context.Context) error {
	if s, ok := p.store.(Syncer); ok {
		return s.Sync(ctx)
	}
	return nil
}

// closeStore closes the store if it is the pool's own.
func (p *Pool) closeStore() error {
	if !p.ownStore {
		return nil
	}
	return p.store.Close()
}

// follow passes on what changes in the store, until the pool closes.
func (p *Pool) follow(changes <-chan Change) {
	for c := range changes {
		if c.Lost {
			p.waits.wakeAll()
			p.chains.changedAll()
			p.sched.kick()
			p.checkRunning()
			continue
		}
		if c.State.Terminal() || c.State == StatePendingReview {
			p.waits.wake(c.TaskID)
		}
		if c.State == StateCancelled {
			p.interrupt(c.TaskID, errCancelled)
		}
		p.chains.changed(c.TaskID)
		if c.Chain && c.State == StatePending {
			p.chains.kick()
		}
		if c.State != StateRunning {
			p.sched.kick()
		}
		p.events.publish(Event{Kind: EventTask, TaskID: c.TaskID, TaskState: c.State, Outcome: c.Outcome, SlotID: c.SlotID})
	}
}

// interrupt ends the running attempt of a task, if it runs here.
func (p *Pool) interrupt(id TaskID, cause error) {
	p.mu.Lock()
	a := p.running[id]
	p.mu.Unlock()
	if a != nil {
		a.cancel(cause)
	}
}

// checkRunning looks for attempts whose cancellation was missed.
func (p *Pool) checkRunning() {
	p.mu.Lock()
	ids := make([]TaskID, 0, len(p.running))
	for id := range p.running {
		ids = append(ids, id)
	}
	p.mu.Unlock()
	for _, id := range ids {
		if r, err := p.store.Task(p.ctx, id); err == nil && r.State == StateCancelled {
			p.interrupt(id, errCancelled)
		}
	}
}

// open fails unless the pool takes new work.
func (p *Pool) open() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.phase != phaseOpen {
		return ErrClosed
	}
	return nil
}

// usable fails once the pool is closed, also when its store goes on.
func (p *Pool) usable() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.phase == phaseClosed {
		return ErrClosed
	}
	return nil
}

// Ready waits until a slot can take a task. It fails with the reason when no
// slot can start.
func (p *Pool) Ready(ctx context.Context) error {
	for {
		changed, err := p.gate.ready()
		if changed == nil || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.ctx.Done():
			return ErrClosed
		}
	}
}

// Submit stores a task and returns at once; from then on it cannot be lost.
//
// An idempotency key that the owner has used names its task: the same request
// gets the first one's task, whatever the budget, slots and sessions are now,
// and another one is refused as [ErrKeyReused]. With a new key, or none, values
// that cannot work are refused as [*InvalidError], and a cap that the budget can
// never pay as [*BudgetExhausted].
func (p *Pool) Submit(ctx context.Context, t Task) (TaskID, error) {
	return p.accept(ctx, TaskRecord{Task: t}, func() (TaskRecord, error) { return p.newTask(ctx, t) })
}

// Submitted returns the task that the idempotency key of t names already, and
// reports whether there is one, so that a caller with checks of its own makes
// them for new requests alone. It has the errors of [Pool.Submit] that are about
// the key. For a t with a Call, the prompt may be empty.
func (p *Pool) Submitted(ctx context.Context, t Task) (TaskID, bool, error) {
	if err := p.usable(); err != nil {
		return "", false, err
	}
	r, known, err := p.known(ctx, &TaskRecord{Task: t})
	return r.ID, known, err
}

// create stores a task that was let in, and reports whether it is a new one.
func (p *Pool) create(ctx context.Context, a admitted) (TaskRecord, bool, error) {
	if a.known {
		return a.TaskRecord, false, nil
	}
	stored, created, err := p.store.CreateTask(ctx, a.TaskRecord)
	if err != nil {
		return TaskRecord{}, false, err
	}
	if t := &stored.Task; created && t.QueueTimeout > 0 {
		p.expiry.add(stored.ID, stored.Submitted.Add(t.QueueTimeout))
	}
	return stored, created, nil
}

// Run submits a task and waits for its end. If ctx ends first, the task is
// cancelled. The result is complete whatever became of the task; if it has not
// completed, the error is a [*TaskError].
func (p *Pool) Run(ctx context.Context, t Task) (TaskResult, error) {
	id, err := p.Submit(ctx, t)
	if err != nil {
		return TaskResult{}, err
	}
	return p.attend(ctx, id)
}

// attend waits for a task, and cancels it when its caller has gone.
func (p *Pool) attend(ctx context.Context, id TaskID) (TaskResult, error) {
	r, err := p.Wait(ctx, id)
	if ctx.Err() != nil {
		p.abandon(ctx, id)
	}
	return r, err
}

// abandon cancels a task whose caller has gone.
func (p *Pool) abandon(ctx context.Context, id TaskID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if _, err := p.Cancel(ctx, id); err != nil && !errors.Is(err, ErrClosed) {
		p.log.WarnContext(ctx, "task of a caller who has gone could not be cancelled", "task", id, "err", err)
	}
}

// Wait waits for the end of a task, reviews included, and returns its result.
// If it has not completed, the error is a [*TaskError]. The end of ctx ends the
// wait, not the task.
func (p *Pool) Wait(ctx context.Context, id TaskID) (TaskResult, error) {
	r, err := p.WaitFor(ctx, id, TaskState.Terminal)
	if err != nil {
		return TaskResult{TaskID: id, State: r.State}, err
	}
	if r.Chain != nil { // what was waited for is there, also when ctx has just ended
		if r, err = p.settled(context.WithoutCancel(ctx), r); err != nil {
			return TaskResult{TaskID: id, State: r.State}, err
		}
	}
	return outcome(r)
}

// WaitFor waits until done holds for the state of a task that has ended or
// waits for a review, and returns the task. Like Wait it leaves the task alone
// when ctx ends.
func (p *Pool) WaitFor(ctx context.Context, id TaskID, done func(TaskState) bool) (TaskRecord, error) {
	if err := p.usable(); err != nil {
		return TaskRecord{ID: id}, err
	}
	for told := false; ; told = true {
		woken := p.waits.add(id)
		r, err := p.store.Task(ctx, id)
		if err != nil || done(r.State) {
			p.waits.remove(id, woken)
			if err == nil && !told { // it may have ended just now
				err = p.syncStore(ctx)
			}
			return r, err
		}
		select {
		case <-woken:
		case <-ctx.Done():
			p.waits.remove(id, woken)
			return r, context.Cause(ctx)
		case <-p.closed:
			p.waits.remove(id, woken)
			return r, ErrClosed
		}
	}
}

// outcome returns the result of a task that has ended.
func outcome(r TaskRecord) (TaskResult, error) {
	res := TaskResult{TaskID: r.ID, State: r.State, Outcome: r.Outcome, Cost: r.Cost, Attempts: r.Attempts}
	if r.Result != nil {
		res = *r.Result
	}
	if r.State != StateCompleted {
		return res, &TaskError{Result: res}
	}
	return res, nil
}

// Task returns a task, or [ErrUnknownTask].
func (p *Pool) Task(ctx context.Context, id TaskID) (TaskRecord, error) {
	if err := p.usable(); err != nil {
		return TaskRecord{}, err
	}
	r, err := p.store.Task(ctx, id)
	if err != nil || r.Chain == nil {
		return r, err
	}
	return p.settled(ctx, r)
}

// Attempts returns the ended attempts of a task, in order.
func (p *Pool) Attempts(ctx context.Context, id TaskID) ([]Attempt, error) {
	if err := p.usable(); err != nil {
		return nil, err
	}
	return p.store.Attempts(ctx, id)
}

// Tasks lists tasks, newest first. For the next page set [TaskFilter.Before]
// to the last id of this one.
func (p *Pool) Tasks(ctx context.Context, f TaskFilter) iter.Seq2[TaskRecord, error] {
	if err := p.usable(); err != nil {
		return func(yield func(TaskRecord, error) bool) { yield(TaskRecord{}, err) }
	}
	return p.store.Tasks(ctx, f)
}

// Cancel cancels a task and returns its state: cancelled, or the one in which
// it had ended already. A running turn is interrupted; whatever it still
// brings, the task stays cancelled. With a chain its steps are cancelled too.
func (p *Pool) Cancel(ctx context.Context, id TaskID) (TaskState, error) {
	if err := p.usable(); err != nil {
		return "", err
	}
	r, err := p.transition(ctx, id, func(r TaskRecord) Transition {
		return Transition{To: StateCancelled, Outcome: OutcomeCancelled, Result: p.cancelled(ctx, &r)}
	})
	if err == nil && r.Chain != nil && r.State == StateCancelled {
		err = p.cancelSteps(ctx, r)
	}
	return r.State, err
}

// transition moves a task that nobody's claim is needed for, from whatever
// state it is in. Tasks that have ended are left alone.
func (p *Pool) transition(ctx context.Context, id TaskID, next func(TaskRecord) Transition) (TaskRecord, error) {
	for {
		r, err := p.store.Task(ctx, id)
		if err != nil || r.State.Terminal() {
			return r, err
		}
		t := next(r)
		t.Task, t.From, t.At = id, r.State, time.Now()
		r, err = p.store.Transition(ctx, t)
		if !errors.Is(err, ErrConflict) {
			return r, err
		}
	}
}

// endedEarly is the result of a task that ends otherwise than by its attempt.
// Work that waited for a review is kept.
func (p *Pool) endedEarly(r TaskRecord, o Outcome, message string) *TaskResult {
	if r.Result != nil {
		res := *r.Result
		res.State, res.Outcome, res.Success = o.State(), o, false
		res.Failure = &Failure{Class: o, Message: message}
		return &res
	}
	now := time.Now()
	res := &TaskResult{
		TaskID: r.ID, State: o.State(), Outcome: o, SlotID: r.SlotID, SessionID: r.SessionID,
		Failure: &Failure{Class: o, Message: message},
		Queued:  Duration(now.Sub(r.Submitted)), Total: Duration(now.Sub(r.Submitted)),
	}
	if !r.First.IsZero() {
		res.Queued = Duration(r.First.Sub(r.Submitted))
		res.Ran = Duration(now.Sub(r.Started))
	}
	return res
}

// Retry submits a failed or cancelled task again, as a new task with the same
// prompt and settings, and returns the new id. A chain goes on with what its
// steps have completed.
func (p *Pool) Retry(ctx context.Context, id TaskID) (TaskID, error) {
	r, err := p.Task(ctx, id)
	if err != nil {
		return "", err
	}
	if r.State != StateFailed && r.State != StateCancelled {
		return "", fmt.Errorf("task %s is %s; only a failed or cancelled task can be tried again: %w", id, r.State, ErrConflict)
	}
	if r.Chain != nil {
		return p.retryChain(ctx, r)
	}
	t := r.Task
	t.IdempotencyKey, t.Parent, t.NotBefore = "", id, time.Time{}
	return p.Submit(ctx, t)
}

// Pause stops dispatch; work that runs is not touched. Resume goes on.
func (p *Pool) Pause() {
	if p.sched.setPaused(true) {
		p.events.publish(Event{Kind: EventPool, Message: "paused on request"})
	}
}

// Resume ends a Pause.
func (p *Pool) Resume() {
	if p.sched.setPaused(false) {
		p.events.publish(Event{Kind: EventPool, Message: "resumed on request"})
	}
}

// Config returns a copy of the configuration with its defaults.
func (p *Pool) Config() PoolConfig { return p.cfg.clone() }

// Events returns what happens from now on, until ctx ends, the loop stops or
// the pool is closed. A reader that is too slow loses the oldest and gets one
// event of kind [EventLagged] that counts them. The loop can be run once.
func (p *Pool) Events(ctx context.Context, f EventFilter) iter.Seq[Event] {
	return p.events.subscribe(ctx, f)
}

// holder names this pool in claims.
func (p *Pool) holder() string { return p.instance }
