//go:build unix

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"

	"github.com/claudepool/claudepool/bench/worktree/internal/check"
)

// agent does in a place what an agent might.
type agent struct {
	*rand.Rand
	say   func(check.Line)
	stash func() (unlock func()) // worktrees share the stash
	name  string                 // unique among all agents of a repository
	root  string
	clone bool

	// again says that this work goes on with a branch that was told of as a
	// result: it is not the agent's to take commits from it, where the branch is
	// not a clone's own.
	again bool

	n       int
	inv     *check.Inventory
	refs    []string // branches that it has made
	stashes []string // that it has made
}

func (a *agent) chance(percent int) bool { return a.IntN(100) < percent }

// fresh returns content that was never written before.
func (a *agent) fresh() []byte {
	a.n++
	text := fmt.Sprintf("%s wrote this as its number %d, %x\n", a.name, a.n, a.Uint64())
	switch a.IntN(12) {
	case 0:
		text = strings.Repeat(text, 3000)
	case 1:
		text += "\x00\xff\r\nnot text\r"
	}
	return []byte(text)
}

// git runs git in the place. That it fails is nothing special: an agent has
// brought the place into that state.
func (a *agent) git(ctx context.Context, args ...string) error {
	return a.gitIn(ctx, "", args...)
}

func (a *agent) gitIn(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = filepath.Join(a.root, dir)
	return cmd.Run()
}

func (a *agent) output(ctx context.Context, args ...string) string {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = a.root
	out, _ := cmd.Output()
	return strings.TrimSpace(string(out))
}

// begin looks at what the place has at the begin of work.
func (a *agent) begin(ctx context.Context) (err error) {
	a.refs, a.stashes = nil, nil
	return a.look(ctx)
}

func (a *agent) look(ctx context.Context) (err error) {
	inv, err := check.Scan(ctx, a.root, a.clone, a.refs)
	if err != nil {
		return err
	}
	inv.Tips = append(inv.Tips, a.stashes...)
	a.inv = inv
	return nil
}

// same says when something else than the agent has changed its files.
func (a *agent) same() error {
	now, err := check.Files(a.root, a.inv)
	if err != nil {
		return err
	}
	if !reflect.DeepEqual(now.Files, a.inv.Files) {
		a.say(check.Line{Op: check.OpFailed, Text: fmt.Sprintf("P6: the files in %s were changed while its agent did nothing: they were %v, and are %v", a.root, a.inv.Files, now.Files)})
	}
	return nil
}

// files does something with files by their paths, and with nothing else.
func (a *agent) files(what string, do func(), paths ...string) error {
	if err := a.same(); err != nil {
		return err
	}
	l := check.Line{Op: check.OpDoing, Root: a.root, What: what}
	for _, p := range paths {
		l.Paths = append(l.Paths, check.Name(p))
	}
	a.say(l)
	do()
	now, err := check.Files(a.root, a.inv)
	if err != nil {
		return err
	}
	a.inv = now
	a.say(check.Line{Op: check.OpDid, Root: a.root, What: what, Inv: now})
	return nil
}

// all does something that may change everything.
func (a *agent) all(ctx context.Context, what string, do func()) error {
	if err := a.same(); err != nil {
		return err
	}
	a.say(check.Line{Op: check.OpDoing, Root: a.root, What: what, All: true})
	do()
	if err := a.look(ctx); err != nil {
		return err
	}
	a.say(check.Line{Op: check.OpDid, Root: a.root, What: what, Inv: a.inv})
	return nil
}

// names are of all kinds that a file may have.
func names() []string {
	all := []string{
		"a.txt", "b.txt", "dir/c.txt", "dir/d.txt", "dir/sub/e.txt", "with space.txt", "ünï/cödé ñ.txt", "line\nfeed.txt", "-dash", "tab\tand \"quote\".txt",
		"*glob?[x].txt", ":(top)magic", "deep/er/and/deep/er/f", "#hash", "trailing ", ".hidden", "back\\slash", "dir/.gitkeep",
	}
	if runtime.GOOS == "linux" {
		all = append(all, "no utf-8 \xff.txt", "A.TXT")
	}
	return all
}

// path returns a path that may or may not be there.
func (a *agent) path() string {
	all := names()
	if a.chance(30) {
		a.n++
		return fmt.Sprintf("new/%s-%d", a.name, a.n)
	}
	return all[a.IntN(len(all))]
}

// there returns the path of a file that is there.
func (a *agent) there() string {
	var all []string
	for _, p := range append(names(), "README", "nested/one", "nested/two", "nested/three") {
		if _, err := os.Lstat(filepath.Join(a.root, p)); err == nil {
			all = append(all, p)
		}
	}
	if len(all) == 0 {
		return "a.txt"
	}
	return all[a.IntN(len(all))]
}

func (a *agent) full(path string) string { return filepath.Join(a.root, path) }

// write writes a file. That it cannot, as a file is where a folder should be, is
// nothing special.
func (a *agent) write(path string) {
	os.MkdirAll(filepath.Dir(a.full(path)), 0o755)
	if info, err := os.Lstat(a.full(path)); err == nil && !info.Mode().IsRegular() {
		return // never through a link
	}
	os.WriteFile(a.full(path), a.fresh(), 0o644)
}

// act does something at random.
func (a *agent) act(ctx context.Context) error {
	switch n := a.IntN(100); {
	case n < 45:
		return a.actFiles()
	case n < 80:
		return a.actGit(ctx)
	default:
		return a.actBadly(ctx)
	}
}

func (a *agent) actFiles() error {
	path := a.path()
	switch a.IntN(12) {
	case 0:
		from := a.there()
		return a.files("append", func() {
			if info, err := os.Lstat(a.full(from)); err == nil && info.Mode().IsRegular() {
				if f, err := os.OpenFile(a.full(from), os.O_APPEND|os.O_WRONLY, 0); err == nil {
					f.Write(a.fresh())
					f.Close()
				}
			}
		}, from)
	case 1:
		from := a.there()
		return a.files("delete", func() { os.Remove(a.full(from)) }, from)
	case 2:
		from := a.there()
		return a.files("rename", func() {
			os.MkdirAll(filepath.Dir(a.full(path)), 0o755)
			os.Rename(a.full(from), a.full(path))
		}, from, path)
	case 3:
		targets := []string{"a.txt", "dir", "nowhere", "../../outside/decoy", "/dev/null", a.root + "/../../../../outside", "."}
		to := targets[a.IntN(len(targets))]
		return a.files("symlink", func() {
			os.MkdirAll(filepath.Dir(a.full(path)), 0o755)
			os.Remove(a.full(path))
			os.Symlink(to, a.full(path))
		}, path)
	case 4:
		from := a.there()
		return a.files("mode", func() {
			if info, err := os.Lstat(a.full(from)); err == nil && info.Mode().IsRegular() {
				os.Chmod(a.full(from), info.Mode().Perm()^0o111)
			}
		}, from)
	case 5:
		ignored := []string{"x.ign", "cache/y", "dir/z.ign", ".env", "cache/deep/er/file"}[a.IntN(5)]
		return a.files("ignored", func() { a.write(ignored) }, ignored)
	case 6:
		from := a.there()
		return a.files("a folder for a file", func() {
			os.Remove(a.full(from))
			a.write(from + "/inside")
		}, from)
	case 7:
		return a.files("a file for a folder", func() {
			os.RemoveAll(a.full("dir"))
			os.WriteFile(a.full("dir"), a.fresh(), 0o644)
		}, "dir")
	case 8:
		return a.files("empty", func() { os.WriteFile(a.full("empty"), nil, 0o644) }, "empty")
	default:
		return a.files("write", func() { a.write(path) }, path)
	}
}

func (a *agent) commit(ctx context.Context, args ...string) error {
	a.n++
	return a.git(ctx, append([]string{"commit", "-q", "-m", fmt.Sprintf("%s %d", a.name, a.n)}, args...)...)
}

func (a *agent) branch() string {
	a.n++
	name := fmt.Sprintf("side-%s-%d", a.name, a.n)
	a.refs = append(a.refs, "refs/heads/"+name)
	return name
}

func (a *agent) actGit(ctx context.Context) error {
	n := a.IntN(16)
	if n == 8 && a.again && !a.clone {
		n = 7
	}
	switch n {
	case 0, 1:
		return a.all(ctx, "add all", func() { a.git(ctx, "add", "-A") })
	case 2:
		return a.all(ctx, "add", func() { a.git(ctx, "add", "--", ":(literal)"+a.there()) })
	case 3:
		return a.all(ctx, "add and change", func() {
			p := a.there()
			a.git(ctx, "add", "--", ":(literal)"+p)
			a.write(p)
		})
	case 4, 5, 6:
		return a.all(ctx, "commit all", func() { a.git(ctx, "add", "-A"); a.commit(ctx) })
	case 7:
		return a.all(ctx, "commit", func() { a.commit(ctx, "-a") })
	case 8:
		return a.all(ctx, "amend", func() { a.commit(ctx, "--amend", "--allow-empty") })
	case 9, 10:
		return a.all(ctx, "stash", func() { a.push(ctx) })
	case 11:
		return a.all(ctx, "unstash", func() { a.pop(ctx) })
	case 12:
		return a.all(ctx, "branch", func() { a.git(ctx, "branch", a.branch()) })
	case 13:
		return a.all(ctx, "switch to a new branch", func() { a.git(ctx, "switch", "-q", "-c", a.branch()) })
	case 14:
		to := "--detach"
		if a.clone { // elsewhere those branches are not its own
			to = []string{"-", "--detach", "release", "main"}[a.IntN(4)]
		}
		if len(a.refs) > 0 && a.chance(50) {
			to = strings.TrimPrefix(a.refs[a.IntN(len(a.refs))], "refs/heads/")
		}
		return a.all(ctx, "switch", func() { a.git(ctx, "switch", "-q", to) })
	default:
		all := [][]string{
			{"clean", "-qfd"}, {"checkout", "-q", "--", "."}, {"rm", "-q", "--cached", "a.txt"}, {"commit", "-q", "--allow-empty", "-m", "empty"},
			{"reset", "-q", "--hard", "HEAD~1"}, {"reset", "-q", "--soft", "HEAD~1"},
		}
		if a.again && !a.clone {
			all = all[:4]
		}
		args := all[a.IntN(len(all))]
		return a.all(ctx, strings.Join(args, " "), func() { a.git(ctx, args...) })
	}
}

// push makes a stash.
func (a *agent) push(ctx context.Context) {
	defer a.stash()()
	before, _ := check.Stashes(ctx, a.root)
	args := []string{"stash", "push", "-q", "-m", a.name}
	if a.chance(60) {
		args = append(args, "-u")
	}
	a.git(ctx, args...)
	after, _ := check.Stashes(ctx, a.root)
	if len(after) > len(before) {
		a.stashes = append(a.stashes, after[0])
	}
}

// pop applies and removes a stash of the agent's own.
func (a *agent) pop(ctx context.Context) {
	if len(a.stashes) == 0 {
		return
	}
	defer a.stash()()
	last := a.stashes[len(a.stashes)-1]
	all, _ := check.Stashes(ctx, a.root)
	for i, id := range all {
		if id == last && a.git(ctx, "stash", "pop", "-q", fmt.Sprintf("stash@{%d}", i)) == nil {
			a.stashes = a.stashes[:len(a.stashes)-1]
		}
	}
}
