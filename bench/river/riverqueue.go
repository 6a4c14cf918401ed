package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"
)

// riverTuning is how a river client is set up. The rest is as river's own
// documentation says: one connection, immediate transactions.
type riverTuning struct {
	// fetch is both FetchCooldown and FetchPollInterval, in milliseconds. The
	// defaults, 100 ms and 1 s, would only measure themselves. The client polls
	// instead of listening, since on SQLite listening is a poll every 50 ms.
	fetch int
	// inTx has the worker complete its job itself, in a transaction, and tell
	// who waits. Otherwise river completes jobs in batches, at most 250 ms
	// later, and sends an event: better throughput, worse latency.
	inTx bool
}

// riverSystem is river on SQLite.
type riverSystem struct {
	db     *sql.DB
	client *river.Client[*sql.Tx]
	inTx   bool
	heard  sync.WaitGroup // the reader of events

	mu      sync.Mutex
	answers map[int64]chan reply // by job, made by who comes first
}

// reply is what became of a job.
type reply struct {
	answer string
	err    error
}

// openRiver returns a function that starts river.
func openRiver(t riverTuning) func(context.Context, string, int) (system, error) {
	return func(ctx context.Context, dir string, workers int) (system, error) {
		db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "river.db")+
			"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_txlock=immediate")
		if err != nil {
			return nil, err
		}
		db.SetMaxOpenConns(1)
		s := &riverSystem{db: db, inTx: t.inTx, answers: map[int64]chan reply{}}
		if err := s.start(ctx, t, workers); err != nil {
			return nil, errors.Join(fmt.Errorf("river: %w", err), db.Close())
		}
		return s, nil
	}
}

// start makes river's tables, and starts its client.
func (s *riverSystem) start(ctx context.Context, t riverTuning, workers int) error {
	if err := s.checkDurability(ctx); err != nil {
		return err
	}
	quiet := slog.New(slog.DiscardHandler)
	driver := riversqlite.New(s.db)
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: quiet})
	if err != nil {
		return err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
	all := river.NewWorkers()
	river.AddWorker(all, &worker{s: s})
	fetch := time.Duration(t.fetch) * time.Millisecond
	s.client, err = river.NewClient(driver, &river.Config{
		Logger:            quiet,
		Queues:            map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: workers}},
		Workers:           all,
		FetchCooldown:     fetch,
		FetchPollInterval: fetch,
		PollOnly:          true,
	})
	if err != nil {
		return err
	}
	// An event that finds no room is dropped, and its job waited for in vain.
	events, _ := s.client.SubscribeConfig(&river.SubscribeConfig{
		Kinds:    []river.EventKind{river.EventKindJobCompleted, river.EventKindJobFailed, river.EventKindJobCancelled},
		ChanSize: 1 << 18,
	})
	if err := s.client.Start(ctx); err != nil {
		return err
	}
	s.heard.Go(func() { s.hear(events) })
	return nil
}

// checkDurability reads back what was asked for: SQLite ignores settings that it
// does not know.
func (s *riverSystem) checkDurability(ctx context.Context) error {
	var journal string
	var synchronous int
	if err := s.db.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&journal); err != nil {
		return err
	}
	if err := s.db.QueryRowContext(ctx, "PRAGMA synchronous").Scan(&synchronous); err != nil {
		return err
	}
	const full = 2
	if journal != "wal" || synchronous != full {
		return fmt.Errorf("journal_mode is %s and synchronous is %d, want wal and %d (FULL)", journal, synchronous, full)
	}
	return nil
}

// question is a job.
type question struct {
	Prompt string `json:"prompt"`
}

// Kind implements [river.JobArgs].
func (question) Kind() string { return "question" }

// worker answers questions.
type worker struct {
	river.WorkerDefaults[question]
	s *riverSystem
}

// Work implements [river.Worker].
func (w *worker) Work(ctx context.Context, job *river.Job[question]) error {
	if err := river.RecordOutput(ctx, job.Args.Prompt); err != nil {
		return err
	}
	if !w.s.inTx {
		return nil
	}
	done, err := w.s.complete(ctx, job)
	if err != nil {
		return err
	}
	w.s.tell(done.JobRow, nil)
	return nil
}

// complete completes a job in a transaction.
func (s *riverSystem) complete(ctx context.Context, job *river.Job[question]) (*river.Job[question], error) {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	done, err := river.JobCompleteTx[*riversqlite.Driver](ctx, tx, job)
	if err != nil {
		return nil, errors.Join(err, tx.Rollback())
	}
	return done, tx.Commit()
}

// hear passes on what river says of jobs until its client has stopped.
func (s *riverSystem) hear(events <-chan *river.Event) {
	for e := range events {
		switch {
		case e.Kind != river.EventKindJobCompleted:
			s.tell(e.Job, fmt.Errorf("job %d: %s: %v", e.Job.ID, e.Kind, e.Job.Errors))
		case !s.inTx:
			s.tell(e.Job, nil)
		}
	}
}

// tell passes on the answer to a job.
func (s *riverSystem) tell(job *rivertype.JobRow, err error) {
	r := reply{err: err}
	if err == nil {
		r.err = json.Unmarshal(job.Output(), &r.answer)
	}
	select {
	case s.reply(job.ID) <- r:
	default: // a job that failed and was tried again; the first reply holds
	}
}

// reply returns where the reply to a job is put.
func (s *riverSystem) reply(id int64) chan reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.answers[id]
	if c == nil {
		c = make(chan reply, 1)
		s.answers[id] = c
	}
	return c
}

func (s *riverSystem) submit(ctx context.Context, prompt string) (ticket, error) {
	r, err := s.client.Insert(ctx, question{prompt}, nil)
	if err != nil {
		return nil, err
	}
	return r.Job.ID, nil
}

func (s *riverSystem) submitAll(ctx context.Context, prompts []string) ([]ticket, error) {
	jobs := make([]river.InsertManyParams, len(prompts))
	for i, p := range prompts {
		jobs[i].Args = question{p}
	}
	rows, err := s.client.InsertMany(ctx, jobs)
	if err != nil {
		return nil, err
	}
	tickets := make([]ticket, len(rows))
	for i, r := range rows {
		tickets[i] = r.Job.ID
	}
	return tickets, nil
}

func (s *riverSystem) wait(ctx context.Context, t ticket) (string, error) {
	id := t.(int64)
	select {
	case r := <-s.reply(id):
		s.mu.Lock()
		delete(s.answers, id)
		s.mu.Unlock()
		return r.answer, r.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

func (s *riverSystem) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := s.client.Stop(ctx)
	s.heard.Wait()
	return errors.Join(err, s.db.Close())
}
