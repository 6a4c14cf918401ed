package proctree

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Options are the settings of one tree. The zero value is ready to use.
type Options struct {
	// Grace is the time that each polite step of [Tree.End] gets: the request,
	// the exit that it asked for, SIGTERM. 0 means 2 s.
	Grace time.Duration
}

// Tree is a running process with all its descendants. It must be ended with
// [Tree.End], also when the leader has exited by itself. All methods are safe
// for concurrent use.
type Tree struct {
	// Stdin writes to the leader. It is a pipe: write deadlines work, and a
	// blocked Write is freed by Close. End closes it.
	Stdin io.WriteCloser
	// Stdout and Stderr read what the tree writes. They end with io.EOF when
	// no process holds the other side any more, which may be later than the
	// leader's exit. The caller closes them; after End a read fails with
	// [os.ErrDeadlineExceeded] rather than wait longer than drainTime.
	Stdout, Stderr *os.File

	cmd    *exec.Cmd
	host   *host
	leader Proc
	marker string // value of EnvTree
	grace  time.Duration
	done   chan struct{} // closed when the leader has been reaped

	mu     sync.Mutex // held over calls that do not wait: a signal, the reaping of a zombie
	reaped bool
	err    error
	rest   []Proc // members of the group that outlived the leader
	lost   error  // why it is not known who outlived the leader
	ending *ending
}

// drainTime is how long the output of an ended tree may still be read.
const drainTime = 5 * time.Second

// Start starts cmd as the root of a tree. ctx bounds only the start.
//
// cmd must be fresh, without Stdin, Stdout, Stderr, SysProcAttr, ExtraFiles or
// a context of its own, and its Env must not be nil: a tree inherits nothing
// by accident. Start adds the marker, in place of an inherited one.
//
// When Start returns a tree, it is written down in the user's registry and the
// watchdog of this program covers it. Without one of both there is no tree:
// the error then says what to do.
func Start(ctx context.Context, cmd *exec.Cmd, o Options) (*Tree, error) {
	t, err := start(ctx, program, cmd, o)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return t, nil
}

func start(ctx context.Context, h *host, cmd *exec.Cmd, o Options) (*Tree, error) {
	if err := check(cmd, o); err != nil {
		return nil, err
	}
	if err := h.open(ctx); err != nil {
		return nil, err
	}
	t := &Tree{
		cmd:    cmd,
		host:   h,
		marker: h.token + "." + newToken(),
		grace:  cmp.Or(o.Grace, 2*time.Second),
		done:   make(chan struct{}),
	}
	if err := t.launch(); err != nil {
		return nil, errors.Join(err, h.close(record{}))
	}
	addErr := h.add(ctx, t.record()) // before reap, which may take it back
	go t.reap()
	if addErr != nil {
		hurry, cancel := context.WithCancel(ctx)
		cancel()
		err := errors.Join(addErr, t.End(hurry, nil))
		t.Stdout.Close()
		t.Stderr.Close()
		return nil, err
	}
	return t, nil
}

// check reports what a tree cannot be made of.
func check(cmd *exec.Cmd, o Options) error {
	switch {
	case !supported:
		return fmt.Errorf("process trees need Linux or macOS: %w", errors.ErrUnsupported)
	case cmd.Process != nil:
		return errors.New("the command was already started: make a new one")
	case cmd.Stdin != nil || cmd.Stdout != nil || cmd.Stderr != nil || cmd.ExtraFiles != nil:
		return errors.New("the command brings files of its own: leave Stdin, Stdout, Stderr and ExtraFiles nil")
	case cmd.Env == nil:
		return errors.New("the command has no environment: set Env, nothing is inherited by accident")
	case cmd.SysProcAttr != nil:
		return errors.New("the command has a SysProcAttr: leave it nil, the tree sets its own")
	case cmd.Cancel != nil:
		return errors.New("the command has a context: use exec.Command, a tree ends by End")
	case o.Grace < 0:
		return fmt.Errorf("grace is %v: it must not be negative", o.Grace)
	}
	return nil
}

// launch starts the leader.
func (t *Tree) launch() (err error) {
	t.cmd.Env = append(slices.Clip(t.cmd.Env), EnvTree+"="+t.marker) // of several, exec takes the last
	t.cmd.SysProcAttr = ownGroup()
	if t.cmd.ExtraFiles, err = closedFiles(); err != nil {
		return fmt.Errorf("list the open files, which a tree must not inherit: %w", err)
	}

	// Pipes of our own, handed over as files: with those that exec makes, Wait
	// would wait for every descendant that holds one.
	var pipes [3][2]*os.File
	var mine []*os.File
	defer func() {
		for _, f := range mine {
			f.Close()
		}
	}()
	for i := range pipes {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		pipes[i] = [2]*os.File{r, w}
		mine = append(mine, r, w)
	}
	t.cmd.Stdin, t.cmd.Stdout, t.cmd.Stderr = pipes[0][0], pipes[1][1], pipes[2][1]
	if err := t.cmd.Start(); err != nil {
		return err
	}
	mine = []*os.File{pipes[0][0], pipes[1][1], pipes[2][1]}
	t.Stdin, t.Stdout, t.Stderr = pipes[0][1], pipes[1][0], pipes[2][0]

	// Nobody has reaped the leader yet, so its pid is its own and this can
	// fail only where processes cannot be looked at.
	t.leader, err = lookup(t.cmd.Process.Pid)
	if err != nil {
		err = errors.Join(fmt.Errorf("look at the new process %d: %w", t.cmd.Process.Pid, err), signalGroup(t.cmd.Process.Pid, syscall.SIGKILL))
		t.cmd.Wait() // its error is that of our own kill
		mine = append(mine, pipes[0][1], pipes[1][0], pipes[2][0])
		return err
	}
	return nil
}

// reap waits for the leader, notes who of its group outlives it, and reaps it.
// End waits for its end.
func (t *Tree) reap() {
	defer close(t.done)
	// As long as the leader is a zombie, its number cannot be given to another
	// group: only until then is a look at the group reliable.
	pinned := awaitExit(t.leader.PID) == nil
	var waitErr error
	if !pinned {
		waitErr = t.cmd.Wait()
	}
	rest, err := members(t.leader.PID)
	if err != nil {
		// Who cannot be looked at now could not be told from others later.
		if killErr := signalGroup(t.leader.PID, syscall.SIGKILL); killErr == nil {
			err = nil
		} else {
			err = errors.Join(err, killErr)
		}
	}
	if len(rest) == 0 && err == nil {
		t.host.groupGone(t.record())
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if pinned {
		waitErr = t.cmd.Wait()
	}
	t.err, t.rest, t.lost, t.reaped = waitErr, rest, err, true
}

func (t *Tree) record() record {
	_, tree, _ := strings.Cut(t.marker, ".")
	return record{PID: t.leader.PID, Start: t.leader.Start, Token: tree}
}

// PID returns the pid of the leader, which is also the number of its group.
func (t *Tree) PID() int { return t.leader.PID }

// Done returns a channel that is closed when the leader has exited and been
// reaped. Others of the tree may still be alive.
func (t *Tree) Done() <-chan struct{} { return t.done }

// Err returns nil while the leader runs and when it exited with status 0, else
// an [*exec.ExitError].
func (t *Tree) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// ExitCode returns the exit status of the leader: -1 while it runs or when a
// signal ended it.
func (t *Tree) ExitCode() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.reaped || t.cmd.ProcessState == nil {
		return -1
	}
	return t.cmd.ProcessState.ExitCode()
}

// RSS returns the resident memory of the leader in bytes. The error is
// [os.ErrProcessDone] when it has exited, [errors.ErrUnsupported] where the
// figure is not known.
func (t *Tree) RSS() (int64, error) {
	n, err := residentBytes(t.leader.PID)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reaped { // the figure may be that of another process
		return 0, os.ErrProcessDone
	}
	return n, err
}

// Strays returns the live processes that carry the tree's marker, without the
// leader. Zombies are not listed. Where markers cannot be read (all but Linux)
// it returns nothing.
func (t *Tree) Strays() ([]Proc, error) {
	procs, err := marked(func(marker string) bool { return marker == t.marker })
	if err != nil {
		return nil, fmt.Errorf("look for processes of tree %s: %w", t.marker, err)
	}
	return slices.DeleteFunc(procs, func(p Proc) bool { return p.PID == t.leader.PID && p.Start == t.leader.Start }), nil
}

// KillStrays ends all [Tree.Strays] with SIGTERM, half a second or the grace
// time later with SIGKILL, and returns when they are proven gone. The leader is
// not touched. A cancelled ctx means SIGKILL at once. An error names those that
// are left.
func (t *Tree) KillStrays(ctx context.Context) error {
	_, err := sweep(ctx, min(t.grace, strayGrace), t.Strays)
	return err
}

func newToken() string { return strings.ToLower(rand.Text()) }
