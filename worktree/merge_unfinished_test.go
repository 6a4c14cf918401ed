//go:build unix

package worktree

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// during prepares a merge by another program, with something done to that program,
// whose id is in $pid, in the middle of the files.
func (b *mergeBench) during(what string) *exec.Cmd {
	b.t.Helper()
	b.on("main", func() { b.write("a", "b\n"); b.write("f", "b\n"); b.write("z", "b\n") })
	b.git("branch", "-f", "work", "main")
	b.on("work", func() { b.write("a", "w\n"); b.write("f", "w\n"); b.write("new/n", "w\n"); b.write("z", "w\n") })
	b.git("checkout", "-q", "main")
	b.write("base", "mine\n")
	b.write(".git/info/attributes", "f filter=odd\n")
	file := filepath.Join(b.t.TempDir(), "pid")
	b.git("config", "filter.odd.smudge", "while ! test -s '"+file+"'; do sleep 0.01; done; pid=$(cat '"+file+"'); "+what+"; cat")
	b.git("config", "filter.odd.clean", "cat")
	cmd := b.program("work")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return cmd
}

// quiet waits until no git works in the checkout.
func (b *mergeBench) quiet() {
	for range 1000 {
		if !b.exists(b.path(".git/index.lock")) && !b.exists(b.path(".git/HEAD.lock")) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.t.Fatal("git works on and on")
}

// TestInterruptReachesNoMove has a merge go through whose program is interrupted at
// the terminal in the middle of it.
func TestInterruptReachesNoMove(t *testing.T) {
	t.Parallel()
	b := bench(t)
	cmd := b.during("kill -INT -$pid; sleep 0.3")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if b.tip("main") != b.tip("work") || b.git("status", "--porcelain") != " M base" {
		t.Errorf("main is at %s, status %q", b.tip("main"), b.git("status", "--porcelain"))
	}
	b.checkClean()
}

// TestMergeKilledWhileItMoves has the next merge, or a clean-up, bring to an end
// what one has left whose program was killed between the files and the branch.
func TestMergeKilledWhileItMoves(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, kill string
		meanwhile  func(*mergeBench)
		moved      bool
		status     string
	}{
		{"git goes on", "kill -9 $pid", func(b *mergeBench) { b.quiet() }, true, " M base"},
		{"git goes on, and so does the person", "kill -9 $pid", func(b *mergeBench) { b.quiet(); b.write("a", "mine\n") }, true, " M a\n M base"},
		{"git is killed too", "kill -9 $pid $PPID", func(b *mergeBench) {
			for range 1000 { // what is left of a merge may still be ending
				if _, err := b.merge(MergeRequest{CheckedOut: FastForward}); errors.Is(err, ErrCheckedOut) && strings.Contains(err.Error(), "index.lock") {
					break
				} else if err == nil {
					t.Fatal("merged in spite of a lock")
				}
				time.Sleep(10 * time.Millisecond)
			}
			os.Remove(b.path(".git/index.lock"))
		}, false, " M base"},
		{"the person has put it back", "kill -9 $pid", func(b *mergeBench) { b.quiet(); b.git("reset", "-q", "--hard") }, false, ""},
		{"the person has gone elsewhere", "kill -9 $pid", func(b *mergeBench) { b.quiet(); b.git("checkout", "-q", "-f", "--detach") }, false, ""},
		{"the person has committed", "kill -9 $pid", func(b *mergeBench) { b.quiet(); b.git("commit", "-q", "-m", "mine") }, false, " M base"},
	} {
		for _, by := range []string{"clean", "merge"} {
			t.Run(tt.name+"/"+by, func(t *testing.T) {
				t.Parallel()
				b := bench(t)
				m, err := Open(t.Context(), Options{Repo: b.repo.Dir(), Home: t.TempDir()})
				if err != nil {
					t.Fatal(err)
				}
				defer m.Close()
				b.merger = m.merger()
				if err := b.during(tt.kill).Wait(); err == nil {
					t.Fatal("it was not killed")
				}
				b.git("config", "filter.odd.smudge", "cat")
				tt.meanwhile(b)
				b.quiet()
				tip := b.tip("main")
				if by == "clean" {
					if _, err := m.Clean(t.Context(), CleanOptions{}); err != nil {
						t.Fatal(err)
					}
				} else {
					b.git("branch", "other", "work^")
					b.mustMerge(MergeRequest{Branch: "other", CheckedOut: FastForward}) // of nothing
				}
				if want := map[bool]string{true: b.tip("work"), false: tip}[tt.moved]; b.tip("main") != want {
					t.Errorf("main is at %s, want %s", b.tip("main"), want)
				}
				if status := b.git("status", "--porcelain"); status != tt.status {
					t.Errorf("status is %q, want %q", status, tt.status)
				}
				if left, _ := filepath.Glob(filepath.Join(b.merger.home, "merge", "*", moveName)); len(left) > 0 {
					t.Errorf("left: %q", left)
				}
			})
		}
	}
}

// TestBranchCannotFollow has the files go back only if the branch is where it was.
// Older versions of git do not hold it meanwhile.
func TestBranchCannotFollow(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, what string
		merged     bool
	}{
		{"locked", "touch .git/refs/heads/main.lock", false},
		{"moved, but the answer was lost", "git update-ref refs/heads/main work", true},
		{"moved elsewhere", "git update-ref refs/heads/main other", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, gitWays(t)["old"])
			b.git("branch", "other", "main")
			b.on("other", func() {})
			b.add("work", "w", "w\n")
			b.git("checkout", "-q", "main")
			b.write("base", "mine\n")
			b.write(".git/info/attributes", "w filter=odd\n")
			b.git("config", "filter.odd.smudge", "cd '"+b.repo.Dir()+"' && "+tt.what+"; cat")
			tip := b.tip("main")
			res, err := b.merge(MergeRequest{CheckedOut: FastForward})
			if res.Merged != tt.merged || (err == nil) != tt.merged {
				t.Errorf("%+v, error %v", res, err)
			}
			if moved := b.tip("main") != tip; moved != tt.merged {
				t.Errorf("main has moved: %t", moved)
			}
			if status := b.git("status", "--porcelain"); status != " M base" {
				t.Errorf("status is %q", status)
			}
			b.checkClean()
		})
	}
}
