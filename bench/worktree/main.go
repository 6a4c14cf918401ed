//go:build unix

package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	hostMain()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	rounds := flag.Int("rounds", 1000, "how often a host is killed, or ends")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the work and of the instants")
	dir := flag.String("dir", "", "where the repositories are; those with violations stay (default: a temporary folder)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if *dir == "" {
		made, err := os.MkdirTemp("", "worktree-bench-")
		if err != nil {
			return err
		}
		defer os.Remove(made) // if nothing has stayed in it
		*dir = made
	}
	fmt.Printf("seed %d, repositories in %s\n", *seed, *dir)
	begun := time.Now()
	m := &machine{dir: *dir, log: os.Stderr, lines: long}
	r, err := m.run(ctx, *rounds, *seed)
	table(os.Stdout, r)
	fmt.Printf("%v\n", time.Since(begun).Round(time.Second))
	if err == nil && len(r.findings) > 0 {
		err = fmt.Errorf("%d violations; their repositories and logs are in %s", len(r.findings), *dir)
	}
	return err
}
