//go:build unix

package worktree_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool/worktree"
)

func TestCopyOfIgnoredFiles(t *testing.T) {
	t.Parallel()
	kinds(t, func(t *testing.T, kind worktree.Kind) {
		repo, outside := newRepo(t), realTemp(t)
		sh(t, repo, `echo secret >.env; chmod 600 .env; mkdir -p ignored/deep; echo i >ignored/deep/i; ln -s deep ignored/l; echo u >untracked; echo other >sub/x.log`)
		m := open(t, worktree.Options{Repo: repo, Copy: []string{".env", "ignored", "untracked", "sub/*.log", "file", "none"}})
		p := acquire(t, m, kind)
		begin(t, p, worktree.Work{ID: "one"})
		want := tree(t, repo)
		delete(want, "untracked") // it would be taken for work
		if diff := cmp.Diff(want, tree(t, p.Root())); diff != "" {
			t.Errorf("the place has other files:\n%s", diff)
		}
		// What an agent has made of them is not handed on, and leads nowhere else.
		sh(t, p.Root(), `echo changed >.env; rm -r ignored; ln -s `+outside+` ignored`)
		if res := end(t, p); res.Files != 0 || len(res.Recovery) != 0 {
			t.Errorf("ignored files became work: %+v", res)
		}
		begin(t, p, worktree.Work{ID: "two"})
		if diff := cmp.Diff(want, tree(t, p.Root())); diff != "" {
			t.Errorf("the place has other files the second time:\n%s", diff)
		}
		if got := sh(t, outside, "ls -A"); got != "" {
			t.Errorf("copied to %s: %s", outside, got)
		}
	})
}

func TestIgnoredFilesAreNoWorkOfTheNext(t *testing.T) {
	t.Parallel()
	kinds(t, func(t *testing.T, kind worktree.Kind) {
		repo := newRepo(t)
		sh(t, repo, `git branch bare; git checkout -q bare; git rm -q .gitignore; git commit -qm none; git checkout -q main`)
		m := open(t, worktree.Options{Repo: repo})
		p := acquire(t, m, kind)
		begin(t, p, worktree.Work{ID: "one"})
		write(t, filepath.Join(p.Root(), "x.log"), "log\n")
		end(t, p)
		begin(t, p, worktree.Work{ID: "two", Base: "bare"}) // where nothing is ignored
		if res := end(t, p); res.Files != 0 || res.Leftover != "" {
			t.Errorf("the log of the first became work of the second: %+v", res)
		}
		wantKept(t, repo, "log")
	})
}

func TestSetup(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	m := open(t, worktree.Options{Repo: filepath.Join(repo, "sub"), Setup: []string{"sh", "-c", "pwd >ignored.log; cat two"}})
	p := acquire(t, m, worktree.Worktree)
	begin(t, p, worktree.Work{ID: "one"})
	if got := sh(t, p.Dir(), "cat ignored.log"); got != filepath.Join(p.Root(), "sub") {
		t.Errorf("set-up ran in %s", got)
	}
	release(t, p)

	m = open(t, worktree.Options{Repo: repo, Setup: []string{"sh", "-c", "echo made >made; echo why; echo why not >&2; exit 3"}})
	p = acquire(t, m, worktree.Worktree)
	err := p.Begin(t.Context(), worktree.Work{ID: "two"})
	failed, ok := errors.AsType[*worktree.SetupError](err)
	if !ok || !strings.Contains(failed.Output, "why\n") && !strings.Contains(failed.Output, "why not") || failed.Dir != p.Dir() {
		t.Fatalf("error %v", err)
	}
	if _, err := p.End(t.Context()); !errors.Is(err, worktree.ErrNoWork) {
		t.Errorf("error %v; want %v", err, worktree.ErrNoWork)
	}
	release(t, p) // keeps what was made on the way, as nobody's work
	wantKept(t, repo, "made")
	if got := sh(t, repo, "git rev-list --count main..claude-pool/two"); got != "0" {
		t.Errorf("%s commits of work that did not begin", got)
	}

	m = open(t, worktree.Options{Repo: repo, Setup: []string{"sh", "-c", "echo begun; sleep 1000 & sleep 1000"}, SetupTimeout: time.Millisecond})
	p = acquire(t, m, worktree.Worktree)
	err = p.Begin(t.Context(), worktree.Work{ID: "three"})
	if err == nil || !strings.Contains(err.Error(), "1ms") {
		t.Errorf("error %v; want one that names the limit", err)
	}
}

func TestLeftoversAndHooks(t *testing.T) {
	t.Parallel()
	kinds(t, func(t *testing.T, kind worktree.Kind) {
		for _, test := range []struct {
			name, hook string
			o          worktree.Options
			commits    int
			text       string // of the branch's file
		}{
			{name: "committed", hook: "exit 1", commits: 1, text: "left"},
			{name: "kept", hook: "exit 1", o: worktree.Options{Leftover: worktree.Keep}, text: "one"},
			{name: "hooks agree", hook: "echo by hook >>file; git add file", o: worktree.Options{Hooks: true}, commits: 1, text: "left\nby hook"},
			{name: "hooks refuse", hook: "exit 1", o: worktree.Options{Hooks: true}, text: "one"},
		} {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				repo := newRepo(t)
				write(t, filepath.Join(repo, ".git/hooks/pre-commit"), "#!/bin/sh\n"+test.hook+"\n")
				sh(t, repo, "chmod +x .git/hooks/pre-commit")
				o := test.o
				o.Repo = repo
				p := acquire(t, open(t, o), kind)
				begin(t, p, worktree.Work{ID: "work"})
				write(t, filepath.Join(p.Root(), "file"), "left\n")
				res := end(t, p)
				if res.Total != test.commits || res.Leftover == "" || (res.Leftover == res.Head) != (test.commits == 1) {
					t.Errorf("result %+v", res)
				}
				if got := sh(t, repo, "git show claude-pool/work:file; git show "+res.Leftover+":file"); got != test.text+"\n"+strings.Replace(test.text, "one", "left", 1) {
					t.Errorf("the branch and the leftovers have %q", got)
				}
			})
		}
	})
}

func TestFetchOfTheBase(t *testing.T) {
	t.Parallel()
	kinds(t, func(t *testing.T, kind worktree.Kind) {
		upstream := newRepo(t)
		repo := filepath.Join(realTemp(t), "repo")
		sh(t, upstream, "git clone -q "+upstream+" "+repo)
		sh(t, upstream, "echo new >file; git commit -qam new")
		before := fingerprint(t, repo)
		m := open(t, worktree.Options{Repo: repo, Base: "origin/main", Fetch: true})
		p := acquire(t, m, kind)
		begin(t, p, worktree.Work{ID: "work"})
		if got := sh(t, p.Root(), "cat file"); got != "new" {
			t.Errorf("began with %q", got)
		}
		if got := sh(t, p.Root(), "git remote get-url origin; git rev-parse origin/main"); got != upstream+"\n"+sh(t, upstream, "git rev-parse main") {
			t.Errorf("origin of the place is at %q", got)
		}
		if diff := cmp.Diff(before, fingerprint(t, repo)); diff != "" {
			t.Errorf("the person's checkout has changed:\n%s", diff)
		}
		if err := os.Rename(upstream, upstream+" away"); err != nil {
			t.Fatal(err)
		}
		if err := p.Begin(t.Context(), worktree.Work{ID: "work2"}); err == nil || !strings.Contains(err.Error(), "fetch") {
			t.Errorf("error %v; want one about the fetch", err)
		}
	})
}

func TestResultOfManyCommits(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	p := acquire(t, open(t, worktree.Options{Repo: repo}), worktree.Worktree)
	begin(t, p, worktree.Work{ID: "work"})
	sh(t, p.Root(), `i=0; while [ $i -lt 52 ]; do i=$((i+1)); git commit -q --allow-empty -m "c $i"; done; rm file; printf 'a\nb\n' >new`)
	res := end(t, p)
	if len(res.Commits) != worktree.MaxCommits || res.Total != 53 || res.Files != 2 || res.Insertions != 2 || res.Deletions != 1 || res.Target != "main" {
		t.Errorf("%d commits of %d, %d files, +%d -%d, target %s", len(res.Commits), res.Total, res.Files, res.Insertions, res.Deletions, res.Target)
	}
	if c := res.Commits[1]; c.Subject != "c 52" || c.Author != "Person" || c.Date.IsZero() {
		t.Errorf("commit %+v", c)
	}
}

// Files that are the same in both are not written again, however many there are.
func TestSwitchWritesNoUnchangedFile(t *testing.T) {
	t.Parallel()
	kinds(t, func(t *testing.T, kind worktree.Kind) {
		repo := newRepo(t)
		sh(t, repo, `for i in 1 2 3 4 5 6 7 8 9; do echo $i >f$i; done; git add .; git commit -qm many`)
		p := acquire(t, open(t, worktree.Options{Repo: repo}), kind)
		begin(t, p, worktree.Work{ID: "one"})
		old := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
		for i := range 9 {
			if err := os.Chtimes(filepath.Join(p.Root(), fmt.Sprintf("f%d", i+1)), old, old); err != nil {
				t.Fatal(err)
			}
		}
		write(t, filepath.Join(p.Root(), "f1"), "changed\n")
		end(t, p)
		sh(t, repo, "echo moved >f2; git commit -qam moved")
		begin(t, p, worktree.Work{ID: "two"})
		var written []string
		for i := range 9 {
			name := fmt.Sprintf("f%d", i+1)
			if fi, err := os.Stat(filepath.Join(p.Root(), name)); err != nil || !fi.ModTime().Equal(old) {
				written = append(written, name)
			}
		}
		if diff := cmp.Diff([]string{"f1", "f2"}, written); diff != "" {
			t.Errorf("written:\n%s", diff)
		}
	})
}

// To look at all files is what takes the time in a large repository.
func TestSwitchLooksAsRarelyAsCanBe(t *testing.T) {
	repo, bin := newRepo(t), realTemp(t)
	real, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	calls := filepath.Join(bin, "calls")
	write(t, filepath.Join(bin, "git"), "#!/bin/sh\nfor a; do test \"$a\" = status && echo status >>"+calls+"; done\nexec "+real+" \"$@\"\n")
	if err := os.Chmod(filepath.Join(bin, "git"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	p := acquire(t, open(t, worktree.Options{Repo: repo}), worktree.Worktree)
	begin(t, p, worktree.Work{ID: "one"})
	write(t, filepath.Join(p.Root(), "file"), "changed\n")
	write(t, filepath.Join(p.Root(), "new"), "new\n")
	write(t, calls, "")
	end(t, p)
	begin(t, p, worktree.Work{ID: "two"})
	if got := sh(t, bin, "cat calls"); got != "status" {
		t.Errorf("looked %q; want once, before the commit", got)
	}
	if got := sh(t, p.Root(), "cat file; git status --porcelain"); got != "one" {
		t.Errorf("began with %q", got)
	}
}
