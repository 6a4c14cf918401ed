package sqlitestore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/sqlitestore"
)

// Environment of a test program that is started once more, to use a store as
// another program.
const (
	workerPath = "SQLITESTORE_WORKER_PATH"
	workerName = "SQLITESTORE_WORKER_NAME"
	workerMode = "SQLITESTORE_WORKER_MODE"
)

// modes are what it does then.
var modes = map[string]func(path, name string) error{"work": workOff, "toil": toil}

func TestMain(m *testing.M) {
	if path := os.Getenv(workerPath); path != "" {
		if err := modes[os.Getenv(workerMode)](path, os.Getenv(workerName)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// startWorker starts the test program as another program that uses the file. It
// tells what was acknowledged, a line each.
func startWorker(t *testing.T, mode, path, name string) (cmd *exec.Cmd, told io.Reader) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(exe)
	cmd.Env = append(os.Environ(), workerPath+"="+path, workerName+"="+name, workerMode+"="+mode)
	cmd.Stderr = os.Stderr
	told, err = cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, told
}

// tell says what was acknowledged.
func tell(what string, id claudepool.TaskID) error {
	_, err := fmt.Fprintln(os.Stdout, what, id)
	return err
}

const taskCost = 7

// createTold creates a task and says so.
func createTold(ctx context.Context, s claudepool.PoolStore, id string) error {
	r := claudepool.TaskRecord{ID: claudepool.TaskID(id), Task: claudepool.Task{Prompt: "do " + id, Owner: "go"}, Submitted: noon}
	if _, _, err := s.CreateTask(ctx, r); err != nil {
		return err
	}
	return tell("created", r.ID)
}

// finishTold claims a task and completes it, and says so.
func finishTold(ctx context.Context, s claudepool.PoolStore, name string) error {
	r, err := s.Claim(ctx, claudepool.ClaimRequest{Holder: name, Now: noon, Lease: time.Hour})
	if err != nil {
		return err
	}
	if err := tell("claimed", r.ID); err != nil {
		return err
	}
	_, err = s.Transition(ctx, claudepool.Transition{
		Task: r.ID, From: r.State, Fence: r.Fence, To: claudepool.StateCompleted, At: noon, Outcome: claudepool.OutcomeOK,
		Attempt: &claudepool.Attempt{Outcome: claudepool.OutcomeOK, Cost: taskCost}, Result: &claudepool.TaskResult{Output: "done"},
	})
	if err != nil {
		return err
	}
	return tell("completed", r.ID)
}

// workOff shares the file: it creates some tasks, and completes all there are.
func workOff(path, name string) error {
	ctx := context.Background()
	s, err := sqlitestore.Open(ctx, path, sqlitestore.Options{Peer: true, Synchronous: sqlitestore.Normal})
	if err != nil {
		return err
	}
	for i := range 50 {
		if err := createTold(ctx, s, fmt.Sprintf("b-%s-%04d", name, i)); err != nil {
			return err
		}
	}
	for err == nil {
		err = finishTold(ctx, s, name)
	}
	if !errors.Is(err, claudepool.ErrNotRunnable) {
		return err
	}
	return s.Close()
}

// toil creates and completes tasks, several at once, until it is killed.
func toil(path, name string) error {
	ctx := context.Background()
	s, err := sqlitestore.Open(ctx, path, sqlitestore.Options{})
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			var err error
			for i := 0; err == nil; i++ {
				if err = createTold(ctx, s, fmt.Sprintf("%s-%d-%06d", name, g, i)); err == nil {
					err = finishTold(ctx, s, name)
				}
			}
			fmt.Fprintln(os.Stderr, err)
		})
	}
	wg.Wait()
	return errors.New("it was not killed")
}

// Two programs work on what a third one has on the same file: nothing is lost,
// claimed twice or out of order, and the third is told of all of it.
func TestTwoPrograms(t *testing.T) {
	t.Parallel()
	s := openNew(t, sqlitestore.Options{Peer: true, Synchronous: sqlitestore.Normal})
	u := user{s, t, noon}
	const before = 100
	for i := range before {
		u.create(fmt.Sprintf("a-%04d", i))
	}
	changes, err := s.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	claims := map[string]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, name := range []string{"one", "two"} {
		cmd, told := startWorker(t, "work", s.Path(), name)
		wg.Go(func() {
			var order []string
			for lines := bufio.NewScanner(told); lines.Scan(); {
				if id, claimed := strings.CutPrefix(lines.Text(), "claimed "); claimed {
					order = append(order, id)
				}
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			first := slices.DeleteFunc(slices.Clone(order), func(id string) bool { return id[0] != 'a' })
			if !slices.IsSorted(first) {
				t.Errorf("%s has claimed out of order: %v", name, first)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, id := range order {
				claims[id]++
			}
		})
	}
	const all = before + 2*50
	seen := map[claudepool.TaskID][]claudepool.TaskState{}
	for completed := 0; completed < all; {
		c := <-changes
		if c.Lost {
			t.Fatal("changes were lost")
		}
		seen[c.TaskID] = append(seen[c.TaskID], c.State)
		if c.State == claudepool.StateCompleted {
			completed++
		}
	}
	wg.Wait()
	if len(claims) != all {
		t.Errorf("%d tasks were claimed, want %d", len(claims), all)
	}
	for id, n := range claims {
		if n != 1 {
			t.Errorf("%s was claimed %d times", id, n)
		}
	}
	for id, states := range seen {
		want := []claudepool.TaskState{claudepool.StatePending, claudepool.StateRunning, claudepool.StateCompleted}
		if id[0] == 'a' {
			want = want[1:] // it was there already
		}
		if !slices.Equal(states, want) {
			t.Errorf("of %s the watcher was told %v", id, states)
		}
	}
	wantSums(t, s, all)
}

// wantSums checks that so many tasks have completed and nothing else has been paid.
func wantSums(t *testing.T, s claudepool.PoolStore, completed int) {
	t.Helper()
	l, err := s.Ledger(t.Context(), claudepool.LedgerQuery{})
	if err != nil {
		t.Fatal(err)
	}
	if l.Spent != claudepool.Microdollars(completed*taskCost) || l.Attempts != completed {
		t.Errorf("%d tasks have completed, the ledger says %d attempts for %d", completed, l.Attempts, l.Spent)
	}
	n, err := s.Count(t.Context())
	if err != nil || n[claudepool.StateCompleted] != completed {
		t.Errorf("counted %v, error %v, want %d completed", n, err, completed)
	}
}

// Whatever was acknowledged before a program was killed is there afterwards.
func TestKilled(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	want := map[claudepool.TaskID]string{}
	for round := range 6 {
		cmd, told := startWorker(t, "toil", path, fmt.Sprint("r", round))
		lines, n := bufio.NewReader(told), 0
		last := 1 + rand.IntN(200)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				break // at the end of the pipe, with half a line perhaps
			}
			what, id, _ := strings.Cut(strings.TrimSpace(line), " ")
			want[claudepool.TaskID(id)] = what
			if n++; n == last {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil || n < last {
			t.Fatalf("it ended by itself after %d lines: %v", n, err)
		}

		s := open(t, path, sqlitestore.Options{})
		completed := 0
		got := map[claudepool.TaskID]claudepool.TaskState{}
		for r, err := range s.Tasks(t.Context(), claudepool.TaskFilter{}) {
			if err != nil {
				t.Fatal(err)
			}
			got[r.ID] = r.State
			if r.State == claudepool.StateCompleted {
				completed++
				if r.Result == nil || r.Result.Output != "done" {
					t.Errorf("%s has completed with result %+v", r.ID, r.Result)
				}
			}
		}
		rank := map[claudepool.TaskState]int{claudepool.StatePending: 1, claudepool.StateRunning: 2, claudepool.StateCompleted: 3}
		for id, what := range want {
			if least := map[string]int{"created": 1, "claimed": 2, "completed": 3}[what]; rank[got[id]] < least {
				t.Errorf("round %d: %s was %s, and is %q", round, id, what, got[id])
			}
		}
		wantSums(t, s, completed)
		closeStore(t, s)
	}
	if got := table(t, raw(t, path), "PRAGMA integrity_check"); len(got) != 1 || got[0] != "ok" {
		t.Errorf("integrity: %v", got)
	}
}
