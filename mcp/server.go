package mcp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/worktree"
)

const (
	// patience is how long a call without progress notifications may take.
	// Clients commonly give up after 60 s.
	patience = 50 * time.Second
	// progressEvery is the pause between two progress notifications.
	progressEvery = 3 * time.Second
	// closeGrace is how long calls in progress have to be answered when the
	// server ends a connection.
	closeGrace = time.Second
)

// The defaults of [Options].
const (
	DefaultOwner     = "stdio"
	DefaultMaxOutput = 20_000
	DefaultMaxCalls  = 256
)

// Options say how a pool is served. The zero value is ready to use.
type Options struct {
	// Version is the version of the program, as clients see it. Empty means
	// that of the main module.
	Version string
	// Owner is the owner of the tasks of callers whom the transport does not
	// name. Idempotency keys are unique per owner. Empty means [DefaultOwner].
	Owner string
	// Toolsets are the groups of tools to serve. Empty means all.
	Toolsets []Toolset
	// MaxPermissionMode is the loosest permission mode that a task may ask for,
	// by the order of [claude.PermissionModes]. Empty means the pool's own mode.
	MaxPermissionMode claude.PermissionMode
	// MaxSharedMode is the loosest that one may have that works in the person's
	// checkout, which is what isolation "none" means. Empty means
	// MaxPermissionMode.
	MaxSharedMode claude.PermissionMode
	// MergeCheck is the command that pool_merge runs on a result when it is asked
	// to check it. None means that it cannot.
	MergeCheck []string
	// CheckedOut says what pool_merge does with a target that is checked out
	// somewhere. Empty means [worktree.Refuse].
	CheckedOut worktree.CheckedOut
	// MaxOutput bounds the output of one task in an answer, in characters; an
	// answer with many tasks carries three times as much. Zero means
	// [DefaultMaxOutput].
	MaxOutput int
	// MaxCalls bounds the tool calls in progress. Zero means [DefaultMaxCalls].
	MaxCalls int
	// Logger gets what an operator would want to know. It must not write to the
	// standard output of a stdio server. Nil means none.
	Logger *slog.Logger
}

// Server serves one pool to any number of connections. It is safe for
// concurrent use.
type Server struct {
	pool  *claudepool.Pool
	opts  Options
	log   *slog.Logger
	mcp   *sdk.Server
	fresh *updates
	brief briefTools

	prompts prompts

	// ctx ends with Close. Waits end with it; tasks do not.
	ctx  context.Context
	stop context.CancelFunc

	mu     sync.Mutex
	closed bool
	work   sync.WaitGroup // the goroutines of this server
}

// NewServer returns a server for p, which stays the caller's. Unknown names in
// o are refused as [*claudepool.InvalidError]. The server must be closed.
func NewServer(p *claudepool.Pool, o Options) (*Server, error) {
	if p == nil {
		return nil, errors.New("mcp server: the pool is nil")
	}
	o.Owner = cmp.Or(o.Owner, DefaultOwner)
	o.MaxOutput = cmp.Or(o.MaxOutput, DefaultMaxOutput)
	o.MaxCalls = cmp.Or(o.MaxCalls, DefaultMaxCalls)
	o.Version = cmp.Or(o.Version, buildVersion())
	o.MaxPermissionMode = cmp.Or(o.MaxPermissionMode, p.Config().Agent.PermissionMode, claude.PermissionPlan)
	o.MaxSharedMode = cmp.Or(o.MaxSharedMode, o.MaxPermissionMode)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if len(o.Toolsets) == 0 {
		o.Toolsets = Toolsets()
	}
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("mcp server: %w", err)
	}

	s := &Server{pool: p, opts: o, log: o.Logger, brief: newBriefTools()}
	s.ctx, s.stop = context.WithCancel(context.Background())
	capabilities := &sdk.ServerCapabilities{
		Tools:     &sdk.ToolCapabilities{},
		Resources: &sdk.ResourceCapabilities{Subscribe: true},
	}
	if s.has(ToolsetSkills) {
		capabilities.Prompts = &sdk.PromptCapabilities{ListChanged: true}
	}
	s.mcp = sdk.NewServer(
		&sdk.Implementation{Name: "claudepool", Title: "Claude pool", Version: o.Version},
		&sdk.ServerOptions{
			Instructions:       s.instructions(),
			Logger:             slog.New(warnings{o.Logger.Handler()}),
			Capabilities:       capabilities,
			CompletionHandler:  s.complete,
			SubscribeHandler:   s.subscribe,
			UnsubscribeHandler: func(context.Context, *sdk.UnsubscribeRequest) error { return nil },
		})
	s.mcp.AddReceivingMiddleware(guard(o.Logger, o.MaxCalls), s.freshPrompts, s.brief.list)
	s.addTools()
	s.addResources()
	s.syncPrompts()
	s.fresh = newUpdates()
	s.work.Go(s.follow)
	s.work.Go(s.announce)
	if s.has(ToolsetSkills) {
		s.work.Go(s.rescan)
	}
	return s, nil
}

func (o Options) validate() error {
	if !slices.Contains(claude.PermissionModes(), o.MaxPermissionMode) {
		return &claudepool.InvalidError{Field: "max_permission_mode", Reason: fmt.Sprintf("must be one of %v, not %q", claude.PermissionModes(), o.MaxPermissionMode)}
	}
	if !slices.Contains(claude.PermissionModes(), o.MaxSharedMode) {
		return &claudepool.InvalidError{Field: "max_shared_mode", Reason: fmt.Sprintf("must be one of %v, not %q", claude.PermissionModes(), o.MaxSharedMode)}
	}
	for _, t := range o.Toolsets {
		if !slices.Contains(Toolsets(), t) {
			return &claudepool.InvalidError{Field: "toolsets", Reason: fmt.Sprintf("must be of %v, not %q", Toolsets(), t)}
		}
	}
	if o.MaxOutput < 0 {
		return &claudepool.InvalidError{Field: "max_output", Reason: "must not be negative"}
	}
	if o.MaxCalls < 0 {
		return &claudepool.InvalidError{Field: "max_calls", Reason: "must not be negative"}
	}
	return nil
}

// MCP returns the server of the SDK, to serve it by other means than Run or to
// add tools to it. Unlike Run those do not tell a time-out from a cancellation.
func (s *Server) MCP() *sdk.Server { return s.mcp }

// Run serves one connection until the client closes it, ctx ends or the server
// is closed; the last two give calls in progress a second to be answered. The
// pool's tasks go on. When the client closed the connection, the error is nil.
func (s *Server) Run(ctx context.Context, t sdk.Transport) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return claudepool.ErrClosed
	}
	s.work.Add(1)
	s.mu.Unlock()
	defer s.work.Done()

	pt := &patientTransport{Transport: t, log: s.log}
	session, err := s.mcp.Connect(ctx, pt, nil)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	var end error
	over := make(chan struct{})
	s.work.Go(func() { defer close(over); end = session.Wait() })
	select {
	case <-over:
		if pt.conn.eof.Load() {
			return nil // what could not be answered any more is of no interest
		}
		return end
	case <-ctx.Done():
	case <-s.ctx.Done():
	}
	pt.conn.settle(over)
	// Closed first, the connection ends the calls that are left, and no client
	// that does not read can hold the session up.
	err = pt.conn.Close()
	session.Close()
	<-over
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// Close ends all connections and waits for what the server has started. The
// pool and its tasks go on. Closing again does nothing.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.work.Wait()
	return nil
}

// background runs f on a goroutine of the server, unless it is closed.
func (s *Server) background(f func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return claudepool.ErrClosed
	}
	s.work.Go(f)
	return nil
}

// owner names who calls: as the transport says, else as the options do.
func (s *Server) owner(req *sdk.CallToolRequest) string {
	if req.Extra != nil && req.Extra.TokenInfo != nil && req.Extra.TokenInfo.UserID != "" {
		return req.Extra.TokenInfo.UserID
	}
	return s.opts.Owner
}

// buildVersion is the version of this module in the running program.
func buildVersion() string {
	const path = "github.com/claudepool/claudepool"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if info.Main.Path == path {
		return cmp.Or(info.Main.Version, "unknown")
	}
	for _, m := range info.Deps {
		if m.Path == path {
			return cmp.Or(m.Version, "unknown")
		}
	}
	return "unknown"
}

// warnings passes on what the SDK logs from warnings up: it reports each
// message as information.
type warnings struct{ slog.Handler }

func (w warnings) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && w.Handler.Enabled(ctx, l)
}
func (w warnings) WithAttrs(a []slog.Attr) slog.Handler { return warnings{w.Handler.WithAttrs(a)} }
func (w warnings) WithGroup(g string) slog.Handler      { return warnings{w.Handler.WithGroup(g)} }
