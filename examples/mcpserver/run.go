package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/examples/internal/demo"
	"github.com/claudepool/claudepool/internal/proctree"
	"github.com/claudepool/claudepool/mcp"
	"github.com/claudepool/claudepool/sqlitestore"
)

// The exit codes.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// errInterrupted: a signal came at the start, or a second one while the pool
// drained.
var errInterrupted = errors.New("interrupted")

// run is the program. It returns its exit code.
func run(args []string, stdin io.ReadCloser, stdout io.WriteCloser, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage
	}
	// A slot that starts this server would start slots that start this server.
	if os.Getenv(proctree.EnvTree) != "" {
		fmt.Fprintln(stderr, "mcpserver: this is a slot of a pool already, and slots have no pools of their own; remove this server from the MCP configuration of the slots")
		return exitFailure
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	// A client that is gone must not end this program by SIGPIPE, before it has
	// drained. A signal that is caught, unlike one that is ignored, is not
	// handed down to the slots.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: o.level}))
	o.pool.Logger = log
	for _, w := range o.warnings {
		log.Warn(w)
	}
	told, err := serve(o, signals, &sdk.IOTransport{Reader: stdin, Writer: stdout}, log)
	if told != "" {
		fmt.Fprintln(stderr, "mcpserver:", told)
	}
	switch {
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	case err != nil:
		fmt.Fprintln(stderr, "mcpserver:", err)
		return exitFailure
	}
	return exitOK
}

// service is the pool and what it stands on.
type service struct {
	pool    *claudepool.Pool
	store   *sqlitestore.Store // nil when all ends with the program
	cleanup func()
}

// close closes the pool, then what it stands on.
func (s *service) close() error {
	var err error
	if s.pool != nil {
		err = s.pool.Close()
	}
	if s.store != nil {
		err = errors.Join(err, s.store.Close())
	}
	return err
}

// serve builds the pool and serves it until the client is gone or a signal
// comes. Then it drains the pool. It returns what is to be told about that, or
// nothing.
func serve(o options, signals <-chan os.Signal, t sdk.Transport, log *slog.Logger) (string, error) {
	s, err := prepare(o, signals)
	if err != nil {
		return "", err
	}
	defer s.cleanup()
	server, err := mcp.NewServer(s.pool, mcp.Options{
		Toolsets: o.toolsets, MaxPermissionMode: o.ceiling(), MaxSharedMode: o.shared, MergeCheck: o.mergeCheck, CheckedOut: o.checkedOut(), Logger: log,
	})
	if err != nil {
		return "", errors.Join(err, s.close())
	}
	c := s.pool.Config()
	log.Info("serving", "slots", c.Slots, "permission_mode", c.Agent.PermissionMode, "ceiling", o.ceiling(), "budget", c.Budget, "demo", o.demo, "store", o.store.path)

	gone := make(chan error, 1)
	go func() { gone <- server.Run(context.Background(), t) }() // ends with server.Close at the latest
	var lost error
	var first os.Signal
	select {
	case first = <-signals:
		log.Info("draining", "signal", first.String(), "at_most", o.drain)
	case lost = <-gone:
		log.Info("the client is gone; draining", "at_most", o.drain)
	}

	done := make(chan struct{})
	var ended struct {
		told string
		err  error
	}
	go func() {
		defer close(done)
		ended.told, ended.err = end(s, server, o, log)
	}()
	if insists(signals, first, done) {
		// The watchdog ends what is left of the slots, and the next server on
		// the store takes up what they did.
		return "", errInterrupted
	}
	return ended.told, errors.Join(lost, ended.err)
}

// prepare opens the store and builds the pool that the flags describe. A signal
// gives up.
func prepare(o options, signals <-chan os.Signal) (*service, error) {
	ctx, cancel := context.WithCancel(context.Background())
	started := make(chan struct{})
	interrupted := make(chan bool, 1)
	go func() {
		defer cancel()
		select {
		case <-signals:
			interrupted <- true
		case <-started:
			interrupted <- false
		}
	}()
	s, err := build(ctx, o)
	close(started)
	switch {
	case <-interrupted:
		err = errInterrupted
		if s != nil {
			err = errors.Join(err, s.close())
			s.cleanup()
		}
		return nil, err
	case err != nil:
		return nil, err
	}
	return s, nil
}

// build opens the store and builds the pool. After an error nothing is left open.
func build(ctx context.Context, o options) (_ *service, err error) {
	s := &service{cleanup: func() {}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
			s.cleanup()
		}
	}()
	if s.store, err = o.store.open(ctx); err != nil {
		return nil, err
	}
	if s.store != nil {
		o.pool.Store = s.store
	}
	if o.demo {
		d, remove, err := demo.Config("")
		if err != nil {
			return nil, err
		}
		o.pool.ClaudePath, o.pool.Env, o.pool.ConfigDir = d.ClaudePath, d.Env, d.ConfigDir
		s.cleanup = remove
	}
	if s.pool, err = claudepool.NewPoolBuilder().Config(o.pool).Build(ctx); err != nil {
		return nil, fmt.Errorf("start the pool: %w", err)
	}
	return s, nil
}

// end drains the pool while the server still answers, then closes everything.
// It returns what is to be told of what has not ended.
func end(s *service, server *mcp.Server, o options, log *slog.Logger) (told string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), o.drain)
	defer cancel()
	sum, err := s.pool.Drain(ctx)
	if err == nil {
		log.Info("drained", "finished", sum.Finished, "requeued", sum.Requeued, "pending", sum.Pending, "cancelled", sum.Cancelled, "spent", sum.Spend)
	}
	if err == nil && s.store != nil {
		told = fmt.Sprintf("%d running tasks have finished, %d were handed back to the queue; %d wait in %s for the next server",
			sum.Finished, sum.Requeued, sum.Pending, s.store.Path())
	}
	return told, errors.Join(err, server.Close(), s.close())
}
