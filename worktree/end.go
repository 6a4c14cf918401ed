package worktree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"
)

// End ends the work: all that was written is committed to its branch or put on
// recovery refs, and the place is made clean for the next. Everything that works
// in the place must have ended; it may have been killed at any moment.
//
// Ignored files are not work. They stay in the place, and go with it, as do folders
// with nothing in them, pipes and the like.
func (p *Place) End(ctx context.Context) (Result, error) {
	leave, err := p.enter()
	if err != nil {
		return Result{}, err
	}
	defer leave()
	if p.mark.Work == nil {
		return Result{}, fmt.Errorf("end work in %s: %w; begin some first", p.name, ErrNoWork)
	}
	return p.end(ctx)
}

// Release ends work that is open and gives the place up, for others to acquire. It
// stays on disk, ready for use, or with an error as [Place.Leave] leaves it.
func (p *Place) Release(ctx context.Context) error {
	leave, err := p.enter()
	if err != nil {
		return nil // it was given up before
	}
	defer leave()
	_, err = p.end(ctx)
	return errors.Join(err, p.giveUpLocked())
}

// end makes a place clean, whether work is open in it or not. Each step may be
// repeated: when one fails, or the program is killed, the next call goes on.
func (p *Place) end(ctx context.Context) (Result, error) { return p.endWith(ctx, p.newSalvage()) }

func (p *Place) newSalvage() *salvage {
	s := &salvage{p: p, k: p.m.newKeeper(p.name, "")}
	if w := p.mark.Work; w != nil {
		s.k.work = w.ID
	}
	return s
}

func (p *Place) endWith(ctx context.Context, s *salvage) (Result, error) {
	w := p.mark.Work
	res := Result{}
	if w != nil {
		res.Branch, res.Base = strings.TrimPrefix(w.Branch, "refs/heads/"), w.Base
	}
	if err := p.repair(ctx); err != nil {
		return res, err
	}
	if err := errors.Join(p.unlock(ctx), p.finishRemoval()); err != nil {
		return res, err
	}
	if err := s.ownRepository(ctx); err != nil {
		return res, err
	}
	if err := p.m.clearHalfMade(ctx, p.name); err != nil { // an agent may have made worktrees too
		return res, err
	}
	if w != nil && w.Beginning {
		return res, p.endBeginning(ctx, s, &res)
	}
	if err := p.clear(ctx, s, &res); err != nil {
		return res, err
	}
	p.tidy = true
	if w == nil {
		return res, nil
	}
	if err := p.report(ctx, s, &res); err != nil {
		return res, err
	}
	p.mark.Work, p.mark.Used = nil, time.Now().UTC().Round(0)
	return res, p.writeMark()
}

// endBeginning ends work whose program was killed before anybody worked: the place
// may not even have its branch and base. What is there is kept, but it is no work,
// and the branch stays as the person's repository has it.
func (p *Place) endBeginning(ctx context.Context, s *salvage, res *Result) error {
	w := p.mark.Work
	p.mark.Work = nil
	err := p.clear(ctx, s, res)
	if err == nil {
		var b refState
		if b, err = p.m.branch(ctx, w.Branch); err == nil && b.commit == "" {
			err = updateRefs(ctx, p.m.repo, "create "+w.Branch+" "+w.Base)
		}
	}
	if err == nil {
		err = p.writeMark()
	}
	if err != nil {
		p.mark.Work = w
		return err
	}
	p.tidy = true
	return nil
}

// maxRounds bounds how often a place is looked at again when it was not clean.
const maxRounds = 5

// clear puts all that is in a place on refs and cleans it.
func (p *Place) clear(ctx context.Context, s *salvage, res *Result) error {
	c := p.checkout()
	var v view
	for round := 0; ; round++ { // nothing is restored that was not kept as it is then
		var err error
		if v, err = c.look(ctx); err != nil {
			return err
		}
		moved, err := s.inner(ctx, p.source(), v)
		if err != nil {
			return err
		}
		if moved { // what is beside them may be seen now
			if v, err = c.look(ctx); err != nil {
				return err
			}
		}
		if round == 0 {
			if err := p.keepBranch(ctx, s.k, v); err != nil {
				return err
			}
		}
		if v.clean() {
			break
		}
		if round == maxRounds {
			return fmt.Errorf("clean %s: there are new changes each time; end what still writes there", p.root)
		}
		if round == 0 && p.canCommit(v) {
			commit, err := p.commitFiles(ctx, s, v, res)
			if err != nil {
				return err
			}
			if commit != "" && v.plain() && !p.m.o.Hooks {
				v.head, v.entries = commit, nil // of all there was: no need to look again
				break
			}
			continue // what it does not have, and what hooks have changed
		}
		before := c.stamps(v)
		if err := p.keepFiles(ctx, s, v, res); err != nil {
			return err
		}
		now, err := c.look(ctx)
		if err != nil {
			return err
		}
		if !reflect.DeepEqual(v, now) || !slices.Equal(before, c.stamps(now)) {
			continue
		}
		if err := p.publish(ctx, s.k); err != nil {
			return err
		}
		if err := s.history(ctx, p.source(), v); err != nil {
			return err
		}
		other, err := p.firm(ctx)
		if err == nil {
			err = c.restore(ctx, v, other)
		}
		if err != nil {
			return fmt.Errorf("clean %s: %w", p.root, err)
		}
	}
	if err := p.publish(ctx, s.k); err != nil {
		return err
	}
	if err := s.history(ctx, p.source(), v); err != nil {
		return err
	}
	return p.detach(ctx, v)
}

func (p *Place) checkout() checkout {
	return checkout{repo: p.repo, root: p.root, gitDir: p.gitDir, tmp: p.gitDir}
}

func (p *Place) source() source {
	return source{checkout: p.checkout(), shared: p.kind == Worktree}
}

// keepBranch makes the branch of the work again when it was renamed or deleted.
func (p *Place) keepBranch(ctx context.Context, k *keeper, v view) error {
	w := p.mark.Work
	if w == nil {
		return nil
	}
	found, err := p.repo.Succeeds(ctx, "show-ref", "--verify", "--quiet", w.Branch)
	if err != nil || found {
		return err
	}
	at, err := p.firm(ctx)
	if err != nil {
		return err
	}
	if v.head != "" {
		if grown, err := p.repo.Succeeds(ctx, "merge-base", "--is-ancestor", w.Base, v.head); err == nil && grown {
			at = v.head
		}
	}
	if err := p.clearBelow(ctx, k, v, w.Branch+"/"); err != nil {
		return err
	}
	return updateRefs(ctx, p.repo, "create "+w.Branch+" "+at)
}

// clearBelow takes away the branches that leave no room for the one of the work, as
// their names begin with its own.
func (p *Place) clearBelow(ctx context.Context, k *keeper, v view, prefix string) error {
	lines, err := p.repo.Lines(ctx, "for-each-ref", "--format=%(objectname) %(refname) %(worktreepath)", prefix)
	if err != nil {
		return err
	}
	for _, line := range lines {
		part := strings.SplitN(line, " ", 3)
		if len(part) != 3 {
			return fmt.Errorf("git for-each-ref says %q", line)
		}
		if dir := part[2]; dir != "" && dir != p.root {
			return fmt.Errorf("%w: branch %s is checked out in %s, and leaves no room for that of the work; rename it", ErrInUse, part[1], dir)
		}
		name := strings.TrimPrefix(part[1], "refs/heads/")
		if _, err := k.keep(ctx, p.source(), part[0], "commit", name, "commits of the branch "+name+", which left no room for that of the work"); err != nil {
			return err
		}
		if v.ref == part[1] {
			if err := updateRefs(ctx, p.repo, "update HEAD "+v.head); err != nil {
				return err
			}
		}
		if err := updateRefs(ctx, p.repo, "delete "+part[1]+" "+part[0]); err != nil {
			return err
		}
	}
	return nil
}

// stamps returns the times of the files of a view, by which those are known that
// were written again.
func (c checkout) stamps(v view) []time.Time {
	times := make([]time.Time, len(v.entries))
	for i, e := range v.entries {
		if fi, err := os.Lstat(filepath.Join(c.root, filepath.FromSlash(e.path))); err == nil {
			times[i] = fi.ModTime()
		}
	}
	return times
}

// commitFiles commits what is not committed to the branch of the work, and returns
// that commit, "" when there is none to make.
func (p *Place) commitFiles(ctx context.Context, s *salvage, v view, res *Result) (string, error) {
	if err := s.index(ctx, p.source(), v); err != nil {
		return "", err
	}
	commit, err := p.commitLeftover(ctx, v)
	if err != nil && ctx.Err() == nil {
		p.m.log.WarnContext(ctx, "leftovers cannot be committed", "place", p.name, "work", p.mark.Work.ID, "error", err)
		return "", nil
	}
	res.Leftover = cmp.Or(commit, res.Leftover)
	return commit, err
}

// keepFiles puts what is not committed on a recovery ref.
func (p *Place) keepFiles(ctx context.Context, s *salvage, v view, res *Result) error {
	ref, err := s.filesRef(ctx, p.source(), v, p.whatFiles(v))
	if p.mark.Work != nil {
		res.Leftover = cmp.Or(res.Leftover, ref)
	}
	return err
}

// canCommit reports whether what is not committed belongs on the work's branch.
func (p *Place) canCommit(v view) bool {
	w := p.mark.Work
	return w != nil && !w.Beginning && p.m.o.Leftover == Commit && v.ref == w.Branch && !v.unfinished()
}

// whatFiles says in words what files that are not committed are.
func (p *Place) whatFiles(v view) string {
	what := "files that were not committed"
	if p.mark.Work == nil {
		what = "files that were found in the place"
	}
	if v.unfinished() {
		what += ", in the middle of a merge, rebase or the like"
	}
	return what
}

// publish brings the branch of a clone into the person's repository. What only the
// branch there had, for the agent has rewritten its own, goes on a recovery ref; so
// does the clone's where the branch there must not move.
func (p *Place) publish(ctx context.Context, k *keeper) error {
	w, m := p.mark.Work, p.m
	if w == nil || p.kind != Clone {
		return nil
	}
	tip, err := p.repo.Run(ctx, "rev-parse", "--verify", w.Branch)
	if err != nil {
		return err
	}
	if old, err := m.branch(ctx, w.Branch); err != nil || old.commit == tip {
		return err
	}
	cut, err := m.cutOff(ctx, p.checkout())
	if err != nil {
		return err
	}
	if cut {
		_, err := k.keep(ctx, p.source(), tip, "commit", w.ID, "the branch, which begins where the history of a shallow repository ends")
		return err
	}
	if err := m.fetchObjects(ctx, p.gitDir, tip); err != nil {
		return err
	}
	return m.moveBranch(ctx, w.Branch, tip, func(old refState) (bool, error) {
		switch {
		case old.commit == tip:
			return false, nil
		case old.dir != "": // git would not know its files as what they are
			return false, m.keepTip(ctx, k, w.Branch, tip, "", "commits of the branch, which is checked out in "+old.dir)
		case old.commit != "":
			return true, m.keepTip(ctx, k, w.Branch, old.commit, tip, "commits that the branch had before it was rewritten")
		}
		return true, nil
	})
}

// detach takes HEAD from its branch, without touching a file, and forgets what is
// on refs of the person's repository now.
func (p *Place) detach(ctx context.Context, v view) error {
	switch {
	case v.head == "": // on a branch without commits
		at, err := p.firm(ctx)
		if err != nil {
			return err
		}
		if _, err := p.repo.Run(ctx, "checkout", "--quiet", "--force", "--detach", at, "--"); err != nil {
			return err
		}
		v.head = at
	case v.ref != "":
		if err := updateRefs(ctx, p.repo, "update HEAD "+v.head); err != nil {
			return err
		}
	}
	if p.kind == Clone {
		if err := errors.Join(p.deleteRefs(ctx), p.deepen(ctx)); err != nil {
			return err
		}
	} else if p.source().hasOwnRefs() {
		if err := p.deleteRefs(ctx, "refs/bisect", "refs/worktree", "refs/rewritten"); err != nil {
			return err
		}
	}
	linked, err := p.source().linked()
	if err != nil {
		return err
	}
	for _, l := range linked {
		if l.inside != "" {
			continue
		}
		if err := removeAll(l.gitDir); err != nil {
			return err
		}
	}
	p.left = v.head
	return p.forgetHistory()
}

// firm returns a commit to be at when HEAD has none.
func (p *Place) firm(ctx context.Context) (at string, err error) {
	if w := p.mark.Work; w != nil {
		at = w.Base
	} else if at, err = p.m.commit(ctx, cmp.Or(p.m.o.Base, "HEAD")); err != nil {
		return "", err
	}
	if p.kind == Clone { // of which somebody may have made another repository
		has, err := hasCommit(ctx, p.repo, at)
		if err == nil && !has {
			err = fetchCommit(ctx, p.repo, p.m.names.common, at)
		}
		return at, err
	}
	return at, nil
}

// forgetHistory empties the list of where HEAD has been. It is all on refs, and the
// next to work here is not to see it.
func (p *Place) forgetHistory() error {
	for _, name := range []string{"ORIG_HEAD", "FETCH_HEAD", "COMMIT_EDITMSG"} {
		if err := os.Remove(filepath.Join(p.gitDir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Truncate(filepath.Join(p.gitDir, "logs", "HEAD"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
