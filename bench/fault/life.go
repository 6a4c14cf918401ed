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
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/claudepool/claudepool/bench/fault/internal/check"
	"github.com/claudepool/claudepool/claudetest"
)

// envMark is in the environment of a host and of all that it starts.
const envMark = "CLAUDEPOOL_FAULT"

const (
	goneWithin  = 5 * time.Second // in which nothing of a dead host is to be left
	patience    = 2 * time.Minute // for what must come, but cannot be promised in seconds
	budgetStart = 2_000_000
	maxAgain    = 3 // tasks that the next host submits once more
)

// process is one of the machine.
type process struct {
	pid, parent int
	command     string
}

func (p process) String() string { return fmt.Sprintf("%d (%.80s)", p.pid, p.command) }

// life is a store from its first host to its last.
type life struct {
	dir     string
	rand    *rand.Rand
	config  hostConfig
	mark    string
	witness *check.Witness
	prompts int64 // how far the file of prompts was read
	round   int
	again   map[string]string // prompts of the latest tasks that have keys
	row     *row
	program string // that hosts are
	api     *claudetest.API
	turns   atomic.Int64 // that real CLIs have begun
	umount  func() error
	unread  []byte
	found   map[string]bool
	within  time.Duration // in which nothing of a dead host is to be left
}

// machine is what all lives have in common.
type machine struct {
	dir    string // lives are in folders of it
	self   string
	claude string // the real CLI, or empty
	log    io.Writer
	gone   time.Duration // in which nothing of a dead host is to be left
}

// newLife begins a life in a folder of its own.
func (m *machine) newLife(f fault, n int, seed uint64, r *row) (_ *life, err error) {
	dir, err := os.MkdirTemp(m.dir, fmt.Sprintf("%s-%d-", f.name, n))
	if err != nil {
		return nil, err
	}
	l := &life{
		dir: dir, rand: rand.New(rand.NewPCG(seed, uint64(n))), mark: envMark + "=" + dir, row: r, program: m.self,
		witness: check.NewWitness(filepath.Join(dir, "store", "pool.db"), f.excused...), again: map[string]string{}, found: map[string]bool{}, within: m.gone,
	}
	l.config = hostConfig{
		Seed: seed + uint64(n)<<32, Store: filepath.Join(dir, "store", "pool.db"), Slots: 4, Dir: filepath.Join(dir, "work"),
		Claude: m.self, Config: filepath.Join(dir, "config"), Waiting: 24, Stall: time.Minute,
	}
	if n%3 == 2 || f.real && n%2 == 1 {
		l.config.Budget, l.config.Cap = budgetStart, 20_000
	}
	for _, d := range []string{"store", "work", "home", "tmp", "state"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			return nil, err
		}
	}
	env, err := claudetest.StandInConfig{}.Environ()
	if err != nil {
		return nil, err
	}
	if f.real {
		if l.api, err = claudetest.StartAPI(l.counted(model(l.promptFile()))); err != nil {
			return nil, err
		}
		l.api.Keep(0)
		iso, err := claudetest.IsolateIn(dir, l.api.URL())
		if err != nil {
			l.api.Close()
			return nil, err
		}
		env = iso.Env
		l.config.Claude, l.config.Real, l.config.Config = m.claude, true, iso.ConfigDir
		l.config.Waiting, l.config.Batch = 8, 6
	}
	l.config.Env = maps.Clone(env)
	maps.Copy(l.config.Env, map[string]string{envMark: dir, envPrompts: l.promptFile(), "CLAUDE_CODE_MAX_RETRIES": "1"})
	if f.prepare != nil {
		if err := f.prepare(l); err != nil {
			return nil, errors.Join(err, l.end(false))
		}
	}
	return l, nil
}

// counted counts the turns of which a model is asked.
func (l *life) counted(script claudetest.Script) claudetest.Script {
	return func(r *claudetest.Request) claudetest.Reply {
		if r.Round == 0 && r.Attempt == 1 {
			l.turns.Add(1)
		}
		return script(r)
	}
}

func (l *life) promptFile() string { return filepath.Join(l.dir, "prompts") }

// end ends the life. What is wrong with it can be looked at if keep is set.
func (l *life) end(keep bool) error {
	if l.api != nil {
		l.api.Close()
	}
	if keep {
		return nil
	}
	var err error
	if l.umount != nil {
		err = l.umount()
	}
	return errors.Join(err, os.RemoveAll(l.dir))
}

// running is a host as its parent sees it.
type running struct {
	l       *life
	cmd     *exec.Cmd
	in      io.WriteCloser
	started time.Time
	built   chan struct{} // closed when the pool runs
	busy    chan struct{} // closed when it has accepted something
	over    chan struct{} // closed when the last line has been read

	mu    sync.Mutex
	lines []check.Line
}

// start starts a host on the life's store.
func (l *life) start(change func(*hostConfig)) (*running, error) {
	l.round++
	c := l.config
	c.Round, c.Again = l.round, l.again
	if change != nil {
		change(&c)
	}
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(l.dir, "log"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	fmt.Fprintf(log, "--- round %d at %s\n", l.round, time.Now().Format(time.RFC3339Nano))
	lines, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	r := &running{l: l, cmd: exec.Command(l.program), started: time.Now(), built: make(chan struct{}), busy: make(chan struct{}), over: make(chan struct{})}
	r.cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(l.dir, "home"), "TMPDIR=" + filepath.Join(l.dir, "tmp"),
		"CLAUDEPOOL_STATE_DIR=" + filepath.Join(l.dir, "state"), l.mark, envHost + "=" + string(text),
	}
	r.cmd.Stderr, r.cmd.ExtraFiles, r.cmd.Dir = log, []*os.File{theirs}, l.config.Dir
	// In a group of its own: that of this program, once orphaned, would get a
	// SIGHUP as soon as a host in it is stopped.
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
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
	built, busy := false, false
	for in := bufio.NewScanner(lines); in.Scan(); {
		var l check.Line
		if err := json.Unmarshal(in.Bytes(), &l); err != nil {
			l = check.Line{Op: check.OpFailed, Text: fmt.Sprintf("a host said %q: %v", in.Text(), err)}
		}
		switch l.Op {
		case check.OpBuilt:
			if !built {
				built = true
				close(r.built)
			}
		case check.OpAccepted:
			if !busy {
				busy = true
				close(r.busy)
			}
		case check.OpTakenOver:
			l.Amount = int64(time.Since(r.started))
		}
		r.mu.Lock()
		r.lines = append(r.lines, l)
		r.mu.Unlock()
	}
}

// pass waits for some time, or for the end of the host.
func (r *running) pass(d time.Duration) {
	select {
	case <-r.over:
	case <-time.After(d):
	}
}

// up waits until the pool runs, or the host has died.
func (r *running) up() { r.await(r.built) }

// work waits until the pool has accepted something, or the host has died.
func (r *running) work() { r.await(r.busy) }

func (r *running) await(sign <-chan struct{}) {
	select {
	case <-sign:
	case <-r.over:
	case <-time.After(patience):
	}
}

// kill kills the host, and takes down what it has said.
func (r *running) kill() { r.signal(syscall.SIGKILL); r.reap() }

func (r *running) signal(s syscall.Signal) { r.cmd.Process.Signal(s) }

// tell gives the host a command and waits for its end.
func (r *running) tell(command string) {
	_, err := io.WriteString(r.in, command+"\n")
	r.ends(command)
	if err != nil && r.cmd.ProcessState.Success() {
		r.l.row.find(r.l, fmt.Sprintf("P8: host of round %d could not be told to %s: %v", r.l.round, command, err))
	}
}

// term has the host hand back what it has not done, and waits for its end.
func (r *running) term() {
	r.signal(syscall.SIGTERM)
	r.ends(cmdTerm)
}

// ends waits for the end of a host that was told to. One that does not end is
// killed, and that is a finding.
func (r *running) ends(command string) {
	timer := time.AfterFunc(patience, func() {
		r.note("P8: host of round %d does not end after %q", r.l.round, command)
		r.signal(syscall.SIGQUIT) // its goroutines go into the log
		time.Sleep(time.Second)
		r.signal(syscall.SIGKILL)
	})
	r.reap()
	timer.Stop()
}

func (r *running) note(format string, args ...any) {
	r.mu.Lock()
	r.lines = append(r.lines, check.Line{Op: check.OpFailed, Text: fmt.Sprintf(format, args...)})
	r.mu.Unlock()
}

// reap waits for the end of the host and hands what it said to the witness.
func (r *running) reap() {
	<-r.over
	r.cmd.Wait() // how it died is known, or was said
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.lines {
		if l.Op == check.OpTakenOver {
			r.l.row.takeOver(time.Duration(l.Amount))
			continue
		}
		if l.Op == check.OpAccepted && l.Key != "" && l.Text != "" {
			for key := range r.l.again {
				if len(r.l.again) >= maxAgain {
					delete(r.l.again, key)
				}
			}
			r.l.again[l.Key] = l.Text
		}
		r.l.witness.Said(l)
	}
	r.lines = nil
}

// gone waits until no process of the life is left. Those that stay are a
// finding, and ended.
func (l *life) gone() error {
	begun := time.Now()
	for {
		left, err := marked(l.mark)
		if err != nil {
			return err
		}
		if len(left) == 0 {
			l.row.ended(time.Since(begun))
			return nil
		}
		if time.Since(begun) > l.within {
			l.row.find(l, fmt.Sprintf("P7: %d processes are left after %v: %v", len(left), l.within, left))
			l.row.left += len(left)
			for _, p := range left {
				syscall.Kill(p.pid, syscall.SIGKILL)
			}
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// hear takes down the prompts that agents have written since the last time.
func (l *life) hear() error {
	f, err := os.Open(l.promptFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Seek(l.prompts, io.SeekStart); err != nil {
		return err
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	l.prompts += int64(len(text))
	text = append(l.unread, text...)
	end := bytes.LastIndexByte(text, '\n') + 1
	l.unread = bytes.Clone(text[end:])
	for line := range strings.Lines(string(text[:end])) {
		var p check.Prompt
		if err := json.Unmarshal([]byte(line), &p); err != nil {
			return fmt.Errorf("%s: %w", l.promptFile(), err)
		}
		l.witness.Asked(p)
	}
	return nil
}

// look has the checker look at the store. Drained says that nothing may be left
// to do.
func (l *life) look(ctx context.Context, drained bool) error {
	if err := errors.Join(l.gone(), l.hear()); err != nil {
		return err
	}
	if _, err := os.Stat(l.config.Store); errors.Is(err, os.ErrNotExist) {
		return nil // it was killed before it made one
	}
	s, found, err := l.witness.Look(ctx, false)
	if errors.Is(err, check.ErrEmpty) {
		return nil // or before it made the tables
	}
	if err != nil {
		return fmt.Errorf("look at %s: %w", l.config.Store, err)
	}
	if drained {
		found = append(found, s.Drained()...)
	}
	for _, text := range found {
		l.row.find(l, text)
	}
	l.row.sums = s.Sums(l.witness)
	return nil
}
