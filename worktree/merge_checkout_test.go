//go:build unix

package worktree

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// snapshot returns all that a checkout has: files with their texts and modes, what
// git says of them, HEAD and the stash.
func (b *mergeBench) snapshot() map[string]string {
	b.t.Helper()
	all := map[string]string{
		"status": b.git("status", "--porcelain", "--ignored"),
		"staged": b.git("diff", "--cached"),
		"HEAD":   b.git("rev-parse", "HEAD") + b.git("rev-parse", "--symbolic-full-name", "HEAD"),
	}
	err := filepath.WalkDir(b.repo.Dir(), func(path string, d os.DirEntry, err error) error {
		if d != nil && d.IsDir() && d.Name() == ".git" {
			return filepath.SkipDir
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, _ := d.Info()
		if d.Type()&os.ModeSymlink != 0 {
			to, err := os.Readlink(path)
			all[path] = info.Mode().String() + " " + to
			return err
		}
		text, err := os.ReadFile(path)
		all[path] = info.Mode().String() + " " + info.ModTime().String() + " " + string(text)
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return all
}

// TestCheckedOutTarget has a person's checkout left alone, or moved forward with
// all that is their own in it.
func TestCheckedOutTarget(t *testing.T) {
	t.Parallel()
	for way, g := range gitWays(t) {
		for _, tt := range []struct {
			name    string
			arrange func(*mergeBench)
			how     CheckedOut
			is      error    // nil: it moves
			names   []string // in the error
		}{
			{name: "refuse", how: Refuse, is: ErrCheckedOut, names: []string{"a repo", "fast-forward"}},
			{name: "clean", how: FastForward},
			{
				name: "changes elsewhere", how: FastForward,
				arrange: func(b *mergeBench) {
					b.write("base", "mine\n")
					b.write("staged", "mine\n")
					b.git("add", "staged")
					b.write("untracked", "mine\n")
					b.write("ignored", "mine\n")
				},
			},
			{
				name: "changed only in time", how: FastForward,
				arrange: func(b *mergeBench) { b.write("f", "b\n") },
			},
			{
				name: "changed", how: FastForward, is: ErrInTheWay, names: []string{"f"},
				arrange: func(b *mergeBench) { b.write("f", "mine\n"); b.write("base", "mine\n") },
			},
			{
				name: "staged", how: FastForward, is: ErrInTheWay, names: []string{"f"},
				arrange: func(b *mergeBench) { b.write("f", "mine\n"); b.git("add", "f") },
			},
			{
				name: "untracked", how: FastForward, is: ErrInTheWay, names: []string{"dir/new\nfile"},
				arrange: func(b *mergeBench) { b.write("dir/new\nfile", "mine\n") },
			},
			{
				name: "ignored", how: FastForward, is: ErrInTheWay, names: []string{"secret.ignored"},
				arrange: func(b *mergeBench) { b.write("secret.ignored", "mine\n") },
			},
			{
				name: "a file where a folder is to be", how: FastForward, is: ErrInTheWay, names: []string{"dir"},
				arrange: func(b *mergeBench) { b.write("dir", "mine\n") },
			},
			{
				name: "a link where a folder is to be", how: FastForward, is: ErrInTheWay, names: []string{"dir"},
				arrange: func(b *mergeBench) { os.Symlink(b.t.TempDir(), b.path("dir")) },
			},
			{
				name: "ignored where a file is to be", how: FastForward, is: ErrInTheWay, names: []string{"secret.ignored/x.ignored"},
				arrange: func(b *mergeBench) { b.write("secret.ignored/x.ignored", "mine\n") },
			},
			{
				name: "deleted", how: FastForward, is: ErrInTheWay, names: []string{"f"},
				arrange: func(b *mergeBench) { os.Remove(b.path("f")); b.git("rm", "-q", "f") },
			},
			{
				name: "a merge is going on", how: FastForward, is: ErrCheckedOut, names: []string{"a repo", "a merge is going on"},
				arrange: func(b *mergeBench) { b.git("merge", "-q", "--no-commit", "--no-ff", "other") },
			},
			{
				name: "a rebase is going on", how: FastForward, is: ErrCheckedOut, names: []string{"a repo", "a rebase of it is going on"},
				arrange: func(b *mergeBench) {
					b.write("x", "mine\n")
					b.commit("x")
					b.repo.Run(t.Context(), "rebase", "other") // stops with a conflict
				},
			},
			{
				name: "a git command is going on", how: FastForward, is: ErrCheckedOut, names: []string{"a repo", "a git command is going on", "index.lock"},
				arrange: func(b *mergeBench) { b.write(".git/index.lock", "") },
			},
			{
				name: "bisected", how: Refuse, is: ErrCheckedOut, names: []string{"a repo", "a bisect of it is going on"},
				arrange: func(b *mergeBench) { b.git("bisect", "start", "HEAD", "HEAD~2") },
			},
		} {
			t.Run(way+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				b := newBench(t, g)
				b.on("main", func() {
					b.write("f", "b\n")
					b.write(".gitignore", "*ignored\n")
				})
				b.add("main", "g", "g\n")
				b.git("branch", "-f", "work", "main")
				b.git("branch", "other", "main")
				b.add("other", "x", "x\n")
				b.on("work", func() {
					b.write("f", "w\n")
					b.write("dir/new\nfile", "w\n")
					b.write("secret.ignored", "w\n")
					b.git("add", "-f", "secret.ignored")
				})
				b.git("checkout", "-q", "main")
				if tt.arrange != nil {
					tt.arrange(b)
				}
				before, tip := b.snapshot(), b.tip("main")

				dry, dryErr := b.merge(MergeRequest{CheckedOut: tt.how, DryRun: true})
				if diff := cmp.Diff(before, b.snapshot()); diff != "" {
					t.Errorf("the dry run has changed:\n%s", diff)
				}
				res, err := b.merge(MergeRequest{CheckedOut: tt.how})
				b.checkClean()
				after := b.snapshot()
				if (dryErr == nil) != (err == nil) {
					t.Errorf("dry run %v, but then %v", dryErr, err)
				}
				if tt.is != nil {
					for _, err := range []error{dryErr, err} {
						if !errors.Is(err, tt.is) {
							t.Fatalf("error %v, want %v", err, tt.is)
						}
						for _, name := range tt.names {
							if !strings.Contains(err.Error(), name) {
								t.Errorf("error %v does not name %q", err, name)
							}
						}
					}
					if diff := cmp.Diff(before, after); diff != "" || b.tip("main") != tip {
						t.Errorf("changed, main was at %s and is at %s:\n%s", tip, b.tip("main"), diff)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				real, _ := filepath.EvalSymlinks(b.repo.Dir())
				if res.MovedCheckout != real || dry.MovedCheckout != "" || b.tip("main") != res.After || b.git("rev-parse", "HEAD") != res.After {
					t.Errorf("%+v, HEAD at %s", res, b.git("rev-parse", "HEAD"))
				}
				if b.read("f") != "w\n" || b.read("dir/new\nfile") != "w\n" || b.read("secret.ignored") != "w\n" {
					t.Error("the checkout does not have the work")
				}
				// All but those files is as it was.
				for _, name := range []string{"f", "dir/new\nfile", "secret.ignored"} {
					delete(before, b.path(name))
					delete(after, b.path(name))
				}
				delete(before, "HEAD")
				delete(after, "HEAD")
				if diff := cmp.Diff(before, after); diff != "" {
					t.Errorf("changed beside:\n%s", diff)
				}
			})
		}
	}
}

// TestCheckedOutElsewhere has the target found in a linked worktree, be its folder
// there or not.
func TestCheckedOutElsewhere(t *testing.T) {
	t.Parallel()
	b := bench(t)
	head := b.add("work", "w", "w\n")
	name := "line\nfeed"
	if b.repo.Git().Version.Less(listZ) {
		name = "space d"
	}
	dir := filepath.Join(t.TempDir(), name)
	b.git("worktree", "add", "-q", dir, "main")
	if _, err := b.merge(MergeRequest{}); !errors.Is(err, ErrCheckedOut) || !strings.Contains(err.Error(), dir) {
		t.Errorf("error %v", err)
	}
	if err := os.Rename(dir, dir+"2"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.merge(MergeRequest{CheckedOut: FastForward}); !errors.Is(err, ErrCheckedOut) || !strings.Contains(err.Error(), "worktree prune") {
		t.Errorf("error %v", err)
	}
	if err := os.Rename(dir+"2", dir); err != nil {
		t.Fatal(err)
	}
	if res := b.mustMerge(MergeRequest{CheckedOut: FastForward}); res.MovedCheckout != dir || res.After != head {
		t.Errorf("result %+v", res)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "w")); err != nil || string(text) != "w\n" {
		t.Errorf("w is %q, error %v", text, err)
	}
}

// TestSeparateGitFolder has a checkout that git does not name when it lists them.
func TestSeparateGitFolder(t *testing.T) {
	t.Parallel()
	b := bench(t)
	head := b.add("work", "w", "w\n")
	b.git("checkout", "-q", "main")
	b.git("init", "-q", "--separate-git-dir", filepath.Join(t.TempDir(), "apart"))
	if _, err := b.merge(MergeRequest{CheckedOut: FastForward}); !errors.Is(err, ErrCheckedOut) || !strings.Contains(err.Error(), "apart") {
		t.Errorf("error %v", err)
	}
	m, err := Open(t.Context(), Options{Repo: b.repo.Dir(), Home: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	res, err := m.Merge(t.Context(), MergeRequest{Branch: "work", Target: "main", CheckedOut: FastForward})
	if err != nil || res.MovedCheckout != m.names.top || b.tip("main") != head || b.read("w") != "w\n" {
		t.Errorf("%+v, error %v", res, err)
	}
}

// TestPlaceIsNotMoved has the files of an agent that works left alone.
func TestPlaceIsNotMoved(t *testing.T) {
	t.Parallel()
	b := bench(t)
	b.add("work", "w", "w\n")
	b.git("checkout", "-q", "main")
	m, err := Open(t.Context(), Options{Repo: b.repo.Dir(), Home: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	p, err := m.Acquire(t.Context(), Worktree)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Begin(t.Context(), Work{ID: "w1"}); err != nil {
		t.Fatal(err)
	}
	before := b.tip("claude-pool/w1")
	_, err = b.merge(MergeRequest{Target: "claude-pool/w1", CheckedOut: FastForward})
	if !errors.Is(err, ErrCheckedOut) || !strings.Contains(err.Error(), p.Root()) || b.tip("claude-pool/w1") != before || b.exists(filepath.Join(p.Root(), "w")) {
		t.Errorf("error %v", err)
	}
}

// TestBareRepository has a target that no checkout can have.
func TestBareRepository(t *testing.T) {
	t.Parallel()
	for way, g := range gitWays(t) {
		b := newBench(t, g)
		b.add("work", "w", "w\n")
		b.add("main", "m", "m\n")
		bare := filepath.Join(t.TempDir(), "bare.git")
		b.git("clone", "-q", "--bare", b.repo.Dir(), bare)
		b.repo = b.repo.In(bare)
		b.merger.repo = b.repo
		b.git("symbolic-ref", "HEAD", "refs/heads/main")
		res := b.mustMerge(MergeRequest{Check: []string{"cat", "m", "w"}})
		if res.CheckOutput != "m\nw\n" || b.tip("main") != res.After {
			t.Errorf("%s: %+v", way, res)
		}
		b.checkClean()
	}
}

// TestCheckoutSwitchedMeanwhile has the branch that the checkout is on then left
// alone. The check stands for the person.
func TestCheckoutSwitchedMeanwhile(t *testing.T) {
	t.Parallel()
	b := bench(t)
	head := b.add("work", "w", "w\n")
	b.git("branch", "other", "main")
	other := b.tip("other")
	b.git("checkout", "-q", "main")
	res, err := b.merge(MergeRequest{CheckedOut: FastForward, Check: b.git2("checkout", "-q", "other")})
	if err != nil || res.MovedCheckout != "" || b.tip("main") != head || b.tip("other") != other || b.exists(b.path("w")) {
		t.Errorf("%+v, error %v", res, err)
	}
	if status := b.git("status", "--porcelain"); status != "" {
		t.Errorf("the checkout has changes:\n%s", status)
	}
}

// git2 is a command that runs git in the repository, for a check.
func (b *mergeBench) git2(args ...string) []string {
	return append([]string{"git", "-C", b.repo.Dir()}, args...)
}

// TestPersonCommitsMeanwhile has the merge made again, on top of that.
func TestPersonCommitsMeanwhile(t *testing.T) {
	t.Parallel()
	for way, g := range gitWays(t) {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, g)
			b.add("work", "w", "w\n")
			b.git("checkout", "-q", "main")
			b.write("untracked", "mine\n")
			once := filepath.Join(t.TempDir(), "once")
			res := b.mustMerge(MergeRequest{CheckedOut: FastForward, Check: []string{
				"sh", "-c", `test -e "$1" || { touch "$1"; cd "$2" && echo p > p && git add p && git commit -q -m person; }`, "sh", once, b.repo.Dir(),
			}})
			if b.show("main", "w")+b.show("main", "p") != "w\np\n" || b.read("w")+b.read("p")+b.read("untracked") != "w\np\nmine\n" {
				t.Errorf("something is missing: %+v", res)
			}
			if person := b.git("log", "-1", "--format=%s", res.Before); person != "person" {
				t.Errorf("merged on top of %q", person)
			}
			if status := b.git("status", "--porcelain"); status != "?? untracked" {
				t.Errorf("status is %q", status)
			}
			b.checkClean()
		})
	}
}

// TestSparseCheckout has a check see all files, and a checkout keep to its own.
func TestSparseCheckout(t *testing.T) {
	t.Parallel()
	for way, g := range gitWays(t) {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, g)
			b.add("main", "out/f", "b\n")
			b.add("main", "in/f", "b\n")
			b.git("branch", "-f", "work", "main")
			b.on("work", func() { b.write("out/f", "w\n"); b.write("in/f", "w\n") })
			b.git("checkout", "-q", "main")
			b.git("sparse-checkout", "init")
			b.git("sparse-checkout", "set", "in")
			res := b.mustMerge(MergeRequest{CheckedOut: FastForward, Check: []string{"cat", "in/f", "out/f"}})
			if res.CheckOutput != "w\nw\n" {
				t.Errorf("the check has seen %q", res.CheckOutput)
			}
			if b.read("in/f") != "w\n" || b.exists(b.path("out")) || b.git("status", "--porcelain") != "" {
				t.Errorf("the checkout has %v", b.snapshot())
			}
			b.checkClean()
		})
	}
}
