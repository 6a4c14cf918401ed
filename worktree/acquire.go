package worktree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/claudepool/claudepool/internal/filelock"
)

// Acquire returns a place that nobody else has until it is released, or this
// program ends. One that is free is taken before a new one is made; work that was
// left open in it is ended first, as [Place.End] does.
func (m *Manager) Acquire(ctx context.Context, kind Kind) (*Place, error) {
	if kind != Worktree && kind != Clone {
		return nil, invalid("kind", "is %q: use %q or %q", kind, Worktree, Clone)
	}
	m.mu.Lock()
	closed := m.closed
	m.mu.Unlock()
	if closed {
		return nil, fmt.Errorf("manager of %s: %w", m.o.Repo, ErrClosed)
	}
	numbers, err := m.numbers(kind)
	if err != nil {
		return nil, err
	}
	for _, n := range numbers {
		p, err := m.adopt(ctx, placeName(kind, n), kind)
		if p != nil || ctx.Err() != nil {
			return p, err
		}
		if err != nil && !errors.Is(err, filelock.ErrLocked) {
			m.log.WarnContext(ctx, "a place cannot be used again", "place", placeName(kind, n), "error", err)
		}
	}
	if err := m.clearHalfMade(ctx, ""); err != nil {
		return nil, err
	}
	for n := 1; ; n++ {
		p, err := m.make(ctx, placeName(kind, n), kind)
		if !errors.Is(err, filelock.ErrLocked) && !errors.Is(err, fs.ErrExist) {
			return p, err
		}
	}
}

// adopt takes a place that is there. It returns ErrLocked when somebody has it.
func (m *Manager) adopt(ctx context.Context, name string, kind Kind) (_ *Place, err error) {
	p, lock, err := m.lockToEnd(ctx, name, kind, spareNone)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.Unlock())
		}
	}()
	if p.mark.Removing {
		return nil, fmt.Errorf("%s is half made or half removed: a clean-up will remove the rest", p.root)
	}
	if err := lock.Sign(); err != nil {
		return nil, err
	}
	if _, err := p.end(ctx); err != nil {
		return nil, fmt.Errorf("keep what is in %s: %w", p.root, err)
	}
	return p, m.have(p, lock)
}

// make makes a new place. It returns ErrLocked or ErrExist when the name is taken.
func (m *Manager) make(ctx context.Context, name string, kind Kind) (_ *Place, err error) {
	lock, err := m.tryLock(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.Unlock())
		}
	}()
	root := filepath.Join(m.home, name)
	if _, err := os.Lstat(root); err == nil {
		return nil, fs.ErrExist
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := lock.Sign(); err != nil {
		return nil, err
	}
	base, err := m.commit(ctx, cmp.Or(m.o.Base, "HEAD"))
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC().Round(0)
	p := &Place{m: m, name: name, kind: kind, root: root}
	p.mark = mark{Version: markVersion, Name: name, Kind: kind, Path: root, Made: now, Used: now, Removing: true}
	if kind == Clone {
		err = p.clone(ctx, base)
	} else {
		err = p.link(ctx, base)
	}
	if err != nil {
		if _, none := readMark(p.gitDir, root); p.gitDir != "" && none == nil { // nobody has worked in it
			err = errors.Join(err, p.remove())
		}
		return nil, err
	}
	return p, m.have(p, lock)
}

// link makes a linked worktree, with nothing checked out.
func (p *Place) link(ctx context.Context, base string) error {
	if err := p.add(ctx, base); err != nil {
		return err
	}
	return p.furnish(ctx, base)
}

// furnish marks a new place and fills it.
func (p *Place) furnish(ctx context.Context, base string) error {
	if err := p.noteFiles(p.settingFiles()...); err != nil {
		return err
	}
	if err := p.copyConfig(ctx); err != nil {
		return err
	}
	if err := errors.Join(p.writeFiles(), p.writeMark()); err != nil {
		return err
	}
	p.repo = p.pin()
	if err := p.copySparse(ctx); err != nil {
		return err
	}
	if _, err := p.repo.Run(ctx, "reset", "--quiet", "--hard"); err != nil {
		return err
	}
	if err := p.forgetHistory(); err != nil {
		return err
	}
	p.tidy, p.left, p.mark.Removing = true, base, false
	return p.writeMark()
}

// clone makes a clone on this disk. Its origin is that of the repository. It is made
// elsewhere, and is in its place only when it has a mark.
func (p *Place) clone(ctx context.Context, base string) error {
	dir := filepath.Join(p.m.home, newPrefix+p.name)
	err := removeAll(dir)
	if err == nil {
		err = p.m.cloneQuietly(ctx, p.m.names.common, dir, base)
	}
	gitDir := filepath.Join(dir, ".git")
	if err == nil {
		err = noteHead(gitDir)
	}
	if err == nil {
		err = writeJSON(filepath.Join(gitDir, markName), p.mark)
	}
	if err == nil {
		err = os.Rename(dir, p.root)
	}
	if err != nil {
		return errors.Join(err, removeAll(dir))
	}
	p.gitDir = filepath.Join(p.root, ".git")
	return p.furnish(ctx, base)
}

// noteHead has git note where HEAD has been, also where it would not.
func noteHead(gitDir string) error {
	if err := os.MkdirAll(filepath.Join(gitDir, "logs"), 0o777); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(gitDir, "logs", "HEAD"), os.O_WRONLY|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	return f.Close()
}
