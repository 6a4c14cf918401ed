package worktree

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// Begin makes the place ready for work: whatever is in it is put on refs, and the
// branch of the work is checked out. That is a new one from a fresh base, or goes
// on from that of an earlier work. A branch that the work already has, from an
// attempt that is not to be continued, is put on a recovery ref.
//
// A place that this program has just cleaned is not looked through once more, for
// that takes most of the time. What somebody writes there between is lost no more
// than other work: it is taken for a part of this one. See [Place.Untidy].
//
// When it fails, nothing is to be done in the place before it has succeeded.
func (p *Place) Begin(ctx context.Context, w Work) error {
	leave, err := p.enter()
	if err != nil {
		return err
	}
	defer leave()
	if err := p.m.checkWork(ctx, w); err != nil {
		return err
	}
	if err := p.copyConfig(ctx); err != nil {
		return err
	}
	if err := p.repair(ctx); err != nil {
		return err
	}
	if !p.tidy {
		if _, err := p.end(ctx); err != nil {
			return fmt.Errorf("keep what is in %s: %w", p.root, err)
		}
	}
	p.tidy = false
	if err := p.begin(ctx, w); err != nil {
		return fmt.Errorf("begin %s in %s: %w", w.ID, p.name, err)
	}
	return nil
}

// Untidy says that somebody may write in the place between two pieces of work.
// What the next finds there when it begins is put on recovery refs.
func (p *Place) Untidy() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tidy = false
}

func (p *Place) begin(ctx context.Context, w Work) error {
	ref := branchPrefix + w.ID
	base, start, err := p.m.startOf(ctx, w)
	if err != nil {
		return err
	}
	// Written down before anything is written that would have to be kept.
	p.mark.Work, p.mark.Used = &openWork{ID: w.ID, Branch: ref, Base: base, Beginning: true}, time.Now().UTC().Round(0)
	if err := p.writeMark(); err != nil {
		return err
	}
	err = p.m.makeBranch(ctx, p, w, base, start)
	if err == nil {
		err = p.switchTo(ctx, ref, start)
	}
	if err == nil {
		err = p.supply(ctx)
	}
	if err == nil {
		p.mark.Work.Beginning = false
		err = p.writeMark()
	}
	if err != nil {
		// What was made on the way is no work: the next look keeps it as such.
		p.mark.Work = nil
		return errors.Join(err, p.writeMark())
	}
	return nil
}

// checkWork finds names that could not be used, or that would lead elsewhere.
func (m *Manager) checkWork(ctx context.Context, w Work) error {
	if err := m.checkID(ctx, "Work.ID", w.ID); err != nil {
		return err
	}
	if strings.HasPrefix(w.Base, "-") {
		return invalid("Work.Base", "is %q: no commit is named like that", w.Base)
	}
	if w.From == "" {
		return nil
	}
	return m.checkID(ctx, "Work.From", w.From)
}

func (m *Manager) checkID(ctx context.Context, field, id string) error {
	plain := id != "" && strings.Trim(strings.ToLower(id), "abcdefghijklmnopqrstuvwxyz0123456789-_") == "" && id[0] != '-' && len(id) <= 200
	if plain {
		return nil // which saves asking git
	}
	if id == "" || len(id) > 200 || strings.ContainsAny(id, "/\\") || id[0] == '-' {
		return invalid(field, "is %q: it must be a single element of a branch's name", id)
	}
	ok, err := m.repo.Succeeds(ctx, "check-ref-format", branchPrefix+id)
	if err == nil && !ok {
		return invalid(field, "is %q, which git does not take as a part of a branch's name", id)
	}
	return err
}

// startOf returns the commits that work is based on and starts at.
func (m *Manager) startOf(ctx context.Context, w Work) (base, start string, err error) {
	if w.From == "" {
		base, err := m.freshBase(ctx, cmp.Or(w.Base, m.o.Base))
		return base, base, err
	}
	if err := m.endStale(ctx, w.From); err != nil {
		return "", "", err
	}
	if start, err = m.commit(ctx, branchPrefix+w.From); err != nil {
		if errors.Is(err, ErrUnknown) {
			err = fmt.Errorf("%w: there is no branch claude-pool/%s to continue", ErrUnknown, w.From)
		}
		return "", "", err
	}
	base, err = m.commit(ctx, workPrefix+w.From)
	if errors.Is(err, ErrUnknown) { // made by hand: as good as can be known
		if base, err = m.commit(ctx, cmp.Or(w.Base, m.o.Base, "HEAD")); err == nil {
			base, err = m.repo.Run(ctx, "merge-base", base, start)
		}
	}
	return base, start, err
}

// freshBase returns the commit that a name means now.
func (m *Manager) freshBase(ctx context.Context, name string) (string, error) {
	if name != "" && m.o.Fetch {
		if err := m.fetch(ctx, name); err != nil {
			return "", err
		}
	}
	base, err := m.commit(ctx, cmp.Or(name, "HEAD"))
	if errors.Is(err, ErrUnknown) {
		return "", fmt.Errorf("%w: %w", ErrNoCommit, err)
	}
	return base, err
}

// fetch brings a branch of a remote up to date, if the name is that of one.
func (m *Manager) fetch(ctx context.Context, name string) error {
	remotes, err := m.repo.Lines(ctx, "remote")
	if err != nil {
		return err
	}
	name = strings.TrimPrefix(strings.TrimPrefix(name, "refs/"), "remotes/")
	for _, remote := range remotes {
		branch, ok := strings.CutPrefix(name, remote+"/")
		if !ok {
			continue
		}
		args := []string{"fetch", "--quiet", "--no-tags", "--no-recurse-submodules"}
		if !m.git.Version.Less(versionNoFetchHead) {
			args = append(args, "--no-write-fetch-head") // that is the person's
		}
		if _, err := m.repo.Run(ctx, append(args, remote, "+refs/heads/"+branch+":refs/remotes/"+name)...); err != nil {
			return fmt.Errorf("fetch the base: %w", err)
		}
		return nil
	}
	return nil
}

// makeBranch makes the branch of work and writes down its base. What a branch of
// that name has had goes on a recovery ref.
func (m *Manager) makeBranch(ctx context.Context, p *Place, w Work, base, start string) error {
	ref := branchPrefix + w.ID
	tag, err := makeTag(ctx, m.repo, base, "commit", "work/"+w.ID, "Base of claude-pool/"+w.ID, time.Now())
	if err != nil {
		return err
	}
	k := m.newKeeper(p.name, w.ID)
	return m.moveBranch(ctx, ref, start, func(old refState) (bool, error) {
		if old.dir != "" && old.dir != p.root {
			return false, fmt.Errorf("%w: branch claude-pool/%s is checked out in %s; end that, or switch it to another branch", ErrInUse, w.ID, old.dir)
		}
		if old.commit == "" || old.commit == start {
			return true, nil
		}
		return true, m.keepTip(ctx, k, ref, old.commit, start, "commits of an earlier attempt")
	}, "update "+workPrefix+w.ID+" "+tag)
}

// keepTip keeps the tip of a branch that is to be moved or removed, unless another
// ref, or the commit it is moved to, has it.
func (m *Manager) keepTip(ctx context.Context, k *keeper, ref, tip, to, what string) error {
	args := []string{"rev-list", "--max-count=1", tip, "--not"}
	if to != "" {
		args = append(args, to)
	}
	free, err := m.repo.Run(ctx, append(args, "--exclude="+ref, "--glob=refs/*")...)
	if err != nil || free == "" {
		return err
	}
	_, err = k.keep(ctx, source{checkout: checkout{repo: m.repo}, shared: true}, tip, "commit", strings.TrimPrefix(ref, branchPrefix), what)
	return err
}

// switchTo checks a branch out. Files that are the same in both are not touched.
func (p *Place) switchTo(ctx context.Context, ref, start string) error {
	if stirred, err := p.stirred(ctx); err != nil {
		return err
	} else if stirred {
		if err := p.clearNobodys(ctx); err != nil {
			return err
		}
	}
	if p.kind == Clone {
		if _, err := p.repo.Run(ctx, "fetch", "--quiet", "--prune", "--no-tags", "--no-recurse-submodules", p.m.names.common, "+"+ref+":"+ref, "+refs/remotes/*:refs/remotes/*"); err != nil {
			return err
		}
	}
	old, stuck := p.left, false
	if old != start {
		var err error
		if stuck, err = p.move(ctx, old, start); err != nil {
			return err
		}
	}
	on := func() error {
		if p.kind == Clone { // to clear a clone takes its branches with it
			if err := updateRefs(ctx, p.repo, "update "+ref+" "+start); err != nil {
				return err
			}
		}
		_, err := p.repo.Run(ctx, "symbolic-ref", "HEAD", ref)
		return err
	}
	if err := on(); err != nil {
		return err
	}
	if old != start {
		cleared, err := p.clearStrange(ctx, old, start, stuck)
		if err == nil && cleared {
			err = on()
		}
		if err != nil {
			return err
		}
	}
	return p.forgetHistory()
}

// stirred reports whether HEAD has been elsewhere since the place was cleaned, so
// that there may be commits that nothing else has.
func (p *Place) stirred(ctx context.Context) (bool, error) {
	log, err := readIfThere(filepath.Join(p.gitDir, "logs", "HEAD"))
	if err != nil || len(log) > 0 {
		return true, err
	}
	head, err := p.checkout().head(ctx)
	return head != p.left, err
}

// move brings the files from one commit to another. Git refuses when it would
// overwrite what somebody has written since the place was cleaned: that is kept
// first then. It reports whether files are left that are to go, as their folders
// were made read-only.
func (p *Place) move(ctx context.Context, old, start string) (stuck bool, err error) {
	run := func(args ...string) error {
		var said bytes.Buffer
		_, err := p.repo.Warnings(&said).Run(ctx, args...)
		stuck = strings.Contains(said.String(), "unable to unlink")
		return err
	}
	if old != "" {
		// Looks only at files that differ. The option has versions before 2.34 take
		// ignored files for such that may be overwritten, as checkout does.
		err := run("read-tree", "-m", "-u", "--exclude-per-directory=.gitignore", old, start)
		if err == nil || ctx.Err() != nil {
			return stuck, err
		}
	}
	for try := 0; ; try++ {
		err := run("checkout", "--quiet", "--detach", start, "--")
		if err == nil || ctx.Err() != nil || try > 0 {
			return stuck, err
		}
		if err := p.checkout().openFolders(); err != nil {
			return false, err
		}
		if err := p.clearNobodys(ctx); err != nil {
			return false, err
		}
	}
}

// clearStrange clears what is work only now: files that were ignored by what was
// checked out before, repositories that it knew as submodules, and what is stuck. It
// reports whether there may have been any.
func (p *Place) clearStrange(ctx context.Context, old, start string, stuck bool) (bool, error) {
	changed, err := p.repo.Run(ctx, "diff-tree", "-r", "--raw", "--no-renames", old, start, "--")
	if err != nil {
		return false, err
	}
	strange := strings.Contains(changed, ".gitignore") || strings.HasPrefix(changed, ":160000") || strings.Contains(changed, "\n:160000")
	if !strange && !stuck {
		return false, nil
	}
	return true, p.clearNobodys(ctx)
}

// clearNobodys clears what the work that begins has not written.
func (p *Place) clearNobodys(ctx context.Context) error {
	work := p.mark.Work
	p.mark.Work = nil
	defer func() { p.mark.Work = work }()
	var res Result
	return p.clear(ctx, p.newSalvage(), &res)
}
