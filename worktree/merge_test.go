//go:build unix

package worktree

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestStrategies has commits with authors and dates of their own come to a target
// that has moved on.
func TestStrategies(t *testing.T) {
	t.Parallel()
	for way, g := range gitWays(t) {
		for _, tt := range []struct {
			strategy Strategy
			message  string
			want     string // author, date, subject and number of parents, the newest first
		}{
			{Merge, "", "A Person|now|Merge branch 'work' into main|2\nO. Ther <o@x>|2001-02-03 04:05:06 +0700|two|1\nA. Uthor <a@x>|2001-01-01 01:01:01 -0330|one|1"},
			{Merge, "  as asked\n\nmore\n", "A Person|now|as asked|2\nO. Ther <o@x>|2001-02-03 04:05:06 +0700|two|1\nA. Uthor <a@x>|2001-01-01 01:01:01 -0330|one|1"},
			{Squash, "", "O. Ther <o@x>|2001-02-03 04:05:06 +0700|Merge branch 'work' as one commit|1"},
			{Squash, "as asked", "O. Ther <o@x>|2001-02-03 04:05:06 +0700|as asked|1"},
			{Rebase, "", "O. Ther <o@x>|2001-02-03 04:05:06 +0700|two|1\nA. Uthor <a@x>|2001-01-01 01:01:01 -0330|one|1"},
		} {
			t.Run(way+"/"+string(tt.strategy)+tt.message, func(t *testing.T) {
				t.Parallel()
				b := newBench(t, g)
				b.git("checkout", "-q", "work")
				b.commitAs("A. Uthor", "2001-01-01T01:01:01-0330", "one")
				b.git("commit", "-q", "--allow-empty", "-m", "nothing") // only a merge has it
				b.commitAs("O. Ther", "2001-02-03T04:05:06+0700", "two")
				b.git("checkout", "-q", "--detach")
				before := b.add("main", "m", "m\n")

				res := b.mustMerge(MergeRequest{Strategy: tt.strategy, Message: tt.message})
				b.checkClean()
				want := MergeResult{
					Branch: "work", Target: "main", Strategy: tt.strategy, Before: before, After: b.tip("main"),
					Merged: true, Files: 2, Insertions: 2,
				}
				if diff := cmp.Diff(want, res); diff != "" {
					t.Errorf("result (-want +got):\n%s", diff)
				}
				var got []string
				for line := range strings.Lines(b.git("log", "--topo-order", "--format=%an <%ae>|%ai|%s|%p", before+"..main")) {
					words := strings.Split(strings.TrimSpace(line), "|")
					if words[0] == "A Person <person@example.com>" {
						words[0], words[1] = "A Person", "now"
					}
					words[3] = fmt.Sprint(len(strings.Fields(words[3])))
					if words[2] != "nothing" {
						got = append(got, strings.Join(words, "|"))
					}
				}
				if diff := cmp.Diff(tt.want, strings.Join(got, "\n")); diff != "" {
					t.Errorf("log (-want +got):\n%s", diff)
				}
				if who := b.git("log", "-1", "--format=%cn <%ce>", "main"); who != "A Person <person@example.com>" {
					t.Errorf("committer is %s", who)
				}
				if tt.strategy == Squash && tt.message == "" {
					if got, want := b.git("log", "-1", "--format=%b", "main"), "- one\n- nothing\n- two\n\nCo-authored-by: A. Uthor <a@x>\nCo-authored-by: A Person <person@example.com>\n"; got != want {
						t.Errorf("body is %q, want %q", got, want)
					}
				}
				b.git("fsck", "--no-dangling", "--no-progress")

				again := b.mustMerge(MergeRequest{Strategy: tt.strategy})
				if !again.Already || again.Merged || b.tip("main") != res.After {
					t.Errorf("merged again: %+v", again)
				}
			})
		}
	}
}

// commitAs commits a file of the name of its message.
func (b *mergeBench) commitAs(who, when, message string) {
	b.t.Helper()
	b.write(message, message+"\n")
	b.git("add", "-A")
	mail := strings.ToLower(who[:1]) + "@x"
	b.git("commit", "-q", "--author="+who+" <"+mail+">", "--date="+when, "-m", message)
}

// TestTargetMovesForward has no commit made where none is needed.
func TestTargetMovesForward(t *testing.T) {
	t.Parallel()
	for _, strategy := range []Strategy{Merge, Rebase} {
		b := bench(t)
		head := b.add("work", "w", "w\n")
		res := b.mustMerge(MergeRequest{Strategy: strategy})
		if res.After != head || b.tip("main") != head {
			t.Errorf("%s: main is at %s, want that of the work, %s", strategy, b.tip("main"), head)
		}
	}
}

// TestSquashOfOneCommitKeepsItsMessage has no other made up.
func TestSquashOfOneCommitKeepsItsMessage(t *testing.T) {
	t.Parallel()
	b := bench(t)
	b.git("checkout", "-q", "work")
	b.write("w", "w\n")
	b.commit("why\n\nbecause")
	b.git("checkout", "-q", "--detach")
	b.mustMerge(MergeRequest{Strategy: Squash})
	if got := b.git("log", "-1", "--format=%B", "main"); strings.TrimSpace(got) != "why\n\nbecause" {
		t.Errorf("message is %q", got)
	}
}

// TestSquashNamesAllAuthors has those of commits and those that they name, in the
// encoding of its own message.
func TestSquashNamesAllAuthors(t *testing.T) {
	t.Parallel()
	b := bench(t)
	b.git("checkout", "-q", "work")
	b.write("w", "1\n")
	b.commit("one\n\nCo-Authored-By: An Agent <agent@example.com>\nco-authored-by: J\u00f6rg <j@x>")
	b.git("config", "i18n.commitEncoding", "ISO-8859-1")
	b.write("w", "2\n")
	b.git("commit", "-qam", "two", "--author=J\xf6rg <j@x>")
	b.git("config", "--unset", "i18n.commitEncoding")
	b.git("checkout", "-q", "--detach")
	b.mustMerge(MergeRequest{Strategy: Squash})
	if got, want := b.git("log", "-1", "--format=%an: %B", "main"), "J\u00f6rg: Merge branch 'work' as one commit\n\n- one\n- two\n\nCo-authored-by: A Person <person@example.com>\nCo-authored-by: An Agent <agent@example.com>\n"; got != want {
		t.Errorf("commit %q, want %q", got, want)
	}
}

// TestAlready has nothing happen where the target has the work, however it came
// there.
func TestAlready(t *testing.T) {
	t.Parallel()
	for name, arrange := range map[string]func(*mergeBench){
		"no commits": func(*mergeBench) {},
		"behind":     func(b *mergeBench) { b.add("main", "m", "m\n") },
		"merged and moved on": func(b *mergeBench) {
			b.add("work", "w", "w\n")
			b.mustMerge(MergeRequest{})
			b.add("main", "m", "m\n")
		},
		"squashed and moved on": func(b *mergeBench) {
			b.add("work", "w", "1\n")
			b.add("work", "w", "2\n")
			b.add("main", "m", "1\n")
			b.mustMerge(MergeRequest{Strategy: Squash})
			b.add("main", "m", "2\n")
		},
		"rebased and moved on": func(b *mergeBench) {
			b.add("work", "w", "1\n")
			b.add("work", "w", "2\n")
			b.add("main", "m", "1\n")
			b.mustMerge(MergeRequest{Strategy: Rebase})
			b.add("main", "m", "2\n")
		},
		"commits that undo each other": func(b *mergeBench) {
			b.add("main", "m", "1\n")
			b.on("work", func() { b.write("w", "w\n") })
			b.on("work", func() { b.git("rm", "-q", "w") })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := bench(t)
			arrange(b)
			main := b.tip("main")
			for _, strategy := range Strategies() {
				if name == "commits that undo each other" && strategy == Rebase {
					continue // they are commits that can be replayed
				}
				res := b.mustMerge(MergeRequest{Strategy: strategy, Check: []string{"false"}})
				if !res.Already || res.Merged || res.After != main || b.tip("main") != main {
					t.Errorf("%s: %+v, main was at %s and is at %s", strategy, res, main, b.tip("main"))
				}
			}
		})
	}
}

// TestRebaseOfWorkThatHasMergedItsTarget has work land in which a conflict was
// settled by a merge commit, and nothing of that lost.
func TestRebaseOfWorkThatHasMergedItsTarget(t *testing.T) {
	t.Parallel()
	for way, g := range gitWays(t) {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, g)
			b.add("work", "base", "w\n")
			before := b.add("main", "base", "m\n")
			if _, err := b.merge(MergeRequest{Strategy: Rebase}); !errors.Is(err, ErrConflict) {
				t.Fatalf("error %v, want a conflict", err)
			}
			b.git("checkout", "-q", "work")
			if _, err := b.repo.Run(t.Context(), "merge", "-q", "main"); err == nil {
				t.Fatal("git merged what conflicts")
			}
			b.write("base", "both\n")
			b.write("more", "of the merge\n")
			b.commit("merged")
			b.git("checkout", "-q", "--detach")
			b.mustMerge(MergeRequest{Strategy: Rebase})
			if got := b.show("main", "base") + b.show("main", "more"); got != "both\nof the merge\n" {
				t.Errorf("main has %q", got)
			}
			if parent := b.git("rev-parse", "main^"); parent != before || b.git("rev-list", "--merges", "main") != "" {
				t.Errorf("not one commit on the target:\n%s", b.git("log", "--graph", "--oneline", "main"))
			}
		})
	}
}

// TestRebaseLeavesOutWhatTheTargetHas has work go on after some of it was merged.
func TestRebaseLeavesOutWhatTheTargetHas(t *testing.T) {
	t.Parallel()
	for way, g := range gitWays(t) {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, g)
			b.add("work", "f", "1\n")
			b.add("main", "m", "m\n")
			b.mustMerge(MergeRequest{Strategy: Rebase})
			before := b.tip("main")
			b.add("work", "f", "2\n")
			b.mustMerge(MergeRequest{Strategy: Rebase})
			if n := b.git("rev-list", "--count", before+"..main"); n != "1" || b.show("main", "f") != "2\n" {
				t.Errorf("%s new commits, and f is %q", n, b.show("main", "f"))
			}
		})
	}
}

// TestRebaseKeepsBytes has messages of other encodings, and a history with a
// second root, come through.
func TestRebaseKeepsBytes(t *testing.T) {
	t.Parallel()
	for way, g := range gitWays(t) {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, g)
			b.git("checkout", "-q", "work")
			b.write("w", "w\n")
			b.git("add", "-A")
			b.git("-c", "i18n.commitEncoding=ISO-8859-1", "commit", "-q", "-m", "caf\xe9")
			tree := b.git("rev-parse", "work^{tree}")
			root := b.git("commit-tree", "-m", "root", tree)
			b.git("reset", "-q", "--hard", b.git("commit-tree", "-m", "joined", "-p", "work", "-p", root, tree))
			b.git("checkout", "-q", "--detach")
			b.add("main", "m", "m\n")
			b.mustMerge(MergeRequest{Strategy: Rebase})
			raw := b.git("cat-file", "commit", "main")
			if !strings.Contains(raw, "encoding ISO-8859-1\n") || !strings.HasSuffix(raw, "\n\ncaf\xe9") {
				t.Errorf("commit is %q", raw)
			}
		})
	}
}

// TestDryRun has everything found out and nothing moved.
func TestDryRun(t *testing.T) {
	t.Parallel()
	b := bench(t)
	b.add("work", "w", "w\n")
	before := b.add("main", "m", "m\n")
	res := b.mustMerge(MergeRequest{DryRun: true, Check: []string{"sh", "-c", "cat m w"}})
	if res.Merged || !res.DryRun || res.After == before || res.CheckOutput != "m\nw\n" || res.Files != 1 || res.Insertions != 1 {
		t.Errorf("result %+v", res)
	}
	if got := b.show(res.After, "w"); got != "w\n" {
		t.Errorf("w would be %q", got)
	}
	if b.tip("main") != before {
		t.Error("the target has moved")
	}
	b.checkClean()
}

// TestTargetsThatAreNone are refused with the reason.
func TestTargetsThatAreNone(t *testing.T) {
	t.Parallel()
	b := bench(t)
	b.add("work", "w", "w\n")
	b.git("update-ref", "refs/remotes/origin/main", "main")
	b.git("tag", "v1", "main")
	b.git("symbolic-ref", "refs/heads/odd", "refs/tags/v1")
	b.git("checkout", "-q", "work")
	b.git("checkout", "-q", "--detach")
	for _, tt := range []struct {
		req  MergeRequest
		is   error
		want string
	}{
		{MergeRequest{Target: "origin/main"}, ErrUnknown, "a branch of a remote"},
		{MergeRequest{Target: "v1"}, ErrUnknown, "a tag"},
		{MergeRequest{Target: "refs/heads/main"}, ErrUnknown, "named without refs/heads/: main"},
		{MergeRequest{Target: "nowhere"}, ErrUnknown, "no local branch nowhere"},
		{MergeRequest{Target: "HEAD~1"}, nil, "no name of a branch"},
		{MergeRequest{Target: "@{-1}"}, nil, "no name of a branch"},
		{MergeRequest{Target: "-d"}, nil, "no name of a branch"},
		{MergeRequest{Target: "a..b"}, nil, "no name of a branch"},
		{MergeRequest{Target: "odd"}, nil, "stands for refs/tags/v1"},
		{MergeRequest{Target: "work"}, nil, "into itself"},
		{MergeRequest{Branch: "nowhere"}, ErrUnknown, "no local branch nowhere"},
		{MergeRequest{Branch: "-d"}, nil, "no name of a branch"},
		{MergeRequest{Strategy: "octopus"}, nil, `unknown strategy "octopus"`},
		{MergeRequest{CheckedOut: "force"}, nil, `unknown way "force"`},
		{MergeRequest{CheckTimeout: -1}, nil, "must not be negative"},
		{MergeRequest{Check: []string{""}}, nil, "empty name"},
		{MergeRequest{Message: "a\x00b", Strategy: Squash}, nil, "zero byte"},
	} {
		_, err := b.merge(tt.req)
		if err == nil || !strings.Contains(err.Error(), tt.want) || tt.is != nil && !errors.Is(err, tt.is) {
			t.Errorf("%+v: error %v, want %q and %v", tt.req, err, tt.want, tt.is)
		}
	}
	b.checkClean()
}

// TestBranchThatStandsForAnother has that one moved.
func TestBranchThatStandsForAnother(t *testing.T) {
	t.Parallel()
	b := bench(t)
	b.git("symbolic-ref", "refs/heads/trunk", "refs/heads/main")
	head := b.add("work", "w", "w\n")
	b.mustMerge(MergeRequest{Target: "trunk"})
	if b.tip("main") != head || b.git("symbolic-ref", "refs/heads/trunk") != "refs/heads/main" {
		t.Errorf("main is at %s, want %s", b.tip("main"), head)
	}
}

// TestUnrelatedHistories are not merged.
func TestUnrelatedHistories(t *testing.T) {
	t.Parallel()
	for way, g := range gitWays(t) {
		b := newBench(t, g)
		root := b.git("commit-tree", "-m", "root", b.git("rev-parse", "main^{tree}"))
		b.git("branch", "-f", "work", root)
		for _, strategy := range Strategies() {
			if _, err := b.merge(MergeRequest{Strategy: strategy}); !errors.Is(err, ErrUnrelated) {
				t.Errorf("%s %s: error %v", way, strategy, err)
			}
		}
		if _, err := forecast(t.Context(), b.repo, "main", root); !errors.Is(err, ErrUnrelated) {
			t.Errorf("%s forecast: error %v", way, err)
		}
	}
}

// TestForecast touches nothing, not even the object store.
func TestForecast(t *testing.T) {
	t.Parallel()
	for way, g := range gitWays(t) {
		b := newBench(t, g)
		b.add("main", "base", "m\n")
		head := b.add("work", "base", "w\n")
		objects := b.git("count-objects")
		for _, target := range []string{"main", "refs/heads/main"} {
			names, err := forecast(t.Context(), b.repo, target, head)
			if err != nil || !cmp.Equal(names, []string{"base"}) {
				t.Errorf("%s: %q, error %v", way, names, err)
			}
		}
		if now := b.git("count-objects"); now != objects {
			t.Errorf("%s: there were %s and are %s", way, objects, now)
		}
		if _, err := forecast(t.Context(), b.repo, "nowhere", head); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: error %v", way, err)
		}
		if _, err := forecast(t.Context(), b.repo, "main", "--all"); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: error %v", way, err)
		}
	}
}

// TestWithoutIdentity has a commit made where git does not know who the person is.
func TestWithoutIdentity(t *testing.T) {
	t.Parallel()
	b := bench(t)
	b.add("work", "w", "w\n")
	b.add("main", "m", "m\n")
	b.git("config", "--unset", "user.name")
	b.git("config", "--unset", "user.email")
	b.git("config", "user.useConfigOnly", "true")
	b.mustMerge(MergeRequest{})
	if who := b.git("log", "-1", "--format=%an <%ae>", "main"); who != nobody {
		t.Errorf("author is %s", who)
	}
}

// TestMergeRunsNoHooks has none of the repository's run.
func TestMergeRunsNoHooks(t *testing.T) {
	t.Parallel()
	b := bench(t)
	b.add("work", "w", "w\n")
	b.add("main", "m", "m\n")
	ran := filepath.Join(t.TempDir(), "ran")
	for _, hook := range []string{"post-checkout", "post-merge", "pre-commit", "reference-transaction", "post-index-change", "commit-msg"} {
		b.script(filepath.Join(".git", "hooks", hook), "echo "+hook+" >> '"+ran+"'")
	}
	b.git("-c", "core.hooksPath=/dev/null", "checkout", "-q", "main")
	b.mustMerge(MergeRequest{CheckedOut: FastForward, Check: []string{"true"}})
	if b.exists(ran) {
		t.Errorf("hooks have run")
	}
}

// TestP6WhatOnlyLooksLikeMergedIsNot has patches that differ in white space, or in
// which of several places they are for, and the same name for git.
func TestP6WhatOnlyLooksLikeMergedIsNot(t *testing.T) {
	t.Parallel()
	block := func(at int) string {
		lines := strings.SplitAfter(strings.Repeat("func {\n 1\n 2\n 3\n 4\n return\n 5\n 6\n 7\n}\n", 3), "\n")
		return strings.Join(lines[:at], "") + " guard\n" + strings.Join(lines[at:], "")
	}
	for _, tt := range []struct {
		name             string
		base, main, work string
		between          string // what the work has on the way, if anything
		want             string // of the result; empty: it conflicts
	}{
		{"white space", "if x:\n    a\n", "if x:\n    a\nb\n", "if x:\n    a\n    b\n", "", ""},
		{"white space, squashed", "if x:\n    a\n", "if x:\n    a\nb\n", "if x:\n    a\n    b\n", "if x:\n    a\n  q\n", ""},
		{"another place", strings.Replace(block(5), " guard\n", "", 1), block(5), block(25), "", strings.Replace(block(25), " return\n", " guard\n return\n", 1)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := bench(t)
			b.add("main", "f", tt.base)
			b.git("branch", "-f", "claude-pool/w1", "main")
			if tt.between != "" {
				b.add("claude-pool/w1", "f", tt.between)
			}
			b.add("claude-pool/w1", "f", tt.work)
			b.add("main", "f", tt.main)
			m := b.manager(Options{Target: "main"})
			if removed, err := m.Clean(t.Context(), CleanOptions{}); err != nil || len(removed) > 0 {
				t.Errorf("Clean = %+v, %v", removed, err)
			}
			_, err := b.merge(MergeRequest{Branch: "claude-pool/w1", Strategy: Rebase})
			if got := b.show("main", "f"); tt.want == "" && !errors.Is(err, ErrConflict) || tt.want != "" && got != tt.want {
				t.Errorf("rebase: %v; main has %q", err, got)
			}
		})
	}
}

// TestMergedWhateverThePersonHasSet has squashed work known as such.
func TestMergedWhateverThePersonHasSet(t *testing.T) {
	t.Parallel()
	for _, set := range []string{"diff.noprefix=true", "diff.mnemonicPrefix=true", "diff.context=5", "diff.orderFile=order", "log.follow=true", "color.ui=always"} {
		t.Run(set, func(t *testing.T) {
			t.Parallel()
			b := bench(t)
			rows := strings.Repeat("l\n", 20)
			b.on("main", func() { b.write("f", rows+"x\n"+rows); b.write("order", "g\nf\n") })
			b.git("branch", "claude-pool/w1", "main")
			b.add("claude-pool/w1", "f", "t\n"+rows+"y\n"+rows)
			b.add("claude-pool/w1", "g", "w\n")
			b.add("main", "f", rows+"x\n"+rows+"end\n")
			name, value, _ := strings.Cut(set, "=")
			b.git("config", name, value)
			m := b.manager(Options{Target: "main"})
			b.mustMerge(MergeRequest{Branch: "claude-pool/w1", Strategy: Squash})
			b.add("main", "f", "all new\n")
			removed, err := m.Clean(t.Context(), CleanOptions{})
			if err != nil || len(removed) != 1 || removed[0].Branch != "claude-pool/w1" {
				t.Errorf("Clean = %+v, %v", removed, err)
			}
		})
	}
}

// TestWorkIsKeptWithoutAForecast has work end where conflicts cannot be looked for.
func TestWorkIsKeptWithoutAForecast(t *testing.T) {
	b := bench(t)
	m := b.manager(Options{Base: "main", Target: "main"})
	p, err := m.Acquire(t.Context(), Worktree)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Begin(t.Context(), Work{ID: "w1"}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.Root(), "w"), []byte("w\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.add("main", "m", "m\n")
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "nowhere"))
	if res, err := p.End(t.Context()); err != nil || res.Total != 1 || res.Target != "" {
		t.Errorf("End = %+v, %v; want the work, and no target", res, err)
	}
}

// TestMergeWithoutLFS has a check run where the person's settings ask for a program
// that is not there any more.
func TestMergeWithoutLFS(t *testing.T) {
	t.Parallel()
	if hasLFS() {
		t.Skip("git-lfs is there")
	}
	b := bench(t)
	b.on("main", func() { b.write("big", "pointer\n"); b.write(".gitattributes", "big filter=lfs\n") })
	b.git("branch", "-f", "work", "main")
	b.add("work", "w", "w\n")
	b.git("config", "filter.lfs.process", "git-lfs filter-process")
	b.git("config", "filter.lfs.required", "true")
	m := b.manager(Options{Target: "main"})
	if res, err := m.Merge(t.Context(), MergeRequest{Branch: "work", Check: []string{"test", "-f", "big"}}); err != nil || !res.Merged {
		t.Errorf("Merge = %+v, %v", res, err)
	}
}
