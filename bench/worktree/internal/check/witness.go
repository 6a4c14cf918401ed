package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Witness hears what the hosts say, knows what must be kept, and looks whether it
// is.
type Witness struct {
	repo    string
	outside []string // files and folders that nobody may touch
	objects *objects
	clones  map[string]*objects
	places  map[string]*place // by root
	files   map[Entry]source  // that must be found
	commits map[string]source
	targets map[string]string // where branches stood that work is merged into
	fixed   map[string]string // refs that nobody moves
	person  map[string]string // the checkout, and what is outside
	dirty   map[string]bool   // files of the checkout that are not as HEAD has them
	moving  string            // the target whose checkout may have been moved since
	begun   []begun           // since the last look
	failed  []string

	Works, Ends, Merges, Ops, Wrote int
}

// source is where something was written.
type source struct{ root, work, when string }

func (s source) String() string { return fmt.Sprintf("%s of %s in %s", s.when, s.work, s.root) }

// begun is what work has begun with.
type begun struct {
	source
	inv *Inventory
}

// place is a place as the witness knows it.
type place struct {
	root    string
	clone   bool
	work    string // begun and not ended
	managed bool   // the manager was at it, so it may be between two states
	doing   *Line
	inv     *Inventory
}

// NewWitness takes down how a repository with a checkout is before the first
// host. Targets are the branches that work is merged into, outside what else
// must stay as it is.
func NewWitness(ctx context.Context, repo string, targets, outside []string) (*Witness, error) {
	w := &Witness{
		repo: repo, outside: outside, objects: newObjects(repo), clones: map[string]*objects{}, places: map[string]*place{},
		files: map[Entry]source{}, commits: map[string]source{}, targets: map[string]string{}, fixed: map[string]string{},
	}
	for _, t := range targets {
		w.targets["refs/heads/"+t] = ""
	}
	return w, w.Settle(ctx)
}

// Settle takes down the checkout and its refs as they are: the person has
// changed them.
func (w *Witness) Settle(ctx context.Context) error {
	refs, err := w.refs(ctx)
	if err != nil {
		return err
	}
	w.fixed = map[string]string{}
	for ref, id := range refs {
		if _, ok := w.targets[ref]; ok {
			w.targets[ref] = id
		} else if !strings.HasPrefix(ref, "refs/claude-pool/") && !strings.HasPrefix(ref, "refs/heads/claude-pool/") && ref != "refs/stash" && !strings.HasPrefix(ref, "refs/heads/side-") {
			w.fixed[ref] = id
		}
	}
	w.moving = ""
	if w.person, err = w.persons(); err != nil {
		return err
	}
	head, err := commit(ctx, w.repo, "HEAD")
	if err != nil {
		return err
	}
	c := newReached()
	if err := w.objects.reach(ctx, []string{head}, c); err != nil {
		return err
	}
	committed := map[Entry]bool{}
	for _, e := range w.objects.flat[w.objects.commits[head].tree] {
		committed[e] = true
	}
	w.dirty = map[string]bool{}
	for path, is := range w.person {
		w.dirty[path] = is != "folder" && !committed[w.tracked(path, is)]
	}
	return nil
}

// tracked is a file of the checkout as a commit would have it.
func (w *Witness) tracked(path, is string) Entry {
	rel, err := filepath.Rel(w.repo, path)
	if err != nil {
		rel = path
	}
	mode, blob, _ := strings.Cut(is, " ")
	return Entry{Path: Name(filepath.ToSlash(rel)), Mode: mode, Blob: blob}
}

// Said takes down what a host has said.
func (w *Witness) Said(l Line) {
	p := w.places[l.Root]
	if p == nil && l.Root != "" {
		p = &place{root: l.Root}
		w.places[l.Root] = p
	}
	switch l.Op {
	case OpAcquired:
		p.clone, p.work, p.managed, p.doing = l.Kind == "clone", "", false, nil
	case OpBeginning:
		p.managed = true
	case OpBegun:
		p.managed, p.work, p.inv = false, l.Work, l.Inv
		w.Works++
		w.begun = append(w.begun, begun{source{p.root, l.Work, "begin"}, l.Inv})
	case OpDoing:
		p.doing = &l
	case OpDid:
		p.doing, p.inv = nil, l.Inv
		w.Ops++
	case OpEnding, OpReleasing:
		if l.Inv != nil {
			w.must(p, l.Inv, string(l.Op))
			p.inv = l.Inv
		}
		p.managed = true
	case OpEnded, OpReleased:
		p.managed, p.work, p.inv = false, "", nil
		if l.Op == OpEnded {
			w.Ends++
			w.commits[l.After] = source{p.root, l.Branch, "the head"}
		}
	case OpMerging:
		if l.All {
			w.moving = "refs/heads/" + l.Target
		}
	case OpMerged:
		w.Merges++
	case OpFailed:
		w.failed = append(w.failed, l.Text)
	}
}

// must notes that all of an inventory must be found from now on.
func (w *Witness) must(p *place, inv *Inventory, when string) {
	s := source{p.root, p.work, when}
	for _, e := range slices.Concat(inv.Files, inv.Staged) {
		if _, ok := w.files[e]; !ok {
			w.files[e] = s
			w.Wrote++
		}
	}
	for _, c := range inv.Tips {
		if _, ok := w.commits[c]; !ok {
			w.commits[c] = s
		}
	}
}

// Died takes down what was in the places when the host died, and all it had
// started: that counts as written.
func (w *Witness) Died(ctx context.Context) error {
	for _, root := range slices.Sorted(maps.Keys(w.places)) {
		p := w.places[root]
		if p.work == "" || p.managed {
			// Nothing has begun, or what had was said before the manager came to it.
			p.work, p.managed, p.doing = "", false, nil
			continue
		}
		if p.inv != nil {
			w.must(p, p.inv.without(p.doing), "what was there before the kill")
		}
		inv, err := Scan(ctx, root, p.clone || ownRepo(root), nil)
		switch {
		case err == nil:
			w.must(p, inv, "what was there after the kill")
		case p.doing == nil || !p.doing.All:
			w.failed = append(w.failed, fmt.Sprintf("P6: a place with work cannot be read after the kill: %v", err))
		}
		p.work, p.doing = "", nil
	}
	return nil
}

// without is what surely was there while an agent was about to do something.
func (inv *Inventory) without(l *Line) *Inventory {
	if l == nil {
		return inv
	}
	if l.All {
		return &Inventory{}
	}
	touched := func(e Entry) bool {
		return slices.ContainsFunc(l.Paths, func(p string) bool { return e.Path == p || strings.HasPrefix(e.Path, p+"/") })
	}
	return &Inventory{Files: slices.DeleteFunc(slices.Clone(inv.Files), touched), Staged: slices.DeleteFunc(slices.Clone(inv.Staged), touched), Tips: inv.Tips}
}

// Look says what is wrong.
func (w *Witness) Look(ctx context.Context) (found []string, err error) {
	found, w.failed = w.failed, nil
	refs, err := w.refs(ctx)
	if err != nil {
		return nil, err
	}
	add := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }

	// What branches and recovery refs have.
	var kept []string
	for ref, id := range refs {
		if strings.HasPrefix(ref, "refs/heads/") || strings.HasPrefix(ref, "refs/claude-pool/recovery/") {
			kept = append(kept, id)
		}
	}
	stashes, err := Stashes(ctx, w.repo)
	if err != nil {
		return nil, err
	}
	kept = append(kept, stashes...) // of worktrees, which share them
	have := newReached()
	if err := w.objects.reach(ctx, kept, have); err != nil {
		add("P6: something on a kept ref is gone: %v", err)
	}
	w.held(ctx, have, add)

	for e, s := range w.files {
		if w.found(have, e) {
			continue
		}
		what := "is lost"
		if have.blobs[e.Blob] {
			what = "is kept, but nowhere under its path and with its mode"
		}
		add("P6: %v, %v, %s", e, s, what)
		delete(w.files, e) // said once
	}
	for c, s := range w.commits {
		if !have.commits[c] {
			add("P6: commit %s, %v, is on no ref", c, s)
			delete(w.commits, c)
		}
	}
	w.begins(add)
	w.refsMoved(ctx, refs, add)
	if err := w.checkout(ctx, refs, add); err != nil {
		return nil, err
	}
	slices.Sort(found)
	return found, nil
}

// found tells whether a file is somewhere.
func (w *Witness) found(have *reached, e Entry) bool {
	return have.entries[e.whole()] || e.Repo != "" && have.entries[e.alone()]
}

// held adds what is still in places.
func (w *Witness) held(ctx context.Context, have *reached, add func(string, ...any)) {
	for root, p := range w.places {
		if _, err := os.Lstat(filepath.Join(root, ".git")); err != nil {
			continue
		}
		own := p.clone || ownRepo(root)
		inv, err := Scan(ctx, root, own, nil)
		if err != nil {
			continue // then it holds nothing that can be found
		}
		for _, e := range slices.Concat(inv.Files, inv.Staged) {
			have.entries[e.whole()] = true
			have.entries[e.alone()] = true
			have.blobs[e.Blob] = true
		}
		dir := w.objects
		if own {
			if w.clones[root] == nil {
				w.clones[root] = newObjects(root)
			}
			dir = w.clones[root]
		}
		var known []string
		for _, c := range inv.Tips {
			have.commits[c] = true
			if id, _ := commit(ctx, dir.dir, c); id != "" {
				known = append(known, c) // not one of a nested repository
			}
		}
		if err := dir.reach(ctx, known, have); err != nil {
			add("P6: something in a place is gone: %v", err)
		}
	}
}

// ownRepo tells whether somebody has made a repository of its own of a worktree.
func ownRepo(root string) bool {
	fi, err := os.Lstat(filepath.Join(root, ".git"))
	return err == nil && fi.IsDir()
}

// begins checks that work began with what its commit has, and with nothing that
// other work has left.
func (w *Witness) begins(add func(string, ...any)) {
	for _, b := range w.begun {
		if b.inv.Head == "" {
			add("P6: %s in %s began on no commit", b.work, b.root)
			continue
		}
		c := w.objects.commits[b.inv.Head]
		if c == nil {
			add("P6: the commit %s that %s began with is on no ref", b.inv.Head, b.work)
			continue
		}
		there := map[Entry]bool{}
		for _, e := range w.objects.flat[c.tree] {
			there[e] = e.Mode != "160000"
		}
		more := slices.Clone(b.inv.Staged)
		for _, e := range b.inv.Files {
			if e.Repo != "" && !w.linked(c.tree, e) || e.Repo == "" && !there[e] {
				more = append(more, e)
			}
			delete(there, e)
		}
		less := slices.DeleteFunc(slices.Collect(maps.Keys(there)), func(e Entry) bool { return !there[e] })
		if len(more) > 0 {
			add("P9: %s in %s began with %d files that are not of its commit, such as %v", b.work, b.root, len(more), more[0])
		}
		if len(less) > 0 {
			add("P9: %s in %s began without %d files of its commit, such as %v", b.work, b.root, len(less), less[0])
		}
	}
	w.begun = nil
}

// linked tells whether a tree has a commit for the nested repository that a file
// is in, and that commit the file.
func (w *Witness) linked(tree string, file Entry) bool {
	return slices.ContainsFunc(w.objects.flat[tree], func(e Entry) bool {
		c := w.objects.commits[e.Blob]
		return e.Path == file.Repo && e.Mode == "160000" && c != nil && slices.Contains(w.objects.flat[c.tree], file.alone())
	})
}

// refsMoved checks that no ref went that was not to.
func (w *Witness) refsMoved(ctx context.Context, refs map[string]string, add func(string, ...any)) {
	for ref, id := range w.fixed {
		if refs[ref] != id {
			add("P6: %s was %s, and is %q", ref, id, refs[ref])
		}
	}
	for ref, before := range w.targets {
		if refs[ref] == "" {
			add("P6: the branch %s is gone", ref)
			continue
		}
		if _, err := git(ctx, w.repo, nil, "merge-base", "--is-ancestor", before, refs[ref]); err != nil {
			add("P6: %s went from %s to %s, which does not come after it", ref, before, refs[ref])
		}
		w.targets[ref] = refs[ref]
	}
}

// refs lists what refs point to.
func (w *Witness) refs(ctx context.Context) (map[string]string, error) {
	out, err := git(ctx, w.repo, nil, "for-each-ref", "--format=%(objectname) %(refname)")
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for line := range strings.Lines(string(out)) {
		id, ref, _ := strings.Cut(strings.TrimSpace(line), " ")
		all[ref] = id
	}
	return all, nil
}

// gitsOwn are the parts of a repository that others than the person change.
var gitsOwn = []string{"objects", "refs", "packed-refs", "packed-refs.lock", "packed-refs.new", "logs", "worktrees", "FETCH_HEAD", "gc.log", "gc.pid", "info/refs"}

// beingMade begins the names of what a program that was killed had begun to make
// there. It goes when the next one starts.
const beingMade = "claudepool-new-"

// persons reads all that is the person's: the checkout, its index, HEAD, config
// and hooks, and what is outside.
func (w *Witness) persons() (map[string]string, error) {
	all := map[string]string{}
	for _, root := range append([]string{w.repo}, w.outside...) {
		err := filepath.WalkDir(root, func(full string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if rel, err := filepath.Rel(filepath.Join(w.repo, ".git"), full); err == nil && (slices.Contains(gitsOwn, filepath.ToSlash(rel)) || strings.HasPrefix(rel, beingMade)) {
				if d.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
			if d.IsDir() {
				all[full] = "folder"
				return nil
			}
			e, err := entry(full, "")
			all[full] = e.Mode + " " + e.Blob
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return all, nil
}

// checkout checks that what is the person's is as it was, but for what a merge
// that was to move the checkout has changed.
func (w *Witness) checkout(ctx context.Context, refs map[string]string, add func(string, ...any)) error {
	now, err := w.persons()
	if err != nil {
		return err
	}
	moved := map[string]bool{}
	if w.moving != "" {
		if moved, err = w.mayMove(ctx, refs, now); err != nil {
			return err
		}
	}
	for path, was := range w.person {
		if is := now[path]; is != was && !moved[path] {
			add("P6: %s was %q, and is %q", path, was, is)
		}
	}
	for path := range now {
		if _, ok := w.person[path]; !ok && !moved[path] {
			add("P6: %s was not there, and is now", path)
		}
	}
	w.person = now
	return nil
}

// mayMove lists the files of the checkout that a merge may have changed: git's
// own, and those that are as some commit of the target has them now.
func (w *Witness) mayMove(ctx context.Context, refs map[string]string, now map[string]string) (map[string]bool, error) {
	may := map[string]bool{}
	for _, name := range []string{"index", "index.lock", "ORIG_HEAD", "AUTO_MERGE"} {
		may[filepath.Join(w.repo, ".git", name)] = true
	}
	target := newReached()
	if err := w.objects.reach(ctx, []string{refs[w.moving]}, target); err != nil {
		return nil, err
	}
	paths := map[string]bool{}
	for e := range target.entries {
		paths[e.Path] = true
	}
	for path, was := range w.person {
		if _, ok := now[path]; !ok { // the merge may have removed it, if it was tracked
			may[path] = paths[w.tracked(path, was).Path] || was == "folder"
		}
	}
	for path, is := range now {
		if is == "folder" || target.entries[w.tracked(path, is)] {
			may[path] = true
		}
	}
	for path, dirty := range w.dirty { // whatever the target has for it
		if dirty && path != filepath.Join(w.repo, ".git", "index") {
			delete(may, path)
		}
	}
	return may, nil
}

// Moved tells whether the checkout may have been moved since the last Settle.
func (w *Witness) Moved() bool { return w.moving != "" }
