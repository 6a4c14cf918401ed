// Routing asks a model about the requests of requests.json and prints how often
// it chose the route that was expected, by class, and what that has cost.
//
//	go run ./bench/routing -model haiku
//
// It uses your login and costs some cents with a small model.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, claudepool.PoolConfig{})
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "routing:", err)
		os.Exit(1)
	}
}

// run evaluates with a pool that c and the flags describe.
func run(ctx context.Context, args []string, out io.Writer, c claudepool.PoolConfig) (err error) {
	f := flag.NewFlagSet("routing", flag.ContinueOnError)
	model := f.String("model", "haiku", "model that decides")
	effort := f.String("effort", "low", "how long it may think: low, medium, high, xhigh or max")
	path := f.String("claude", "", "the claude program (default: claude in PATH)")
	slots := f.Int("slots", 4, "how many requests are decided at once")
	budget := f.Float64("budget", 2, "the most to spend, in dollars")
	if err := f.Parse(args); err != nil {
		return err
	}
	all, err := samples()
	if err != nil {
		return err
	}
	if *path != "" {
		c.ClaudePath = *path
	}
	c.Slots, c.MaxSlots, c.Budget = *slots, max(*slots, 1), claudepool.USD(*budget)
	c.Route = claudepool.RouteConfig{Model: *model, Effort: claude.Effort(*effort)}
	if c.WorkDir == "" {
		// Nothing of a project is to influence the decisions.
		if c.WorkDir, err = os.MkdirTemp("", "claudepool-routing-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(c.WorkDir)) }()
	}
	pool, err := claudepool.NewPoolBuilder().Config(c).Build(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	answers, err := evaluate(ctx, all, *slots, func(ctx context.Context, request string) (claudepool.Route, error) {
		return pool.Route(ctx, request, claudepool.RouteHints{})
	})
	if err != nil {
		return err
	}
	return report(out, answers)
}
