//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/claudepool/claudepool/bench/worktree/internal/check"
)

// patience is for what must come, but cannot be promised in seconds.
const patience = 3 * time.Minute

// perLife is how many rounds a repository goes through.
const perLife = 40

// A host is killed when it has said a random number of lines, at most so many, and
// some time more. How fast the machine is has no say in how much is done.
const (
	long  = 250
	short = 80
	more  = 30 * time.Millisecond
)

// machine is what all lives have in common.
type machine struct {
	dir   string // lives are in folders of it
	log   io.Writer
	lines int // that a host says at most
}

// life is a repository from its first host to its last.
type life struct {
	dir     string
	rand    *rand.Rand
	seed    uint64
	round   int
	witness *check.Witness
	works   []string
	row     *row
	most    int // lines of a host
	bad     bool
}

func (l *life) repo() string    { return filepath.Join(l.dir, "repo") }
func (l *life) home() string    { return filepath.Join(l.dir, "home") }
func (l *life) outside() string { return filepath.Join(l.dir, "outside") }
func (l *life) foreign() string { return filepath.Join(l.home(), "foreign") }

// env is that of hosts, agents and the person.
func (l *life) env() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(l.dir, "person"), "TMPDIR=" + filepath.Join(l.dir, "tmp"), "GIT_CONFIG_NOSYSTEM=1",
		"GOCOVERDIR=" + os.Getenv("GOCOVERDIR"),
	}
}

// git does something as the person.
func (l *life) git(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir, cmd.Env = l.repo(), l.env()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// newLife makes a repository with a checkout in which somebody works.
func (m *machine) newLife(ctx context.Context, n int, seed uint64, r *row) (*life, error) {
	dir, err := os.MkdirTemp(m.dir, fmt.Sprintf("life-%d-", n))
	if err != nil {
		return nil, err
	}
	l := &life{dir: dir, rand: rand.New(rand.NewPCG(seed, uint64(n))), seed: seed + uint64(n)<<32, row: r, most: m.lines}
	write := func(path, text string) {
		path = filepath.Join(l.dir, path)
		err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644))
	}
	write("person/.gitconfig", "[user]\nname = Person\nemail = person@example.com\n[init]\ndefaultBranch = main\n[commit]\ngpgSign = false\n")
	write("tmp/README", "of temporary files\n")
	for _, name := range append([]string{"README"}, names()...) {
		write("repo/"+name, "the first of "+name+"\n")
	}
	write("repo/.gitignore", check.IgnoreFile)
	write("repo/run.sh", "#!/bin/sh\n")
	if err != nil {
		return nil, err
	}
	steps := [][]string{{"init", "-q"}, {"add", "-A"}, {"update-index", "--chmod=+x", "run.sh"}, {"commit", "-q", "-m", "one"}, {"commit", "-q", "--allow-empty", "-m", "two"},
		{"branch", "release"}, {"branch", "feature"}, {"tag", "v1"}}
	for _, s := range steps {
		if err := l.git(ctx, s...); err != nil {
			return nil, err
		}
	}
	write("repo/staged", "staged\n")
	if err := errors.Join(err, os.Chmod(filepath.Join(l.repo(), "run.sh"), 0o755), l.git(ctx, "add", "staged")); err != nil {
		return nil, err
	}
	write("repo/README", "the person is at work on this\n")
	write("repo/untracked", "not yet added\n")
	write("repo/.env", "SECRET=1\n")
	write("repo/cache/big", "cached\n")
	for _, hook := range []string{"pre-commit", "post-checkout", "commit-msg"} {
		// Where an agent commits it runs; what it says must not matter.
		write("repo/.git/hooks/"+hook, "#!/bin/sh\nexit 0\n")
		err = errors.Join(err, os.Chmod(filepath.Join(l.repo(), ".git/hooks", hook), 0o755))
	}
	write("outside/decoy", "nobody's business\n")
	write("outside/folder/file", "nobody's business\n")
	write("home/foreign/file", "not a place of anybody\n")
	if err != nil {
		return nil, err
	}
	l.witness, err = check.NewWitness(ctx, l.repo(), []string{"main", "release"}, []string{l.outside(), l.foreign()})
	return l, err
}

// run goes through rounds.
func (m *machine) run(ctx context.Context, rounds int, seed uint64) (*row, error) {
	r := &row{log: m.log}
	for n := 0; r.rounds < rounds && ctx.Err() == nil; n++ {
		l, err := m.newLife(ctx, n, seed, r)
		if err != nil {
			return r, err
		}
		for moved := false; !moved && !l.bad && l.round < perLife && r.rounds < rounds && ctx.Err() == nil; {
			last := l.round == perLife-1 || r.rounds == rounds-1
			if moved, err = l.next(ctx, last); err != nil {
				return r, fmt.Errorf("round %d in %s: %w", l.round, l.dir, err)
			}
			r.rounds++
		}
		r.add(l)
		if !l.bad {
			if err := os.RemoveAll(l.dir); err != nil {
				return r, err
			}
		}
	}
	return r, context.Cause(ctx)
}

// next has a host work until it is killed or told to end, and looks at what is
// left. Moved says that the person's checkout is in the middle of being moved.
func (l *life) next(ctx context.Context, last bool) (moved bool, err error) {
	l.round++
	if err := l.person(ctx); err != nil {
		return false, err
	}
	h, err := l.start(hostConfig{
		Seed: l.seed, Round: l.round, Repo: l.repo(), Home: l.home(), Places: 1 + l.rand.IntN(8), Works: l.works, Keep: l.rand.IntN(4) == 0, Move: l.rand.IntN(3) == 0,
	})
	if err != nil {
		return false, err
	}
	killed := false
	switch n := l.rand.IntN(20); {
	case last || n < 3:
		h.works(l.rand.IntN(l.most))
		h.pass(l.upTo(more))
		h.tell()
	case n < 6: // while it starts, and takes over what is left
		killed = true
		h.pass(l.upTo(150 * time.Millisecond))
		h.kill(n%2 == 0)
	default:
		killed = true
		h.works(l.rand.IntN(l.most))
		h.pass(l.upTo(more))
		h.kill(n%2 == 0)
	}
	if err := h.reap(); err != nil {
		return false, err
	}
	if killed {
		l.row.kills++
		if err := l.witness.Died(ctx); err != nil {
			return false, err
		}
	}
	found, err := l.witness.Look(ctx)
	if err != nil {
		return false, err
	}
	for _, text := range found {
		l.find(text)
	}
	if killed {
		if err := l.unlock(); err != nil {
			return false, err
		}
	}
	return killed && l.witness.Moved(), nil
}

func (l *life) upTo(d time.Duration) time.Duration { return time.Duration(l.rand.Int64N(int64(d))) }

func (l *life) find(text string) {
	l.bad = true
	text = fmt.Sprintf("round %d of %s: %s", l.round, l.dir, text)
	l.row.findings = append(l.row.findings, text)
	fmt.Fprintln(l.row.log, "VIOLATION", text)
}

// person does what somebody might between two hosts.
func (l *life) person(ctx context.Context) error {
	switch l.rand.IntN(8) {
	case 0: // work goes on elsewhere, so that bases and targets move
		name := names()[l.rand.IntN(4)]
		err := os.MkdirAll(filepath.Dir(filepath.Join(l.repo(), name)), 0o755)
		err = errors.Join(err, os.WriteFile(filepath.Join(l.repo(), name), fmt.Appendf(nil, "the person was here, %d\n", l.round), 0o644))
		if err != nil {
			return nil // a merge has brought something else there
		}
		if err := l.git(ctx, "commit", "-q", "-m", "person", "--", name); err != nil {
			return err
		}
	case 1: // whatever is on no ref is really gone then
		// It refuses to while a place has a lock file that a killed git has left.
		if l.git(ctx, "gc", "-q", "--prune=now") == nil {
			l.row.gcs++
		}
	}
	return l.witness.Settle(ctx)
}

// unlock removes the lock files that killed git processes of agents leave in what
// all share, as git tells the person to.
func (l *life) unlock() error {
	return filepath.WalkDir(filepath.Join(l.repo(), ".git"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "worktrees" || d.Name() == "objects") {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, ".lock") {
			l.row.locks++
			return os.Remove(path)
		}
		return nil
	})
}

// running is a host as its parent sees it.
type running struct {
	l     *life
	cmd   *exec.Cmd
	in    io.WriteCloser
	over  chan struct{} // closed when the last line has been read
	said  atomic.Int64  // how many lines
	lines []check.Line
	ended bool // it was told to end
}

func (l *life) start(c hostConfig) (*running, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(l.dir, "log"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	fmt.Fprintf(log, "--- round %d\n", l.round)
	lines, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	r := &running{l: l, cmd: exec.Command(self), over: make(chan struct{})}
	r.cmd.Env = append(l.env(), envHost+"="+string(text))
	r.cmd.Stderr, r.cmd.ExtraFiles, r.cmd.Dir = log, []*os.File{theirs}, l.dir
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // with all that it starts
	if r.in, err = r.cmd.StdinPipe(); err == nil {
		err = r.cmd.Start()
	}
	if err != nil {
		lines.Close()
		return nil, err
	}
	go r.read(lines)
	return r, nil
}

// read takes down what the host says, until it has died.
func (r *running) read(lines *os.File) {
	defer close(r.over)
	defer lines.Close()
	for in := bufio.NewReader(lines); ; {
		text, err := in.ReadBytes('\n')
		if err != nil {
			return // half a line was not said
		}
		var l check.Line
		if err := json.Unmarshal(bytes.TrimSpace(text), &l); err != nil {
			l = check.Line{Op: check.OpFailed, Text: fmt.Sprintf("a host said %q: %v", text, err)}
		}
		r.lines = append(r.lines, l)
		r.said.Add(1)
	}
}

// works waits until the host has said more than so many lines, or has died.
func (r *running) works(lines int) {
	for begun := time.Now(); r.said.Load() <= int64(lines) && time.Since(begun) < patience; {
		select {
		case <-r.over:
			return
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// pass waits for some time, or for the end of the host.
func (r *running) pass(d time.Duration) {
	select {
	case <-r.over:
	case <-time.After(d):
	}
}

// kill kills the host, and in half of the cases all that it has started too.
func (r *running) kill(all bool) {
	pid := r.cmd.Process.Pid
	if all {
		pid = -pid
	}
	syscall.Kill(pid, syscall.SIGKILL)
}

// tell has the host end in good order.
func (r *running) tell() {
	r.ended = true
	io.WriteString(r.in, cmdDrain+"\n") // if it has gone, that is seen later
	select {
	case <-r.over:
	case <-time.After(patience):
		r.lines = append(r.lines, check.Line{Op: check.OpFailed, Text: "P8: the host does not end"})
		syscall.Kill(r.cmd.Process.Pid, syscall.SIGQUIT) // its goroutines go into the log
		r.pass(time.Second)
		r.kill(true)
	}
}

// reap waits for the end of the host and of what it has started, and hands what
// it said to the witness.
func (r *running) reap() error {
	<-r.over
	r.cmd.Wait() // how it died is known, or was said
	r.in.Close()
	for begun := time.Now(); groupLives(r.cmd.Process.Pid); time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > patience {
			return errors.New("what the host has started does not end")
		}
	}
	closed := false
	kept, err := os.OpenFile(filepath.Join(r.l.dir, "said"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer kept.Close()
	out := json.NewEncoder(kept)
	for _, l := range r.lines {
		if err := out.Encode(l); err != nil {
			return err
		}
		r.l.witness.Said(l)
		closed = closed || l.Op == check.OpClosed || l.Op == check.OpFailed
		if l.Op == check.OpEnded { // once, or two would go on with it
			r.l.works = append(slices.DeleteFunc(r.l.works, func(w string) bool { return w == l.Work }), l.Work)
		}
	}
	if n := len(r.l.works); n > 30 {
		r.l.works = r.l.works[n-30:]
	}
	if r.ended && !closed {
		r.l.find(fmt.Sprintf("the host ended with %v, and said nothing", r.cmd.ProcessState))
	}
	return nil
}
