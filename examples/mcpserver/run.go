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
)

// The exit codes.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// errInterrupted: a second signal came while the pool drained.
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
	signals := make(chan os.Signal, 2)
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
	err = serve(o, signals, &sdk.IOTransport{Reader: stdin, Writer: stdout}, log)
	switch {
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	case err != nil:
		fmt.Fprintln(stderr, "mcpserver:", err)
		return exitFailure
	}
	return exitOK
}

// serve builds the pool and serves it until the client is gone or a signal
// comes. Then it drains the pool.
func serve(o options, signals <-chan os.Signal, t sdk.Transport, log *slog.Logger) error {
	pool, cleanup, err := build(o, signals)
	if err != nil {
		return err
	}
	defer cleanup()
	server, err := mcp.NewServer(pool, mcp.Options{
		Toolsets: o.toolsets, MaxPermissionMode: o.ceiling(), Logger: log,
	})
	if err != nil {
		return errors.Join(err, pool.Close())
	}
	c := pool.Config()
	log.Info("serving", "slots", c.Slots, "permission_mode", c.Agent.PermissionMode, "ceiling", o.ceiling(), "budget", c.Budget, "demo", o.demo)

	gone := make(chan error, 1)
	go func() { gone <- server.Run(context.Background(), t) }() // ends with server.Close at the latest
	var lost error
	select {
	case s := <-signals:
		log.Info("draining", "signal", s.String(), "at_most", o.drain)
	case lost = <-gone:
		log.Info("the client is gone; draining", "at_most", o.drain)
	}

	ended := make(chan error, 1)
	go func() { ended <- end(pool, server, o, log) }()
	select {
	case err := <-ended:
		return errors.Join(lost, err)
	case <-signals:
		return errInterrupted // the watchdog ends what is left of the slots
	}
}

// build builds the pool that the flags describe. A signal gives up.
func build(o options, signals <-chan os.Signal) (*claudepool.Pool, func(), error) {
	cleanup := func() {}
	if o.demo {
		d, remove, err := demo.Config("")
		if err != nil {
			return nil, nil, err
		}
		o.pool.ClaudePath, o.pool.Env, o.pool.ConfigDir = d.ClaudePath, d.Env, d.ConfigDir
		cleanup = remove
	}
	ctx, cancel := context.WithCancel(context.Background())
	built := make(chan struct{})
	interrupted := make(chan bool, 1)
	go func() {
		defer cancel()
		select {
		case <-signals:
			interrupted <- true
		case <-built:
			interrupted <- false
		}
	}()
	pool, err := claudepool.NewPoolBuilder().Config(o.pool).Build(ctx)
	close(built)
	switch {
	case <-interrupted:
		if pool != nil {
			err = pool.Close()
		}
		cleanup()
		return nil, nil, errors.Join(errInterrupted, err)
	case err != nil:
		cleanup()
		return nil, nil, fmt.Errorf("start the pool: %w", err)
	}
	return pool, cleanup, nil
}

// end drains the pool while the server still answers, then closes both.
func end(pool *claudepool.Pool, server *mcp.Server, o options, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(context.Background(), o.drain)
	defer cancel()
	sum, err := pool.Drain(ctx)
	if err == nil {
		log.Info("drained", "finished", sum.Finished, "cancelled", sum.Cancelled, "spent", sum.Spend)
	}
	return errors.Join(err, server.Close(), pool.Close())
}
