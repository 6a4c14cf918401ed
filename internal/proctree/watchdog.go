package proctree

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

//go:embed watchdog.sh
var watchdogScript string

// watchdog is a shell that ends the trees of this program when this program
// dies: see watchdog.sh. Its methods but alive are called by the holder of the
// host's turn.
type watchdog struct {
	cmd      *exec.Cmd
	in       *os.File // when nothing refers to it any more, it is closed and the watchdog strikes
	started  time.Time
	exited   chan struct{} // closed when it has been reaped
	stopping chan struct{} // closed by stop
}

// readyPatience is how long a shell may take to start: End of another tree may
// be waiting for the turn meanwhile.
const readyPatience = 10 * time.Second

// watchdogPatience is how long the watchdog may take to read a line or to exit.
const watchdogPatience = 2 * time.Second

// startWatchdog returns when the watchdog is at work.
func startWatchdog(ctx context.Context, token string) (_ *watchdog, err error) {
	// It inherits nothing: not the marker of a tree that this program is in
	// itself, since it must outlive that, not the working directory, no file.
	cmd := exec.Command("/bin/sh", "-c", watchdogScript, "claudepool-watchdog", EnvTree+"="+token+".")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH") + ":/usr/bin:/bin", "LC_ALL=C"}
	cmd.Dir = "/"
	cmd.SysProcAttr = ownSession()
	if cmd.ExtraFiles, err = closedFiles(); err != nil {
		return nil, fmt.Errorf("list the open files, which it must not inherit: %w", err)
	}

	stdin, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer stdin.Close()
	out, stdout, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	defer out.Close()
	cmd.Stdin, cmd.Stdout = stdin, stdout
	err = cmd.Start()
	stdout.Close()
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	w := &watchdog{cmd: cmd, in: in, started: time.Now(), exited: make(chan struct{}), stopping: make(chan struct{})}
	go func() {
		defer close(w.exited)
		cmd.Wait() // how it ended does not matter: whoever needs it starts another
	}()
	if err := ready(ctx, out); err != nil {
		w.stop()
		return nil, err
	}
	return w, nil
}

// ready waits for the watchdog's word that it is at work.
func ready(ctx context.Context, out *os.File) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyPatience, fmt.Errorf("/bin/sh gave no sign of life for %v", readyPatience))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { out.SetReadDeadline(time.Now()) })
	defer stop()
	line, err := bufio.NewReader(out).ReadString('\n')
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case line == "ready\n":
		return nil
	case err != nil && !errors.Is(err, io.EOF):
		return fmt.Errorf("wait for /bin/sh: %w", err)
	}
	return fmt.Errorf("/bin/sh cannot do it: it needs a POSIX shell with tail, tr, awk, sleep and date, and said %q", strings.TrimSpace(line))
}

// alive reports whether the watchdog is running.
func (w *watchdog) alive() bool {
	select {
	case <-w.exited:
		return false
	default:
		return true
	}
}

// tell tells the watchdog that a tree began ("+") or that its group is empty
// ("-"). One that does not listen is killed, for it would act on what was true
// once.
func (w *watchdog) tell(op string, r record) error {
	w.in.SetWriteDeadline(time.Now().Add(watchdogPatience))
	if _, err := fmt.Fprintf(w.in, "%s %d %d\n", op, r.PID, r.Start); err != nil {
		w.cmd.Process.Kill()
		return err
	}
	return nil
}

// stop ends the watchdog and reaps it.
func (w *watchdog) stop() {
	close(w.stopping)
	w.in.SetWriteDeadline(time.Now().Add(watchdogPatience))
	if _, err := io.WriteString(w.in, "off\n"); err != nil {
		w.cmd.Process.Kill() // without the word, the end of its input would make it strike
	}
	w.in.Close()
	timer := time.NewTimer(watchdogPatience)
	defer timer.Stop()
	select {
	case <-w.exited:
	case <-timer.C:
		w.cmd.Process.Kill()
		<-w.exited
	}
}
