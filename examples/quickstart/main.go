// Quickstart runs a handful of tasks over a few warm slots, shows on the
// terminal how they go, and prints a table of results.
//
// Without flags it needs nothing but Go: what works behind the slots is a
// stand-in for the Claude CLI, with canned answers. With -real it is your own
// CLI and your own login, read-only and with a budget.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claudetest"
	"github.com/claudepool/claudepool/examples/internal/demo"
)

func main() {
	claudetest.MainScript(standIn) // when this program is started as its own stand-in
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// drainTime is how long running tasks may go on after Ctrl-C.
const drainTime = 10 * time.Second

// options are what the flags say.
type options struct {
	tasks, slots int
	budget       float64 // in dollars
	prompts      []string
	real         bool
	claude       string
	model        string
}

// parse reads the flags. Mistakes are told on stderr.
func parse(args []string, stderr io.Writer) (options, error) {
	o := options{}
	f := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.IntVar(&o.tasks, "n", 8, "how many tasks to run")
	f.IntVar(&o.slots, "slots", 3, "how many slots to run them on")
	f.Float64Var(&o.budget, "budget", 0.25, "what all tasks together may cost, in dollars")
	f.Func("prompt", "what to ask instead of the built-in questions; can be given more than once", func(s string) error {
		o.prompts = append(o.prompts, s)
		return nil
	})
	f.BoolVar(&o.real, "real", false, "use the Claude CLI and your login instead of the stand-in")
	f.StringVar(&o.claude, "claude", "claude", "with -real: the program, a path or a name in PATH")
	f.StringVar(&o.model, "model", demo.Model, "with -real: the model to ask")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	var err error
	switch {
	case f.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q; to ask something use -prompt", f.Arg(0))
	case o.tasks < 1:
		err = fmt.Errorf("flag -n: must be at least 1, not %d", o.tasks)
	case o.slots < 1:
		err = fmt.Errorf("flag -slots: must be at least 1, not %d", o.slots)
	case o.claude == "":
		err = errors.New("flag -claude: is empty")
	case claudepool.USD(o.budget) <= 0:
		err = fmt.Errorf("flag -budget: must be more than zero, not %v", o.budget)
	}
	if err != nil {
		fmt.Fprintln(stderr, "quickstart:", err)
	}
	if len(o.prompts) == 0 {
		o.prompts = questions()
	}
	return o, err
}

// run is the program. It returns its exit code: 1 when a task has not
// completed, 2 when nothing could be started.
func run(args []string, stdout io.Writer, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	// The first Ctrl-C drains; the next one ends the program at once, and even
	// then no process of a slot outlives it.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	pool, cleanup, err := build(ctx, o)
	if err != nil {
		fmt.Fprintln(stderr, "quickstart:", err)
		return 2
	}
	defer cleanup()
	announce(ctx, stdout, pool, o)
	begin := time.Now()
	out, err := work(ctx, stop, pool, o, newScreen(stdout))
	if err != nil {
		fmt.Fprintln(stderr, "quickstart:", err)
		return 2
	}
	report(stdout, o.prompts, out, pool.Metrics(), time.Since(begin))
	if out.Census.OK < out.Census.Asked {
		return 1
	}
	return 0
}

// build makes the pool. Its permission mode stays the default, plan, which is
// read-only; and no tool is offered, for the questions need none.
func build(ctx context.Context, o options) (*claudepool.Pool, func(), error) {
	claude := ""
	if o.real {
		claude = o.claude
	}
	c, cleanup, err := demo.Config(claude)
	if err != nil {
		return nil, nil, err
	}
	if o.real {
		c.Agent.Model = o.model
	}
	c.Slots = o.slots
	c.Budget = claudepool.USD(o.budget)
	c.DefaultCap = max(c.Budget/claudepool.Microdollars(o.tasks), 1) // so that one task cannot use up the money of all
	c.Agent.Tools = []string{}
	c.Spares = -1 // all tasks fit the processes of the slots
	pool, err := claudepool.NewPoolBuilder().Config(c).Build(ctx)
	if err != nil {
		cleanup()
		return nil, nil, err
	}
	return pool, func() {
		if err := pool.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "quickstart: close the pool:", err)
		}
		cleanup()
	}, nil
}

// announce says what is about to happen and what it may cost.
func announce(ctx context.Context, w io.Writer, pool *claudepool.Pool, o options) {
	if !o.real {
		fmt.Fprintf(w, "%d tasks over %d slots. The agent is a stand-in with canned answers: no account, no network,\n"+
			"and the costs are made up. With -real it is your own Claude CLI.\n\n", o.tasks, o.slots)
		return
	}
	version := ""
	if s, err := pool.Status(ctx); err == nil {
		version = " " + s.ClaudeVersion
	}
	fmt.Fprintf(w, "%d tasks over %d slots: %d processes of the Claude CLI%s with your login, model %s, read-only\n"+
		"(plan mode, no tools). Your account pays at most %v, and what a model request in flight\nadds to that.\n\n",
		o.tasks, o.slots, o.slots, version, o.model, claudepool.USD(o.budget))
}

// work runs the tasks, shows how they go, and returns what they came to.
func work(ctx context.Context, stop func(), pool *claudepool.Pool, o options, s *screen) (claudepool.FanOutResult, error) {
	tasks := make([]claudepool.Task, o.tasks)
	for i := range tasks {
		tasks[i].Prompt = o.prompts[i%len(o.prompts)]
	}
	// Neither the tasks nor the screen end with ctx: the drain ends them.
	whole, finish := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer finish()

	ended := make(chan claudepool.TaskResult, len(tasks))
	events, unsubscribe := subscribe(whole, pool)
	shown := make(chan struct{})
	wg.Go(func() {
		defer close(shown)
		defer unsubscribe()
		s.show(whole, pool, len(tasks), events, ended)
	})
	wg.Go(func() { drainAtEnd(ctx, whole, stop, pool) })

	out, err := pool.FanOut(whole, tasks, claudepool.FanOutOptions{
		OnDone: func(_ int, r claudepool.TaskResult) { ended <- r },
	})
	if err != nil {
		return out, err
	}
	<-shown // the screen has seen every result
	return out, nil
}

// drainAtEnd drains the pool when ctx ends before whole does: what runs may
// finish, what waits is cancelled.
func drainAtEnd(ctx, whole context.Context, stop func(), pool *claudepool.Pool) {
	select {
	case <-whole.Done():
		return
	case <-ctx.Done():
	}
	stop() // the next signal is not ours
	drain, cancel := context.WithTimeout(whole, drainTime)
	defer cancel()
	if _, err := pool.Drain(drain); err != nil && whole.Err() == nil {
		fmt.Fprintln(os.Stderr, "quickstart: drain:", err)
	}
}
