package check

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Entry is a file as git would keep it.
type Entry struct {
	Path string `json:"p"` // as [Name] writes it
	Mode string `json:"m"`
	Blob string `json:"b"`
	// Repo is the folder of the nested repository that it is in. Such a file may
	// be kept under its path there, or under its whole path.
	Repo string `json:"r,omitempty"`
}

func (e Entry) String() string { return fmt.Sprintf("%s %.10s %s", e.Mode, e.Blob, e.Path) }

// content is e without its mode.
func content(e Entry) Entry { return Entry{Path: e.Path, Blob: e.Blob} }

// alone is e in its nested repository.
func (e Entry) alone() Entry {
	return Entry{Path: strings.TrimPrefix(e.Path, e.Repo+"/"), Mode: e.Mode, Blob: e.Blob}
}

// whole is e with its whole path.
func (e Entry) whole() Entry { return Entry{Path: e.Path, Mode: e.Mode, Blob: e.Blob} }

// Name writes a path so that every byte survives JSON and can be read in a log.
func Name(path string) string {
	q := strconv.QuoteToASCII(path)
	return q[1 : len(q)-1]
}

// Inventory is what is in a place.
type Inventory struct {
	Files  []Entry  `json:"files"`            // in the working tree, except ignored ones
	Staged []Entry  `json:"staged,omitempty"` // in the index, and not so in Files or, under any name, in HEAD
	Tips   []string `json:"tips,omitempty"`   // commits from which all can be reached
	Head   string   `json:"head,omitempty"`
}

// Ignored tells whether a path, relative to a place, is ignored unless it is
// tracked. The repository's .gitignore says the same.
func Ignored(path string) bool {
	return strings.HasSuffix(path, ".ign") || strings.HasPrefix(path, "cache/") || path == ".env"
}

// IgnoreFile is the .gitignore that says so.
const IgnoreFile = "*.ign\n/cache/\n/.env\n"

// emptyBlob is what "git add -N" puts into the index.
const emptyBlob = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"

// Scan looks at a place. Tips are the commits of its HEAD and of the named refs,
// and in a clone those of all refs and stashes.
func Scan(ctx context.Context, root string, clone bool, refs []string) (*Inventory, error) {
	index, err := readIndex(ctx, root)
	if err != nil {
		return nil, err
	}
	tracked := map[string]bool{}
	for _, e := range index {
		tracked[e.Path] = true
	}
	inv := &Inventory{}
	nested, err := inv.files(root, tracked)
	if err != nil {
		return nil, err
	}
	have := map[Entry]bool{} // whatever its mode: that alone is not what was written
	for _, e := range inv.Files {
		have[content(e)] = true
	}
	if inv.Head, err = commit(ctx, root, "HEAD"); err != nil {
		return nil, err
	}
	committed, err := readTree(ctx, root, inv.Head)
	if err != nil {
		return nil, err
	}
	for _, e := range index {
		// What HEAD has under another name was given a name, and not written.
		named := committed[Entry{Mode: e.Mode, Blob: e.Blob}]
		if !have[content(e)] && !named && e.Blob != emptyBlob && e.Mode != "160000" {
			inv.Staged = append(inv.Staged, e)
		}
	}
	inv.Tips, err = tips(ctx, root, clone, refs)
	if err != nil {
		return nil, err
	}
	for _, dir := range nested {
		// One that a kill has left half removed cannot be read; its files can.
		more, staged, err := inside(ctx, filepath.Join(root, dir))
		if err != nil {
			continue
		}
		inv.Tips = append(inv.Tips, more...)
		for _, e := range staged {
			e = Entry{Path: Name(dir) + "/" + e.Path, Mode: e.Mode, Blob: e.Blob, Repo: Name(dir)}
			if !have[content(e)] && e.Blob != emptyBlob && e.Mode != "160000" {
				inv.Staged = append(inv.Staged, e)
			}
		}
	}
	slices.Sort(inv.Tips)
	inv.Tips = slices.Compact(inv.Tips)
	return inv, nil
}

// inside looks at a repository inside of a place, or at a worktree of another.
func inside(ctx context.Context, dir string) (commits []string, staged []Entry, err error) {
	own, err := os.Lstat(filepath.Join(dir, ".git"))
	if err != nil {
		return nil, nil, err
	}
	if commits, err = tips(ctx, dir, own.IsDir(), nil); err != nil {
		return nil, nil, err
	}
	staged, err = readIndex(ctx, dir)
	return commits, staged, err
}

// Files looks at the files alone, and takes the rest from what was there before.
func Files(root string, before *Inventory) (*Inventory, error) {
	now := *before
	now.Files = nil
	tracked := map[string]bool{}
	for _, e := range slices.Concat(before.Files, before.Staged) {
		if Ignored(e.Path) {
			tracked[e.Path] = true // else it would not be there
		}
	}
	_, err := now.files(root, tracked)
	return &now, err
}

// files gathers the files below root, and returns the nested repositories.
func (inv *Inventory) files(root string, tracked map[string]bool) (nested []string, err error) {
	err = filepath.WalkDir(root, func(full string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && full != root {
			return nil // it went meanwhile
		}
		if err != nil || full == root {
			return err
		}
		path, err := filepath.Rel(root, full)
		if err != nil {
			return err
		}
		path = filepath.ToSlash(path)
		if d.Name() == ".git" {
			if d.IsDir() {
				err = fs.SkipDir
			}
			return err
		}
		if d.IsDir() {
			if isRepo(full) && !Ignored(path+"/") {
				nested = append(nested, path)
			}
			return nil
		}
		e, err := entry(full, Name(path))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(nested, func(dir string) bool { return strings.HasPrefix(path, dir+"/") }); i >= 0 {
			e.Repo = Name(nested[i])
		} else if Ignored(path) && !tracked[e.Path] {
			return nil
		}
		inv.Files = append(inv.Files, e)
		return nil
	})
	return nested, err
}

// isRepo tells whether a folder is a repository or a linked worktree of one. One
// whose git folder is elsewhere and gone is none: its files are like any others.
func isRepo(dir string) bool {
	git := filepath.Join(dir, ".git")
	if text, err := os.ReadFile(git); err == nil {
		git = strings.TrimSpace(strings.TrimPrefix(string(text), "gitdir: "))
		if !filepath.IsAbs(git) {
			git = filepath.Join(dir, git)
		}
	}
	_, err := os.Lstat(filepath.Join(git, "HEAD"))
	return err == nil
}

// entry reads a file.
func entry(full, name string) (Entry, error) {
	info, err := os.Lstat(full)
	if err != nil {
		return Entry{}, err
	}
	e := Entry{Path: name, Mode: "100644"}
	var content []byte
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		e.Mode = "120000"
		var to string
		to, err = os.Readlink(full)
		content = []byte(to)
	default:
		if info.Mode()&0o100 != 0 {
			e.Mode = "100755"
		}
		content, err = os.ReadFile(full)
	}
	e.Blob = BlobID(content)
	return e, err
}

// BlobID is the name that git gives to content.
func BlobID(content []byte) string {
	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", len(content))
	h.Write(content)
	return hex.EncodeToString(h.Sum(nil))
}

// readIndex lists what is in the index, without what is in conflict: that is in
// commits.
func readIndex(ctx context.Context, dir string) (all []Entry, err error) {
	out, err := git(ctx, dir, nil, "ls-files", "-s", "-z")
	if err != nil {
		return nil, err
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		meta, path, _ := strings.Cut(line, "\t")
		if f := strings.Fields(meta); len(f) == 3 && f[2] == "0" {
			all = append(all, Entry{Path: Name(path), Mode: f[0], Blob: f[1]})
		}
	}
	return all, nil
}

// readTree returns the files that a commit has, without their names.
func readTree(ctx context.Context, dir, commit string) (map[Entry]bool, error) {
	all := map[Entry]bool{}
	if commit == "" {
		return all, nil
	}
	out, err := git(ctx, dir, nil, "ls-tree", "-r", "-z", commit)
	for line := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if f := strings.Fields(line); len(f) > 3 {
			all[Entry{Mode: f[0], Blob: f[2]}] = true
		}
	}
	return all, err
}

// commit resolves a name, to nothing if there is none.
func commit(ctx context.Context, dir, name string) (string, error) {
	out, err := git(ctx, dir, nil, "rev-parse", "--verify", "--quiet", name+"^{commit}")
	if exitCode(err) == 1 {
		return "", nil
	}
	return strings.TrimSpace(string(out)), err
}

// tips lists the commits of HEAD and of refs, or of all and of the stashes.
func tips(ctx context.Context, dir string, all bool, refs []string) (list []string, err error) {
	for _, name := range append([]string{"HEAD"}, refs...) {
		c, err := commit(ctx, dir, name)
		if err != nil {
			return nil, err
		}
		if c != "" {
			list = append(list, c)
		}
	}
	if !all {
		return list, nil
	}
	out, err := git(ctx, dir, nil, "for-each-ref", "--format=%(objecttype) %(objectname)", "refs/heads", "refs/tags", "refs/stash")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(out)) {
		if c, ok := strings.CutPrefix(strings.TrimSpace(line), "commit "); ok {
			list = append(list, c)
		}
	}
	more, err := Stashes(ctx, dir)
	return append(list, more...), err
}

// Stashes lists the stashes of the repository of a folder, the newest first.
func Stashes(ctx context.Context, dir string) ([]string, error) {
	out, err := git(ctx, dir, nil, "stash", "list", "--format=%H")
	return strings.Fields(string(out)), err
}
