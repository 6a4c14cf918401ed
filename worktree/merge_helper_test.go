//go:build unix

package worktree

import (
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claudepool/claudepool/internal/git"
)

// mergeBench is a repository with a main branch and a branch of work, and a merger
// for it. Its checkout is on neither.
type mergeBench struct {
	t      *testing.T
	repo   git.Repo
	merger merger
}

// oldGit is what git is taken for where its newer ways are not to be used.
var oldGit = git.Version{Major: 2, Minor: 25}

// gitWays are the versions that a test is run with: what there is, and the oldest.
func gitWays(t *testing.T) map[string]*git.Git {
	t.Helper()
	newest, err := git.Find(t.Context())
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("needs git: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	oldest, err := git.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	oldest.Version = oldGit
	return map[string]*git.Git{"new": newest, "old": oldest}
}

// newBench makes a repository with a file "base" and both branches at it.
func newBench(t *testing.T, g *git.Git) *mergeBench {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "a repo")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	b := &mergeBench{t: t, repo: g.In(dir)}
	b.git("init", "-q")
	b.git("symbolic-ref", "HEAD", "refs/heads/main")
	b.git("config", "user.name", "A Person")
	b.git("config", "user.email", "person@example.com")
	b.git("config", "core.autocrlf", "false")
	b.git("config", "gc.auto", "0")
	b.write("base", "base\n")
	b.commit("base")
	b.git("branch", "work")
	b.git("checkout", "-q", "--detach")
	b.merger = merger{repo: b.repo, home: filepath.Join(t.TempDir(), "home"), log: slog.New(slog.DiscardHandler)}
	return b
}

func bench(t *testing.T) *mergeBench {
	t.Helper()
	return newBench(t, gitWays(t)["new"])
}

// git runs git in the repository.
func (b *mergeBench) git(args ...string) string {
	b.t.Helper()
	out, err := b.repo.Run(b.t.Context(), args...)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

func (b *mergeBench) path(name string) string { return filepath.Join(b.repo.Dir(), name) }

// write writes a file of the checkout.
func (b *mergeBench) write(name, text string) {
	b.t.Helper()
	path := b.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *mergeBench) read(name string) string {
	b.t.Helper()
	text, err := os.ReadFile(b.path(name))
	if err != nil {
		b.t.Fatal(err)
	}
	return string(text)
}

func (b *mergeBench) commit(message string) string {
	b.t.Helper()
	b.git("add", "-A")
	b.git("commit", "-q", "--allow-empty", "-m", message)
	return b.git("rev-parse", "HEAD")
}

// on does something on a branch and commits it, and leaves the checkout detached.
func (b *mergeBench) on(branch string, change func()) string {
	b.t.Helper()
	b.git("checkout", "-q", branch)
	change()
	id := b.commit("on " + branch)
	b.git("checkout", "-q", "--detach")
	return id
}

// add commits a file to a branch.
func (b *mergeBench) add(branch, name, text string) string {
	b.t.Helper()
	return b.on(branch, func() { b.write(name, text) })
}

func (b *mergeBench) tip(branch string) string {
	b.t.Helper()
	return b.git("rev-parse", "refs/heads/"+branch)
}

// show returns a file of a commit.
func (b *mergeBench) show(commit, name string) string {
	b.t.Helper()
	out, err := b.repo.Bytes(b.t.Context(), "cat-file", "blob", commit+":"+name)
	if err != nil {
		b.t.Fatal(err)
	}
	return string(out)
}

// merge merges work into main with the strategy of a request.
func (b *mergeBench) merge(req MergeRequest) (MergeResult, error) {
	b.t.Helper()
	if req.Branch == "" {
		req.Branch = "work"
	}
	if req.Target == "" {
		req.Target = "main"
	}
	return b.merger.merge(b.t.Context(), req)
}

func (b *mergeBench) mustMerge(req MergeRequest) MergeResult {
	b.t.Helper()
	res, err := b.merge(req)
	if err != nil {
		b.t.Fatal(err)
	}
	return res
}

// checkClean fails if a merge has left anything behind: files, worktrees, refs.
func (b *mergeBench) checkClean() {
	b.t.Helper()
	filepath.WalkDir(b.merger.home, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != "lock" {
			b.t.Errorf("left behind: %s", path)
		}
		return err
	})
	if list, _ := filepath.Glob(filepath.Join(b.merger.home, "merge", "*", "*")); len(list) > 1 {
		b.t.Errorf("left behind: %q", list)
	}
	if list := b.git("worktree", "list"); strings.Contains(list, b.merger.home) {
		b.t.Errorf("worktrees left: %s", list)
	}
	if refs := b.git("for-each-ref", "--format=%(refname)", "refs/claude-pool"); refs != "" {
		b.t.Errorf("refs left: %s", refs)
	}
}

// script writes a program.
func (b *mergeBench) script(name, text string) {
	b.t.Helper()
	b.write(name, "#!/bin/sh\n"+text+"\n")
	if err := os.Chmod(b.path(name), 0o700); err != nil {
		b.t.Fatal(err)
	}
}

func (b *mergeBench) exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// manager opens the repository, with the version of git that the bench has.
func (b *mergeBench) manager(o Options) *Manager {
	b.t.Helper()
	o.Repo, o.Home = b.repo.Dir(), b.t.TempDir()
	m, err := Open(b.t.Context(), o)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { m.Close() })
	m.git.Version = b.repo.Git().Version
	return m
}
