package claude

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/claudepool/claudepool/internal/proctree"
)

// Process is one live process of the Claude CLI. It must be closed, also when
// it has ended by itself: what it left behind is ended then. All methods are
// safe for concurrent use; turns, resets and changes of settings exclude each
// other.
type Process struct {
	caps    Capabilities
	tree    *proctree.Tree
	folder  string // private files; empty when there are none
	dir     string
	config  string // the CLI's config folder
	command string // without secrets, for errors
	started time.Time
	log     *slog.Logger

	opts    atomic.Pointer[Options] // a claim replaces them
	secrets atomic.Pointer[redactor]

	out    chan []byte        // lines for the writer
	life   context.Context    // of everything that serves the process
	stop   context.CancelFunc // ends life
	read   chan struct{}      // closed when stdout has been read to its end
	errOut chan struct{}      // closed when stderr has been read to its end
	ended  chan struct{}      // closed when the process is gone and err is set
	work   sync.WaitGroup     // every goroutine of the process
	trace  sync.Mutex         // lets one line pass Trace at a time
	stderr tail               // owned by readStderr until errOut is closed

	mu        sync.Mutex
	busy      bool // a turn, a reset or a change of settings
	turn      *turn
	used      map[string]bool // ids of prompts
	calls     map[string]*call
	serving   map[string]context.CancelFunc // requests of the CLI, by id
	remote    map[string]context.CancelFunc // JSON-RPC calls of the CLI, by server and id
	nextID    int
	meter     meter
	live      live
	keySource string
	session   string
	mode      PermissionMode // as the CLI last told
	farewell  bool           // the next prompt may tell of a mode that has ended
	idle      bool
	stuck     bool // it did not become idle after a turn
	tasks     []backgroundTask
	turns     int
	resets    int
	clean     bool  // reset, and no prompt was sent since
	strangers int   // results nobody had asked for when it was reset
	partial   int   // bytes of an unfinished last line
	cause     error // why this package ended the process
	closing   bool
	err       error
}

const (
	// drainTime bounds how long the output of a dead process is read on, in
	// case another process holds it open.
	drainTime = time.Second
	// initTime bounds the start when ctx does not.
	initTime = 2 * time.Minute
)

// Start starts a process and returns when it is ready: it has answered the
// handshake, its settings are as asked for, and it is known whether it is logged in
// ([Info.KeySource]). ctx bounds only the start.
//
// Errors are those of [Probe] and [Options.Validate], an [*ExitError] when the
// process refused, a [*SettingError] when a setting did not take. Nothing is
// left running after an error.
func Start(ctx context.Context, o Options) (*Process, error) {
	p, err := launch(ctx, o, false)
	if err != nil {
		return nil, err
	}
	if err := p.settle(ctx); err != nil {
		return nil, p.abandon(err)
	}
	return p, nil
}

// launch starts a process up to its answer to the handshake.
func launch(ctx context.Context, o Options, spare bool) (*Process, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	env := Environment(os.Environ(), o.env())
	caps, err := Probe(ctx, o.Path, env)
	if err != nil {
		return nil, err
	}
	if spare && !caps.Spares {
		return nil, &VersionError{Path: caps.Path, Found: caps.Version, Need: floorSpare, For: "a spare"}
	}
	folder, settings, err := privateFiles(&o, spare)
	if err != nil {
		return nil, err
	}
	p, err := newProcess(ctx, o, caps, env, folder, settings, spare)
	if err != nil {
		return nil, errors.Join(err, removeFolder(folder))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, initTime, fmt.Errorf("%w: no answer to initialize within %v", ErrUnresponsive, initTime))
	defer cancel()
	answer, err := p.request(ctx, "initialize", o.initialize(spare))
	if err != nil {
		return nil, p.abandon(err)
	}
	p.greeted(answer)
	return p, nil
}

// env is what Options add to the environment.
func (o *Options) env() map[string]string {
	add := make(map[string]string, len(o.Env)+1)
	if o.ConfigDir != "" {
		add["CLAUDE_CONFIG_DIR"] = o.ConfigDir
	}
	for k, v := range o.Env {
		add[k] = v
	}
	return add
}

// privateFiles makes the folder for what must not stand in argv, and where a
// spare waits: readable by this user alone.
func privateFiles(o *Options, spare bool) (folder, settings string, err error) {
	if o.SettingsJSON == nil && !spare {
		return "", "", nil
	}
	folder, err = os.MkdirTemp("", "claude-process-")
	if err != nil {
		return "", "", fmt.Errorf("claude: folder for private files: %w", err)
	}
	if o.SettingsJSON == nil {
		return folder, "", nil
	}
	settings = filepath.Join(folder, "settings.json")
	if err := os.WriteFile(settings, o.settings(), 0o600); err != nil {
		return "", "", errors.Join(fmt.Errorf("claude: private settings: %w", err), removeFolder(folder))
	}
	return folder, settings, nil
}

func removeFolder(folder string) error {
	if folder == "" {
		return nil
	}
	if err := os.RemoveAll(folder); err != nil {
		return fmt.Errorf("claude: remove private files: %w", err)
	}
	return nil
}

func newProcess(ctx context.Context, o Options, caps Capabilities, env []string, folder, settings string, spare bool) (*Process, error) {
	dir, err := o.workDir()
	if err != nil {
		return nil, err
	}
	args := o.argv(caps, settings, spare)
	cmd := exec.Command(caps.Path, args...)
	cmd.Env, cmd.Dir = env, dir
	if spare {
		cmd.Dir = folder
	}
	tree, err := proctree.Start(ctx, cmd, proctree.Options{Grace: o.grace()})
	if err != nil {
		return nil, fmt.Errorf("claude: %w", err)
	}
	p := &Process{
		caps: caps, tree: tree, folder: folder, dir: dir, config: configDir(env, dir), started: time.Now(),
		log: cmp.Or(o.Logger, slog.New(slog.DiscardHandler)),
		out: make(chan []byte, 64), read: make(chan struct{}), errOut: make(chan struct{}), ended: make(chan struct{}),
		used: map[string]bool{}, calls: map[string]*call{}, serving: map[string]context.CancelFunc{}, remote: map[string]context.CancelFunc{},
		live: live{Settings: o.Settings}, mode: o.Settings.mode(), idle: true,
	}
	p.adopt(o, env)
	p.command = p.secrets.Load().text(strings.Join(append([]string{caps.Path}, args...), " "))
	p.life, p.stop = context.WithCancel(context.WithoutCancel(ctx))
	p.work.Go(p.readOut)
	p.work.Go(p.readStderr)
	p.work.Go(p.writeIn)
	p.work.Go(p.reap)
	return p, nil
}

// adopt makes o the options that callbacks and errors go by.
func (p *Process) adopt(o Options, env []string) {
	configs := []json.RawMessage{o.SettingsJSON}
	for _, s := range o.Settings.MCPServers {
		configs = append(configs, s)
	}
	p.secrets.Store(newRedactor(env, configs...))
	p.opts.Store(&o)
}

// workDir is the absolute path of Dir.
func (o *Options) workDir() (string, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return "", fmt.Errorf("claude: working directory: %w", err)
	}
	return dir, nil
}

func (o *Options) grace() time.Duration { return cmp.Or(o.Grace, DefaultGrace) }

// greeted takes what the answer to initialize tells.
func (p *Process) greeted(answer json.RawMessage) {
	var a struct {
		Account struct {
			TokenSource  string `json:"tokenSource"`
			APIKeySource string `json:"apiKeySource"`
			APIProvider  string `json:"apiProvider"`
		} `json:"account"`
		Mode string `json:"current_permission_mode"`
	}
	if err := decode(answer, &a); err != nil {
		p.log.Warn("claude: the answer to initialize is no object", "err", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keySource = cmp.Or(a.Account.APIKeySource, a.Account.TokenSource, "none")
	if provider := a.Account.APIProvider; p.keySource == "none" && provider != "" && provider != "firstParty" {
		p.keySource = provider // a cloud's own login, which the CLI does not look at
	}
	p.mode = cmp.Or(PermissionMode(a.Mode), p.mode)
}

// settle brings a new process to its settings and takes the cost it starts
// with: a resumed session goes on from the saved one.
func (p *Process) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, initTime, fmt.Errorf("%w: settings not answered within %v", ErrUnresponsive, initTime))
	defer cancel()
	if err := p.put(ctx, p.opts.Load().Settings); err != nil {
		return err
	}
	return p.settleCost(ctx)
}

// abandon ends a process that did not become ready, and returns why.
func (p *Process) abandon(err error) error {
	hurry, cancel := context.WithCancel(context.Background())
	cancel()
	closeErr := p.Close(hurry)
	if errors.Is(closeErr, context.Canceled) {
		closeErr = nil
	}
	return errors.Join(err, closeErr)
}

// reap waits for the end of the process and tells everybody.
func (p *Process) reap() {
	<-p.tree.Done()
	deadline := time.Now().Add(drainTime)
	p.tree.Stdout.SetReadDeadline(deadline)
	p.tree.Stderr.SetReadDeadline(deadline)
	<-p.read
	<-p.errOut
	p.tree.Stdout.Close()
	p.tree.Stderr.Close()
	p.mu.Lock()
	p.err = p.exitError()
	p.mu.Unlock()
	p.stop()
	close(p.ended)
}

// exitError says why the process is gone. The caller holds mu.
func (p *Process) exitError() error {
	if p.closing && p.cause == nil {
		return ErrClosed
	}
	e := &ExitError{
		Code: p.tree.ExitCode(), Stderr: p.secrets.Load().text(p.stderr.String()),
		Partial: p.partial, Command: p.command, Cause: p.cause,
	}
	e.Signal = signalName(p.tree.Err())
	if e.Cause == nil && p.opts.Load().Resume != "" && strings.Contains(e.Stderr, noSessionText) {
		e.Cause = ErrNoSession
	}
	return e
}

// noSessionText is what the CLI writes when there is nothing to resume.
const noSessionText = "No conversation found with session ID"

// fail ends the process by force, for a reason of this package.
func (p *Process) fail(cause error) {
	p.mu.Lock()
	if p.cause == nil && !p.closing {
		p.cause = cause
	}
	p.mu.Unlock()
	// Close joins this run of End, so the goroutine is waited for there.
	go func() {
		hurry, cancel := context.WithCancel(context.Background())
		cancel()
		if err := p.tree.End(hurry, nil); err != nil {
			p.log.Error("claude: a process could not be ended", "pid", p.tree.PID(), "err", err)
		}
	}()
}

// Close ends the process and everything it started: it is asked to end, and
// after the grace time forced to. It returns when nothing is left, or says
// what is. A ctx that ends means no more politeness. Closing twice is harmless.
func (p *Process) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closing = true
	p.mu.Unlock()
	err := p.tree.End(ctx, func(ctx context.Context) error {
		_, err := p.request(ctx, "end_session", map[string]any{"subtype": "end_session", "reason": "closed"})
		if errors.Is(err, ErrClosed) {
			return nil // it was gone before its answer
		}
		return err
	})
	<-p.ended // bounded by drainTime once the tree has ended
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.work.Wait()
	}()
	select {
	case <-done:
	case <-time.After(p.opts.Load().grace()):
		// A callback of the caller does not heed its context. It cannot be ended.
		err = errors.Join(err, fmt.Errorf("claude: a callback still runs %v after its context ended", p.opts.Load().grace()))
	}
	return errors.Join(err, removeFolder(p.folder))
}

// Done returns a channel that is closed when the process has ended, for
// whatever reason.
func (p *Process) Done() <-chan struct{} { return p.ended }

// Err returns nil while the process lives, then [ErrClosed] or an [*ExitError].
func (p *Process) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Info describes the process at this moment.
func (p *Process) Info() Info {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Info{
		PID: p.tree.PID(), Version: p.caps.Version, SessionID: p.session, Dir: p.dir, ConfigDir: p.config, Started: p.started,
		Turns: p.turns, Resets: p.resets, KeySource: p.keySource,
	}
}

// RSS returns the resident memory of the process in bytes, without that of its
// children. The error is [errors.ErrUnsupported] where the system does not tell.
func (p *Process) RSS() (int64, error) { return p.tree.RSS() }

// Strays returns what else runs in the process's tree, such as commands and
// MCP servers, as "name (pid)".
func (p *Process) Strays() ([]string, error) {
	procs, err := p.tree.Strays()
	if err != nil {
		return nil, fmt.Errorf("claude: %w", err)
	}
	names := make([]string, len(procs))
	for i, s := range procs {
		names[i] = s.String()
	}
	return names, nil
}

// Unsolicited returns what results that nobody asked for have cost since the
// start, and how many there were.
func (p *Process) Unsolicited() (Microdollars, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.meter.strayCost, p.meter.strayCount
}

// acquire takes the process for one turn, reset or change of settings.
func (p *Process) acquire() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.err != nil:
		return p.err
	case p.closing:
		return ErrClosed
	case p.busy:
		return ErrBusy
	}
	p.busy = true
	return nil
}

func (p *Process) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy, p.turn = false, nil
}
