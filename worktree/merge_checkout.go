package worktree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/claudepool/claudepool/internal/git"
)

// listZ is the version of git that lists worktrees so that a name may have a line
// feed. Older ones list such a one in pieces, each of which counts for nothing but
// its branch.
var listZ = git.Version{Major: 2, Minor: 36}

// holder is a worktree that has a branch.
type holder struct {
	path   string
	during string // what is going on there, for which its HEAD is elsewhere: "rebase", "bisect"
}

// holders returns the worktrees in which a branch is checked out, or will be when
// what is going on there ends.
func (c combiner) holders(ctx context.Context, ref string) ([]holder, error) {
	args, end := []string{"worktree", "list", "--porcelain"}, "\n"
	if !c.version.Less(listZ) {
		args, end = append(args, "-z"), "\x00"
	}
	out, err := c.repo.Bytes(ctx, args...)
	if err != nil {
		return nil, err
	}
	var all []holder
	main := true
	for record := range strings.SplitSeq(string(out), end+end) {
		var path string
		detached := false
		for line := range strings.SplitSeq(record, end) {
			key, value, _ := strings.Cut(line, " ")
			switch key {
			case "worktree":
				if path = value; main && c.top != "" {
					path = c.top // git guesses it from the git folder, which may be elsewhere
				}
			case "branch":
				if value == ref {
					all = append(all, holder{path: path})
				}
			case "detached":
				detached = true
			}
		}
		if detached {
			if during := unfinishedWith(c.gitFolder(path, main), ref); during != "" {
				all = append(all, holder{path, during})
			}
		}
		main = false
	}
	return all, nil
}

// gitFolder returns the git folder of a worktree; of one that cannot be looked at
// it is none.
func (c combiner) gitFolder(path string, main bool) string {
	if main {
		return c.repo.Dir()
	}
	text, err := os.ReadFile(filepath.Join(path, ".git"))
	if err != nil {
		return ""
	}
	dir := strings.TrimSpace(strings.TrimPrefix(string(text), "gitdir: "))
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(path, dir)
	}
	return dir
}

// unfinishedWith says what is going on in a worktree that will come back to a
// branch, or move it, at its end.
func unfinishedWith(gitDir, ref string) string {
	if gitDir == "" {
		return ""
	}
	for _, state := range []struct{ file, what string }{
		{"rebase-merge/head-name", "rebase"},
		{"rebase-apply/head-name", "rebase"},
		{"rebase-merge/update-refs", "rebase"},
		{"BISECT_START", "bisect"},
	} {
		text, err := os.ReadFile(filepath.Join(gitDir, state.file))
		if err != nil {
			continue
		}
		lines := strings.Split(string(text), "\n")
		if slices.Contains(lines, ref) || slices.Contains(lines, strings.TrimPrefix(ref, branchRefs)) {
			return state.what
		}
	}
	return ""
}

// unfinished are the files and folders that git has while something is going on
// that an outsider must not move on.
var unfinished = []struct{ file, what string }{
	{"MERGE_HEAD", "merge"}, {"CHERRY_PICK_HEAD", "cherry-pick"}, {"REVERT_HEAD", "revert"},
	{"rebase-merge", "rebase"}, {"rebase-apply", "rebase"}, {"sequencer", "cherry-pick"}, {"index.lock", "git command"},
}

// destination finds out where the target can be moved: in no checkout (empty), or
// in the one that has it and can go with it.
func (c combiner) destination(ctx context.Context, ref, before, after string, req MergeRequest) (string, error) {
	all, err := c.holders(ctx, ref)
	if err != nil || len(all) == 0 {
		return "", err
	}
	for _, h := range all {
		if h.during != "" {
			return "", fmt.Errorf("%w: a %s of it is going on in %s: end that first", ErrCheckedOut, h.during, h.path)
		}
	}
	if req.CheckedOut == Refuse {
		return "", fmt.Errorf("%w in %s: switch that to another branch, or have it moved forward (%q)", ErrCheckedOut, all[0].path, FastForward)
	}
	if len(all) > 1 {
		return "", fmt.Errorf("%w in %s and in %s: only one could be moved", ErrCheckedOut, all[0].path, all[1].path)
	}
	p, err := c.checkoutAt(ctx, all[0].path)
	if err != nil {
		return "", err
	}
	if err := p.idle(ctx); err != nil {
		return "", err
	}
	return p.dir, p.rehearse(ctx, before, after)
}

// checkedOut is the checkout of a target.
type checkedOut struct {
	repo        git.Repo
	dir, gitDir string
	temp        string // for files of ours
}

// checkoutAt looks at the worktree at a path.
func (c combiner) checkoutAt(ctx context.Context, path string) (checkedOut, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return checkedOut{}, fmt.Errorf("%w in %s, which is not there: bring it back, or forget it with git worktree prune", ErrCheckedOut, path)
	}
	r := c.plain.In(path)
	p := checkedOut{temp: c.temp}
	var err error
	p.dir, err = r.Run(ctx, "rev-parse", "--show-toplevel")
	if git.ExitCode(err) > 0 {
		return p, fmt.Errorf("%w in a folder that git does not tell, as its git folder %s is apart from it: switch it to another branch: %w", ErrCheckedOut, path, err)
	}
	if err != nil {
		return p, fmt.Errorf("look at the checkout: %w", err)
	}
	p.dir = filepath.FromSlash(p.dir)
	p.repo = r.In(p.dir).Apart()
	if p.gitDir, err = p.repo.Run(ctx, "rev-parse", "--absolute-git-dir"); err != nil {
		return p, fmt.Errorf("look at the checkout: %w", err)
	}
	return p, nil
}

// idle refuses a checkout in which something is going on, or an agent may work.
func (p checkedOut) idle(ctx context.Context) error {
	if _, err := os.Lstat(filepath.Join(p.gitDir, markName)); err == nil {
		return fmt.Errorf("%w in %s, a place for agents to work: wait until the work there has ended", ErrCheckedOut, p.dir)
	}
	for _, u := range unfinished {
		file := filepath.Join(p.gitDir, u.file)
		if _, err := os.Lstat(file); err == nil {
			return fmt.Errorf("%w in %s, where a %s is going on: end that first (there is %s)", ErrCheckedOut, p.dir, u.what, file)
		}
	}
	out, err := p.repo.Bytes(ctx, "ls-files", "-z", "--unmerged")
	if err != nil {
		return err
	}
	if len(out) > 0 {
		return fmt.Errorf("%w in %s, where files have conflicts: resolve them first", ErrCheckedOut, p.dir)
	}
	return nil
}

// rehearse finds out whether the files could go from one commit to another, with
// a copy of the index.
func (p checkedOut) rehearse(ctx context.Context, from, to string) (err error) {
	dir, err := os.MkdirTemp(p.temp, "index-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	index, err := p.repo.Run(ctx, "rev-parse", "--git-path", "index")
	if err != nil {
		return err
	}
	if !filepath.IsAbs(index) {
		index = filepath.Join(p.dir, index)
	}
	copied := filepath.Join(dir, "index")
	if err := copyIndex(index, copied); err != nil {
		return err
	}
	r := p.repo.With("GIT_INDEX_FILE=" + copied)
	if _, err := r.Succeeds(ctx, "update-index", "-q", "--refresh"); err != nil {
		return err
	}
	if err := p.free(ctx, from, to); err != nil {
		return err
	}
	_, refused := r.Run(ctx, "read-tree", "-m", "-u", "-n", from, to)
	if git.ExitCode(refused) <= 0 {
		return refused
	}
	names, err := p.changed(ctx, from, to)
	switch {
	case err != nil:
		return errors.Join(refused, err)
	case len(names) == 0: // hidden from git by the person
		return fmt.Errorf("%w in %s: %w", ErrInTheWay, p.dir, refused)
	}
	return p.inTheWay(names)
}

// copyIndex copies an index, if there is one. The time of it too: by that git knows
// which files may have been changed in the moment in which it was written.
func copyIndex(from, to string) error {
	text, err := readIfThere(from)
	if err != nil || text == nil {
		return err
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to, text, 0o600); err != nil {
		return err
	}
	return os.Chtimes(to, time.Time{}, info.ModTime())
}

// forward moves index and files from one commit to another, after a rehearsal. What
// git cannot finish is undone.
func (p checkedOut) forward(ctx context.Context, from, to string) error {
	// Files of the same text but another time are not changed.
	if _, err := p.repo.Succeeds(ctx, "update-index", "-q", "--refresh"); err != nil {
		return err
	}
	if err := p.free(ctx, from, to); err != nil {
		return err
	}
	_, err := p.repo.Run(ctx, "read-tree", "-m", "-u", from, to)
	if err == nil {
		return nil
	}
	// A filter has failed, or the disk is full.
	if undoErr := p.undo(ctx, from, to); undoErr != nil {
		return fmt.Errorf("%w: %w", err, halfMoved(p.dir, undoErr))
	}
	return err
}

// errHalfMoved says that files of a checkout are neither as before a merge nor as
// after it.
var errHalfMoved = errors.New("files are left half moved")

func halfMoved(dir string, err error) error {
	return fmt.Errorf("%w in %s, which the next merge will mend if it can: %w", errHalfMoved, dir, err)
}

// undo brings back the files of one commit that git, on its way to another, has
// removed, or has written as that other has them. Its index is still as it was.
func (p checkedOut) undo(ctx context.Context, from, to string) error {
	changes, err := p.changes(ctx, from, to)
	if err != nil {
		return err
	}
	tracked, err := p.tracked(ctx)
	if err != nil {
		return err
	}
	now, err := p.unlike(ctx, p.repo)
	if err != nil {
		return err
	}
	then, err := p.unlikeNew(ctx, changes)
	if err != nil {
		return err
	}
	var back []string
	for _, c := range changes {
		written := c.new != absent && then[c.path] == ""
		switch {
		case c.old != absent && (now[c.path] == "D" || now[c.path] != "" && written):
			back = append(back, c.path)
		case c.old == absent && written && !tracked[c.path]:
			p.remove(c.path)
		}
	}
	if len(back) == 0 || p.checkout(ctx, back...) == nil {
		return nil
	}
	// A filter that fails ends git: the others each by itself.
	var errs []error
	for _, name := range back {
		errs = append(errs, p.checkout(ctx, name))
	}
	return errors.Join(errs...)
}

// checkout writes files as the index has them.
func (p checkedOut) checkout(ctx context.Context, names ...string) error {
	list := strings.NewReader(strings.Join(names, "\x00") + "\x00")
	_, err := p.repo.Input(list).Run(ctx, "checkout-index", "-f", "-z", "--stdin")
	return err
}

// remove removes a file, and the folders that are empty then. What is there again
// another time, or not any more, is of no concern.
func (p checkedOut) remove(name string) {
	for ; name != "."; name = path.Dir(name) {
		if os.Remove(filepath.Join(p.dir, filepath.FromSlash(name))) != nil {
			return
		}
	}
}

// unlike tells of the files that are not as an index has them how they differ: "D"
// of one that is not there.
func (p checkedOut) unlike(ctx context.Context, r git.Repo) (map[string]string, error) {
	fields, err := r.Fields(ctx, "diff", "-z", "--name-status", "--no-renames", "--no-ext-diff", "--ignore-submodules=all")
	all := make(map[string]string)
	for pair := range slices.Chunk(fields, 2) {
		all[pair[len(pair)-1]] = pair[0]
	}
	return all, err
}

// unlikeNew is unlike for the paths of changes, as they are after those.
func (p checkedOut) unlikeNew(ctx context.Context, changes []change) (_ map[string]string, err error) {
	dir, err := os.MkdirTemp(p.temp, "index-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var list strings.Builder
	for _, c := range changes {
		if c.new != absent {
			fmt.Fprintf(&list, "%s %s\t%s\x00", c.new, c.id, c.path)
		}
	}
	r := p.repo.With("GIT_INDEX_FILE=" + filepath.Join(dir, "index"))
	if _, err := r.Input(strings.NewReader(list.String())).Run(ctx, "update-index", "-z", "--index-info"); err != nil {
		return nil, err
	}
	return p.unlike(ctx, r)
}

// free refuses to move files where something is that git would overwrite, as newer
// versions do with what is ignored, or take away.
func (p checkedOut) free(ctx context.Context, from, to string) error {
	names, err := p.unknown(ctx, from, to)
	if err != nil || len(names) == 0 {
		return err
	}
	return p.inTheWay(names)
}

func (p checkedOut) inTheWay(names []string) error {
	return fmt.Errorf("%w in %s: %s: commit them there, or move them away, first", ErrInTheWay, p.dir, strings.Join(names, ", "))
}

// changed lists the files that differ between two commits and have local changes.
func (p checkedOut) changed(ctx context.Context, from, to string) ([]string, error) {
	diff := []string{"diff", "-z", "--name-only", "--no-renames", "--no-ext-diff", "--ignore-submodules=all"}
	differ, err := p.repo.Fields(ctx, append(diff, from, to)...)
	if err != nil {
		return nil, err
	}
	local, err := p.repo.Fields(ctx, append(diff, from)...)
	if err != nil {
		return nil, err
	}
	staged, err := p.repo.Fields(ctx, append(diff, "--cached", from)...)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, name := range append(local, staged...) {
		// A file may be where a folder is to be, or the other way round.
		if slices.ContainsFunc(differ, func(d string) bool {
			return d == name || strings.HasPrefix(d, name+"/") || strings.HasPrefix(name, d+"/")
		}) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// change is a path that two commits do not have alike.
type change struct {
	path     string
	old, new string // modes
	id       string // of the new object
}

// Modes of what is not there, and of a repository inside.
const absent, gitlink = "000000", "160000"

// changes lists the paths that two commits do not have alike.
func (p checkedOut) changes(ctx context.Context, from, to string) ([]change, error) {
	fields, err := p.repo.Fields(ctx, "diff-tree", "-r", "-z", "--raw", "--no-abbrev", "--no-renames", from, to)
	if err != nil {
		return nil, err
	}
	var all []change
	for pair := range slices.Chunk(fields, 2) {
		words := strings.Fields(strings.TrimPrefix(pair[0], ":")) // modes, objects, status
		if len(pair) != 2 || len(words) != 5 {
			return nil, fmt.Errorf("git tells of a change as %q", pair)
		}
		all = append(all, change{path: pair[1], old: words[0], new: words[1], id: words[3]})
	}
	return all, nil
}

// tracked returns the paths that the index has.
func (p checkedOut) tracked(ctx context.Context) (map[string]bool, error) {
	names, err := p.repo.Fields(ctx, "ls-files", "-z", "--cached")
	all := make(map[string]bool, len(names))
	for _, name := range names {
		all[name] = true
	}
	return all, err
}

// unknown lists what is where one commit has something that the other has not, and
// that the index has not, be it ignored or not; and repositories that would go.
func (p checkedOut) unknown(ctx context.Context, from, to string) ([]string, error) {
	changes, err := p.changes(ctx, from, to)
	if err != nil {
		return nil, err
	}
	var names, there []string
	for _, c := range changes {
		switch {
		case c.old == gitlink && c.new != gitlink:
			if !p.bare(c.path) {
				names = append(names, c.path)
			}
		case c.old == absent:
			if taken := p.taken(c.path); taken != "" {
				there = append(there, taken)
			}
		}
	}
	if len(there) > 0 {
		tracked, err := p.tracked(ctx)
		if err != nil {
			return nil, err
		}
		for _, name := range there {
			found, err := p.strangers(name, tracked)
			if err != nil {
				return nil, err
			}
			names = append(names, found...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// bare reports whether nothing is at a path, or an empty folder.
func (p checkedOut) bare(name string) bool {
	full := filepath.Join(p.dir, filepath.FromSlash(name))
	if _, err := os.Lstat(full); errors.Is(err, fs.ErrNotExist) {
		return true
	}
	entries, err := os.ReadDir(full)
	return err == nil && len(entries) == 0
}

// strangers lists what is at a path, or below it, that the index does not have. Of a
// repository there is its folder.
func (p checkedOut) strangers(name string, tracked map[string]bool) ([]string, error) {
	var names []string
	err := filepath.WalkDir(filepath.Join(p.dir, filepath.FromSlash(name)), func(full string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(p.dir, full)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if !d.IsDir() {
			if !tracked[rel] {
				names = append(names, rel)
			}
			return nil
		}
		if _, err := os.Lstat(filepath.Join(full, ".git")); err == nil {
			names = append(names, rel+"/")
			return fs.SkipDir
		}
		return nil
	})
	return names, err
}

// taken returns what is there already of a path: itself, or what is no folder and
// is where one of its folders would be; or nothing.
func (p checkedOut) taken(name string) string {
	for i := range len(name) + 1 {
		if i < len(name) && name[i] != '/' {
			continue
		}
		info, err := os.Lstat(filepath.Join(p.dir, filepath.FromSlash(name[:i])))
		switch {
		case err != nil:
			return "" // nor is what would be in it
		case !info.IsDir() || i == len(name):
			return name[:i]
		}
	}
	return ""
}
