//go:build unix

package worktree

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// repository makes a repository with a commit in the checkout.
func (b *mergeBench) repository(name string) {
	b.t.Helper()
	b.git("init", "-q", name)
	b.git("-C", name, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "theirs")
}

// TestWhatGitWouldOverwriteIsInTheWay has what git itself would overwrite or take
// away, or refuse without saying why, left alone and named.
func TestWhatGitWouldOverwriteIsInTheWay(t *testing.T) {
	t.Parallel()
	submodule := func(b *mergeBench) {
		b.repository("lib")
		b.git("add", "lib")
	}
	without := func(b *mergeBench) {
		b.git("rm", "-q", "--cached", "lib")
		if err := os.RemoveAll(b.path("lib")); err != nil {
			b.t.Fatal(err)
		}
	}
	again := func(b *mergeBench) {
		b.repository("lib")
		b.write("lib/precious", "mine\n")
	}
	hide := func(how string) func(b *mergeBench) {
		return func(b *mergeBench) {
			b.git("update-index", how, "base")
			b.write("base", "of mine, and longer\n")
		}
	}
	changes := func(b *mergeBench) { b.write("base", "w\n") }
	addsTo := func(b *mergeBench) { b.write("vendor/x/f", "w\n"); b.git("add", "-f", "vendor/x/f") }
	for way, g := range gitWays(t) {
		for _, tt := range []struct {
			name             string
			base, work, mine func(*mergeBench)
			names            string
		}{
			{"submodule to file", submodule, func(b *mergeBench) { without(b); b.write("lib", "w\n") }, again, "lib"},
			{"submodule to folder", submodule, func(b *mergeBench) { without(b); b.write("lib/f", "w\n") }, again, "lib"},
			{"submodule to folder with an ignored file", submodule, func(b *mergeBench) { without(b); b.write("lib/f", "w\n") }, func(b *mergeBench) {
				again(b)
				b.write("lib/f", "mine\n")
				b.write("lib/.gitignore", "f\n")
			}, "lib/f"},
			{"submodule to nothing", submodule, without, again, "lib"},
			{"ignored in a repository", func(b *mergeBench) { b.write(".gitignore", "vendor/\n") }, addsTo, func(b *mergeBench) {
				b.repository("vendor/x")
				b.write("vendor/x/f", "mine\n")
			}, "vendor/x/f"},
			{"ignored in a repository that is not", func(b *mergeBench) { b.write(".gitignore", "f\n") }, addsTo, func(b *mergeBench) {
				b.repository("vendor/x")
				b.write("vendor/x/f", "mine\n")
			}, "vendor/x/f"},
			{"untracked in a repository", changes, addsTo, func(b *mergeBench) {
				b.repository("vendor/x")
				b.write("vendor/x/f", "mine\n")
			}, "vendor/x/f"},
			{"repository where a file is to be", changes, func(b *mergeBench) { b.write("x", "w\n") }, func(b *mergeBench) { b.repository("x/y") }, "x/y/"},
			{"skip-worktree", func(b *mergeBench) {}, changes, hide("--skip-worktree"), "base"},
			{"assume-unchanged", func(b *mergeBench) {}, changes, hide("--assume-unchanged"), "base"},
		} {
			t.Run(way+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				b := newBench(t, g)
				b.on("main", func() { tt.base(b) })
				b.git("branch", "-f", "work", "main")
				b.on("work", func() { tt.work(b) })
				os.RemoveAll(b.path("lib"))
				b.git("checkout", "-q", "main")
				tt.mine(b)
				before, tip := b.snapshot(), b.tip("main")
				for _, dry := range []bool{true, false} {
					_, err := b.merge(MergeRequest{CheckedOut: FastForward, DryRun: dry})
					if !errors.Is(err, ErrInTheWay) || !strings.Contains(err.Error(), tt.names) {
						t.Errorf("error %v", err)
					}
				}
				if diff := cmp.Diff(before, b.snapshot()); diff != "" || b.tip("main") != tip {
					t.Errorf("changed, main was at %s and is at %s:\n%s", tip, b.tip("main"), diff)
				}
				b.checkClean()
			})
		}
	}
}

// TestMoveFails has the checkout as it was when a filter fails half-way, and what
// git said. What the filter does not give back either, the next merge does.
func TestMoveFails(t *testing.T) {
	t.Parallel()
	for way, g := range gitWays(t) {
		for _, tt := range []struct{ name, smudge, left string }{
			{"for the work", "read l && test $l = b && echo b", ""},
			{"always", "false", " D f\n"},
		} {
			t.Run(way+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				b := newBench(t, g)
				b.on("main", func() {
					for _, name := range []string{"a", "f", "is/folder", "z", "zgone"} {
						b.write(name, "b\n")
					}
				})
				b.git("branch", "-f", "work", "main")
				b.on("work", func() {
					os.Remove(b.path("zgone"))
					os.RemoveAll(b.path("is"))
					for _, name := range []string{"a", "f", "is", "new/n", "z"} {
						b.write(name, "w\n")
					}
					os.Chmod(b.path("a"), 0o700)
				})
				b.git("checkout", "-q", "main")
				b.write("base", "mine\n")
				b.write("untracked", "mine\n")
				b.write(".git/info/attributes", "f filter=odd\n")
				b.git("config", "filter.odd.smudge", tt.smudge)
				b.git("config", "filter.odd.clean", "cat")
				b.git("config", "filter.odd.required", "true")
				tip, status := b.tip("main"), " M base\n"+tt.left+"?? untracked"
				_, err := b.merge(MergeRequest{CheckedOut: FastForward})
				if err == nil || errors.Is(err, ErrInTheWay) || !strings.Contains(err.Error(), "filter") {
					t.Errorf("error %v", err)
				}
				if got := b.git("status", "--porcelain"); got != status || b.tip("main") != tip {
					t.Errorf("status is %q, want %q; main is at %s, was at %s", got, status, b.tip("main"), tip)
				}
				if b.read("base")+b.read("untracked") != "mine\nmine\n" {
					t.Error("something of the person's is gone")
				}
				b.git("config", "filter.odd.smudge", "cat")
				if res := b.mustMerge(MergeRequest{CheckedOut: FastForward}); !res.Merged || b.read("new/n") != "w\n" {
					t.Errorf("again: %+v", res)
				}
				b.checkClean()
			})
		}
	}
}

// TestChangedInTheMomentOfTheIndex has a rehearsal see a change that neither size
// nor time of the file tells of.
func TestChangedInTheMomentOfTheIndex(t *testing.T) {
	t.Parallel()
	b := bench(t)
	b.add("work", "base", "work\n")
	b.git("checkout", "-q", "main")
	b.git("config", "core.trustctime", "false")
	moment := time.Now().Add(-time.Hour).Truncate(time.Second)
	at := func(name string) {
		if err := os.Chtimes(b.path(name), moment, moment); err != nil {
			t.Fatal(err)
		}
	}
	at("base")
	b.git("update-index", "--refresh")
	b.write("base", "mine\n") // as long as what it was
	at("base")
	at(".git/index")
	if _, err := b.merge(MergeRequest{CheckedOut: FastForward, DryRun: true}); !errors.Is(err, ErrInTheWay) {
		t.Errorf("error %v", err)
	}
}
