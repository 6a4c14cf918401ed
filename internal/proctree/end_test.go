//go:build linux

package proctree_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/claudepool/claudepool/internal/proctree"
)

// quick is for tests in which politeness is of no use.
var quick = proctree.Options{Grace: 100 * time.Millisecond}

// patient is for tests that would be too slow if a grace time passed.
var patient = proctree.Options{Grace: time.Hour}

func TestP7EndLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, role string
		args       []string
	}{
		{"polite", "polite", nil},
		{"ignores TERM", "deaf", nil},
		{"child ignores TERM", "family", []string{"child"}},
		{"grandchild holds stdin and stdout", "family", []string{"holder", "far holder"}},
		{"session of its own", "family", []string{"setsid"}},
		{"double fork", "family", []string{"daemon"}},
		{"leader dead, group alive", "family", []string{"holder", "leave"}},
		{"leader dead, group without marker alive", "family", []string{"unmarked", "leave"}},
		{"leader dead, strays alive", "family", []string{"setsid", "daemon", "leave"}},
		{"all at once", "family", []string{"deaf", "child", "unmarked", "holder", "setsid", "daemon"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			tree, pids := start(t, quick, c.role, c.args...)
			if len(c.args) > 0 && c.args[len(c.args)-1] == "leave" {
				<-tree.Done()
			}
			if err := tree.End(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			if left := living(pids); len(left) > 0 {
				t.Errorf("End returned and %v of %v are still there", left, pids)
			}
		})
	}
}

func TestP7EndChasesARunner(t *testing.T) {
	t.Parallel()
	tree, _ := start(t, quick, "runner")
	if err := tree.End(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if strays, err := tree.Strays(); err != nil || len(strays) > 0 {
		t.Errorf("strays %v, %v", strays, err)
	}
}

func TestP7CancelledContextMeansKill(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"before", "meanwhile"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			tree, pids := start(t, patient, "family", "deaf", "child", "setsid")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ask := func(context.Context) error { cancel(); return nil }
			if when == "before" {
				cancel()
			}
			if err := tree.End(ctx, ask); err != nil {
				t.Fatal(err)
			}
			if left := living(pids); len(left) > 0 {
				t.Errorf("End returned and %v of %v are still there", left, pids)
			}
		})
	}
}

// A nested host has trees with a marker of its own: they end by its watchdog,
// which must not end with the outer tree.
func TestP7NestedHost(t *testing.T) {
	t.Parallel()
	cmd := command("host", "deaf", "setsid")
	cmd.Env = append(cmd.Env, "CLAUDEPOOL_STATE_DIR="+t.TempDir())
	tree, err := proctree.Start(t.Context(), cmd, quick)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Stdout.Close()
	defer tree.Stderr.Close()
	pids := readPIDs(tree.Stdout)
	if err := tree.End(t.Context(), nil); err != nil {
		t.Error(err)
	}
	waitGone(t, pids)
}

func TestEndAsksFirst(t *testing.T) {
	t.Parallel()
	tree, _ := start(t, patient, "polite")
	asked := 0
	for range 2 { // the second End does nothing
		err := tree.End(t.Context(), func(context.Context) error {
			asked++
			return tree.Stdin.Close()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if asked != 1 || tree.Err() != nil || tree.ExitCode() != 0 {
		t.Errorf("asked %d times, exit %d, %v; want once, 0, nil", asked, tree.ExitCode(), tree.Err())
	}
}

func TestEndAfterARefusedRequestTerminates(t *testing.T) {
	t.Parallel()
	tree, _ := start(t, patient, "family") // exits by TERM only
	if err := tree.End(t.Context(), func(context.Context) error { return errors.New("no") }); err != nil {
		t.Fatal(err)
	}
	exit, ok := errors.AsType[*exec.ExitError](tree.Err())
	if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM || tree.ExitCode() != -1 {
		t.Errorf("Err %v, ExitCode %d; want that of SIGTERM, -1", tree.Err(), tree.ExitCode())
	}
}

func TestEndFreesABlockedWriter(t *testing.T) {
	t.Parallel()
	tree, _ := start(t, quick, "family", "far holder") // so that the pipe does not break with the leader
	wrote := make(chan error, 1)
	ask := func(context.Context) error { // does not heed its context
		_, err := tree.Stdin.Write(make([]byte, 1<<20))
		wrote <- err
		return err
	}
	if err := tree.End(t.Context(), ask); err != nil {
		t.Fatal(err)
	}
	if err := <-wrote; !errors.Is(err, os.ErrClosed) {
		t.Errorf("the write ended with %v; want os.ErrClosed", err)
	}
}

func TestConcurrentEnd(t *testing.T) {
	t.Parallel()
	tree, pids := start(t, quick, "family", "deaf", "setsid")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := tree.End(t.Context(), nil); err != nil {
				t.Error(err)
			}
			if left := living(pids); len(left) > 0 {
				t.Errorf("End returned and %v of %v are still there", left, pids)
			}
		})
	}
	wg.Wait()
}

func TestAnImpatientCallerHurriesAll(t *testing.T) {
	t.Parallel()
	tree, _ := start(t, patient, "family", "deaf")
	began := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := tree.End(t.Context(), func(ctx context.Context) error {
			close(began)
			<-ctx.Done()
			return ctx.Err()
		}); err != nil {
			t.Error(err)
		}
	})
	<-began
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tree.End(ctx, nil); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

func TestKillStraysSparesTheLeader(t *testing.T) {
	t.Parallel()
	tree, pids := start(t, quick, "family", "setsid", "daemon")
	strays, err := tree.Strays()
	if err != nil || len(strays) != 2 {
		t.Fatalf("strays %v, %v; want 2 of %v", strays, err, pids)
	}
	for _, p := range strays {
		if !strings.HasPrefix(p.Name, "proctree") || p.PPID == 0 || p.Start == 0 {
			t.Errorf("stray %+v is not described", p)
		}
	}
	if err := tree.KillStrays(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := living(pids); len(left) != 1 || left[0] != tree.PID() {
		t.Errorf("left of %v: %v; want the leader %d", pids, left, tree.PID())
	}
}
