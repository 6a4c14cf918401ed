package worktree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/claudepool/claudepool/internal/git"
	"github.com/claudepool/claudepool/internal/proctree"
)

// runCommand runs a command in a folder to its end, for some time at most, and ends
// all that it has started. failure is that of the command.
func runCommand(ctx context.Context, dir string, command []string, most time.Duration) (output string, failure, err error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = dir
	cmd.Env = append(git.Environ(), "PWD="+dir)
	tree, err := proctree.Start(ctx, cmd, proctree.Options{})
	if errors.Is(err, errors.ErrUnsupported) {
		return runAlone(ctx, dir, command, most)
	}
	if err != nil {
		return "", nil, err
	}
	tree.Stdin.Close()
	end := tail{max: MaxCheckOutput}
	var readers sync.WaitGroup
	for _, f := range []*os.File{tree.Stdout, tree.Stderr} {
		readers.Go(func() {
			io.Copy(&end, f) // until all have closed it, or the time after End is over
			f.Close()
		})
	}
	limit, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	late := false
	select {
	case <-tree.Done():
	case <-limit.Done():
		late = true
	}
	err = tree.End(limit, nil)
	readers.Wait()
	switch {
	case err != nil || !late:
		return end.String(), tree.Err(), err
	case ctx.Err() != nil:
		return end.String(), nil, context.Cause(ctx)
	}
	return end.String(), fmt.Errorf("it did not end within its time of %v", most), nil
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	max  int
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if n := len(t.text) - t.max; n > t.max { // now and then
		t.text = append(t.text[:0], t.text[n:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.ToValidUTF8(string(t.text[max(0, len(t.text)-t.max):]), "")
}

// runAlone is runCommand where trees of processes are not known.
func runAlone(ctx context.Context, dir string, command []string, most time.Duration) (output string, failure, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, most, fmt.Errorf("it did not end within its time of %v", most))
	defer cancel()
	end := tail{max: MaxCheckOutput}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = dir, git.Environ(), time.Second
	cmd.Stdout, cmd.Stderr = &end, &end
	if failure = cmd.Run(); ctx.Err() != nil {
		failure = context.Cause(ctx)
	}
	return end.String(), failure, nil
}
