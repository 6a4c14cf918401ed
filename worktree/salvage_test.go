//go:build unix

package worktree_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool/worktree"
)

// leftovers are things that an agent may leave, as scripts that are run in a
// place, and texts that must be on some ref when the work has ended.
var leftovers = []struct {
	name   string
	script string
	kept   []string
	// recovered: there is something that does not belong on the branch.
	recovered bool
	only      worktree.Kind
}{
	{name: "nothing"},
	{name: "new file", script: `echo new >new`, kept: []string{"new"}},
	{name: "new file in a new folder", script: `mkdir -p a/b; echo new >a/b/new`, kept: []string{"new"}},
	{name: "changed", script: `echo changed >file`, kept: []string{"changed"}},
	{name: "staged", script: `echo staged >file; git add file`, kept: []string{"staged"}},
	{name: "staged and changed again", script: `echo staged >file; echo staged2 >new; git add file new; echo changed >file; echo changed2 >new`, kept: []string{"staged", "staged2", "changed", "changed2"}, recovered: true},
	{name: "staged and undone", script: `echo staged >file; git add file; echo one >file`, kept: []string{"staged"}, recovered: true},
	{name: "staged and removed", script: `echo staged >new; git add new; rm new`, kept: []string{"staged"}, recovered: true},
	{name: "mode staged and removed", script: `chmod +x file; git add file; rm file`, recovered: true},
	{name: "removed", script: `rm file; git rm -q sub/two`},
	{name: "removed from the index only", script: `git rm -q --cached file; echo other >file`, kept: []string{"other"}},
	{name: "renamed", script: `git mv file moved; echo more >>moved`, kept: []string{"one\nmore"}},
	{name: "committed", script: `echo c >c; git add c; git commit -qm c`, kept: []string{"c"}},
	{name: "intent to add", script: `echo soon >soon; git add -N soon`, kept: []string{"soon"}},
	{name: "assumed unchanged", script: `git update-index --assume-unchanged file; echo hidden >file`, kept: []string{"hidden"}},
	{name: "skipped", script: `git update-index --skip-worktree file; echo hidden >file`, kept: []string{"hidden"}},
	{name: "file becomes folder", script: `rm file; mkdir file; echo in >file/in`, kept: []string{"in"}},
	{name: "folder becomes file", script: `rm -r sub; echo out >sub`, kept: []string{"out"}},
	{name: "folder becomes link", script: `mv sub ..; trap 'rm -r ../sub' EXIT; ln -s /etc sub; echo by >by`, kept: []string{"by"}},
	{name: "link", script: `ln -sf somewhere/else link; ln -s nowhere link2`, kept: []string{"somewhere/else", "nowhere"}},
	{name: "names", script: `printf x1 >'a	b'; printf x2 >'a
b'; printf x3 >'"q"'; printf x4 >'ü ö'; printf x5 >"$(printf 'bad\377utf')"; printf x6 >'-f'; printf x7 >':(top)x'; printf x8 >'back\slash'; printf x9 >'a*'`,
		kept: []string{"x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9"}},
	{name: "line ends", script: `echo '* text=auto' >.gitattributes; printf 'a\r\nb\r\n' >crlf`, kept: []string{"a\nb"}},
	{name: "detached commits", script: `git checkout -q --detach; echo d >d; git add d; git commit -qm d`, kept: []string{"d"}, recovered: true},
	{name: "detached and files", script: `git checkout -q --detach; echo d >d; git add d; git commit -qm d; echo e >e; echo f >file`, kept: []string{"d", "e", "f"}, recovered: true},
	{name: "amended", script: `echo v1 >v; git add v; git commit -qm v; echo v2 >v; git commit -qam v --amend`, kept: []string{"v1", "v2"}, recovered: true},
	{name: "reset", script: `echo v1 >v; git add v; git commit -qm v; git reset -q --hard HEAD~1`, kept: []string{"v1"}, recovered: true},
	{name: "several commits dropped", script: `for i in 1 2 3; do echo v$i >v; git add v; git commit -qm v; git reset -q --hard HEAD~1; done`, kept: []string{"v1", "v2", "v3"}, recovered: true},
	{name: "other branch", script: `git checkout -q -b other; echo o >o; git add o; git commit -qm o; git checkout -q -`, kept: []string{"o"}},
	{name: "on another branch with files", script: `git checkout -q -b other2; echo o >o; git add o; git commit -qm o; echo p >p`, kept: []string{"o", "p"}, recovered: true},
	{name: "branch renamed", script: `echo o >o; git add o; git commit -qm o; git branch -m mine; echo p >p`, kept: []string{"o", "p"}, recovered: true},
	{name: "branch deleted", script: `echo o >o; git add o; git commit -qm o; git checkout -q --detach; git branch -qD claude-pool/work; echo p >p`, kept: []string{"o", "p"}, recovered: true},
	{name: "orphan", script: `git checkout -q --orphan fresh; git rm -rqf .; echo o >o; git add o; echo p >p`, kept: []string{"o", "p"}, recovered: true},
	{name: "stash", script: `echo s >file; echo u >u; git stash -q -u; echo t >file; git stash -q; echo r >file`, kept: []string{"s", "u", "t", "r"}, recovered: true, only: worktree.Clone},
	{name: "stash without a log", script: `echo s >file; git stash -q; git reflog expire --expire=now --all; git gc -q --prune=now`, kept: []string{"s"}, recovered: true, only: worktree.Clone},
	{name: "shared stash", script: `echo s >file; git stash -q`, kept: []string{"s"}, only: worktree.Worktree},
	{name: "tag", script: `echo o >o; git add o; git commit -qm o; git tag -a -m note tagged; git reset -q --hard HEAD~1`, kept: []string{"o"}},
	{name: "merge in between", script: mergeScript + `git merge -q other || true; echo more >extra`, kept: []string{"ours", "theirs", "more"}, recovered: true},
	{name: "cherry-pick in between", script: mergeScript + `git cherry-pick other || true`, kept: []string{"ours", "theirs"}, recovered: true},
	{name: "rebase in between", script: mergeScript + `echo dirty >sub/two; git rebase -q --autostash other || true`, kept: []string{"ours", "theirs", "dirty"}, recovered: true},
	{name: "squash merge not committed", script: mergeScript + `git reset -q --hard HEAD~1; git merge -q --squash other`, kept: []string{"ours", "theirs"}, recovered: true},
	{name: "bisect", script: `echo 1 >b; git add b; git commit -qm 1; echo 2 >b; git commit -qam 2; echo 3 >b; git commit -qam 3; git bisect start HEAD HEAD~2; echo x >x`, kept: []string{"1", "2", "3", "x"}, recovered: true},
	{name: "index.lock left", script: `echo l >l; touch "$(git rev-parse --git-dir)/index.lock" "$(git rev-parse --git-dir)/HEAD.lock"`, kept: []string{"l"}},
	{name: "lock of the branch left", script: `echo l >l; touch "$(git rev-parse --git-common-dir)/refs/heads/claude-pool/work.lock"`, kept: []string{"l"}},
	{name: "index removed", script: `echo l >l; echo m >file; rm "$(git rev-parse --git-dir)/index"`, kept: []string{"l", "m"}},
	{name: "nested repository", script: `git init -q n; cd n; echo c >c; git add c; ` + who + ` git commit -qm c; echo d >d; echo e >c`, kept: []string{"c", "d", "e"}, recovered: true},
	{name: "nested without commits", script: `git init -q n; echo d >n/d`, kept: []string{"d"}, recovered: true},
	{name: "nested and empty", script: `git init -q n`, recovered: false},
	{name: "nested in nested in a new folder", script: `mkdir a; git init -q a/n; git init -q a/n/m; echo d >a/n/m/d; echo b >a/b`, kept: []string{"d", "b"}, recovered: true},
	{name: "nested with branches, stash and dropped commits", script: `git init -q n; cd n; export ` + who + `; echo c >c; git add c; git commit -qm c; git checkout -q -b two; echo d >d; git add d; git commit -qm d; git checkout -q -; echo s >c; git stash -q; echo z >z; git add z; git commit -qm z; git reset -q --hard HEAD~1`,
		kept: []string{"c", "d", "s", "z"}, recovered: true},
	{name: "nested where files are tracked", script: `git init -q sub; cd sub; echo c >c; git add c; ` + who + ` git commit -qm c; echo q >two`, kept: []string{"c", "q"}, recovered: true},
	{name: "nested added as a link", script: `git init -q n; cd n; echo c >c; git add c; ` + who + ` git commit -qm c; cd ..; git add n 2>/dev/null; git commit -qm link; echo w >n/w`, kept: []string{"c", "w"}, recovered: true},
	{name: "link without a repository", script: emptyLink + `echo a >n/a; mkdir n/b; echo c >n/b/c; ln -s nowhere n/l; echo d >n/d.log; echo e >e`, kept: []string{"a", "c", "nowhere", "d", "e"}, recovered: true},
	{name: "link without a repository, in a merge", script: emptyLink + mergeScript + `git merge -q other || true; echo a >n/a`, kept: []string{"a", "ours", "theirs"}, recovered: true},
	{name: "repository below a link without one", script: emptyLink + `echo a >n/a; git init -q n/m; echo b >n/m/b; cd n/m; git add b; ` + who + ` git commit -qm b; echo c >c`, kept: []string{"a", "b", "c"}, recovered: true},
	{name: "link that lost its repository", script: `git init -q n; cd n; echo c >c; git add c; ` + who + ` git commit -qm c; cd ..; git add n 2>/dev/null; git commit -qm link; rm -rf n/.git`, kept: []string{"c"}, recovered: true},
	{name: "link to a commit that its repository does not have", script: emptyLink + `git checkout -q -b other; rmdir n; git init -q n; cd n; echo c >c; git add c; ` + who + ` git commit -qm c`, kept: []string{"c"}, recovered: true},
	{name: "link to a repository that is gone", script: innerWorktree + `echo k >in/w/k; rm -r "$(git -C in/w rev-parse --git-dir)"`, kept: []string{"k"}, recovered: true},
	{name: "worktree inside whose git folder is gone", script: `git worktree add -q --detach in; rm -r "$(git -C in rev-parse --git-dir)"; echo k >in/k`, kept: []string{"k"}},
	{name: "worktree inside that is half made", script: `git worktree add -q --detach in; g="$(git -C in rev-parse --git-dir)"; rm "$g/index"; echo 0000000000000000000000000000000000000000 >"$g/HEAD"; echo k >in/k`, kept: []string{"k"}},
	{name: "worktree inside that is half removed", script: `git worktree add -q --detach in; rm -r "$(git -C in rev-parse --git-dir)"; find in -mindepth 1 ! -name .git -delete`},
	{name: "history of its own", script: `echo o >o; git add o; git checkout -q --orphan fresh; git commit -qm o; git checkout -q -B claude-pool/work`, kept: []string{"o"}},
	{name: "shallow clone", script: `git clone -q --depth 1 "file://$PWD" n 2>/dev/null; cd n; echo s >s; git add s; ` + who + ` git commit -qm s; echo u >u`, kept: []string{"s", "u"}, recovered: true},
	{name: "worktree of the repository inside", script: `git worktree add -q --detach w; echo k >w/k`, kept: []string{"k"}, recovered: true},
	{name: "worktree inside added as a link", script: innerWorktree + `echo k >in/w/k; echo l >in/w/file; echo m >in/w/more`, kept: []string{"j", "k", "l", "m"}, recovered: true},
	{name: "worktree inside added as a link, nothing else", script: innerWorktree, kept: []string{"j"}},
	{name: "worktree inside added as a link, with commits", script: innerWorktree + `cd in/w; echo k >k; git add k; git commit -qm k; git checkout -q --detach; echo l >l; git add l; git commit -qm l; echo m >m`, kept: []string{"j", "k", "l", "m"}, recovered: true},
	{name: "repository elsewhere added as a link", script: `git init -q --separate-git-dir "$(mktemp -d)/e" n; cd n; echo c >c; git add c; ` + who + ` git commit -qm c; cd ..; git add n 2>/dev/null; git commit -qm link; echo w >n/w`, kept: []string{"c", "w"}, recovered: true},
	{name: "copy of the place added as a link", script: `d=$(mktemp -d); cp -R . "$d/n"; mv "$d/n" n; git add n 2>/dev/null; git commit -qm link; echo k >n/k; echo l >l`, kept: []string{"k", "l"}, recovered: true},
	{name: "locks left in a repository inside", script: `git init -q n; cd n; echo c >c; git add c; ` + who + ` git commit -qm c; git update-index --assume-unchanged c; echo d >c; touch .git/index.lock .git/HEAD.lock .git/refs/heads/x.lock`, kept: []string{"c", "d"}, recovered: true},
	{name: "locks left in a link", script: `git init -q n; cd n; echo c >c; git add c; ` + who + ` git commit -qm c; cd ..; git add n 2>/dev/null; git commit -qm link; cd n; git update-index --assume-unchanged c; echo d >c; touch .git/index.lock .git/HEAD.lock`, kept: []string{"c", "d"}, recovered: true},
	{name: "worktrees in an ignored folder", script: `git worktree add -q -b inner ignored/a; cd ignored/a; echo k >k; git checkout -q --detach; echo d >d; git add d; git commit -qm d; git worktree add -q --detach ignored/b; echo e >ignored/b/e; git reset -q --hard HEAD~1
git worktree add -q --detach ignored/c; cd ignored/c; echo f >f; git add f; git commit -qm f; cd ..; rm -r c`, kept: []string{"k", "d", "e", "f"}, recovered: true},
	{name: "worktree elsewhere", script: `d=$(mktemp -d); git worktree add -q --detach $d/w; cd $d/w; echo c >c; git add c; git commit -qm c`, kept: []string{"c"}, recovered: true, only: worktree.Clone},
	{name: "submodule that is checked out no more", script: addSubmodule + `git commit -qm sub; cd inner; git checkout -q -b feat; echo i >i; git add i; git commit -qm i; git checkout -q main; cd ..; git submodule --quiet deinit -f inner`, kept: []string{"i"}, recovered: true},
	{name: "submodule that is removed", script: addSubmodule + `cd inner; echo i >i; git add i; git commit -qm i; cd ..; git rm -qf inner; rm -rf inner`, kept: []string{"i"}, recovered: true},
	{name: "repository of another object format", script: `git init -q --object-format=sha256 n; cd n; echo c >c; git add c; ` + who + ` git commit -qm c; echo d >d; echo e >../e`, kept: []string{"c", "d", "e"}, recovered: true},
	{name: "repository of another object format where files are tracked", script: `git init -q --object-format=sha256 sub; cd sub; echo c >c; git add c; ` + who + ` git commit -qm c; echo q >two`, kept: []string{"c", "q"}, recovered: true},
	{name: "branch below that of the work", script: `git checkout -q --detach; git branch -qD claude-pool/work; git checkout -q -b claude-pool/work/part; echo c >c; git add c; git commit -qm c; git branch claude-pool/work/other; git reset -q --hard HEAD~1; echo d >d`, kept: []string{"c", "d"}, recovered: true},
	{name: "bare repository inside", script: `git init -q --bare b.git; git push -q ./b.git HEAD:refs/heads/x; echo n >n`, kept: []string{"n"}},
}

const who = `GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a`

const addSubmodule = `export ` + who + `; d=$(mktemp -d)/s; git init -q -b main $d; git -C $d commit -q --allow-empty -m s; git -c protocol.file.allow=always submodule --quiet add $d inner; `

const emptyLink = `mkdir n; git update-index --add --cacheinfo "160000,$(git rev-parse HEAD),n"; git commit -qm link; `

const innerWorktree = `git worktree add -q -b inner in/w; echo j >in/w/j; git -C in/w add j; git -C in/w commit -qm j; git add in 2>/dev/null; git commit -qm link; `

const mergeScript = `git checkout -q -b other; echo theirs >file; git commit -qam theirs; git checkout -q claude-pool/work; echo ours >file; git commit -qam ours; `

func TestP6EndKeepsEverything(t *testing.T) {
	t.Parallel()
	kinds(t, func(t *testing.T, kind worktree.Kind) {
		for _, l := range leftovers {
			if l.only != "" && l.only != kind {
				continue
			}
			t.Run(l.name, func(t *testing.T) {
				t.Parallel()
				repo := newRepo(t)
				m := open(t, worktree.Options{Repo: repo})
				p := acquire(t, m, kind)
				begin(t, p, worktree.Work{ID: "work"})
				sh(t, p.Root(), l.script)
				before := fingerprint(t, repo) // an agent's git may have changed it
				res := end(t, p)
				if diff := cmp.Diff(before, fingerprint(t, repo)); diff != "" {
					t.Errorf("the person's checkout has changed:\n%s", diff)
				}
				wantKept(t, repo, l.kept...)
				if got := len(res.Recovery) > 0; got != l.recovered && !(kind == worktree.Clone && l.kept != nil) {
					t.Errorf("recovery refs %q; want some: %v", res.Recovery, l.recovered)
				}
				for _, ref := range res.Recovery {
					sh(t, repo, "git rev-parse --verify -q '"+ref+"^{commit}'")
				}
				if got := sh(t, p.Root(), "git status --porcelain --ignored"); got != "" {
					t.Errorf("the place is not clean: %s", got)
				}
				if got := sh(t, p.Root(), "git rev-parse --abbrev-ref HEAD"); got != "HEAD" {
					t.Errorf("HEAD is on %s", got)
				}
				sh(t, repo, "git fsck --strict --no-dangling")

				// The next work sees nothing of it, and ends with nothing.
				begin(t, p, worktree.Work{ID: "next"})
				if diff := cmp.Diff(tree(t, repo), tree(t, p.Root())); diff != "" {
					t.Errorf("the next work begins with other files:\n%s", diff)
				}
				next := end(t, p)
				if next.Total != 0 || next.Leftover != "" || len(next.Recovery) != 0 {
					t.Errorf("the next work ends with %+v", next)
				}
			})
		}
	})
}

func TestP6OrphanInARepositoryOfAnotherObjectFormat(t *testing.T) {
	t.Parallel()
	repo := realTemp(t)
	sh(t, repo, "git init -q --object-format=sha256 .; "+fillScript)
	p := acquire(t, open(t, worktree.Options{Repo: repo}), worktree.Worktree)
	begin(t, p, worktree.Work{ID: "work"})
	sh(t, p.Root(), "git checkout -q --orphan fresh; rm file; echo n >n")
	end(t, p)
	wantKept(t, repo, "n")
}

// A submodule may be the person's, who has another copy of it.
func TestWorkGoesOnWithWhatItCommittedInASubmodule(t *testing.T) {
	t.Parallel()
	kinds(t, func(t *testing.T, kind worktree.Kind) {
		repo := newRepo(t)
		sh(t, repo, addSubmodule+"git commit -qm sub")
		p := acquire(t, open(t, worktree.Options{Repo: repo}), kind)
		begin(t, p, worktree.Work{ID: "one"})
		sh(t, p.Root(), "cd inner; echo b >b; git add b; "+who+" git commit -qm b; echo c >c")
		if res := end(t, p); res.Files != 1 || res.Leftover != res.Head {
			t.Errorf("result %+v; want the commit of the submodule", res)
		}
		wantKept(t, repo, "b", "c")
		begin(t, p, worktree.Work{ID: "other"})
		if got := sh(t, p.Root(), "ls inner; git status --porcelain"); got != "" {
			t.Errorf("other work has %q", got)
		}
		end(t, p)
		begin(t, p, worktree.Work{ID: "two", From: "one"})
		if got := sh(t, p.Root(), "cat inner/b; git status --porcelain"); got != "b" {
			t.Errorf("the work that goes on has %q", got)
		}
		if res := end(t, p); res.Files != 1 || res.Leftover != "" {
			t.Errorf("result %+v", res)
		}
	})
}

// What came from another machine is there still.
func TestNestedCloneIsKeptWithoutWhatItCameWith(t *testing.T) {
	t.Parallel()
	other := newRepo(t)
	sh(t, other, `for i in $(seq 9); do git commit -q --allow-empty -m $i; git tag -a -m $i v$i; done`)
	for name, test := range map[string]struct {
		url  string
		refs int
	}{
		"https": {"https://example.com/dep.git", 1},
		"scp":   {"git@example.com:dep.git", 1},
		"host":  {"host:dep", 1},
		"path":  {"/some/dep:x", 11},
		"file":  {"file:///dep", 11},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := newRepo(t)
			p := acquire(t, open(t, worktree.Options{Repo: repo}), worktree.Worktree)
			begin(t, p, worktree.Work{ID: "work"})
			sh(t, p.Root(), `git clone -q `+other+` dep; cd dep; git remote set-url origin `+test.url+`; git checkout -q --detach; echo d >d; git add d; `+who+` git commit -qm d`)
			if res := end(t, p); len(res.Recovery) != test.refs {
				t.Errorf("recovery refs %q; want %d", res.Recovery, test.refs)
			}
			wantKept(t, repo, "d")
		})
	}
}

// What is set in a place says nothing of where what it has is kept.
func TestP6ConfigurationOfAPlaceDoesNotKeepAnythingFromBeingKept(t *testing.T) {
	t.Parallel()
	kinds(t, func(t *testing.T, kind worktree.Kind) {
		repo, other := newRepo(t), newRepo(t)
		p := acquire(t, open(t, worktree.Options{Repo: repo}), kind)
		begin(t, p, worktree.Work{ID: "work"})
		settings := `
git config url.` + other + `/.git.insteadOf ` + repo + `/.git
git config push.pushOption o; git config protocol.allow never; git config transfer.hideRefs refs; git config uploadpack.hideRefs refs; git config remote.pushDefault nowhere
`
		script := `git init -q n; cd n; echo c >c; git add c; ` + who + ` git commit -qm c; ` + settings
		if kind == worktree.Clone {
			script = settings + `echo d >d; git add d; git commit -qm d; git checkout -q --detach; echo e >e; git add e; git commit -qm e; ` + script
		}
		sh(t, p.Root(), script)
		before := sh(t, other, "git for-each-ref")
		end(t, p)
		wantKept(t, repo, map[worktree.Kind][]string{worktree.Worktree: {"c"}, worktree.Clone: {"c", "d", "e"}}[kind]...)
		if got := sh(t, other, "git for-each-ref"); got != before {
			t.Errorf("the other repository has got %s", got)
		}
	})
}

func TestP6WhatHooksLeaveIsKept(t *testing.T) {
	t.Parallel()
	kinds(t, func(t *testing.T, kind worktree.Kind) {
		repo := newRepo(t)
		write(t, filepath.Join(repo, ".git/hooks/pre-commit"), "#!/bin/sh\ngit reset -q -- big file\necho formatted >>file\n")
		sh(t, repo, "chmod +x .git/hooks/pre-commit")
		p := acquire(t, open(t, worktree.Options{Repo: repo, Hooks: true}), kind)
		for work, script := range map[string]string{"some": "echo big >big; echo changed >file; echo n >n", "all": "echo big2 >big; echo changed2 >file"} {
			begin(t, p, worktree.Work{ID: work})
			sh(t, p.Root(), script)
			end(t, p)
			if got := sh(t, p.Root(), "git status --porcelain"); got != "" {
				t.Errorf("%s: the place is not clean: %s", work, got)
			}
		}
		wantKept(t, repo, "big", "changed\nformatted", "n", "big2")
	})
}

// tree returns the files of a checkout.
func tree(t *testing.T, top string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.Walk(top, func(p string, fi os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(top, p)
		switch {
		case fi.Name() == ".git":
			if fi.IsDir() {
				return filepath.SkipDir
			}
		case fi.Mode()&os.ModeSymlink != 0:
			files[rel], err = os.Readlink(p)
		case !fi.IsDir():
			text, readErr := os.ReadFile(p)
			files[rel], err = fi.Mode().String()+string(text), readErr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
