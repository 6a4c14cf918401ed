//go:build unix

package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/claudepool/claudepool/claudetest"
)

func main() {
	roles()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// roles runs this program as a host or as an agent, if it was started as one.
func roles() {
	hostMain()
	claudetest.MainScript(model(os.Getenv(envPrompts)))
}

func run() error {
	rounds := flag.Int("rounds", 1000, "rounds of SIGKILL of a host; other faults have a share of them")
	real := flag.Int("real-rounds", 50, "rounds of SIGKILL of a host with the real CLI; other faults with it have a share of them")
	path := flag.String("claude", "", "the real CLI (default: $"+claudetest.EnvCLI+", else claude in PATH)")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the work and of the instants")
	dir := flag.String("store-dir", "", "where the stores are; those with violations stay (default: a temporary folder)")
	only := flag.String("only", "", "one fault: "+strings.Join(names(), ", "))
	flag.Parse()
	if *only != "" && !slices.Contains(names(), *only) {
		return fmt.Errorf("-only: there is no fault %q, only %s", *only, strings.Join(names(), ", "))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if *dir == "" {
		made, err := os.MkdirTemp("", "fault-")
		if err != nil {
			return err
		}
		defer os.Remove(made) // if nothing has stayed in it
		*dir = made
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if *path != "" {
		if err := os.Setenv(claudetest.EnvCLI, *path); err != nil {
			return err
		}
	}
	cli, noCLI := claudetest.FindCLI()
	m := &machine{dir: *dir, self: self, claude: cli, log: os.Stderr, gone: goneWithin}
	fmt.Printf("seed %d, stores in %s\n", *seed, *dir)
	var rows []*row
	violations := 0
	for _, f := range faults() {
		of := *rounds
		if f.real {
			of = *real
		}
		n := (of*f.share + 99) / 100 // one at least, unless there are to be none
		if f.slow {
			n = min(n, 3)
		}
		if n == 0 || *only != "" && *only != f.name {
			continue
		}
		r, err := newRow(f, m.log), noCLI
		if !f.real || noCLI == nil {
			begun := time.Now()
			r, err = m.run(ctx, f, n, *seed)
			fmt.Fprintf(os.Stderr, "%s: %d rounds in %v, %d violations\n", f.name, r.rounds, time.Since(begun).Round(time.Second), len(r.findings))
		}
		if err != nil && r.rounds == 0 {
			r.skipped = err.Error()
		} else if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		rows = append(rows, r)
		violations += len(r.findings)
	}
	table(os.Stdout, rows)
	if violations > 0 {
		return fmt.Errorf("%d violations; their stores and logs are in %s", violations, *dir)
	}
	return nil
}

func names() []string {
	var all []string
	for _, f := range faults() {
		all = append(all, f.name)
	}
	return all
}
