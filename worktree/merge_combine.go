package worktree

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/claudepool/claudepool/internal/git"
)

var (
	// treeMerge is the version of git that merges without a work tree.
	treeMerge = git.Version{Major: 2, Minor: 38}
	// treeAttributes is the one from which attributes can be read from a tree.
	treeAttributes = git.Version{Major: 2, Minor: 41}
)

// combiner merges commits into trees and puts objects into the repository. It
// moves no ref and touches nobody's files.
type combiner struct {
	repo    git.Repo // in the repository's common folder
	plain   git.Repo // for other folders
	version git.Version
	temp    string // where to put a work tree for older versions; empty: with other temporary files
	top     string // of the main checkout, if that is known
	log     *slog.Logger
}

// newCombiner returns one for the repository that a folder belongs to.
func newCombiner(ctx context.Context, repo git.Repo) (combiner, error) {
	common, err := repo.Run(ctx, "rev-parse", "--git-common-dir")
	if err != nil {
		return combiner{}, err
	}
	if !filepath.IsAbs(common) {
		common = filepath.Join(repo.Dir(), common)
	}
	if common, err = filepath.Abs(common); err != nil {
		return combiner{}, err
	}
	if common, err = filepath.EvalSymlinks(common); err != nil {
		return combiner{}, err
	}
	plain := repo.WithoutHooks().Config("submodule.recurse", "false")
	repo = plain.In(common).With("GIT_DIR="+common, "GIT_LITERAL_PATHSPECS=1").
		// It would write down how conflicts were resolved, and resolve others.
		Config("rerere.enabled", "false")
	return combiner{repo: repo, plain: plain, version: repo.Git().Version}, nil
}

// combined is the result of a merge. With conflicts the tree has of each file what
// git makes of it: both sides with marks, or one of them.
type combined struct {
	tree      string
	conflicts []FileConflict
	unmerged  []*unmerged // the files of these
}

// sides are the two commits of a merge, with the names that people know.
type sides struct {
	ours, theirs         string
	oursName, theirsName string
}

// combine merges two commits.
func (c combiner) combine(ctx context.Context, s sides) (combined, error) {
	bases, err := c.bases(ctx, s)
	if err != nil {
		return combined{}, err
	}
	byTree, err := c.byTree(ctx, s.ours)
	if err != nil {
		return combined{}, err
	}
	if byTree {
		return c.combineTrees(ctx, s, bases)
	}
	return c.combineFiles(ctx, s, bases)
}

// bases returns the best common ancestors.
func (c combiner) bases(ctx context.Context, s sides) ([]string, error) {
	bases, err := c.repo.Lines(ctx, "merge-base", "--all", s.ours, s.theirs)
	if git.ExitCode(err) == 1 {
		return nil, fmt.Errorf("%w: %s and %s; if the repository is shallow, fetch more of its history", ErrUnrelated, s.theirsName, s.oursName)
	}
	return bases, err
}

// byTree reports whether git can merge without a work tree. Versions that could
// but know the attributes of a work tree only ("merge=union", "binary") are not
// to do so where there are any.
func (c combiner) byTree(ctx context.Context, commit string) (bool, error) {
	if c.version.Less(treeMerge) {
		return false, nil
	}
	if !c.version.Less(treeAttributes) {
		return true, nil
	}
	files, err := c.repo.Fields(ctx, "ls-tree", "-r", "-z", "--name-only", commit)
	return !slices.ContainsFunc(files, hasAttributes), err
}

// hasAttributes reports whether a file has attributes of others.
func hasAttributes(name string) bool { return path.Base(name) == ".gitattributes" }

// checkoutAttributes puts the files with attributes into a work tree that has no
// files yet. They hold for all that git does there.
func checkoutAttributes(ctx context.Context, r git.Repo) error {
	files, err := r.Fields(ctx, "ls-files", "-z")
	if err != nil {
		return err
	}
	files = slices.DeleteFunc(files, func(name string) bool { return !hasAttributes(name) })
	if len(files) == 0 {
		return nil
	}
	_, err = r.Input(strings.NewReader(strings.Join(files, "\x00")+"\x00")).Run(ctx, "checkout-index", "--index", "-z", "--stdin")
	return err
}

// combineTrees merges with git 2.38 or newer.
func (c combiner) combineTrees(ctx context.Context, s sides, bases []string) (combined, error) {
	out, err := c.repo.With("GIT_ATTR_SOURCE="+s.ours).Bytes(ctx, "merge-tree", "--write-tree", "--messages", "-z", s.ours, s.theirs)
	if err != nil && git.ExitCode(err) != 1 {
		return combined{}, err
	}
	tree, rest, _ := strings.Cut(string(out), "\x00")
	if err == nil {
		return combined{tree: tree}, nil
	}
	list, messages, _ := strings.Cut(rest, "\x00\x00") // entries are never empty
	if strings.HasPrefix(rest, "\x00") {
		list, messages = "", rest[1:]
	}
	entries, err := parseUnmerged(list)
	if err != nil {
		return combined{}, err
	}
	found := conflictsOf(entries, s)
	if len(found) == 0 {
		return combined{tree: tree, conflicts: fromMessages(strings.Split(messages, "\x00"))}, nil
	}
	return c.conflicted(ctx, tree, found, s, bases)
}

// conflicted is the result of a merge with conflicts in files.
func (c combiner) conflicted(ctx context.Context, tree string, found []*unmerged, s sides, bases []string) (combined, error) {
	conflicts, err := c.describe(ctx, tree, found, s, bases)
	return combined{tree, conflicts, found}, err
}

// combineFiles merges with older versions: with an index of its own, in a work
// tree that has nothing but what the merge puts there. It is no worktree that git
// knows of, so nothing is left when the program is killed but a folder.
func (c combiner) combineFiles(ctx context.Context, s sides, bases []string) (_ combined, err error) {
	dir, err := os.MkdirTemp(c.temp, "merge-")
	if err != nil {
		return combined{}, err
	}
	defer func() { err = errors.Join(err, removeAll(dir)) }()
	files := filepath.Join(dir, "files")
	if err := os.Mkdir(files, 0o700); err != nil {
		return combined{}, err
	}
	r := c.repo.In(files).With("GIT_WORK_TREE="+files, "GIT_INDEX_FILE="+filepath.Join(dir, "index")).
		Config("core.sparseCheckout", "false").Config("core.fsmonitor", "false").Config("core.splitIndex", "false")
	if _, err := r.Run(ctx, "read-tree", s.ours); err != nil {
		return combined{}, err
	}
	if err := checkoutAttributes(ctx, r); err != nil {
		return combined{}, err
	}
	said, err := r.Run(ctx, append(append([]string{"merge-recursive"}, bases...), "--", s.ours, s.theirs)...)
	switch git.ExitCode(err) {
	case 0:
		tree, err := r.Run(ctx, "write-tree")
		return combined{tree: tree}, err
	case 1:
	default:
		return combined{}, err
	}
	list, err := r.Run(ctx, "ls-files", "-z", "--unmerged")
	if err != nil {
		return combined{}, err
	}
	entries, err := parseUnmerged(list)
	if err != nil {
		return combined{}, err
	}
	found := conflictsOf(entries, s)
	tree, err := mixedTree(ctx, r, files, found, s)
	if err != nil {
		return combined{}, err
	}
	if len(found) == 0 {
		return combined{tree: tree, conflicts: fromLines(said)}, nil
	}
	return c.conflicted(ctx, tree, found, s, bases)
}

// mixedTree makes a tree of an index with files that could not be merged: as git
// has left them in the work tree, or in one of their versions.
func mixedTree(ctx context.Context, r git.Repo, dir string, found []*unmerged, s sides) (string, error) {
	merged, err := r.Fields(ctx, "ls-files", "-z")
	if err != nil {
		return "", err
	}
	var index strings.Builder
	for _, u := range found {
		fmt.Fprintf(&index, "0 %s\t%s\x00", strings.Repeat("0", len(s.ours)), u.path)
		folder := slices.ContainsFunc(merged, func(name string) bool { return strings.HasPrefix(name, u.path+"/") })
		for stage := 3; stage >= 2; stage-- { // ours wins
			v := &u.version[stage]
			if v.id == "" {
				continue
			}
			id := v.id
			if folder { // as newer versions do
				v.path += "~" + []string{2: s.ours, 3: s.theirs}[stage]
			} else if info, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(v.path))); err == nil && info.Mode().IsRegular() && v.mode != modeLink {
				// The file may have been converted on its way out (line endings).
				if id, err = r.Run(ctx, "hash-object", "-w", "--path="+v.path, "--", filepath.Join(dir, filepath.FromSlash(v.path))); err != nil {
					return "", err
				}
			}
			fmt.Fprintf(&index, "%s %s\t%s\x00", v.mode, id, v.path)
		}
	}
	if _, err := r.Input(strings.NewReader(index.String())).Run(ctx, "update-index", "-z", "--index-info"); err != nil {
		return "", err
	}
	return r.Run(ctx, "write-tree")
}
