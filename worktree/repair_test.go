//go:build unix

package worktree_test

import (
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/claudepool/claudepool/worktree"
)

// TestPlaceThatIsALink has a place, or its git folder, lead to the repository of
// the person: nothing of theirs is touched.
func TestPlaceThatIsALink(t *testing.T) {
	for _, test := range []struct {
		name   string
		kind   worktree.Kind
		script string // $repo is the person's
		ends   bool
	}{
		{"git folder of a clone", worktree.Clone, `rm -rf .git; ln -s "$repo/.git" .git`, false},
		{"git file in a clone", worktree.Clone, `rm -rf .git; echo "gitdir: $repo/.git" >.git`, false},
		{"commondir of a clone", worktree.Clone, `echo "$repo/.git" >.git/commondir`, true},
		{"root of a clone", worktree.Clone, `mv "$PWD" "$PWD.x"; ln -s "$repo" "$PWD"`, false},
		{"root of a worktree", worktree.Worktree, `mv "$PWD" "$PWD.x"; ln -s "$repo" "$PWD"`, false},
		{"commondir of a worktree", worktree.Worktree, `git init -q ../other; d=$(git rev-parse --git-dir); echo "$(cd ../other && pwd)/.git" >"$d/commondir"`, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			repo := newRepo(t)
			sh(t, repo, "git branch a; git tag t; touch .git/MERGE_MSG")
			write(t, filepath.Join(repo, "mine"), "mine\n")
			write(t, filepath.Join(repo, "file"), "edited by the person\n")
			m := open(t, worktree.Options{Repo: repo})
			p := acquire(t, m, test.kind)
			begin(t, p, worktree.Work{ID: "w"})
			write(t, filepath.Join(p.Root(), "new"), "new\n")
			refs := func() string {
				return sh(t, repo, "git for-each-ref refs/heads/main refs/heads/a refs/tags; cat .git/HEAD")
			}
			prints, before := fingerprint(t, repo), refs()
			sh(t, p.Root(), "repo='"+repo+"'\n"+test.script)
			_, err := p.End(t.Context())
			if test.ends {
				if err != nil {
					t.Error(err)
				}
				wantKept(t, repo, "new")
			} else {
				if !errors.Is(err, worktree.ErrNotOurs) {
					t.Errorf("End: %v", err)
				}
				if err := p.Begin(t.Context(), worktree.Work{ID: "v"}); !errors.Is(err, worktree.ErrNotOurs) {
					t.Errorf("Begin: %v", err)
				}
			}
			if now := fingerprint(t, repo); !maps.Equal(prints, now) {
				t.Errorf("the person's checkout was %v, is %v", prints, now)
			}
			if now := refs(); now != before {
				t.Errorf("the person's refs were\n%s\nare\n%s", before, now)
			}
			if _, err := os.Stat(filepath.Join(repo, "mine")); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSettingsOfOneWork has an agent set things in the git folder of its place: they
// hide nothing when its work ends, and the next work does not have them.
func TestSettingsOfOneWork(t *testing.T) {
	for _, test := range []struct {
		name   string
		kind   worktree.Kind
		script string // $git is the git folder
		want   string // what the next must not find, as a script that prints it
	}{
		{"config", worktree.Clone, `git config filter.x.clean "cat >/dev/null"; git config user.name Evil; git config alias.st status; git remote add evil /nowhere`,
			`git config --get-regexp 'filter.*|alias.*' || :; git remote; git config user.name | grep Evil || :`},
		{"excludes by config", worktree.Clone, `echo 'new*' >$git/hidden; git config core.excludesFile "$PWD/$git/hidden"`, `git config core.excludesFile || :`},
		{"hooks", worktree.Clone, `mkdir -p $git/hooks; printf '#!/bin/sh\nexit 1\n' >$git/hooks/pre-commit; chmod +x $git/hooks/pre-commit`, `ls $git/hooks 2>&1 | grep pre-commit || :`},
		{"exclude", worktree.Clone, `mkdir -p $git/info; echo 'new*' >>$git/info/exclude; echo '* -text filter=x' >$git/info/attributes`, `grep new $git/info/exclude || :; ls $git/info | grep attributes || :`},
		{"info that is a link", worktree.Clone, `mkdir ../other; echo 'new*' >../other/exclude; rm -rf $git/info; ln -s "$PWD/../other" $git/info`, `grep new $git/info/exclude || :`},
		{"refs", worktree.Clone, `git commit -q --allow-empty -m x; git replace HEAD~1 HEAD; git reset -q --hard HEAD~1; git update-ref refs/mine/x HEAD; git update-ref refs/remotes/evil/x HEAD; git update-ref MY_HEAD HEAD`,
			`git for-each-ref | grep -v claude-pool || :; ls $git | grep MY_HEAD || :`},
		{"what was merged before", worktree.Clone, `git config rerere.enabled true; mkdir -p $git/rr-cache/x`, `ls $git | grep rr-cache || :`},
		{"config of a worktree", worktree.Worktree, `git config --worktree user.name Evil; git config --worktree core.excludesFile "$git/hidden"; echo 'new*' >$git/hidden`,
			`git config core.excludesFile || :; git config user.name | grep Evil || :`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			repo := newRepo(t)
			sh(t, repo, "git config extensions.worktreeConfig true")
			m := open(t, worktree.Options{Repo: repo})
			p := acquire(t, m, test.kind)
			begin(t, p, worktree.Work{ID: "one"})
			const gitDir = "git=$(git rev-parse --git-dir)\n"
			sh(t, p.Root(), gitDir+test.script+"\necho '* filter=x' >.gitattributes; echo important >newcode; touch -t 200101010000 .gitattributes newcode; git add -A")
			if res := end(t, p); res.Files != 2 {
				t.Errorf("%d files changed; want 2", res.Files)
			}
			wantKept(t, repo, "important")
			begin(t, p, worktree.Work{ID: "two"})
			if got := sh(t, p.Root(), gitDir+test.want); got != "" {
				t.Errorf("the next finds %s", got)
			}
			if got := sh(t, p.Root(), "git config user.name"); got != "Person" {
				t.Errorf("the next commits as %s", got)
			}
		})
	}
}

// TestCloneHasSettings has a clone work as the person's repository does, also where
// that was changed after the clone was made.
func TestCloneHasSettings(t *testing.T) {
	repo := newRepo(t)
	sh(t, repo, `echo '[credential]helper=one' >.git/more; git config include.path more; git config core.sshCommand 'ssh -i "a b\c"'; git config url.x.insteadOf 'y # z'; git config http.https://a.b/.proxy p`)
	m := open(t, worktree.Options{Repo: repo})
	p := acquire(t, m, worktree.Clone)
	begin(t, p, worktree.Work{ID: "one"})
	const list = `git config --includes --get-regexp '^(credential|core.sshcommand|url|http|user)' | sort`
	if want, got := sh(t, repo, list), sh(t, p.Root(), list); got != want {
		t.Errorf("the clone has\n%s\nwant\n%s", got, want)
	}
	end(t, p)
	sh(t, repo, `git config user.name Other; echo '*.gen' >>.git/info/exclude`)
	begin(t, p, worktree.Work{ID: "two"})
	write(t, filepath.Join(p.Root(), "a.gen"), "generated\n")
	if got := sh(t, p.Root(), "git config user.name; git status --short"); got != "Other" {
		t.Errorf("the clone has %s", got)
	}
}

// TestP6GitFolderOfThePlaceIsMadeAnew has an agent remove the git folder of its
// place and begin another repository there: what was in that is kept, and the next
// work is one of the person's repository.
func TestP6GitFolderOfThePlaceIsMadeAnew(t *testing.T) {
	const identity = "git config user.name a; git config user.email a@b.c; "
	const initial = "git init -q -b mine; " + identity + "git add .; git commit -qm mine; echo secret >s; git add s; git commit -qm s; git rm -q s; git commit -qm gone"
	for _, test := range []struct {
		name, script string
		kept         []string
	}{
		{"removed", "rm -rf .git", []string{"left"}},
		{"made anew", "rm -rf .git; " + initial, []string{"left", "secret"}},
		{"made anew and broken", "rm -rf .git; git init -q; rm .git/HEAD", []string{"left"}},
		{"made anew, with a worktree where a link was", `mkdir in; git update-index --add --cacheinfo "160000,$(git rev-parse HEAD),in"; git commit -qm link; rmdir in; rm -rf .git; ` + initial + `; git worktree add -q --detach in; echo k >in/k`, []string{"left", "k"}},
		{"made anew, nothing committed", "rm -rf .git; git init -q; echo staged >t; git add t; echo changed >t", []string{"left", "changed", "staged"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			kinds(t, func(t *testing.T, kind worktree.Kind) {
				repo := newRepo(t)
				m := open(t, worktree.Options{Repo: repo})
				p := acquire(t, m, kind)
				for _, id := range []string{"one", "two"} {
					begin(t, p, worktree.Work{ID: id})
					if got := sh(t, p.Root(), "git status --short --branch; git rev-parse HEAD"); got != "## claude-pool/"+id+"\n"+sh(t, repo, "git rev-parse main") {
						t.Errorf("%s begins with %s", id, got)
					}
					write(t, filepath.Join(p.Root(), "left"), "left\n")
					sh(t, p.Root(), test.script)
					end(t, p)
					wantKept(t, repo, test.kept...)
				}
				release(t, p)
				if removed := clean(t, m, worktree.CleanOptions{}); len(removed) == 0 || removed[0].Path != p.Root() {
					t.Errorf("removed %v", removed)
				}
			})
		})
	}
}

// TestP6RulesThatHideThemselves has an agent write a .gitignore that git ignores by
// its own rule, as many tools do. It does not hide what the next writes.
func TestP6RulesThatHideThemselves(t *testing.T) {
	t.Parallel()
	for _, leftover := range []worktree.Leftover{worktree.Commit, worktree.Keep} {
		t.Run(string(leftover), func(t *testing.T) {
			kinds(t, func(t *testing.T, kind worktree.Kind) {
				repo := newRepo(t)
				m := open(t, worktree.Options{Repo: repo, Leftover: leftover})
				p := acquire(t, m, kind)
				begin(t, p, worktree.Work{ID: "one"})
				sh(t, p.Root(), `echo '*' >sub/.gitignore; echo hidden >sub/hidden; mkdir cache; echo '*' >cache/.gitignore; echo cached >cache/x`)
				end(t, p)
				begin(t, p, worktree.Work{ID: "two"})
				wantKept(t, repo, "*", "hidden")
				if got := sh(t, p.Root(), "cat cache/x; ls -A sub"); got != "cached\ndeep\ntwo" {
					t.Errorf("the next finds %s", got)
				}
				write(t, filepath.Join(p.Root(), "sub/code"), "important\n")
				if res := end(t, p); leftover == worktree.Commit && res.Files != 1 {
					t.Errorf("%d files; want 1", res.Files)
				}
				wantKept(t, repo, "important")
			})
		})
	}
}

// TestCloneThatWasNotFinished has the making of a clone fail, and be killed: nothing
// of it stays.
func TestCloneThatWasNotFinished(t *testing.T) {
	repo, home, bin := newRepo(t), filepath.Join(realTemp(t), "home"), realTemp(t)
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("needs git: ", err)
	}
	path := os.Getenv("PATH")
	write(t, filepath.Join(bin, "git"), "#!/bin/sh\ncase \" $* \" in *' remote remove '*) exit 9;; esac\nexec "+git+" \"$@\"\n")
	if err := os.Chmod(filepath.Join(bin, "git"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+path)
	m := open(t, worktree.Options{Repo: repo, Home: home})
	if _, err := m.Acquire(t.Context(), worktree.Clone); err == nil {
		t.Error("no error")
	}
	t.Setenv("PATH", path)
	sh(t, home, `mkdir -p "$(echo */)claudepool-new-clone-1/.git"`)
	m = open(t, worktree.Options{Repo: repo, Home: home})
	if got := sh(t, home, "find . -name '*clone-1'"); got != "" {
		t.Errorf("there is still %s", got)
	}
	p := acquire(t, m, worktree.Clone)
	if p.Name() != "clone-1" {
		t.Errorf("the place is %s", p.Name())
	}
}

// TestCloneBesideWhoWrites has a file of the repository vanish while it is cloned.
func TestCloneBesideWhoWrites(t *testing.T) {
	repo, bin := newRepo(t), realTemp(t)
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("needs git: ", err)
	}
	write(t, filepath.Join(bin, "git"), `#!/bin/sh
case " $* " in *' clone '*)
	if ! test -e `+bin+`/once; then
		touch `+bin+`/once
		for to; do :; done
		mkdir -p "$to/.git/objects"
		echo "fatal: hardlink different from source at '$to/.git/objects/3b/tmp_obj_XJEiZB'" >&2
		exit 128
	fi
esac
exec `+git+` "$@"
`)
	if err := os.Chmod(filepath.Join(bin, "git"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	p := acquire(t, open(t, worktree.Options{Repo: repo}), worktree.Clone)
	begin(t, p, worktree.Work{ID: "work"})
	sh(t, bin, "test -e once")
}

// TestP6KeepsWhateverIsSet has the person have settings that stand in the way of
// what is kept.
func TestP6KeepsWhateverIsSet(t *testing.T) {
	for _, set := range [][2]string{{"protocol.file.allow", "never"}, {"push.pushOption", "ci.skip"}, {"i18n.logOutputEncoding", "utf-16"}, {"log.showSignature", "true"}, {"core.logAllRefUpdates", "false"}} {
		t.Run(set[0], func(t *testing.T) {
			t.Setenv("GIT_CONFIG_COUNT", "1")
			t.Setenv("GIT_CONFIG_KEY_0", set[0])
			t.Setenv("GIT_CONFIG_VALUE_0", set[1])
			repo := newRepo(t)
			for _, kind := range []worktree.Kind{worktree.Worktree, worktree.Clone} {
				p := acquire(t, open(t, worktree.Options{Repo: repo}), kind)
				begin(t, p, worktree.Work{ID: string(kind)})
				sh(t, p.Root(), "echo dropped-"+string(kind)+" >d; git add d; git commit -qm d; git reset -q --hard HEAD~1; echo left-"+string(kind)+" >l")
				if res := end(t, p); res.Files != 1 || res.Total != 1 {
					t.Errorf("%s: %+v", kind, res)
				}
				wantKept(t, repo, "dropped-"+string(kind), "left-"+string(kind))
			}
		})
	}
}

// TestDirIsInThePlace has work begin where the folder to work in is not there, and
// where it is a link that leads out.
func TestDirIsInThePlace(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	sh(t, repo, `git checkout -q -b without; git rm -qr sub; git commit -qm without; git checkout -q -b link; ln -s "$PWD" sub; git add sub; git commit -qm link; git checkout -q main`)
	m := open(t, worktree.Options{Repo: filepath.Join(repo, "sub")})
	p := acquire(t, m, worktree.Worktree)
	begin(t, p, worktree.Work{ID: "one", Base: "without"})
	if fi, err := os.Stat(p.Dir()); err != nil || !fi.IsDir() {
		t.Errorf("the folder to work in: %v", err)
	}
	end(t, p)
	if err := p.Begin(t.Context(), worktree.Work{ID: "two", Base: "link"}); err == nil {
		t.Error("work begins outside of its place")
	}
	begin(t, p, worktree.Work{ID: "three"})
}

// TestBranchWithAStrangeName has an agent work on a branch that is called as git
// calls none.
func TestBranchWithAStrangeName(t *testing.T) {
	t.Parallel()
	kinds(t, func(t *testing.T, kind worktree.Kind) {
		repo := newRepo(t)
		p := acquire(t, open(t, worktree.Options{Repo: repo}), kind)
		begin(t, p, worktree.Work{ID: "one"})
		sh(t, p.Root(), "git checkout -q -b '(detached)'; echo c >c; git add c; git commit -qm c")
		end(t, p)
		if got := sh(t, p.Root(), "git symbolic-ref -q HEAD || echo none"); got != "none" {
			t.Errorf("HEAD stays on %s", got)
		}
		begin(t, p, worktree.Work{ID: "two"})
		end(t, p)
		wantKept(t, repo, "c")
	})
}

// TestSubmoduleWithNothingInside has an agent leave folders without a file where a
// submodule was.
func TestSubmoduleWithNothingInside(t *testing.T) {
	t.Parallel()
	inner, repo := newRepo(t), newRepo(t)
	sh(t, repo, `git -c protocol.file.allow=always submodule add -q "`+inner+`" inner; git commit -qm inner`)
	p := acquire(t, open(t, worktree.Options{Repo: repo}), worktree.Worktree)
	begin(t, p, worktree.Work{ID: "one"})
	sh(t, p.Root(), `rm -rf inner; mkdir -p inner/build/deep; mkfifo inner/pipe`)
	end(t, p)
	begin(t, p, worktree.Work{ID: "two"})
	if got := sh(t, p.Root(), "cat inner/file; ls inner | grep -e build -e pipe || :"); got != "one" {
		t.Errorf("the submodule has %s", got)
	}
}

// TestLocksThatStay has an agent leave locks in its git folder, and somebody one of
// the branch in the person's repository.
func TestLocksThatStay(t *testing.T) {
	t.Parallel()
	kinds(t, func(t *testing.T, kind worktree.Kind) {
		repo := newRepo(t)
		p := acquire(t, open(t, worktree.Options{Repo: repo}), kind)
		begin(t, p, worktree.Work{ID: "one"})
		write(t, filepath.Join(p.Root(), "new"), "new\n")
		sh(t, p.Root(), `cd "$(git rev-parse --git-dir)"; mkdir -p info; touch info/sparse-checkout.lock config.worktree.lock index.lock HEAD.lock`)
		sh(t, repo, "touch .git/refs/heads/claude-pool/one.lock")
		end(t, p)
		wantKept(t, repo, "new")
		begin(t, p, worktree.Work{ID: "two"})
		if got := sh(t, p.Root(), `find "$(git rev-parse --git-dir)" -name '*.lock'`); got != "" {
			t.Errorf("there is still %s", got)
		}
	})
}

// TestDryRunEndsNothing has a clean-up that removes nothing leave open work as it is.
func TestDryRunEndsNothing(t *testing.T) {
	t.Parallel()
	for _, o := range []worktree.CleanOptions{{DryRun: true}, {Unused: time.Hour}} {
		repo, home := newRepo(t), filepath.Join(realTemp(t), "home")
		m := open(t, worktree.Options{Repo: repo, Home: home})
		p := acquire(t, m, worktree.Clone)
		begin(t, p, worktree.Work{ID: "one"})
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		before, err := os.ReadFile(filepath.Join(p.Root(), ".git", "claudepool.json"))
		if err != nil {
			t.Fatal(err)
		}
		clean(t, open(t, worktree.Options{Repo: repo, Home: home}), o)
		if now, err := os.ReadFile(filepath.Join(p.Root(), ".git", "claudepool.json")); err != nil || string(now) != string(before) {
			t.Errorf("%+v: the mark is %s, %v", o, now, err)
		}
	}
}

// TestMarkThatIsEmpty opens a home whose mark has not been written to the disk.
func TestMarkThatIsEmpty(t *testing.T) {
	t.Parallel()
	repo, home := newRepo(t), filepath.Join(realTemp(t), "home")
	p := acquire(t, open(t, worktree.Options{Repo: repo, Home: home}), worktree.Worktree)
	release(t, p)
	if err := os.Truncate(filepath.Join(filepath.Dir(p.Root()), "claudepool.json"), 0); err != nil {
		t.Fatal(err)
	}
	if again := acquire(t, open(t, worktree.Options{Repo: repo, Home: home}), worktree.Worktree); again.Root() != p.Root() {
		t.Errorf("the place is %s; want %s", again.Root(), p.Root())
	}
}

// TestCloneMadeShallow has an agent make its clone shallow. The next has all history.
func TestCloneMadeShallow(t *testing.T) {
	t.Parallel()
	repo, up := newRepo(t), newRepo(t)
	sh(t, up, "for i in 1 2 3; do git commit -q --allow-empty -m $i; done")
	sh(t, repo, "git remote add origin 'file://"+up+"'; git fetch -q; git reset -q --hard origin/main")
	p := acquire(t, open(t, worktree.Options{Repo: repo}), worktree.Clone)
	begin(t, p, worktree.Work{ID: "one"})
	sh(t, p.Root(), "git fetch -q --depth 1 origin main; echo c >c; git add c; git commit -qm c; test -s .git/shallow")
	end(t, p)
	begin(t, p, worktree.Work{ID: "two"})
	if got := sh(t, p.Root(), "git rev-list --count HEAD"); got != "4" {
		t.Errorf("the next finds %s commits; want 4", got)
	}
}
