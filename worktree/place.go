package worktree

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/claudepool/claudepool/internal/filelock"
	"github.com/claudepool/claudepool/internal/git"
)

// ErrClosed: the manager is closed, or the place was given up.
var ErrClosed = errors.New("closed")

// ErrNoWork: no work was begun in the place.
var ErrNoWork = errors.New("no work is open")

// Place is a folder that this program has for itself, to let agents work in one
// after another. Its methods wait for each other.
type Place struct {
	m      *Manager
	name   string
	kind   Kind
	root   string
	gitDir string
	repo   git.Repo // in root

	mu   sync.Mutex
	lock *filelock.Lock // nil: given up
	mark mark
	tidy bool   // cleaned by us, and nobody was let in since
	left string // the commit that HEAD was left at
}

// Name returns the name of the place, of those of this repository.
func (p *Place) Name() string { return p.name }

// Kind returns what the place shares with the repository.
func (p *Place) Kind() Kind { return p.kind }

// Root returns the top of the working tree.
func (p *Place) Root() string { return p.root }

// Dir returns the folder to work in: that below Root which [Options].Repo is below
// the top of the person's checkout. It is there, and in the place, once [Place.Begin]
// has succeeded, also where the commit does not have it.
func (p *Place) Dir() string { return filepath.Join(p.root, p.m.names.prefix) }

// mark is what a place has in its git folder. It says that the place is ours, and
// what goes on in it.
type mark struct {
	Version int       `json:"version"`
	Name    string    `json:"name"`
	Kind    Kind      `json:"kind"`
	Path    string    `json:"path"` // of the place: the mark is good for no other
	Made    time.Time `json:"made"`
	Used    time.Time `json:"used"`
	Work    *openWork `json:"work,omitempty"`
	// Files are what the files of the git folder are to have that say how git works
	// in the place. One that is not named is not to be there.
	Files map[string]string `json:"files,omitempty"`
	// Removing says that nothing in it need be kept, and all is to go: the place is
	// not finished yet, or all there was has been put on refs.
	Removing bool `json:"removing,omitempty"`
}

// openWork is work that has begun and not ended.
type openWork struct {
	ID     string `json:"id"`
	Branch string `json:"branch"` // full name of the ref
	Base   string `json:"base"`
	// Beginning says that nobody has been let in yet to work.
	Beginning bool `json:"beginning,omitempty"`
	// Ending says that its program is no more. Whoever has the place now only brings
	// the work to an end, which can be waited for.
	Ending bool `json:"ending,omitempty"`
}

func (p *Place) writeMark() error {
	if err := writeJSON(filepath.Join(p.gitDir, markName), p.mark); err != nil {
		return fmt.Errorf("write down how %s stands: %w", p.name, err)
	}
	return nil
}

// find looks at what is at the place of a name. The error is fs.ErrNotExist when
// nothing is, and ErrNotOurs when it is not known to be one of our places.
func (m *Manager) find(name string, kind Kind) (*Place, error) {
	p := &Place{m: m, name: name, kind: kind, root: filepath.Join(m.home, name)}
	if _, err := os.Lstat(p.root); err != nil {
		return nil, err
	}
	var err error
	if kind == Clone {
		p.gitDir = filepath.Join(p.root, ".git")
		p.mark, err = readMark(p.gitDir, p.root)
	} else {
		err = p.findWorktree()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.root, err)
	}
	p.repo = p.pin()
	return p, nil
}

// pin returns git for the place. In a clone an agent may have replaced commits by
// others, which is not to be seen as what they are.
func (p *Place) pin() git.Repo {
	r := p.m.pin(p.gitDir, p.root)
	if p.kind == Clone {
		r = r.With("GIT_NO_REPLACE_OBJECTS=1")
	}
	return r
}

// findWorktree finds the git folder of a linked worktree. It is not read from the
// .git file of the place, which an agent may have changed or removed.
func (p *Place) findWorktree() error {
	all := filepath.Join(p.m.names.common, "worktrees")
	first := adminName(p.root)
	dirs := []string{filepath.Join(all, first)}
	entries, err := os.ReadDir(all)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if e.Name() != first && strings.HasPrefix(e.Name(), p.name) {
			dirs = append(dirs, filepath.Join(all, e.Name()))
		}
	}
	for _, dir := range dirs {
		if p.mark, err = readMark(dir, p.root); err == nil {
			p.gitDir = dir
			return nil
		}
	}
	return fmt.Errorf("%w: no git folder has a mark for it", ErrNotOurs)
}

// repairLink makes the .git file of a worktree what it is to be. A folder may have
// work in it, and stays.
func (p *Place) repairLink() error {
	if p.kind == Clone {
		return nil
	}
	link, want := filepath.Join(p.root, ".git"), "gitdir: "+filepath.ToSlash(p.gitDir)
	fi, err := os.Lstat(link)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case fi.IsDir():
		return nil
	case !fi.Mode().IsRegular():
		if err := os.Remove(link); err != nil {
			return err
		}
	default:
		text, err := os.ReadFile(link)
		if err != nil || strings.TrimSpace(string(text)) == want {
			return err
		}
	}
	return os.WriteFile(link, []byte(want+"\n"), 0o644)
}

// readMark reads the mark of the place at root. There is none where a link leads
// to the place or to its git folder: what is done there would be done elsewhere.
func readMark(gitDir, root string) (mark, error) {
	for _, dir := range []string{root, gitDir} {
		if fi, err := os.Lstat(dir); err != nil || !fi.IsDir() {
			return mark{}, fmt.Errorf("%w: %s is no folder", ErrNotOurs, dir)
		}
	}
	text, err := os.ReadFile(filepath.Join(gitDir, markName))
	if err != nil {
		return mark{}, fmt.Errorf("%w: %w", ErrNotOurs, err)
	}
	var k mark
	if err := json.Unmarshal(text, &k); err != nil || k.Version != markVersion || k.Path != root {
		return mark{}, fmt.Errorf("%w: the mark in %s is not for it", ErrNotOurs, gitDir)
	}
	return k, nil
}

// placeName returns the name of the nth place of a kind; parseName is its reverse.
func placeName(kind Kind, n int) string { return fmt.Sprintf("%s-%d", kind, n) }

func parseName(name string) (kind Kind, n int, ok bool) {
	k, num, found := strings.Cut(name, "-")
	kind = Kind(k)
	n, err := strconv.Atoi(num)
	return kind, n, found && err == nil && n > 0 && placeName(kind, n) == name && (kind == Worktree || kind == Clone)
}

// numbers returns those of the places of a kind that are there, in order.
func (m *Manager) numbers(kind Kind) ([]int, error) {
	entries, err := os.ReadDir(m.home)
	if err != nil {
		return nil, err
	}
	var all []int
	for _, e := range entries {
		if k, n, ok := parseName(e.Name()); ok && k == kind && e.IsDir() {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return all, nil
}

// tryLock takes the lock of a place if nobody has it. Who only looks whether a
// place is free takes its lock for a moment too; nobody else tries meanwhile, so
// that a free place is never taken for one that is not.
func (m *Manager) tryLock(ctx context.Context, name string) (lock *filelock.Lock, err error) {
	door, err := m.waitLock(ctx, "door.lock")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, door.Unlock()) }()
	return filelock.Try(m.lockPath(name))
}

// lockToEnd takes the lock of a place if nobody has it, to end what was left open
// there, unless it is to be spared. Nobody ever sees it locked without that being
// written down.
func (m *Manager) lockToEnd(ctx context.Context, name string, kind Kind, spare func(*Place) bool) (p *Place, lock *filelock.Lock, err error) {
	door, err := m.waitLock(ctx, "door.lock")
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, door.Unlock()) }()
	if lock, err = filelock.Try(m.lockPath(name)); err != nil {
		return nil, nil, err
	}
	p, err = m.find(name, kind)
	if err == nil && p.mark.Work != nil && !p.mark.Work.Ending && !spare(p) {
		p.mark.Work.Ending = true
		err = p.writeMark()
	}
	if err != nil {
		return nil, nil, errors.Join(err, lock.Unlock())
	}
	return p, lock, nil
}

func spareNone(*Place) bool { return false }

// waitLock takes a lock that everybody has for a short time only.
func (m *Manager) waitLock(ctx context.Context, file string) (*filelock.Lock, error) {
	const pause = time.Millisecond
	for {
		lock, err := filelock.Try(filepath.Join(m.home, file))
		if !errors.Is(err, filelock.ErrLocked) {
			return lock, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

func (m *Manager) lockPath(name string) string { return filepath.Join(m.home, name+".lock") }

// have makes a place that was found or made this manager's.
func (m *Manager) have(p *Place, lock *filelock.Lock) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return fmt.Errorf("manager of %s: %w", m.o.Repo, ErrClosed)
	}
	p.lock = lock
	m.held[p] = true
	return nil
}

// Leave gives the place up as it is. Work that is open in it stays so until
// somebody acquires the place.
func (p *Place) Leave() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.giveUpLocked()
}

func (p *Place) giveUpLocked() error {
	if p.lock == nil {
		return nil
	}
	p.m.mu.Lock()
	delete(p.m.held, p)
	p.m.mu.Unlock()
	lock := p.lock
	p.lock = nil
	return lock.Unlock()
}

// enter begins a method of a place; its result ends it.
func (p *Place) enter() (leave func(), err error) {
	p.mu.Lock()
	if p.lock == nil {
		p.mu.Unlock()
		return nil, fmt.Errorf("%s: %w; acquire another", p.name, ErrClosed)
	}
	return p.mu.Unlock, nil
}
