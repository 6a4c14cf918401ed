//go:build unix

package worktree

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claudepool/claudepool/internal/git"
)

// envMerge makes the test program one that merges.
const envMerge = "WORKTREE_TEST_MERGE"

func init() {
	if os.Getenv(envMerge) == "" {
		return
	}
	if err := mergeRole(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// mergeRole merges a branch into main as another program: REPO HOME BRANCH CHECK….
func mergeRole() error {
	signal.Notify(make(chan os.Signal, 1), os.Interrupt) // it ends in good order
	ctx := context.Background()
	g, err := git.Find(ctx)
	if err != nil {
		return err
	}
	args := os.Args[1:]
	_, err = merger{repo: g.In(args[0]), home: args[1], log: slog.Default()}.merge(ctx, MergeRequest{Branch: args[2], Target: "main", Strategy: Rebase, CheckedOut: FastForward, Check: args[3:]})
	return err
}

// program starts mergeRole.
func (b *mergeBench) program(branch string, check ...string) *exec.Cmd {
	b.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		b.t.Fatal(err)
	}
	cmd := exec.Command(exe, append([]string{b.repo.Dir(), b.merger.home, branch}, check...)...)
	cmd.Env = append(os.Environ(), envMerge+"=yes")
	cmd.Stderr = os.Stderr
	return cmd
}

// TestMergesAtOnce has all of several merges land, one after the other, from this
// program and another.
func TestMergesAtOnce(t *testing.T) {
	t.Parallel()
	b := bench(t)
	names := []string{"w1", "w2", "w3", "w4"}
	for _, name := range names {
		b.git("branch", name, "main")
		b.add(name, name, name+"\n")
	}
	b.add("main", "m", "m\n")
	// Two checks at a time would see each other's folder.
	turn := filepath.Join(t.TempDir(), "turn")
	check := []string{"sh", "-c", `mkdir "$1" && cat m && sleep 0.02 && rmdir "$1"`, "sh", turn}
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() {
			var err error
			if i%2 == 0 {
				_, err = b.merger.merge(t.Context(), MergeRequest{Branch: name, Target: "main", Strategy: Rebase, Check: check})
			} else {
				err = b.program(name, check...).Run()
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	all.Wait()
	for _, name := range names {
		if got := b.show("main", name); got != name+"\n" {
			t.Errorf("%s is %q", name, got)
		}
	}
	if merges := b.git("rev-list", "--merges", "main"); merges != "" {
		t.Errorf("not one after the other:\n%s", b.git("log", "--graph", "--oneline", "main"))
	}
	b.checkClean()
}

// TestTargetMoved has a merge made again when the target has moved, and given up
// when it never stands still.
func TestTargetMoved(t *testing.T) {
	t.Parallel()
	for way, g := range gitWays(t) {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, g)
			head := b.add("work", "w", "w\n")
			b.add("main", "m", "m\n")
			// The check moves the target as often as it may.
			dir := t.TempDir()
			move := func(times string) []string {
				return []string{"sh", "-c", `
					echo x >> "$1/count"
					test $(wc -l < "$1/count") -gt "$2" && exit 0
					cd "$3" && git update-ref refs/heads/main $(git commit-tree -p main -m moved main^{tree})`,
					"sh", dir, times, b.repo.Dir()}
			}
			_, err := b.merge(MergeRequest{Check: move("100")})
			if !errors.Is(err, ErrMoved) {
				t.Errorf("error %v, want ErrMoved", err)
			}
			if got := b.git("log", "-1", "--format=%s", "main"); got != "moved" {
				t.Errorf("main is at %q", got)
			}
			b.checkClean()
			os.Remove(filepath.Join(dir, "count"))
			res := b.mustMerge(MergeRequest{Check: move("2")})
			if got := b.git("rev-parse", "main^1", "main^2"); got != res.Before+"\n"+head {
				t.Errorf("main is a merge of %s, want of %s and the work", got, res.Before)
			}
			if got := b.git("log", "-1", "--format=%s", res.Before); got != "moved" {
				t.Errorf("merged on top of %q", got)
			}
			b.checkClean()
		})
	}
}

// TestCheckFails has nothing move, with the end of what the check said.
func TestCheckFails(t *testing.T) {
	t.Parallel()
	b := bench(t)
	b.add("work", "w", "w\n")
	before := b.add("main", "m", "m\n")
	for _, tt := range []struct {
		name  string
		check []string
		time  time.Duration
		is    error
		want  []string
	}{
		{"fails", []string{"sh", "-c", "cat w m; echo why >&2; exit 3"}, 0, ErrCheckFailed, []string{"exit status 3", "why"}},
		{"says nothing", []string{"false"}, 0, ErrCheckFailed, []string{"it printed nothing"}},
		{"takes too long", []string{"sh", "-c", "echo begun; exec sleep 1000"}, 200 * time.Millisecond, ErrCheckFailed, []string{"within its time of 200ms"}},
		{"says much", []string{"sh", "-c", "seq 1 20000; exit 1"}, 0, ErrCheckFailed, []string{"\n19999\n20000"}},
		{"is not there", []string{"./nowhere"}, 0, os.ErrNotExist, []string{"run the check"}},
		{"leaves a folder locked", []string{"sh", "-c", "mkdir -p a/b && touch a/b/c && chmod 500 a/b a && false"}, 0, ErrCheckFailed, nil},
		{"moves its HEAD", []string{"sh", "-c", "git commit -q --allow-empty -m x && git worktree lock . && false"}, 0, ErrCheckFailed, nil},
	} {
		res, err := b.merge(MergeRequest{Check: tt.check, CheckTimeout: tt.time})
		if !errors.Is(err, tt.is) {
			t.Errorf("%s: error %v, want %v", tt.name, err, tt.is)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %v, want %q", tt.name, err, want)
			}
		}
		if len(res.CheckOutput) > MaxCheckOutput || len(res.CheckOutput) > 0 && !strings.Contains(err.Error(), strings.TrimSpace(res.CheckOutput)) {
			t.Errorf("%s: error has not the output, of %d bytes", tt.name, len(res.CheckOutput))
		}
		if b.tip("main") != before || res.Merged {
			t.Errorf("%s: the target has moved: %+v", tt.name, res)
		}
		b.checkClean()
	}
}

// TestCheckIsEndedAsAWhole has nothing that a check has started live on.
func TestCheckIsEndedAsAWhole(t *testing.T) {
	t.Parallel()
	b := bench(t)
	b.add("work", "w", "w\n")
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := exec.Command("mkfifo", fifo).Run(); err != nil {
		t.Fatal(err)
	}
	// Its standard output is kept open by what it leaves behind.
	res := b.mustMerge(MergeRequest{Check: []string{"sh", "-c", `sleep 1000 < "$1" & (exec sleep 1000 > "$1") & echo done`, "sh", fifo}})
	if res.CheckOutput != "done\n" {
		t.Errorf("output is %q", res.CheckOutput)
	}
}

// waitingCheck is a check that says on a fifo that it runs, and then waits.
func waitingCheck(t *testing.T) (check []string, runs func()) {
	t.Helper()
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := exec.Command("mkfifo", fifo).Run(); err != nil {
		t.Fatal(err)
	}
	return []string{"sh", "-c", `echo runs > "$1"; exec sleep 1000`, "sh", fifo}, func() {
		t.Helper()
		f, err := os.Open(fifo)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if line, err := bufio.NewReader(f).ReadString('\n'); line != "runs\n" {
			t.Fatalf("the check says %q, error %v", line, err)
		}
	}
}

// TestMergeCancelled has nothing moved and nothing left.
func TestMergeCancelled(t *testing.T) {
	t.Parallel()
	b := bench(t)
	b.add("work", "w", "w\n")
	before := b.add("main", "m", "m\n")
	check, runs := waitingCheck(t)
	cause := errors.New("not wanted any more")
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error)
	go func() {
		_, err := b.merger.merge(ctx, MergeRequest{Branch: "work", Target: "main", Check: check})
		ended <- err
	}()
	runs()

	// Another one waits for it, and no longer than its context.
	over, end := context.WithCancelCause(t.Context())
	end(cause)
	if _, err := enterRoom(over, b.merger.home, "refs/heads/main"); !errors.Is(err, cause) {
		t.Errorf("error %v, want %v", err, cause)
	}

	cancel(cause)
	if err := <-ended; !errors.Is(err, cause) || errors.Is(err, ErrCheckFailed) {
		t.Errorf("error %v, want %v", err, cause)
	}
	if b.tip("main") != before {
		t.Error("the target has moved")
	}
	b.checkClean()
	if _, err := b.merger.merge(ctx, MergeRequest{Branch: "work", Target: "main"}); !errors.Is(err, cause) {
		t.Errorf("error %v, want %v", err, cause)
	}
}

// TestMergeKilled has the next merge find what one has left whose program was
// killed, remove it, and go on.
func TestMergeKilled(t *testing.T) {
	t.Parallel()
	b := bench(t)
	b.add("work", "w", "w\n")
	before := b.add("main", "m", "m\n")
	theirs := filepath.Join(t.TempDir(), "theirs")
	b.git("worktree", "add", "-q", "--detach", theirs)
	check, runs := waitingCheck(t)
	cmd := b.program("work", check...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	runs()
	if list := b.git("worktree", "list"); !strings.Contains(list, b.merger.home) {
		t.Errorf("no scratch worktree:\n%s", list)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if b.tip("main") != before {
		t.Error("the target has moved")
	}
	// Others' folders that are not there now are not forgotten.
	if err := os.Rename(theirs, theirs+"2"); err != nil {
		t.Fatal(err)
	}
	b.mustMerge(MergeRequest{Check: []string{"cat", "m", "w"}})
	b.checkClean()
	if list := b.git("worktree", "list"); !strings.Contains(list, theirs) {
		t.Errorf("a worktree was forgotten:\n%s", list)
	}
}

// TestCleanAfterAMergeThatWasKilled removes its scratch worktree, but not that of
// one that goes on.
func TestCleanAfterAMergeThatWasKilled(t *testing.T) {
	t.Parallel()
	b := bench(t)
	b.add("work", "w", "w\n")
	b.git("checkout", "-q", "--detach", "main")
	m, err := Open(t.Context(), Options{Repo: b.repo.Dir(), Home: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	b.merger = m.merger()
	check, runs := waitingCheck(t)
	cmd := b.program("work", check...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	runs()
	clean := func(o CleanOptions, want int) {
		t.Helper()
		removed, err := m.Clean(t.Context(), o)
		if err != nil || len(removed) != want || want > 0 && !strings.HasPrefix(removed[0].Path, filepath.Join(m.home, "merge")) {
			t.Errorf("%+v: removed %+v, error %v", o, removed, err)
		}
	}
	clean(CleanOptions{}, 0)
	cmd.Process.Kill()
	cmd.Wait()
	clean(CleanOptions{DryRun: true}, 1)
	if list := b.git("worktree", "list"); !strings.Contains(list, m.home) {
		t.Errorf("removed by a dry run:\n%s", list)
	}
	clean(CleanOptions{}, 1)
	clean(CleanOptions{}, 0)
	if list := b.git("worktree", "list"); strings.Contains(list, m.home) {
		t.Errorf("still known to git:\n%s", list)
	}
}

// TestMergeLeavesSomethingBehind has a merge that has happened be one, be there
// still something to remove.
func TestMergeLeavesSomethingBehind(t *testing.T) {
	t.Parallel()
	b := bench(t)
	head := b.add("work", "w", "w\n")
	b.git("checkout", "-q", "main")
	b.write(".git/info/attributes", "w filter=odd\n")
	// No folder of worktrees can be looked through then.
	b.git("config", "filter.odd.smudge", "touch '"+b.path(".git/worktrees")+"'; cat")
	var log bytes.Buffer
	b.merger.log = slog.New(slog.NewTextHandler(&log, nil))
	if res := b.mustMerge(MergeRequest{CheckedOut: FastForward}); !res.Merged || b.tip("main") != head {
		t.Errorf("result %+v, main at %s", res, b.tip("main"))
	}
	if !strings.Contains(log.String(), "left something behind") {
		t.Errorf("log is %q", &log)
	}
}
