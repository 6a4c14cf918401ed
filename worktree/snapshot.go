package worktree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/claudepool/claudepool/internal/git"
)

// snapshotPrefix begins the name of the folder that a snapshot is made with.
const snapshotPrefix = "claudepool-snapshot-"

// snapshot makes a commit of the files as they are, byte for byte and whatever
// filters the repository has. Its parents are HEAD and, where the index differs
// from that, a commit of the index. The index itself stays as it is.
func (c checkout) snapshot(ctx context.Context, v view, message string) (commit string, err error) {
	tmp, err := os.MkdirTemp(c.tmp, snapshotPrefix)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	index := filepath.Join(tmp, "index")
	if err := copyFile(filepath.Join(c.gitDir, "index"), index); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	r := c.repo.With("GIT_INDEX_FILE=" + index)

	var parents []string
	if v.head != "" {
		parents = append(parents, v.head)
	}
	staged, err := c.commitIndex(ctx, r, v, message)
	if err != nil {
		return "", err
	}
	if staged != "" {
		parents = append(parents, staged)
	}
	if err := c.addRaw(ctx, r, v, tmp); err != nil {
		return "", err
	}
	return commitTree(ctx, r, message, parents)
}

// commitIndex commits what is staged, "" if nothing is. Of files that are not
// merged it takes what the working tree has, for an index of several versions is
// no tree.
func (c checkout) commitIndex(ctx context.Context, r git.Repo, v view, message string) (string, error) {
	staged := false
	var unmerged strings.Builder
	for _, e := range v.entries {
		if e.unmerged {
			unmerged.WriteString(e.path + "\x00")
		}
		staged = staged || !e.unmerged && e.index != '.' && e.index != '?'
	}
	if unmerged.Len() > 0 {
		if _, err := r.Input(strings.NewReader(unmerged.String())).Run(ctx, "update-index", "--force-remove", "-z", "--stdin"); err != nil {
			return "", err
		}
	}
	if !staged {
		return "", nil
	}
	var parents []string
	if v.head != "" {
		parents = append(parents, v.head)
	}
	return commitTree(ctx, r, "Index of: "+message, parents)
}

func commitTree(ctx context.Context, r git.Repo, message string, parents []string) (string, error) {
	tree, err := r.Run(ctx, "write-tree")
	if err != nil {
		return "", err
	}
	return commitOf(ctx, r, tree, message, parents)
}

// commitOf makes a commit of a tree, in the person's name if git knows that.
func commitOf(ctx context.Context, r git.Repo, tree, message string, parents []string) (string, error) {
	args := []string{"commit-tree", tree}
	for _, p := range parents {
		args = append(args, "-p", p)
	}
	commit := func(r git.Repo) (string, error) { return r.Input(strings.NewReader(message+"\n")).Run(ctx, args...) }
	id, err := commit(r)
	if err != nil && noIdentity(err) {
		return commit(withIdentity(r))
	}
	return id, err
}

// noIdentity reports whether git refused because it does not know who commits.
func noIdentity(err error) bool {
	text := err.Error()
	return git.ExitCode(err) == 128 && (strings.Contains(text, "ident") || strings.Contains(text, "tell me who you are"))
}

// withIdentity names somebody, for where nobody is configured.
func withIdentity(r git.Repo) git.Repo {
	const name, mail = "claudepool", "claudepool@localhost"
	return r.With("GIT_AUTHOR_NAME="+name, "GIT_AUTHOR_EMAIL="+mail, "GIT_COMMITTER_NAME="+name, "GIT_COMMITTER_EMAIL="+mail)
}

// addRaw brings an index to what the working tree has.
func (c checkout) addRaw(ctx context.Context, r git.Repo, v view, tmp string) error {
	any, err := r.Run(ctx, "hash-object", "--stdin") // of nothing
	if err != nil {
		return err
	}
	zero := strings.Repeat("0", len(any))
	var list, paths strings.Builder // of changes to the index; of files to be stored
	type file struct{ mode, path string }
	var files []file
	var gone strings.Builder
	links := 0
	for _, e := range v.entries {
		if e.nested() || e.tree == '.' && !e.unmerged {
			continue
		}
		full := filepath.Join(c.root, filepath.FromSlash(e.path))
		if e.mode == "000000" { // git says so; a link above may make it look otherwise
			fmt.Fprintf(&gone, "0 %s\t%s\x00", zero, e.path)
			continue
		}
		fi, err := os.Lstat(full)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			fmt.Fprintf(&gone, "0 %s\t%s\x00", zero, e.path)
		case err != nil:
			return err
		case fi.IsDir(): // a gitlink: its repository is kept by itself
			commit, err := c.headOf(ctx, e.path)
			if err != nil {
				return err
			}
			if commit != "" {
				fmt.Fprintf(&list, "160000 %s\t%s\x00", commit, e.path)
			}
		case fi.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(full)
			if err != nil {
				return err
			}
			links++
			stand := filepath.Join(tmp, fmt.Sprintf("link-%d", links))
			if err := os.WriteFile(stand, []byte(filepath.ToSlash(target)), 0o600); err != nil {
				return err
			}
			paths.WriteString(quote(stand) + "\n")
			files = append(files, file{"120000", e.path})
		case fi.Mode().IsRegular():
			paths.WriteString(quote(full) + "\n")
			files = append(files, file{fileMode(fi, e.mode), e.path})
		}
	}
	blobs, err := r.Input(strings.NewReader(paths.String())).Lines(ctx, "hash-object", "-w", "--no-filters", "--stdin-paths")
	if err != nil {
		return fmt.Errorf("store the files of %s: %w", c.root, err)
	}
	if len(blobs) != len(files) {
		return fmt.Errorf("store the files of %s: git stored %d of %d", c.root, len(blobs), len(files))
	}
	for i, f := range files {
		fmt.Fprintf(&list, "%s %s\t%s\x00", f.mode, blobs[i], f.path)
	}
	if gone.Len()+list.Len() == 0 {
		return nil
	}
	// What is gone goes first: it may be in the way of what came.
	_, err = r.Input(strings.NewReader(gone.String()+list.String())).Run(ctx, "update-index", "--add", "--replace", "-z", "--index-info")
	return err
}

func fileMode(fi fs.FileInfo, known string) string {
	switch {
	case runtime.GOOS == "windows" && known != "":
		return known
	case runtime.GOOS != "windows" && fi.Mode()&0o100 != 0:
		return "100755"
	}
	return "100644"
}

// quote writes a path as git reads it where each line has one.
func quote(path string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(path) {
		if c := path[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			fmt.Fprintf(&b, "\\%03o", c)
		} else {
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	fi, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fi.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	// Git trusts a file's time only if the index is younger: a copy is as old.
	return errors.Join(err, out.Close(), os.Chtimes(to, fi.ModTime(), fi.ModTime()))
}
