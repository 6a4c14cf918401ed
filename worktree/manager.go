package worktree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/claudepool/claudepool/internal/git"
)

// InvalidError says which option cannot be used.
type InvalidError struct {
	Option string // such as "Repo" or "Work.ID"
	Reason string
	err    error
}

func (e *InvalidError) Error() string { return e.Option + " " + e.Reason }

func (e *InvalidError) Unwrap() error { return e.err }

func invalid(option, format string, args ...any) error {
	reason := fmt.Errorf(format, args...)
	return &InvalidError{Option: option, Reason: reason.Error(), err: errors.Unwrap(reason)}
}

// Manager makes places of one repository and looks after them. Its methods may be
// called at once, and several managers, also of several programs, may serve one
// repository.
type Manager struct {
	o     Options
	log   *slog.Logger
	git   *git.Git
	repo  git.Repo // in the person's checkout, or in the bare repository
	names repoNames
	home  string // the folder of this repository's places
	lfs   bool   // git-lfs is there

	mu     sync.Mutex
	closed bool
	held   map[*Place]bool
}

// Open looks at the repository and makes the folder for its places. Work that a
// program which is no more has left open there is told of in the log, and stays
// open until its place is acquired or cleaned, or the work is continued.
func Open(ctx context.Context, o Options) (*Manager, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	g, err := git.Find(ctx)
	if err != nil {
		return nil, err
	}
	m := &Manager{o: o, log: o.Log, git: g, lfs: hasLFS(), held: make(map[*Place]bool)}
	if m.names, err = discover(ctx, g, o.Repo); err != nil {
		return nil, err
	}
	m.repo = m.pin(m.names.gitDir, m.names.top)
	if err := m.checkBase(ctx); err != nil {
		return nil, err
	}
	if m.home, err = m.openHome(ctx); err != nil {
		return nil, err
	}
	return m, m.tellStale(ctx)
}

// Validate finds what can be said of the options without the repository.
func (o Options) Validate() error { return o.complete() }

// complete sets defaults and finds what cannot be.
func (o *Options) complete() error {
	o.Leftover = cmp.Or(o.Leftover, Commit)
	o.SetupTimeout = cmp.Or(o.SetupTimeout, 5*time.Minute)
	o.Keep = cmp.Or(o.Keep, 30*24*time.Hour)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Copy, o.Setup = slices.Clone(o.Copy), slices.Clone(o.Setup)
	switch {
	case o.Repo == "":
		return invalid("Repo", "is empty: name a folder of a git repository")
	case o.Leftover != Commit && o.Leftover != Keep:
		return invalid("Leftover", "is %q: use %q or %q", o.Leftover, Commit, Keep)
	case o.SetupTimeout < 0:
		return invalid("SetupTimeout", "is %v: it must not be negative", o.SetupTimeout)
	case len(o.Setup) > 0 && o.Setup[0] == "":
		return invalid("Setup", "names no program")
	case strings.HasPrefix(o.Base, "-"):
		return invalid("Base", "is %q: no commit is named like that", o.Base)
	case strings.HasPrefix(o.Target, "-"):
		return invalid("Target", "is %q: no branch is named like that", o.Target)
	}
	for _, p := range o.Copy {
		if _, err := path.Match(p, ""); err != nil || p == "" || path.IsAbs(p) || !filepath.IsLocal(filepath.FromSlash(p)) {
			return invalid("Copy", "has %q: use patterns of paths below the top of the repository", p)
		}
	}
	return nil
}

// repoNames is where a repository is. All paths are absolute and real.
type repoNames struct {
	top    string // of the checkout; "" in a bare repository
	prefix string // from top to the folder that was named
	gitDir string // of the checkout
	common string // of the repository: where refs and objects are
}

// discover finds the repository that a folder is in.
func discover(ctx context.Context, g *git.Git, dir string) (repoNames, error) {
	dir, err := realPath(dir)
	if err != nil {
		return repoNames{}, invalid("Repo", "cannot be used: %w", err)
	}
	if fi, err := os.Stat(dir); err != nil || !fi.IsDir() {
		return repoNames{}, invalid("Repo", "is %s, which is no folder", dir)
	}
	r := g.In(dir)
	lines, err := r.Lines(ctx, "rev-parse", "--git-dir", "--git-common-dir", "--is-inside-work-tree")
	switch {
	case git.ExitCode(err) == 128 && strings.Contains(err.Error(), "not a git repository"):
		return repoNames{}, fmt.Errorf("%w: %s is in none; name a folder of one, or make one with git init", ErrNoRepository, dir)
	case err != nil:
		return repoNames{}, err
	case len(lines) != 3:
		return repoNames{}, fmt.Errorf("git names the repository of %s in words that are not understood: %q", dir, lines)
	}
	var n repoNames
	for i, to := range []*string{&n.gitDir, &n.common} {
		p := lines[i]
		if !filepath.IsAbs(p) {
			p = filepath.Join(dir, p)
		}
		if *to, err = realPath(p); err != nil {
			return repoNames{}, err
		}
	}
	if lines[2] != "true" {
		return n, nil // bare, or inside of the .git folder of one that is not
	}
	if n.top, err = r.Run(ctx, "rev-parse", "--show-toplevel"); err != nil {
		return repoNames{}, err
	}
	if n.top, err = realPath(n.top); err != nil {
		return repoNames{}, err
	}
	n.prefix, err = filepath.Rel(n.top, dir)
	return n, err
}

func realPath(p string) (string, error) {
	p, err := filepath.Abs(p)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(p)
}

// pin returns git for a known git folder and working tree. It never looks for a
// repository in the folders above, which a damaged one would make it do.
func (m *Manager) pin(gitDir, top string) git.Repo {
	r := m.git.In(gitDir).With("GIT_DIR=" + gitDir)
	if top != "" {
		r = r.In(top).With("GIT_WORK_TREE=" + top)
	}
	return m.quiet(r).WithoutHooks()
}

// quiet returns git without what the person's configuration adds for people.
func (m *Manager) quiet(r git.Repo) git.Repo {
	// A watcher may be wrong about files, and housekeeping takes time. What is read
	// of git is to be as it is where nothing is set, and the disk is no network.
	r = r.Config("protocol.file.allow", "always").Config("i18n.logOutputEncoding", "UTF-8").Config("log.showSignature", "false").Config("push.pushOption", "")
	r = r.Config("core.fsmonitor", "false").Config("gc.auto", "0").Config("maintenance.auto", "false").
		Config("submodule.recurse", "false").Config("fetch.prune", "false").Config("commit.gpgSign", "false").Config("advice.detachedHead", "false")
	if !m.lfs {
		r = withoutLFS(r)
	}
	return r
}

// checkBase finds out early that there is nothing to start from.
func (m *Manager) checkBase(ctx context.Context) error {
	_, err := m.commit(ctx, cmp.Or(m.o.Base, "HEAD"))
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, ErrUnknown):
		return err
	case m.o.Base == "":
		return fmt.Errorf("%w: HEAD of %s is on no commit; make a first one, or name another base", ErrNoCommit, m.o.Repo)
	case m.o.Fetch:
		return nil // it may come
	}
	return invalid("Base", "is %q, which is no commit of %s: %w", m.o.Base, m.o.Repo, ErrNoCommit)
}

// commit returns the full name of a commit.
func (m *Manager) commit(ctx context.Context, name string) (string, error) {
	id, err := m.repo.Run(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", name+"^{commit}")
	if git.ExitCode(err) == 1 {
		return "", fmt.Errorf("%w: %s has no commit %q", ErrUnknown, m.o.Repo, name)
	}
	return id, err
}

// Close gives up the places that this manager has, for others. It removes
// nothing; work that is open stays so until the place is acquired again.
func (m *Manager) Close() error {
	m.mu.Lock()
	m.closed = true
	var held []*Place
	for p := range m.held {
		held = append(held, p)
	}
	m.mu.Unlock()
	var err error
	for _, p := range held {
		err = errors.Join(err, p.Leave())
	}
	return err
}
