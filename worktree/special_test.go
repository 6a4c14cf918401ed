//go:build unix

package worktree_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool/worktree"
)

// specials are repositories that are not like most. Each is made in an empty
// folder; repo is the folder below that to be given to Open.
var specials = []struct {
	name, script, repo string
	options            worktree.Options
	// check is a script that is run in Dir when work has begun.
	check string
	// want are files below the place's top, with their text; "-" is one that is
	// not to be there.
	want map[string]string
}{
	{name: "plain", script: fillScript, want: map[string]string{"file": "one\n", "sub/two": "two\n"}},
	{name: "subfolder", script: fillScript, repo: "sub/deep", check: `test "$(cat three)" = three`},
	{name: "bare", script: `mkdir w; cd w; ` + fillScript + `cd ..; git clone -q --bare w b.git; rm -r w`, repo: "b.git", want: map[string]string{"file": "one\n"}},
	{name: "detached", script: fillScript + `git checkout -q --detach; echo d >file; git commit -qam d`, want: map[string]string{"file": "d\n"}},
	{name: "linked worktree", script: `mkdir main; cd main; ` + fillScript + `git worktree add -q -b side ../linked; cd ../linked; echo l >file; git commit -qam l`, repo: "linked", want: map[string]string{"file": "l\n"}},
	{name: "spaces and other letters", script: `mkdir "a b ü 日本 'q'"; cd "a b ü 日本 'q'"; ` + fillScript, repo: "a b ü 日本 'q'", want: map[string]string{"file": "one\n"}},
	{name: "base of its own", script: fillScript + `git branch old; echo n >file; git commit -qam n`, options: worktree.Options{Base: "old"}, want: map[string]string{"file": "one\n"}},
	{name: "unborn HEAD, base of its own", script: fillScript + `git checkout -q --orphan empty; git rm -rqf .`, options: worktree.Options{Base: "main"}, want: map[string]string{"file": "one\n"}},
	{name: "dirty", script: fillScript + `echo dirty >file; echo u >untracked; git rm -q sub/two`, want: map[string]string{"file": "one\n", "sub/two": "two\n", "untracked": "-"}},
	{name: "sparse", script: fillScript + `git sparse-checkout init --cone; git sparse-checkout set sub/deep`, want: map[string]string{"file": "one\n", "sub/deep/three": "three\n"}, check: `git sparse-checkout list | grep -qx sub/deep`},
	{name: "sparse by patterns", script: fillScript + `git sparse-checkout set --no-cone '/*' '!/sub/two'`, want: map[string]string{"file": "one\n", "sub/deep/three": "three\n", "sub/two": "-"}},
	{name: "submodule", script: `mkdir s; cd s; ` + fillScript + `git checkout -q -b other; echo o >o; git add o; git commit -qm o; cd ..; mkdir m; cd m; ` + fillScript + `git -c protocol.file.allow=always submodule --quiet add ../s inner; git commit -qm sub; cd inner; git checkout -q --detach; echo p >p; git add p; ` + who + ` git commit -qm p; cd ..; git commit -qam moved; rm -rf ../s`,
		repo: "m", want: map[string]string{"inner/file": "one\n", "inner/o": "o\n", "inner/p": "p\n"}, check: `test -z "$(git submodule status | grep '^[-+]')"`},
	{name: "submodule that is not initialised", script: `mkdir s; cd s; ` + fillScript + `cd ..; mkdir m; cd m; ` + fillScript + `git -c protocol.file.allow=always submodule --quiet add ../s inner; git commit -qm sub; git submodule --quiet deinit -f inner; rm -rf .git/modules`,
		repo: "m", want: map[string]string{"file": "one\n", "inner/file": "-"}},
	{name: "LFS pointers, git-lfs missing", script: fillScript + `printf 'version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n' >big.bin; git add big.bin; git commit -qm big; echo '*.bin filter=lfs -text' >.gitattributes; git add .gitattributes; git commit -qm lfs; git config filter.lfs.clean 'git-lfs clean -- %f'; git config filter.lfs.smudge 'git-lfs smudge -- %f'; git config filter.lfs.process 'git-lfs filter-process'; git config filter.lfs.required true`,
		want: map[string]string{"big.bin": "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n"}},
	{name: "shallow", script: `mkdir w; cd w; ` + fillScript + `echo 2 >file; git commit -qam 2; cd ..; git clone -q --depth 1 "file://$PWD/w" s`, repo: "s", want: map[string]string{"file": "2\n"}},
	{name: "hooks that refuse", script: fillScript + `for h in pre-commit commit-msg pre-push post-checkout reference-transaction update pre-receive; do printf '#!/bin/sh\necho no; exit 1\n' >.git/hooks/$h; chmod +x .git/hooks/$h; done`, want: map[string]string{"file": "one\n"}},
	{name: "nobody configured", script: fillScript + `git config --unset user.name; git config --unset user.email; git config user.useConfigOnly true`, want: map[string]string{"file": "one\n"}},
	{name: "awkward settings", script: fillScript + `git config status.showUntrackedFiles no; git config commit.gpgSign true; git config core.quotePath true; git config fetch.prune true; git config push.followTags true; git config submodule.recurse true; git config core.fsmonitor true; git config diff.external false; git config log.showSignature true; git config color.ui always; git config status.branch true; git config diff.noprefix true; git config core.autocrlf input`, want: map[string]string{"file": "one\n"}},
	{name: "sha256", script: `git init -q --object-format=sha256 .; ` + fillScript, want: map[string]string{"file": "one\n"}},
}

func TestSpecialRepositories(t *testing.T) {
	t.Parallel()
	kinds(t, func(t *testing.T, kind worktree.Kind) {
		for _, s := range specials {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				dir := realTemp(t)
				sh(t, dir, s.script)
				repo := filepath.Join(dir, s.repo)
				before := fingerprint(t, repo)
				o := s.options
				o.Repo, o.Home = repo, filepath.Join(realTemp(t), "hö me")
				m := open(t, o)
				p := acquire(t, m, kind)
				begin(t, p, worktree.Work{ID: "work"})
				for name, want := range s.want {
					text, err := os.ReadFile(filepath.Join(p.Root(), name))
					if got := string(text); err == nil && got != want || err != nil && want != "-" {
						t.Errorf("%s: %q, %v; want %q", name, got, err, want)
					}
				}
				if s.check != "" {
					sh(t, p.Dir(), s.check)
				}
				if got := sh(t, p.Root(), "git -c filter.lfs.clean= -c filter.lfs.process= -c filter.lfs.required=false -c status.branch=false status --porcelain -uall; git rev-parse --abbrev-ref HEAD"); got != "claude-pool/work" {
					t.Errorf("the place is at %q", got)
				}
				write(t, filepath.Join(p.Dir(), "made"), "by hand\n")
				res := end(t, p)
				if res.Files != 1 || res.Total != 1 || res.Leftover != res.Head || len(res.Recovery) != 0 {
					t.Errorf("result %+v", res)
				}
				wantKept(t, repo, "by hand")
				release(t, p)

				// Ready again, on the same folder; and nothing is lost when it goes.
				q := acquire(t, m, kind)
				if q.Root() != p.Root() {
					t.Errorf("place %s; want %s", q.Root(), p.Root())
				}
				begin(t, q, worktree.Work{ID: "more", From: "work"})
				if got := sh(t, q.Dir(), "cat made"); got != "by hand" {
					t.Errorf("continued with %q", got)
				}
				release(t, q)
				for _, r := range clean(t, m, worktree.CleanOptions{}) {
					if len(r.Recovery) > 0 {
						t.Errorf("removed %+v; nothing was to be kept", r)
					}
				}
				if _, err := os.Lstat(p.Root()); !os.IsNotExist(err) {
					t.Errorf("%s is still there: %v", p.Root(), err)
				}
				if got := sh(t, repo, "git worktree list --porcelain"); strings.Contains(got, p.Root()) {
					t.Errorf("git still knows the place:\n%s", got)
				}
				wantKept(t, repo, "by hand")
				if diff := cmp.Diff(before, fingerprint(t, repo)); diff != "" {
					t.Errorf("the person's checkout has changed:\n%s", diff)
				}
			})
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	repo, empty, none := newRepo(t), realTemp(t), realTemp(t)
	sh(t, empty, "git init -q .")
	linked := filepath.Join(realTemp(t), "linked")
	sh(t, repo, "git worktree add -q "+linked)
	if err := os.Symlink(repo, filepath.Join(none, "link")); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(realTemp(t), "home")
	m := open(t, worktree.Options{Repo: repo, Home: foreign})
	p := acquire(t, m, worktree.Worktree)
	mark := filepath.Join(filepath.Dir(p.Root()), "claudepool.json")
	write(t, mark, `{"version":1,"common_dir":"/elsewhere"}`)
	for name, test := range map[string]struct {
		o      worktree.Options
		is     error
		option string
	}{
		"no repository":           {o: worktree.Options{Repo: none}, is: worktree.ErrNoRepository},
		"no commit":               {o: worktree.Options{Repo: empty}, is: worktree.ErrNoCommit},
		"no such base":            {o: worktree.Options{Repo: repo, Base: "nope"}, is: worktree.ErrNoCommit, option: "Base"},
		"base is an option":       {o: worktree.Options{Repo: repo, Base: "--all"}, option: "Base"},
		"no folder":               {o: worktree.Options{Repo: filepath.Join(none, "nope")}, option: "Repo"},
		"nothing":                 {option: "Repo"},
		"home inside":             {o: worktree.Options{Repo: repo, Home: filepath.Join(repo, "a", "b")}, option: "Home"},
		"home inside by a link":   {o: worktree.Options{Repo: repo, Home: filepath.Join(none, "link", "a")}, option: "Home"},
		"home in the git folder":  {o: worktree.Options{Repo: repo, Home: filepath.Join(repo, ".git", "a")}, option: "Home"},
		"home in a worktree":      {o: worktree.Options{Repo: repo, Home: filepath.Join(linked, "a")}, option: "Home"},
		"unknown leftover":        {o: worktree.Options{Repo: repo, Leftover: "drop"}, option: "Leftover"},
		"copy leads elsewhere":    {o: worktree.Options{Repo: repo, Copy: []string{"../x"}}, option: "Copy"},
		"copy is no pattern":      {o: worktree.Options{Repo: repo, Copy: []string{"["}}, option: "Copy"},
		"folder of somebody else": {o: worktree.Options{Repo: repo, Home: foreign}, is: worktree.ErrNotOurs},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.o.Home == "" {
				test.o.Home = filepath.Join(realTemp(t), "home")
			}
			_, err := worktree.Open(t.Context(), test.o)
			if err == nil {
				t.Fatal("no error")
			}
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("error %v; want %v", err, test.is)
			}
			invalid, ok := errors.AsType[*worktree.InvalidError](err)
			if test.option != "" && (!ok || invalid.Option != test.option) {
				t.Errorf("error %v; want one about %s", err, test.option)
			}
		})
	}
	if got := sh(t, repo, "git status --porcelain"); got != "" {
		t.Errorf("the repository has %s", got)
	}
}
