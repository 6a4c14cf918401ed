package worktree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/claudepool/claudepool/internal/git"
)

// checkout is a working tree and its git folder: of a place, or of a repository
// that is inside of one.
type checkout struct {
	repo   git.Repo
	root   string
	gitDir string
	tmp    string // a folder for files that are in the way of nobody
	// foreign: the git folder is not in the place, so that others may use it too.
	foreign bool
	// passive: somebody may work in it, so that nothing at all is to be changed.
	passive bool
}

// entry is a file that is not as in HEAD.
type entry struct {
	path     string // as git writes it
	index    byte   // how the index differs from HEAD, '.' if it does not
	tree     byte   // how the working tree differs from the index
	sub      string // "N..." or what changed in a repository
	mode     string // in the working tree; "000000": not there; "": not known to git
	old      string // mode and object in HEAD
	staged   string // mode and object in the index
	unmerged bool
}

func (e entry) untracked() bool { return e.index == '?' }

// nested reports whether it is a repository that git knows nothing of.
func (e entry) nested() bool { return e.untracked() && strings.HasSuffix(e.path, "/") }

// view is what a look at a checkout finds.
type view struct {
	head    string // commit; "" when there is none
	ref     string // full name of the branch that HEAD is on; "" when detached
	entries []entry
	// repos are the folders below that have a repository, and gitlinks those that
	// the index has one for, by commit.
	repos    []string
	gitlinks map[string]string
	// strays are files, and repositories, in the folders of gitlinks without one.
	strays []entry
	// states are files of the git folder that say a merge or the like is not finished.
	states []string
}

func (v view) clean() bool {
	return len(v.entries)+len(v.strays)+len(v.states) == 0
}

// plain reports whether there is nothing but files that a commit can have, with no
// other repository involved.
func (v view) plain() bool {
	return len(v.strays)+len(v.states) == 0 && !slices.ContainsFunc(v.entries, func(e entry) bool {
		return e.nested() || e.unmerged || strings.HasPrefix(e.sub, "S")
	})
}

// look finds out what is in a checkout. It changes nothing but, at most, what the
// index knows of file times and what had been hidden from git.
func (c checkout) look(ctx context.Context) (view, error) {
	var v view
	tracked, err := c.tracked(ctx, &v)
	if err != nil {
		return v, err
	}
	var warnings bytes.Buffer
	fields, err := c.repo.Warnings(&warnings).Fields(ctx, "-c", "status.relativePaths=false", "status", "--porcelain=v2", "-z", "--branch", "--no-ahead-behind", "--untracked-files=all", "--ignored=matching", "--no-renames", "--ignore-submodules=none")
	if err != nil {
		return v, err
	}
	if i := bytes.Index(warnings.Bytes(), []byte("could not open directory")); i >= 0 {
		// Git goes on without it. Nothing may be done to what cannot be seen.
		line, _, _ := strings.Cut(warnings.String()[i:], "\n")
		return v, fmt.Errorf("look at what is in %s: %s; make it readable", c.root, line)
	}
	var rules []string
	for _, f := range fields {
		if name, ok := strings.CutPrefix(f, "! "); ok {
			if dir, file := path.Split(name); file == ".gitignore" && (dir == "" || tracked[path.Clean(dir)]) {
				rules = append(rules, name)
			}
			continue
		}
		if err := v.add(f); err != nil {
			return v, fmt.Errorf("look at what is in %s: %w", c.root, err)
		}
	}
	if v.ref == "refs/heads/(detached)" { // also a branch can be called that
		text, err := os.ReadFile(filepath.Join(c.gitDir, "HEAD"))
		if err != nil {
			return v, err
		}
		if strings.TrimSpace(string(text)) != "ref: "+v.ref {
			v.ref = ""
		}
	}
	if err := c.addSelfIgnored(ctx, &v, rules); err != nil {
		return v, err
	}
	if v.states, err = c.findStates(); err != nil {
		return v, err
	}
	if v.repos, err = c.findRepos(tracked, v.entries); err != nil {
		return v, err
	}
	return v, c.findStrays(&v)
}

// addSelfIgnored takes for files like any others those .gitignore files that hide
// themselves. Beside files of the commit they would hide what the next work writes;
// where git tracks nothing they are of a folder that is meant to be passed over.
func (c checkout) addSelfIgnored(ctx context.Context, v *view, rules []string) error {
	if len(rules) == 0 {
		return nil
	}
	fields, err := c.repo.Input(strings.NewReader(strings.Join(rules, "\x00")+"\x00")).Fields(ctx, "check-ignore", "--verbose", "-z", "--stdin")
	if err != nil {
		return err
	}
	for f := range slices.Chunk(fields, 4) { // file with the rule, line, rule, path
		if len(f) == 4 && f[0] == f[3] {
			v.entries = append(v.entries, entry{path: f[3], index: '?', tree: '?'})
		}
	}
	return nil
}

// add takes in a line of git status.
func (v *view) add(line string) error {
	bad := fmt.Errorf("git status says %q", line)
	if len(line) < 3 {
		return bad
	}
	kind, rest := line[0], line[2:]
	fields := map[byte]int{'1': 8, 'u': 10}[kind]
	parts := strings.SplitN(rest, " ", max(fields, 1))
	if len(parts) != max(fields, 1) {
		return bad
	}
	switch kind {
	case '#':
		name, value, _ := strings.Cut(rest, " ")
		switch {
		case name == "branch.oid" && value != "(initial)":
			v.head = value
		case name == "branch.head":
			v.ref = "refs/heads/" + value
		}
	case '?':
		v.entries = append(v.entries, entry{path: rest, index: '?', tree: '?'})
	case '1':
		v.entries = append(v.entries, entry{path: parts[7], index: parts[0][0], tree: parts[0][1], sub: parts[1], mode: parts[4], old: parts[2] + parts[5], staged: parts[3] + parts[6]})
	case 'u':
		v.entries = append(v.entries, entry{path: parts[9], index: parts[0][0], tree: parts[0][1], sub: parts[1], mode: parts[5], unmerged: true})
	default:
		return bad
	}
	return nil
}

// tracked returns the folders of all files in the index, notes the gitlinks, and
// brings to light what somebody has told git not to look at.
func (c checkout) tracked(ctx context.Context, v *view) (map[string]bool, error) {
	files, err := c.repo.Fields(ctx, "ls-files", "-z", "-v", "--stage")
	if err != nil {
		return nil, err
	}
	dirs := make(map[string]bool)
	v.gitlinks = make(map[string]string)
	var assumed, skipped, absent []string
	last := ""
	for _, f := range files {
		info, path, ok := strings.Cut(f, "\t")
		part := strings.Fields(info) // tag, mode, object, stage
		if !ok || len(part) != 4 {
			return nil, fmt.Errorf("git ls-files says %q", f)
		}
		if tag := part[0][0]; tag >= 'a' {
			assumed = append(assumed, path)
		}
		if strings.EqualFold(part[0], "S") {
			if _, err := os.Lstat(filepath.Join(c.root, path)); err == nil {
				skipped = append(skipped, path)
			} else {
				absent = append(absent, path)
			}
		}
		if part[1] == "160000" {
			v.gitlinks[path] = part[2]
			addDirs(dirs, path)
		}
		if i := strings.LastIndexByte(path, '/'); i >= 0 && path[:i] != last {
			last = path[:i]
			addDirs(dirs, last)
		}
	}
	if c.foreign || c.passive {
		return dirs, nil
	}
	if err := c.dropDeadLinks(v.gitlinks); err != nil {
		return nil, err
	}
	if len(absent) > 0 { // a sparse checkout has none of them; else somebody has removed them
		sparse, err := isSet(ctx, c.repo, "core.sparseCheckout")
		if err != nil {
			return nil, err
		}
		if !sparse {
			skipped = append(skipped, absent...)
		}
	}
	for flag, paths := range map[string][]string{"--no-assume-unchanged": assumed, "--no-skip-worktree": skipped} {
		if len(paths) == 0 {
			continue
		}
		in := strings.NewReader(strings.Join(paths, "\x00") + "\x00")
		if _, err := c.repo.Input(in).Run(ctx, "update-index", flag, "-z", "--stdin"); err != nil {
			return nil, err
		}
	}
	return dirs, nil
}

// dropDeadLinks removes the dead links of gitlinks, which git stumbles over.
func (c checkout) dropDeadLinks(gitlinks map[string]string) error {
	for path := range gitlinks {
		dir := filepath.Join(c.root, filepath.FromSlash(path))
		if real, err := filepath.EvalSymlinks(dir); err != nil || real != dir {
			continue // not inside
		}
		if err := c.dropDeadLink(dir); err != nil {
			return err
		}
	}
	return nil
}

// dropDeadLink removes the .git file of a folder if it leads to a git folder that is
// gone or half made, as a git that was killed while it removed or made a worktree
// leaves it. What is beside it are files like any others then.
func (c checkout) dropDeadLink(dir string) error {
	if c.foreign || c.passive || !deadLink(dir) {
		return nil
	}
	return os.Remove(filepath.Join(dir, ".git"))
}

// deadLink reports whether the .git of a folder leads to one that is not there, or
// was not made to its end.
func deadLink(dir string) bool {
	to := gitFolder(dir)
	if to == "" || to == filepath.Join(dir, ".git") {
		return false
	}
	_, err := os.Stat(to)
	return errors.Is(err, fs.ErrNotExist) || err != nil && notFolder(err) || neverMade(to)
}

// addDirs adds a folder and those above it.
func addDirs(dirs map[string]bool, dir string) {
	for !dirs[dir] {
		dirs[dir] = true
		i := strings.LastIndexByte(dir, '/')
		if i < 0 {
			return
		}
		dir = dir[:i]
	}
}

// findRepos returns the folders that have a repository of their own. Git says so
// only of those in which it tracks nothing.
func (c checkout) findRepos(tracked map[string]bool, entries []entry) ([]string, error) {
	dirs := tracked
	for _, e := range entries {
		if e.nested() {
			addDirs(dirs, strings.TrimSuffix(e.path, "/"))
		} else if i := strings.LastIndexByte(e.path, '/'); i >= 0 {
			addDirs(dirs, e.path[:i])
		}
	}
	return c.withGit(dirs)
}

func (c checkout) withGit(dirs map[string]bool) ([]string, error) {
	var repos []string
	for dir := range dirs {
		full := filepath.Join(c.root, dir)
		_, err := os.Lstat(filepath.Join(full, ".git"))
		if err == nil {
			// One that a link leads to is not inside.
			if real, err := filepath.EvalSymlinks(full); err != nil || real != full {
				continue
			}
			if deadLink(full) {
				if err := c.dropDeadLink(full); err != nil {
					return nil, err
				}
				continue
			}
			repos = append(repos, dir)
		} else if !errors.Is(err, fs.ErrNotExist) && !notFolder(err) {
			return nil, err
		}
	}
	slices.Sort(repos)
	return repos, nil
}

// stateFiles are what git leaves in the git folder while something is unfinished.
var stateFiles = []string{
	"MERGE_HEAD", "MERGE_MODE", "MERGE_MSG", "MERGE_RR", "MERGE_AUTOSTASH", "AUTO_MERGE", "SQUASH_MSG",
	"CHERRY_PICK_HEAD", "REVERT_HEAD", "REBASE_HEAD", "rebase-merge", "rebase-apply", "sequencer",
	"BISECT_START", "BISECT_LOG", "BISECT_NAMES", "BISECT_TERMS", "BISECT_RUN", "BISECT_EXPECTED_REV", "BISECT_ANCESTORS_OK", "BISECT_HEAD", "BISECT_FIRST_PARENT",
	"NOTES_MERGE_WORKTREE", "NOTES_MERGE_PARTIAL", "NOTES_MERGE_REF",
}

// unfinished reports whether a merge or the like was begun that HEAD and the index
// are only a part of, so that no ordinary commit can be made of them.
func (v view) unfinished() bool {
	return slices.ContainsFunc(v.entries, func(e entry) bool { return e.unmerged }) ||
		slices.ContainsFunc(v.states, func(s string) bool {
			return slices.Contains([]string{"MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "REBASE_HEAD", "rebase-merge", "rebase-apply", "sequencer"}, s)
		})
}

func (c checkout) findStates() ([]string, error) {
	entries, err := os.ReadDir(c.gitDir)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, e := range entries {
		if slices.Contains(stateFiles, e.Name()) {
			found = append(found, e.Name())
		}
	}
	return found, nil
}

// dropStates ends what was unfinished.
func (c checkout) dropStates(states []string) error {
	for _, s := range states {
		if err := os.RemoveAll(filepath.Join(c.gitDir, s)); err != nil {
			return err
		}
	}
	return nil
}
