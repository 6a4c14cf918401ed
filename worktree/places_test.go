//go:build unix

package worktree_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/claudepool/claudepool/worktree"
)

func TestP6KilledProgramLosesNothing(t *testing.T) {
	t.Parallel()
	kinds(t, func(t *testing.T, kind worktree.Kind) {
		repo, home := newRepo(t), filepath.Join(realTemp(t), "home")
		owner, root := startRole(t, "work", repo, home, string(kind), "first")
		sh(t, root, `echo c >committed; git add committed; git commit -qm c; echo s >staged; git add staged; echo u >untracked; touch "$(git rev-parse --git-dir)/index.lock"`)
		m := open(t, worktree.Options{Repo: repo, Home: home})

		places, err := m.Places(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := []worktree.PlaceInfo{{Name: string(kind) + "-1", Kind: kind, Path: root, State: worktree.Busy, Work: "first", Branch: "claude-pool/first", PID: owner.Process.Pid}}
		noTimes := cmpopts.IgnoreFields(worktree.PlaceInfo{}, "Made", "Used")
		if diff := cmp.Diff(want, places, noTimes); diff != "" {
			t.Errorf("while its program lives:\n%s", diff)
		}
		if removed := clean(t, m, worktree.CleanOptions{}); len(removed) != 0 {
			t.Errorf("removed %+v, which is in use", removed)
		}
		other := acquire(t, m, kind)
		if other.Root() == root {
			t.Fatal("two have the same place")
		}
		release(t, other)

		kill(t, owner)
		if places, err = m.Places(t.Context()); err != nil {
			t.Fatal(err)
		}
		want[0].State, want[0].PID = worktree.Stale, 0
		want[0].Holds = []string{"files that were not committed"}
		if kind == worktree.Clone { // HEAD is on the branch, which the repository does not have
			want[0].Holds = append(want[0].Holds, places[0].Holds[1:]...)
		}
		if diff := cmp.Diff(want, places[:1], noTimes); diff != "" {
			t.Errorf("when its program was killed:\n%s", diff)
		}

		// Whoever goes on with that work gets all of it, wherever that is.
		p := acquire(t, m, kind)
		if p.Root() != root {
			t.Errorf("got %s; want the stale %s", p.Root(), root)
		}
		begin(t, p, worktree.Work{ID: "first", From: "first"})
		if got := sh(t, p.Root(), "cat committed staged untracked; git status --porcelain"); got != "c\ns\nu" {
			t.Errorf("continued with %q", got)
		}
		if res := end(t, p); res.Total != 2 {
			t.Errorf("result %+v; want the commit and the leftovers", res)
		}
	})
}

func TestOpenTellsOfWorkThatWasLeftOpen(t *testing.T) {
	t.Parallel()
	repo, home := newRepo(t), filepath.Join(realTemp(t), "home")
	owner, root := startRole(t, "work", repo, home, string(worktree.Worktree), "first")
	told := func() string {
		var log strings.Builder
		open(t, worktree.Options{Repo: repo, Home: home, Log: slog.New(slog.NewTextHandler(&log, nil))})
		return log.String()
	}
	if got := told(); got != "" {
		t.Errorf("of a place in use it tells %q", got)
	}
	kill(t, owner)
	if got := told(); !strings.Contains(got, "place="+root) || !strings.Contains(got, "work=first") {
		t.Errorf("of a place whose program was killed it tells %q", got)
	}
}

func TestBeginEndsWhatWasLeftOpenElsewhere(t *testing.T) {
	t.Parallel()
	repo, home := newRepo(t), filepath.Join(realTemp(t), "home")
	owner, root := startRole(t, "work", repo, home, string(worktree.Clone), "first")
	write(t, filepath.Join(root, "unsaved"), "u\n")
	kill(t, owner)
	m := open(t, worktree.Options{Repo: repo, Home: home})
	p := acquire(t, m, worktree.Worktree)
	begin(t, p, worktree.Work{ID: "second", From: "first"})
	if got := sh(t, p.Root(), "cat unsaved"); got != "u" {
		t.Errorf("continued with %q", got)
	}
	release(t, p)
}

func TestPlacesAreNotShared(t *testing.T) {
	t.Parallel()
	kinds(t, func(t *testing.T, kind worktree.Kind) {
		repo, home := newRepo(t), filepath.Join(realTemp(t), "home")
		managers := []*worktree.Manager{open(t, worktree.Options{Repo: repo, Home: home}), open(t, worktree.Options{Repo: repo, Home: home})}
		const each = 3
		for round := range 2 {
			var mu sync.Mutex
			var all sync.WaitGroup
			got := make(map[string]int)
			for i, m := range managers {
				for j := range each {
					all.Go(func() {
						p, err := m.Acquire(t.Context(), kind)
						if err == nil {
							err = p.Begin(t.Context(), worktree.Work{ID: fmt.Sprintf("w%d-%d-%d", round, i, j)})
						}
						if err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						got[p.Root()]++
						mu.Unlock()
					})
				}
			}
			all.Wait()
			if len(got) != len(managers)*each {
				t.Errorf("round %d: places %v; want %d", round, got, len(managers)*each)
			}
			for i := range managers { // gives up what it has; the next round adopts it
				if err := managers[i].Close(); err != nil {
					t.Error(err)
				}
				managers[i] = open(t, worktree.Options{Repo: repo, Home: home})
			}
		}
	})
}

var refTime = regexp.MustCompile(`\d{8}T[\d.]+Z`)

func TestP6CleanRemovesNothingThatIsNotKept(t *testing.T) {
	t.Parallel()
	kinds(t, func(t *testing.T, kind worktree.Kind) {
		repo, home := newRepo(t), filepath.Join(realTemp(t), "home")
		first := open(t, worktree.Options{Repo: repo, Home: home})
		p := acquire(t, first, kind)
		begin(t, p, worktree.Work{ID: "open"})
		sh(t, p.Root(), `echo d >d; git add d; git commit -qm d; git reset -q --hard HEAD~1; git checkout -q --detach; echo u >u; echo s >file; git add file; echo w >file; git init -q n; echo n >n/n; echo log >x.log`)
		q := acquire(t, first, kind)
		begin(t, q, worktree.Work{ID: "done"})
		write(t, filepath.Join(q.Root(), "e"), "e\n")
		release(t, q)
		write(t, filepath.Join(q.Root(), "later"), "l\n") // by nobody's work
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}

		m := open(t, worktree.Options{Repo: repo, Home: home})
		if removed := clean(t, m, worktree.CleanOptions{Unused: time.Hour}); len(removed) != 0 {
			t.Errorf("removed %+v, which was used lately", removed)
		}
		state := func() string {
			return sh(t, repo, "git for-each-ref") + fmt.Sprint(fingerprint(t, repo), tree(t, home))
		}
		before := state()
		dry := clean(t, m, worktree.CleanOptions{DryRun: true})
		if diff := cmp.Diff(before, state()); diff != "" {
			t.Errorf("the dry run has changed:\n%s", diff)
		}
		got := clean(t, m, worktree.CleanOptions{})
		if diff := cmp.Diff(untimed(dry), untimed(got)); diff != "" {
			t.Errorf("the dry run is not what was done:\n%s", diff)
		}
		if len(got) != 2 || got[0].Path != p.Root() || len(got[0].Recovery) != 3 || got[1].Path != q.Root() || len(got[1].Recovery) != 1 {
			t.Errorf("removed %+v", got)
		}
		wantKept(t, repo, "d", "u", "s", "w", "n", "e", "l")
		for _, dir := range []string{p.Root(), q.Root()} {
			if _, err := os.Lstat(dir); !os.IsNotExist(err) {
				t.Errorf("%s is still there: %v", dir, err)
			}
		}
		again := clean(t, m, worktree.CleanOptions{}) // no place has its work open any more
		if want := []worktree.Removal{{Branch: "claude-pool/open", Why: "all its commits are in main"}}; !cmp.Equal(again, want) {
			t.Errorf("removed %+v; want %+v", again, want)
		}

		// One command brings the files back.
		for _, ref := range got[0].Recovery {
			if strings.HasSuffix(ref, "1-files") {
				dir := filepath.Join(realTemp(t), "back")
				sh(t, repo, "git worktree add -q --detach "+dir+" "+ref)
				if got := sh(t, dir, "cat u file; git show HEAD^2:file"); got != "u\nw\ns" {
					t.Errorf("brought back %q", got)
				}
				if err := m.Recover(t.Context(), ref, "saved"); err != nil {
					t.Error(err)
				}
				sh(t, repo, "git cat-file -e saved:u")
			}
		}
		sh(t, repo, "git reflog expire --expire=now --all; git gc -q --prune=now")
		wantKept(t, repo, "d", "u", "s", "w", "n", "e", "l")
	})
}

// untimed leaves the time out of the names of recovery refs.
func untimed(all []worktree.Removal) []worktree.Removal {
	var out []worktree.Removal
	for _, r := range all {
		var refs []string
		for _, ref := range r.Recovery {
			refs = append(refs, refTime.ReplaceAllString(ref, "TIME"))
		}
		r.Recovery = refs
		out = append(out, r)
	}
	return out
}

func TestP6NothingIsRemovedWhenItCannotBeKept(t *testing.T) {
	t.Parallel()
	kinds(t, func(t *testing.T, kind worktree.Kind) {
		repo, home := newRepo(t), filepath.Join(realTemp(t), "home")
		m := open(t, worktree.Options{Repo: repo, Home: home, Leftover: worktree.Keep})
		p := acquire(t, m, kind)
		begin(t, p, worktree.Work{ID: "work"})
		write(t, filepath.Join(p.Root(), "only here"), "x\n")
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		// A ref of that name leaves no room for any below it.
		sh(t, repo, "git update-ref refs/claude-pool/recovery HEAD")
		m = open(t, worktree.Options{Repo: repo, Home: home, Leftover: worktree.Keep})
		removed, err := m.Clean(t.Context(), worktree.CleanOptions{})
		if err == nil || len(removed) != 0 {
			t.Errorf("removed %+v, error %v", removed, err)
		}
		if q := acquire(t, m, kind); q.Root() == p.Root() {
			t.Error("a place was used again whose files could not be kept")
		}
		if got := sh(t, p.Root(), "cat 'only here'"); got != "x" {
			t.Errorf("the file is %q", got)
		}
		sh(t, repo, "git update-ref -d refs/claude-pool/recovery")
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		m = open(t, worktree.Options{Repo: repo, Home: home, Leftover: worktree.Keep})
		if removed := clean(t, m, worktree.CleanOptions{}); len(removed) != 2 {
			t.Errorf("removed %+v", removed)
		}
		wantKept(t, repo, "x")
	})
}

func TestP6BrokenRepositoryInsideIsNotRemoved(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	m := open(t, worktree.Options{Repo: repo})
	p := acquire(t, m, worktree.Worktree)
	begin(t, p, worktree.Work{ID: "work"})
	sh(t, p.Root(), `git init -q n; echo n >n/n; echo broken >n/.git/HEAD; echo deep >n/.git/deep`)
	release(t, p)
	_, err := m.Clean(t.Context(), worktree.CleanOptions{})
	if err == nil || !strings.Contains(err.Error(), filepath.Join(p.Root(), "n")) {
		t.Errorf("error %v; want one that names the folder", err)
	}
	if got := sh(t, p.Root(), "cat n/.git/deep"); got != "deep" {
		t.Errorf("the file is %q", got)
	}
	wantKept(t, repo, "n")
}

func TestCleanTouchesOnlyOurOwn(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	m := open(t, worktree.Options{Repo: repo})
	p := acquire(t, m, worktree.Worktree)
	home := filepath.Dir(p.Root())
	c := acquire(t, m, worktree.Clone)
	release(t, p)
	release(t, c)
	// Like places, but none: a worktree of the person's, a copy of a place, a
	// folder, a link to a place, a place that was moved.
	sh(t, repo, "git worktree add -q --detach "+home+"/worktree-7; echo k >"+home+"/worktree-7/k")
	sh(t, home, "cp -r clone-1 clone-8; mkdir worktree-9; echo k >worktree-9/k; ln -s worktree-1 worktree-6; mkdir other; mv clone-1 clone-2")
	removed := clean(t, m, worktree.CleanOptions{})
	if len(removed) != 1 || removed[0].Path != p.Root() {
		t.Errorf("removed %+v; want %s", removed, p.Root())
	}
	sh(t, home, "test -d clone-8 -a -d clone-2 -a -f worktree-7/k -a -f worktree-9/k -a -L worktree-6 -a -d other")
	if q := acquire(t, m, worktree.Clone); q.Name() != "clone-1" {
		t.Errorf("got %s", q.Name())
	}
}

func TestCleanRemovesMergedBranches(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	m := open(t, worktree.Options{Repo: repo, Leftover: worktree.Keep})
	p := acquire(t, m, worktree.Worktree)
	commits := map[string]string{
		"merged":     `echo 1 >m; git add .; git commit -qm m`,
		"squashed":   `echo 1 >s; git add .; git commit -qm s1; echo 2 >>s; git commit -qam s2; echo 3 >"t t"; git add .; git commit -qm s3`,
		"rebased":    `echo 1 >r; git add .; git commit -qm r1; echo 2 >>r; git commit -qam r2`,
		"empty":      `true`,
		"unmerged":   `echo 1 >u; git add .; git commit -qm u`,
		"half":       `echo 1 >h; git add .; git commit -qm h1; echo 2 >i; git add .; git commit -qm h2`,
		"undone":     `echo 1 >x; git add .; git commit -qm x; git revert --no-edit HEAD`,
		"checkedout": `true`,
		"rebasing":   `echo 1 >b1; git add .; git commit -qm b1; echo 2 >b2; git add .; git commit -qm b2`,
		"bisecting":  `echo 1 >c1; git add .; git commit -qm c1; echo 2 >c2; git add .; git commit -qm c2`,
	}
	for id, script := range commits {
		begin(t, p, worktree.Work{ID: id})
		sh(t, p.Root(), script)
		end(t, p)
	}
	begin(t, p, worktree.Work{ID: "running"})
	sh(t, repo, `git worktree add -q ../co claude-pool/checkedout
git merge -q --no-ff --no-edit claude-pool/merged
echo between >between; git add between; git commit -qm between
git merge -q --squash claude-pool/squashed; git commit -qm squash
git cherry-pick claude-pool/rebased~2..claude-pool/rebased >/dev/null
git cherry-pick claude-pool/half~1 >/dev/null
git merge -q --no-edit claude-pool/rebasing claude-pool/bisecting >/dev/null
git worktree add -q ../co2 claude-pool/rebasing; cd ../co2; git rebase -q -x false HEAD~2 2>/dev/null && exit 1
git worktree add -q ../co3 claude-pool/bisecting; cd ../co3; git bisect start HEAD HEAD~2 >/dev/null`)
	t.Cleanup(func() {
		for _, dir := range []string{"co", "co2", "co3"} {
			os.RemoveAll(filepath.Join(filepath.Dir(repo), dir))
		}
	})
	dry := clean(t, m, worktree.CleanOptions{DryRun: true})
	got := clean(t, m, worktree.CleanOptions{})
	if diff := cmp.Diff(untimed(dry), untimed(got)); diff != "" {
		t.Errorf("the dry run is not what was done:\n%s", diff)
	}
	why := make(map[string]string)
	for _, r := range got {
		why[r.Branch] = fmt.Sprint(r.Why, len(r.Recovery))
	}
	want := map[string]string{
		"claude-pool/merged":   "all its commits are in main0",
		"claude-pool/empty":    "all its commits are in main0",
		"claude-pool/squashed": "its changes were squashed into main1",
		"claude-pool/rebased":  "its commits were rebased onto main1",
	}
	if diff := cmp.Diff(want, why); diff != "" {
		t.Errorf("removed:\n%s", diff)
	}
	wantRefs := "refs/claude-pool/work/bisecting refs/claude-pool/work/checkedout refs/claude-pool/work/half refs/claude-pool/work/rebasing refs/claude-pool/work/running refs/claude-pool/work/undone refs/claude-pool/work/unmerged"
	if got := strings.Join(strings.Fields(sh(t, repo, "git for-each-ref --format='%(refname)' refs/claude-pool/work")), " "); got != wantRefs {
		t.Errorf("refs %s; want %s", got, wantRefs)
	}
}

func TestP6CleanSparesABranchThatIsContinuedMeanwhile(t *testing.T) {
	t.Parallel()
	kinds(t, func(t *testing.T, kind worktree.Kind) {
		repo := newRepo(t)
		m := open(t, worktree.Options{Repo: repo})
		p := acquire(t, m, kind)
		begin(t, p, worktree.Work{ID: "work"})
		end(t, p)
		clean(t, m, worktree.CleanOptions{Spare: func(string) bool {
			begin(t, p, worktree.Work{ID: "work", From: "work"})
			return false
		}})
		sh(t, repo, "git rev-parse --verify claude-pool/work")
		release(t, p)
	})
}

func TestRecoveriesExpire(t *testing.T) {
	t.Parallel()
	repo, home := newRepo(t), filepath.Join(realTemp(t), "home")
	m := open(t, worktree.Options{Repo: repo, Home: home, Leftover: worktree.Keep})
	p := acquire(t, m, worktree.Worktree)
	begin(t, p, worktree.Work{ID: "work"})
	write(t, filepath.Join(p.Root(), "x"), "x\n")
	res := end(t, p)
	list, err := m.Recoveries(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []worktree.Recovery{{Ref: res.Leftover, Place: "worktree-1", Work: "work", What: "files that were not committed"}}
	if diff := cmp.Diff(want, list, cmpopts.IgnoreFields(worktree.Recovery{}, "Commit", "Made", "Expires")); diff != "" {
		t.Fatal(diff)
	}
	if got := list[0].Expires.Sub(list[0].Made); got != 30*24*time.Hour {
		t.Errorf("kept for %v", got)
	}
	if removed := clean(t, m, worktree.CleanOptions{}); len(removed) != 1 || removed[0].Ref != "" {
		t.Errorf("removed %+v", removed) // the branch, which has nothing
	}
	forever := open(t, worktree.Options{Repo: repo, Home: home, Keep: -1})
	if removed := clean(t, forever, worktree.CleanOptions{}); len(removed) != 0 {
		t.Errorf("removed %+v", removed)
	}
	short := open(t, worktree.Options{Repo: repo, Home: home, Keep: time.Nanosecond})
	for _, dry := range []bool{true, false} {
		if removed := clean(t, short, worktree.CleanOptions{DryRun: dry}); len(removed) != 1 || removed[0].Ref != res.Leftover {
			t.Errorf("removed %+v", removed)
		}
	}
	if list, err := m.Recoveries(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("left %+v, %v", list, err)
	}
}

func TestRecoverRefusesNames(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	m := open(t, worktree.Options{Repo: repo, Leftover: worktree.Keep})
	p := acquire(t, m, worktree.Worktree)
	begin(t, p, worktree.Work{ID: "work"})
	write(t, filepath.Join(p.Root(), "x"), "x\n")
	ref := end(t, p).Leftover
	for _, test := range []struct{ ref, branch string }{
		{"refs/heads/main", "new"}, {"HEAD", "new"}, {"", "new"},
		{"refs/claude-pool/recovery/../../heads/main", "new"},
		{ref + "^{tree}", "new"}, {ref + "~1", "new"}, {ref + "x", "new"},
		{ref, "main"}, {ref, ""}, {ref, "-d"}, {ref, "a b"}, {ref, "../x"}, {ref, "x.lock"}, {ref, "x\ny"},
	} {
		if err := m.Recover(t.Context(), test.ref, test.branch); err == nil {
			t.Errorf("%q on %q: no error", test.ref, test.branch)
		}
	}
	if got := sh(t, repo, "git for-each-ref --format='%(refname)' refs/heads"); got != "refs/heads/claude-pool/work\nrefs/heads/main" {
		t.Errorf("branches %s", got)
	}
}

func TestBeginNames(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	m := open(t, worktree.Options{Repo: repo})
	p := acquire(t, m, worktree.Worktree)
	for _, id := range []string{"", "-x", "a/b", "..", "a..b", "a b", "x.lock", ".x", "a\nb", `a\b`, "@{", "a~1", strings.Repeat("x", 300)} {
		for _, w := range []worktree.Work{{ID: id}, {ID: "fine", From: id}} {
			if w.From == "" && w.ID == "fine" {
				continue
			}
			if _, ok := errors.AsType[*worktree.InvalidError](p.Begin(t.Context(), w)); !ok {
				t.Errorf("%+v was taken", w)
			}
		}
	}
	if err := p.Begin(t.Context(), worktree.Work{ID: "fine", From: "nope"}); !errors.Is(err, worktree.ErrUnknown) {
		t.Errorf("error %v; want %v", err, worktree.ErrUnknown)
	}
	if err := p.Begin(t.Context(), worktree.Work{ID: "fine", Base: "nope"}); !errors.Is(err, worktree.ErrNoCommit) {
		t.Errorf("error %v; want %v", err, worktree.ErrNoCommit)
	}
	begin(t, p, worktree.Work{ID: "task-01.a_ü"})
	end(t, p)
	if _, err := p.End(t.Context()); !errors.Is(err, worktree.ErrNoWork) {
		t.Errorf("error %v; want %v", err, worktree.ErrNoWork)
	}
	release(t, p)
	if err := p.Begin(t.Context(), worktree.Work{ID: "x"}); !errors.Is(err, worktree.ErrClosed) {
		t.Errorf("error %v; want %v", err, worktree.ErrClosed)
	}
	if got := sh(t, repo, "git branch --list 'claude-pool/*'"); got != "  claude-pool/task-01.a_ü" {
		t.Errorf("branches %q", got)
	}
}

func TestP6AnotherAttemptKeepsTheFirst(t *testing.T) {
	t.Parallel()
	kinds(t, func(t *testing.T, kind worktree.Kind) {
		repo := newRepo(t)
		m := open(t, worktree.Options{Repo: repo})
		p := acquire(t, m, kind)
		begin(t, p, worktree.Work{ID: "work"})
		write(t, filepath.Join(p.Root(), "first"), "1\n")
		end(t, p)
		sh(t, repo, "echo moved >file; git commit -qam moved")
		begin(t, p, worktree.Work{ID: "work"}) // from a fresh base
		if got := sh(t, p.Root(), "cat file; ls first 2>/dev/null || true"); got != "moved" {
			t.Errorf("began with %q", got)
		}
		write(t, filepath.Join(p.Root(), "second"), "2\n")
		end(t, p)
		begin(t, p, worktree.Work{ID: "work", From: "work"}) // goes on, and rewrites what there is
		sh(t, p.Root(), "echo 3 >second; git commit -qa --amend -m 3")
		if res := end(t, p); res.Total != 1 || res.Files != 1 {
			t.Errorf("result %+v", res)
		}
		wantKept(t, repo, "1", "2", "3")
		if sh(t, repo, "git show claude-pool/work:second") != "3" {
			t.Error("the branch has not what was written last")
		}
		// A branch that a person has checked out is not pulled away.
		co := filepath.Join(realTemp(t), "co")
		sh(t, repo, "git worktree add -q "+co+" claude-pool/work")
		if err := p.Begin(t.Context(), worktree.Work{ID: "work"}); !errors.Is(err, worktree.ErrInUse) {
			t.Errorf("error %v; want %v", err, worktree.ErrInUse)
		}
	})
}

func TestP6CloneDoesNotOverwriteWhatOthersCommitted(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	m := open(t, worktree.Options{Repo: repo})
	p := acquire(t, m, worktree.Clone)
	begin(t, p, worktree.Work{ID: "work"})
	sh(t, repo, "git checkout -q claude-pool/work; echo theirs >theirs; git add theirs; git commit -qm theirs; git checkout -q main")
	write(t, filepath.Join(p.Root(), "ours"), "ours\n")
	if res := end(t, p); len(res.Recovery) != 1 {
		t.Errorf("recovery refs %q", res.Recovery)
	}
	sh(t, repo, "git reflog expire --expire=now --all; git gc -q --prune=now")
	wantKept(t, repo, "theirs", "ours")
}

func TestP6WhatIsWrittenBetweenTwoWorksIsKept(t *testing.T) {
	t.Parallel()
	kinds(t, func(t *testing.T, kind worktree.Kind) {
		repo := newRepo(t)
		p := acquire(t, open(t, worktree.Options{Repo: repo}), kind)
		begin(t, p, worktree.Work{ID: "one"})
		end(t, p)
		write(t, filepath.Join(p.Root(), "file"), "between\n")
		write(t, filepath.Join(p.Root(), "new"), "untracked\n")
		sh(t, repo, "echo moved >file; echo added >new; git add .; git commit -qm moved")
		begin(t, p, worktree.Work{ID: "two"})
		if got := sh(t, p.Root(), "cat file new; git status --porcelain"); got != "moved\nadded" {
			t.Errorf("began with %q", got)
		}
		end(t, p)
		write(t, filepath.Join(p.Root(), "file"), "at the same commit\n")
		begin(t, p, worktree.Work{ID: "three"})
		end(t, p)
		wantKept(t, repo, "between", "untracked", "at the same commit")
	})
}

func TestP6WhatIsCommittedBetweenTwoWorksIsKept(t *testing.T) {
	t.Parallel()
	commit := func(text string) string {
		return "echo " + text + " >file; git commit -qam between; "
	}
	kinds(t, func(t *testing.T, kind worktree.Kind) {
		repo := newRepo(t)
		p := acquire(t, open(t, worktree.Options{Repo: repo}), kind)
		for i, script := range []string{commit("ahead"), commit("reset") + "git reset -q --hard HEAD~1", "git checkout -q -b mine; " + commit("branch") + "git checkout -q --detach HEAD~1"} {
			sh(t, p.Root(), script)
			begin(t, p, worktree.Work{ID: fmt.Sprint("work", i)})
			end(t, p)
		}
		sh(t, repo, "git reflog expire --expire=now --all; git gc -q --prune=now")
		wantKept(t, repo, "ahead", "reset", "branch")
	})
}

func TestP6CheckedOutBranchOfACloneIsNotMoved(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	p := acquire(t, open(t, worktree.Options{Repo: repo}), worktree.Clone)
	begin(t, p, worktree.Work{ID: "work"})
	sh(t, repo, "git config receive.denyCurrentBranch updateInstead; git checkout -q claude-pool/work")
	before := sh(t, repo, "git rev-parse HEAD") + fmt.Sprint(fingerprint(t, repo))
	write(t, filepath.Join(p.Root(), "new"), "new\n")
	if res := end(t, p); len(res.Recovery) != 1 || res.Total != 0 {
		t.Errorf("result %+v; want the commit on a recovery ref", res)
	}
	if diff := cmp.Diff(before, sh(t, repo, "git rev-parse HEAD")+fmt.Sprint(fingerprint(t, repo))); diff != "" {
		t.Errorf("the person's checkout has changed:\n%s", diff)
	}
	wantKept(t, repo, "new")
}

// What an agent has hidden from git and removed is there for the next again.
func TestP9WorkBeginsWithAllFilesOfItsCommit(t *testing.T) {
	t.Parallel()
	checkouts := map[string]string{"whole": "", "sparse": "git sparse-checkout set --no-cone '/*' '!/sub/two'"}
	for name, script := range checkouts {
		for _, hide := range []string{"--skip-worktree", "--assume-unchanged"} {
			t.Run(name+hide, func(t *testing.T) {
				t.Parallel()
				kinds(t, func(t *testing.T, kind worktree.Kind) {
					repo := newRepo(t)
					sh(t, repo, script)
					p := acquire(t, open(t, worktree.Options{Repo: repo}), kind)
					begin(t, p, worktree.Work{ID: "one"})
					want := tree(t, p.Root())
					sh(t, p.Root(), "git update-index "+hide+" file sub/deep/three; rm -r file sub/deep")
					end(t, p)
					begin(t, p, worktree.Work{ID: "two"})
					if diff := cmp.Diff(want, tree(t, p.Root())); diff != "" {
						t.Errorf("the next work begins with other files:\n%s", diff)
					}
					release(t, p)
				})
			})
		}
	}
}

func TestLinkToAnotherRepositoryLeavesThatAlone(t *testing.T) {
	t.Parallel()
	repo, other := newRepo(t), newRepo(t)
	write(t, filepath.Join(other, "dirty"), "d\n")
	before := tree(t, other)
	m := open(t, worktree.Options{Repo: repo})
	p := acquire(t, m, worktree.Worktree)
	begin(t, p, worktree.Work{ID: "work"})
	sh(t, p.Root(), "rm -r sub; ln -s "+other+" sub; ln -s "+other+" more; echo n >n")
	if res := end(t, p); res.Files != 5 || len(res.Recovery) != 0 {
		t.Errorf("result %+v", res)
	}
	release(t, p)
	clean(t, m, worktree.CleanOptions{})
	if diff := cmp.Diff(before, tree(t, other)); diff != "" {
		t.Errorf("the other repository has changed:\n%s", diff)
	}
	sh(t, other, "git rev-parse -q --verify HEAD; test -f .git/index")
}

func TestEndStopsWithItsContext(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	m := open(t, worktree.Options{Repo: repo})
	p := acquire(t, m, worktree.Worktree)
	begin(t, p, worktree.Work{ID: "work"})
	write(t, filepath.Join(p.Root(), "x"), "x\n")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.End(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if res := end(t, p); res.Files != 1 {
		t.Errorf("result %+v", res)
	}
}

// TestCloneBeginsOnItsBranch: also when the place has to be cleared of what the
// work before had as a submodule, and all branches of the clone with it.
func TestCloneBeginsOnItsBranch(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	p := acquire(t, open(t, worktree.Options{Repo: repo}), worktree.Clone)
	begin(t, p, worktree.Work{ID: "one"})
	sh(t, p.Root(), `git init -q sub/nested; cd sub/nested; git config user.name A; git config user.email a@b.c; echo n >n; git add n; git commit -qm n; cd ../..; git add -A; git commit -qm nested`)
	end(t, p)
	begin(t, p, worktree.Work{ID: "two"})
	if got := sh(t, p.Root(), "git symbolic-ref HEAD; git rev-parse HEAD; git status --porcelain"); got != "refs/heads/claude-pool/two\n"+sh(t, repo, "git rev-parse HEAD") {
		t.Errorf("began with %s", got)
	}
	write(t, filepath.Join(p.Root(), "new"), "n\n")
	if res := end(t, p); res.Total != 1 {
		t.Errorf("result %+v; want a commit on top of the base", res)
	}
}

// TestKilledInBegin has a place of which only the mark knows of the work that began.
func TestKilledInBegin(t *testing.T) {
	t.Parallel()
	kinds(t, func(t *testing.T, kind worktree.Kind) {
		repo, home := newRepo(t), filepath.Join(realTemp(t), "home")
		m := open(t, worktree.Options{Repo: repo, Home: home})
		p := acquire(t, m, kind)
		begin(t, p, worktree.Work{ID: "old"})
		write(t, filepath.Join(p.Root(), "new"), "old\n")
		old := end(t, p).Head
		release(t, p)
		gitDir := sh(t, p.Root(), "git rev-parse --absolute-git-dir")
		sh(t, repo, "echo next >file; git commit -qam next")
		next := sh(t, repo, "git rev-parse HEAD")
		mark, err := os.ReadFile(filepath.Join(gitDir, "claudepool.json"))
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"fresh", "old"} {
			work := fmt.Sprintf(`,"work":{"id":"%s","branch":"refs/heads/claude-pool/%[1]s","base":"%s","beginning":true}}`, id, next)
			write(t, filepath.Join(gitDir, "claudepool.json"), strings.TrimSuffix(strings.TrimSpace(string(mark)), "}")+work)
			write(t, filepath.Join(p.Root(), "found-"+id), "found "+id+"\n")
			write(t, filepath.Join(repo, ".git", "refs", "heads", "claude-pool", id+".lock"), "") // of a git that was killed too
			again := acquire(t, m, kind)
			if again.Root() != p.Root() {
				t.Errorf("got %s; want the %s that was left", again.Root(), p.Root())
			}
			begin(t, again, worktree.Work{ID: id, From: id})
			want := map[string]string{"fresh": next, "old": old}[id]
			if got := sh(t, again.Root(), "git rev-parse HEAD; git status --porcelain"); got != want {
				t.Errorf("%s goes on at %s; want %s", id, got, want)
			}
			release(t, again)
			wantKept(t, repo, "found "+id)
		}
	})
}

// TestBeginWaitsForWhoTakesThePlaceOver has work gone on with, after a crash, while
// somebody else is just about to adopt the place that it was left open in.
func TestBeginWaitsForWhoTakesThePlaceOver(t *testing.T) {
	t.Parallel()
	kinds(t, func(t *testing.T, kind worktree.Kind) {
		repo, home := newRepo(t), filepath.Join(realTemp(t), "home")
		owner, root := startRole(t, "work", repo, home, string(kind), "first")
		write(t, filepath.Join(root, "unsaved"), "u\n")
		mine := acquire(t, open(t, worktree.Options{Repo: repo, Home: home}), kind)
		kill(t, owner)
		// A hook lets it take as long as is wanted.
		hook := filepath.Join(repo, ".git", "hooks", "pre-commit")
		write(t, hook, "#!/bin/sh\nd='"+home+"'\ntouch \"$d/entered\"\nwhile [ ! -e \"$d/go\" ]; do sleep 0.05; done\n")
		if err := os.Chmod(hook, 0o755); err != nil {
			t.Fatal(err)
		}
		slow := open(t, worktree.Options{Repo: repo, Home: home, Hooks: true})
		adopted := make(chan error, 1)
		go func() {
			p, err := slow.Acquire(t.Context(), kind)
			if err == nil && p.Root() != root {
				err = fmt.Errorf("got %s; want %s", p.Root(), root)
			}
			adopted <- err
		}()
		sh(t, home, "n=0; while [ ! -e entered ]; do n=$((n+1)); test $n -lt 400; sleep 0.05; done")

		over := errors.New("over")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, over)
		defer cancel()
		if err := mine.Begin(ctx, worktree.Work{ID: "first", From: "first"}); !errors.Is(err, over) {
			t.Errorf("error %v; want to wait until that of the context", err)
		}
		time.AfterFunc(200*time.Millisecond, func() { os.WriteFile(filepath.Join(home, "go"), nil, 0o600) })
		begin(t, mine, worktree.Work{ID: "first", From: "first"})
		if got := sh(t, mine.Root(), "cat unsaved"); got != "u" {
			t.Errorf("continued with %q", got)
		}
		if err := <-adopted; err != nil {
			t.Fatal(err)
		}
		// Work that somebody does is not waited for.
		other := acquire(t, open(t, worktree.Options{Repo: repo, Home: home}), kind)
		begin(t, other, worktree.Work{ID: "second", From: "first"})
		release(t, other)
	})
}
