// Package git runs the git program the way this module needs it: without the
// person's surroundings having a say in what is read, never waiting for an
// answer, and with errors that tell what git said.
package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Oldest is the oldest version of git that will do.
var Oldest = Version{2, 25}

// ErrTooOld says that the git program is older than [Oldest].
var ErrTooOld = errors.New("git is too old")

// Git is a git program.
type Git struct {
	path    string
	Version Version
}

// Find looks for git in PATH and asks it for its version.
func Find(ctx context.Context) (*Git, error) {
	path, err := exec.LookPath("git")
	if err != nil {
		return nil, fmt.Errorf("git is needed for isolation: %w", err)
	}
	g := &Git{path: path}
	out, err := g.In("").Run(ctx, "version")
	if err != nil {
		return nil, err
	}
	if g.Version, err = ParseVersion(out); err != nil {
		return nil, err
	}
	if g.Version.Less(Oldest) {
		return nil, fmt.Errorf("%w: %s is %v, %v or newer is needed", ErrTooOld, path, g.Version, Oldest)
	}
	return g, nil
}

// Version is a major and a minor number.
type Version struct{ Major, Minor int }

func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// Less reports whether v is older than o.
func (v Version) Less(o Version) bool {
	return v.Major < o.Major || v.Major == o.Major && v.Minor < o.Minor
}

// ParseVersion reads what "git version" prints.
func ParseVersion(text string) (Version, error) {
	words := strings.Fields(text)
	i := slices.Index(words, "version")
	if i >= 0 && i+1 < len(words) {
		parts := strings.Split(words[i+1], ".")
		if len(parts) >= 2 {
			major, err := strconv.Atoi(parts[0])
			minor, err2 := strconv.Atoi(parts[1])
			if err == nil && err2 == nil {
				return Version{major, minor}, nil
			}
		}
	}
	return Version{}, fmt.Errorf("git says %q for its version", strings.TrimSpace(text))
}

// Repo runs git in a folder. The zero value is of no use. Its methods may be used
// at once; With and its like return changed copies.
type Repo struct {
	g     *Git
	dir   string
	env   []string
	args  []string // before the command
	stdin io.Reader
	warn  io.Writer
	apart bool
}

// In returns git in a folder; an empty one is the current folder.
func (g *Git) In(dir string) Repo { return Repo{g: g, dir: dir} }

// Git returns the program.
func (r Repo) Git() *Git { return r.g }

// Dir returns the folder.
func (r Repo) Dir() string { return r.dir }

// In returns the same in another folder.
func (r Repo) In(dir string) Repo { r.dir = dir; return r }

// With returns the same with more in its environment, as "NAME=value".
func (r Repo) With(env ...string) Repo {
	r.env = append(slices.Clip(r.env), env...)
	return r
}

// Config returns the same with a setting that wins over those of files.
func (r Repo) Config(name, value string) Repo {
	r.args = append(slices.Clip(r.args), "-c", name+"="+value)
	return r
}

// Input returns the same with something to read.
func (r Repo) Input(in io.Reader) Repo { r.stdin = in; return r }

// Warnings returns the same with what git says beside its output, also when it
// succeeds, written to w.
func (r Repo) Warnings(w io.Writer) Repo { r.warn = w; return r }

// WithoutHooks returns the same without the hooks of the repository.
func (r Repo) WithoutHooks() Repo { return r.Config("core.hooksPath", os.DevNull) }

// Apart returns the same for what is not to be ended half-way: where the system can
// do so, the signals of a terminal do not reach it. ctx ends it still.
func (r Repo) Apart() Repo { r.apart = true; return r }

// endGrace is how long git may take to end when its context has: it is asked
// first, so that it removes its lock files. outputGrace is how long what it has left
// running is waited for when it has ended by itself, which may have its output open
// for ever.
const endGrace, outputGrace = 5 * time.Second, time.Second

// Run runs a command and returns what it prints, without the line feed at the end.
// The error is an [*Error] if git ran and failed, or the cause of ctx if that has
// ended.
func (r Repo) Run(ctx context.Context, args ...string) (string, error) {
	out, err := r.Bytes(ctx, args...)
	return strings.TrimSuffix(string(out), "\n"), err
}

// Command is the command that Run runs, for one that is talked to while it runs.
// When ctx ends it is asked to end, and killed some time later.
func (r Repo) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, r.g.path, append(slices.Clone(r.args), args...)...)
	cmd.Dir, cmd.Stdin = r.dir, r.stdin
	cmd.Env = append(Environ(), r.env...)
	cmd.WaitDelay = outputGrace
	cmd.Cancel = func() error {
		cmd.WaitDelay = endGrace
		return cmd.Process.Signal(os.Interrupt)
	}
	if r.apart {
		cmd.SysProcAttr = apart()
	}
	return cmd
}

// Bytes is Run for output that is to be left as it is.
func (r Repo) Bytes(ctx context.Context, args ...string) ([]byte, error) {
	const tries, pause = 20, 5 * time.Millisecond
	for try := 1; ; try++ {
		out, err := r.once(ctx, args)
		if err == nil || try == tries || !halfMade(err) || !r.rewind() {
			return out, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// halfMade reports whether git gave up, before it did anything, because another
// git was just making a worktree: it cannot list worktrees in that moment.
func halfMade(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && strings.Contains(e.Stderr, "/worktrees/") && (strings.Contains(e.Stderr, "commondir") || strings.Contains(e.Stderr, "gitdir"))
}

// rewind makes the input ready to be read once more, if that can be.
func (r Repo) rewind() bool {
	if r.stdin == nil {
		return true
	}
	in, ok := r.stdin.(io.Seeker)
	if ok {
		_, err := in.Seek(0, io.SeekStart)
		ok = err == nil
	}
	return ok
}

func (r Repo) once(ctx context.Context, args []string) ([]byte, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	cmd := r.Command(ctx, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if r.warn != nil {
		cmd.Stderr = io.MultiWriter(&errs, r.warn)
	}
	err := cmd.Run()
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay) && cmd.ProcessState.Success():
		return out.Bytes(), nil
	case ctx.Err() != nil:
		return out.Bytes(), context.Cause(ctx)
	}
	e := &Error{Args: args, Dir: r.dir, Code: -1, Stdout: out.String(), Stderr: strings.TrimSpace(errs.String()), err: err}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		e.Code = exit.ExitCode()
	}
	return out.Bytes(), e
}

// Lines is Run for output that is a list with a line for each entry.
func (r Repo) Lines(ctx context.Context, args ...string) ([]string, error) {
	out, err := r.Run(ctx, args...)
	if err != nil || out == "" {
		return nil, err
	}
	return strings.Split(out, "\n"), nil
}

// Fields is Run for output whose entries end with a zero byte (-z).
func (r Repo) Fields(ctx context.Context, args ...string) ([]string, error) {
	out, err := r.Bytes(ctx, args...)
	if err != nil || len(out) == 0 {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"), nil
}

// Succeeds runs a command whose exit code 1 means no.
func (r Repo) Succeeds(ctx context.Context, args ...string) (bool, error) {
	_, err := r.Bytes(ctx, args...)
	if ExitCode(err) == 1 {
		return false, nil
	}
	return err == nil, err
}

// Error is the failure of a git command.
type Error struct {
	Args   []string
	Dir    string
	Code   int // exit code; -1 when git could not run or was killed
	Stdout string
	Stderr string
	err    error
}

func (e *Error) Error() string {
	what := e.err.Error()
	if e.Stderr != "" {
		what = e.Stderr
	}
	return fmt.Sprintf("git %s in %s: %s", strings.Join(e.Args, " "), e.Dir, what)
}

func (e *Error) Unwrap() error { return e.err }

// ExitCode returns the exit code of git that an error is about: 0 without an
// error, -1 if it is about none.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return -1
}

// Environ is this program's environment without what would point git elsewhere,
// with what makes it say the same everywhere and ask nobody.
func Environ() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		// Identities and SSH commands are the person's own choice.
		kept := strings.HasPrefix(name, "GIT_AUTHOR_") || strings.HasPrefix(name, "GIT_COMMITTER_") || strings.HasPrefix(name, "GIT_SSH") ||
			strings.HasPrefix(name, "GIT_CONFIG_") || strings.HasPrefix(name, "GIT_SSL") || name == "GIT_ASKPASS" || name == "GIT_EXEC_PATH"
		return strings.HasPrefix(name, "GIT_") && !kept || name == "LANGUAGE" || strings.HasPrefix(name, "LC_")
	})
	return append(env, "LC_ALL=C.UTF-8", "GIT_TERMINAL_PROMPT=0", "GIT_EDITOR=true", "GIT_SEQUENCE_EDITOR=true", "GIT_MERGE_AUTOEDIT=no")
}
