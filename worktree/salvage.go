package worktree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/claudepool/claudepool/internal/git"
)

// source is a repository that things are to be kept from.
type source struct {
	checkout
	name string // of a repository inside of the place; "" is the place itself
	// shared: its objects and refs are those of the person's repository.
	shared bool
	// origin is the git folder of a repository that it was made from and that stays:
	// what a ref there has is kept.
	origin string
}

// in says where, for the words that a person reads.
func (s source) in() string {
	if s.name == "" {
		return ""
	}
	return " of the repository " + s.name
}

// salvage puts what is in a place on refs.
type salvage struct {
	p      *Place
	k      *keeper
	broken []error // repositories inside that git cannot read
	// committed says what would become a commit of the work's branch.
	committed []string
}

// files keeps files that are not committed.
func (s *salvage) files(ctx context.Context, from source, v view, what string) error {
	_, err := s.filesRef(ctx, from, v, what)
	return err
}

func (s *salvage) filesRef(ctx context.Context, from source, v view, what string) (string, error) {
	if !slices.ContainsFunc(v.entries, func(e entry) bool { return !e.nested() && !onlyInside(e) }) {
		return "", nil // only repositories inside, which are kept by themselves
	}
	commit := "none"
	if !s.k.dry {
		message := "Kept by claudepool: " + what
		if s.k.work != "" {
			message += "\n\nWork: " + s.k.work
		}
		var err error
		if commit, err = from.snapshot(ctx, v, message); err != nil {
			return "", fmt.Errorf("keep %s: %w; nothing was removed", what, err)
		}
	}
	return s.k.keep(ctx, from, commit, "commit", from.name+"-files", what)
}

// index keeps what was staged and then changed again, before the files as they are
// now take its place in the index.
func (s *salvage) index(ctx context.Context, from source, v view) error {
	if !v.stagedOnly() {
		return nil
	}
	const what = "what was staged and then changed again"
	commit := "none"
	if !s.k.dry {
		var err error
		if commit, err = commitTree(ctx, from.repo, "Kept by claudepool: "+what+"\n\nWork: "+s.k.work, []string{v.head}); err != nil {
			return fmt.Errorf("keep %s: %w; nothing was removed", what, err)
		}
	}
	_, err := s.k.keep(ctx, from, commit, "commit", from.name+"-index", what)
	return err
}

// stagedOnly reports whether the index has something that neither HEAD nor the
// working tree has.
func (v view) stagedOnly() bool {
	old := make(map[string]bool)
	for _, e := range v.entries {
		old[e.old] = true // also of a file that was renamed
	}
	return slices.ContainsFunc(v.entries, func(e entry) bool {
		return strings.ContainsRune("MAT", rune(e.index)) && e.tree != '.' && !old[e.staged]
	})
}

// onlyInside reports whether an entry is a submodule that has changes inside and
// the commit that the index wants.
func onlyInside(e entry) bool {
	return e.index == '.' && strings.HasPrefix(e.sub, "S.")
}

// tip is an object that may be on no kept ref.
type tip struct {
	id, kind string
	commit   string // that id is, or leads to; "" for a tag of something else
	name     string // "" when no ref has it
	what     string
}

// history keeps commits that no ref of the person's repository reaches.
func (s *salvage) history(ctx context.Context, from source, v view) error {
	tips, err := s.tips(ctx, from, v)
	if err != nil || len(tips) == 0 {
		return err
	}
	tips, err = s.unkept(ctx, from, tips)
	if err != nil {
		return err
	}
	var dropped []string
	var things []keepsake
	for _, t := range tips {
		if w := s.p.mark.Work; s.k.dry && w != nil && from.name == "" && "refs/heads/"+t.name == w.Branch {
			continue // it will be in the person's repository
		}
		if t.name == "" {
			dropped = append(dropped, t.id)
			continue
		}
		things = append(things, keepsake{t.id, t.kind, from.name + "-" + t.name, t.what + from.in()})
	}
	if dropped, err = s.together(ctx, from, dropped); err != nil {
		return err
	}
	for _, id := range dropped {
		things = append(things, keepsake{id, "commit", from.name + "-commits", whatDropped(from)})
	}
	_, err = s.k.keepAll(ctx, from, things)
	return err
}

func whatDropped(from source) string { return "commits" + from.in() + " that were on no branch" }

// together makes one commit of several, so that one ref keeps them all: each is a
// parent. A shallow repository has no history that could be brought from it.
func (s *salvage) together(ctx context.Context, from source, commits []string) ([]string, error) {
	if len(commits) < 2 {
		return commits, nil
	}
	if s.k.dry {
		return commits[:1], nil
	}
	if cut, err := s.p.m.cutOff(ctx, from.checkout); err != nil || cut {
		return commits, err
	}
	tree, err := from.repo.Run(ctx, "rev-parse", "--verify", "--end-of-options", commits[0]+"^{tree}")
	if err != nil {
		return nil, err
	}
	one, err := commitOf(ctx, from.repo, tree, "Kept by claudepool: "+whatDropped(from)+". Each is a parent of this one, the newest first.", commits)
	return []string{one}, err
}

// tips lists what may be on no kept ref, without what surely is on one: the newest
// first, named ones before others.
func (s *salvage) tips(ctx context.Context, from source, v view) ([]tip, error) {
	var tips []tip
	seen := make(map[string]bool)
	add := func(t tip) {
		if !seen[t.id] {
			seen[t.id] = true
			tips = append(tips, t)
		}
	}
	refs, err := s.refTips(ctx, from)
	if err != nil {
		return nil, err
	}
	if w := s.p.mark.Work; from.shared && w != nil {
		seen[w.Base] = true
	}
	for _, t := range refs {
		add(t)
	}
	var loose []string
	if v.head != "" {
		loose = append(loose, v.head)
	}
	dirs, err := from.ownDirs()
	if err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		more, err := looseIDs(dir, from.shared)
		if err != nil {
			return nil, err
		}
		loose = append(loose, more...)
	}
	for _, id := range loose {
		add(tip{id: id, kind: "commit"})
	}
	return from.existing(ctx, tips)
}

// ownDirs returns the git folders of a repository that nobody else has: also those
// of working trees that were made of it.
func (s source) ownDirs() ([]string, error) {
	if s.foreign {
		return nil, nil
	}
	dirs := []string{s.gitDir}
	linked, err := s.linked()
	for _, l := range linked {
		dirs = append(dirs, l.gitDir)
	}
	return dirs, err
}

// refTips lists the refs of a repository that are not the person's.
func (s *salvage) refTips(ctx context.Context, from source) ([]tip, error) {
	args := []string{"for-each-ref", "--format=%(objectname) %(objecttype) %(refname)"}
	if from.shared {
		if !from.hasOwnRefs() {
			return nil, nil
		}
		args = append(args, "refs/bisect", "refs/worktree", "refs/rewritten")
	}
	lines, err := from.repo.Lines(ctx, args...)
	if err != nil {
		return nil, err
	}
	elsewhere, err := s.elsewhere(ctx, from)
	if err != nil {
		return nil, err
	}
	var tips []tip
	for _, line := range lines {
		part := strings.SplitN(line, " ", 3)
		if len(part) != 3 {
			return nil, fmt.Errorf("git for-each-ref says %q", line)
		}
		ref := part[2]
		if slices.ContainsFunc(elsewhere, func(prefix string) bool { return strings.HasPrefix(ref, prefix) }) {
			continue
		}
		t := tip{id: part[0], kind: part[1], name: strings.TrimPrefix(strings.TrimPrefix(ref, "refs/"), "heads/"), what: ref}
		switch {
		case ref == "refs/stash":
			stashes, err := from.repo.Lines(ctx, "rev-list", "--walk-reflogs", "refs/stash", "--")
			if err != nil {
				return nil, err
			}
			for _, id := range stashes {
				tips = append(tips, tip{id: id, kind: "commit", name: "stash", what: "a stash"})
			}
			t.what = "a stash" // that its log may not have
		case strings.HasPrefix(ref, "refs/heads/"):
			t.what = "commits of the branch " + strings.TrimPrefix(ref, "refs/heads/")
		}
		tips = append(tips, t)
	}
	return tips, nil
}

// elsewhere returns the beginnings of refs that say what another repository has,
// which is not on this machine, so that nothing done here ends it.
func (s *salvage) elsewhere(ctx context.Context, from source) ([]string, error) {
	if from.shared {
		return nil, nil
	}
	if from.name == "" {
		return []string{"refs/remotes/"}, nil // as they came from the person's repository
	}
	urls, err := from.repo.Fields(ctx, "config", "--null", "--get-regexp", `^remote\..*\.url$`)
	if git.ExitCode(err) == 1 {
		return nil, nil
	}
	var prefixes []string
	for _, u := range urls {
		name, url, _ := strings.Cut(u, "\n")
		name = strings.TrimSuffix(strings.TrimPrefix(name, "remote."), ".url")
		if onNetwork(url) {
			prefixes = append(prefixes, "refs/remotes/"+name+"/")
		}
	}
	return prefixes, err
}

// onNetwork reports whether a URL is of another machine, also as "host:path".
func onNetwork(url string) bool {
	before, after, ok := strings.Cut(url, ":")
	if strings.HasPrefix(after, "//") {
		return slices.Contains([]string{"https", "http", "ssh", "git"}, before)
	}
	return ok && len(before) > 1 && !strings.Contains(before, "/") && !strings.HasPrefix(after, ":")
}

// hasOwnRefs reports whether a linked worktree has refs of its own.
func (s source) hasOwnRefs() bool {
	_, err := os.Stat(filepath.Join(s.gitDir, "refs"))
	return err == nil
}

// looseIDs reads from a git folder the names of commits that no ref needs to have:
// where HEAD has been, and what unfinished commands have put aside.
func looseIDs(gitDir string, shared bool) ([]string, error) {
	var files []string
	for _, name := range []string{
		"logs/HEAD", "HEAD", "ORIG_HEAD", "FETCH_HEAD", "MERGE_HEAD", "MERGE_AUTOSTASH", "CHERRY_PICK_HEAD", "REVERT_HEAD", "REBASE_HEAD", "BISECT_HEAD",
		"rebase-merge/autostash", "rebase-merge/orig-head", "rebase-apply/autostash", "rebase-apply/orig-head", "rebase-merge/rewritten-list", "rebase-merge/stopped-sha",
	} {
		files = append(files, filepath.Join(gitDir, filepath.FromSlash(name)))
	}
	err := filepath.WalkDir(filepath.Join(gitDir, "logs", "refs"), func(p string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "remotes":
			return fs.SkipDir
		case !d.IsDir():
			files = append(files, p)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) || err != nil && notFolder(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for line := range bytes.Lines(text) {
			words := strings.Fields(string(line))
			for _, w := range words[:min(2, len(words))] {
				if isID(w) {
					ids = append(ids, w)
				}
			}
		}
	}
	slices.Reverse(ids)
	return ids, nil
}

// isID reports whether a word is the name of an object, and not the one of none.
func isID(w string) bool {
	if len(w) != 40 && len(w) != 64 || strings.Trim(w, "0") == "" {
		return false
	}
	return strings.Trim(w, "0123456789abcdef") == ""
}

// existing leaves those that are there, with what they are.
func (s source) existing(ctx context.Context, tips []tip) ([]tip, error) {
	if len(tips) == 0 {
		return nil, nil
	}
	var in strings.Builder
	for _, t := range tips {
		fmt.Fprintf(&in, "%s\n%s^{commit}\n", t.id, t.id)
	}
	lines, err := s.repo.Input(strings.NewReader(in.String())).Lines(ctx, "cat-file", "--batch-check=%(objectname) %(objecttype)")
	if err != nil {
		return nil, err
	}
	if len(lines) != 2*len(tips) {
		return nil, fmt.Errorf("git cat-file says %d lines about %d objects", len(lines), len(tips))
	}
	var there []tip
	for i, t := range tips {
		self, commit := strings.Fields(lines[2*i]), strings.Fields(lines[2*i+1])
		if len(self) != 2 || self[1] == "missing" {
			continue
		}
		t.kind = self[1]
		if len(commit) == 2 && commit[1] == "commit" {
			t.commit = commit[0]
		}
		if t.name == "" && t.kind != "commit" {
			continue
		}
		there = append(there, t)
	}
	return there, nil
}

// unkept leaves the tips that no ref which stays reaches, and of those without a
// name only those that no other one reaches.
func (s *salvage) unkept(ctx context.Context, from source, tips []tip) ([]tip, error) {
	tips, err := unreached(ctx, s.p.m.repo, tips, "--glob=refs/*")
	if err == nil && from.origin != "" {
		// A submodule is at a commit that no branch needs to have.
		tips, err = unreached(ctx, s.p.m.pin(from.origin, ""), tips, "--glob=refs/*", "HEAD")
	}
	if err == nil && from.name != "" {
		// What came from another machine is there, and the tags of that too.
		var elsewhere []string
		elsewhere, err = s.elsewhere(ctx, from)
		for i, prefix := range elsewhere {
			elsewhere[i] = "--glob=" + prefix + "*"
		}
		if err == nil && len(elsewhere) > 0 {
			tips, err = unreached(ctx, from.repo, tips, elsewhere...)
		}
	}
	if err != nil || len(tips) == 0 {
		return nil, err
	}
	return s.topmost(ctx, from, tips)
}

// unreached leaves the tips that none of some refs of a repository reach.
func unreached(ctx context.Context, r git.Repo, tips []tip, refs ...string) ([]tip, error) {
	if len(tips) == 0 {
		return nil, nil
	}
	var in strings.Builder
	for _, t := range tips {
		fmt.Fprintln(&in, t.id)
	}
	lines, err := r.Input(strings.NewReader(in.String())).Lines(ctx, "cat-file", "--batch-check=%(objecttype)")
	if err != nil {
		return nil, err
	}
	if len(lines) != len(tips) {
		return nil, fmt.Errorf("git cat-file says %d lines about %d objects", len(lines), len(tips))
	}
	var present strings.Builder
	there := make(map[string]bool)
	for i, t := range tips {
		if !strings.HasSuffix(lines[i], " missing") && t.commit != "" {
			there[t.id] = true
			fmt.Fprintln(&present, t.commit)
		}
	}
	free := make(map[string]bool)
	if len(there) > 0 {
		commits, err := r.Input(strings.NewReader(present.String())).Lines(ctx, append([]string{"rev-list", "--stdin", "--not"}, refs...)...)
		if err != nil {
			return nil, err
		}
		for _, id := range commits {
			free[id] = true
		}
	}
	return slices.DeleteFunc(tips, func(t tip) bool { return there[t.id] && !free[t.commit] }), nil
}

// topmost leaves out nameless tips that another tip reaches.
func (s *salvage) topmost(ctx context.Context, from source, tips []tip) ([]tip, error) {
	if len(tips) < 2 {
		return tips, nil
	}
	var in strings.Builder
	for _, t := range tips {
		if t.commit != "" {
			fmt.Fprintln(&in, t.commit)
		}
	}
	known := "--remotes" // what has been left out before, so as not to list all history
	if from.shared {
		known = "--glob=refs/*"
	}
	lines, err := from.repo.Input(strings.NewReader(in.String())).Lines(ctx, "rev-list", "--stdin", "--parents", "--not", known)
	if err != nil {
		return nil, err
	}
	below := make(map[string]bool)
	for _, line := range lines {
		words := strings.Fields(line)
		for _, parent := range words[1:] {
			below[parent] = true
		}
	}
	named := make(map[string]bool)
	for _, t := range tips {
		if t.name != "" {
			named[t.commit] = true
		}
	}
	return slices.DeleteFunc(tips, func(t tip) bool { return t.name == "" && (below[t.commit] || named[t.commit]) }), nil
}
