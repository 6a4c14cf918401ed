package worktree

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/claudepool/claudepool/internal/filelock"
	"github.com/claudepool/claudepool/internal/git"
)

// newPrefix begins the names of git folders of worktrees, and of clones, that are
// being made.
const newPrefix = "claudepool-new-"

// beingMade is why nobody may prune a worktree yet.
const beingMade = "claudepool is making it\n"

// adminName names the git folder of the worktree at a path: as the path ends, and
// unlike what "git worktree add" of anybody names another.
func adminName(root string) string {
	sum := sha256.Sum256([]byte(root))
	return filepath.Base(root) + "-" + hex.EncodeToString(sum[:4])
}

// addWorktree makes a linked worktree with HEAD at a commit and nothing checked
// out, and returns its git folder. It has a mark from the beginning, if one is
// given, by which it is known to be a place. The error is fs.ErrExist when there is
// a git folder already.
//
// It does without "git worktree add": while that runs, and for ever when it is
// killed, there is a worktree that much of git stumbles over, also in the person's
// own checkout. This one appears as a whole, and locked, so that nobody prunes it
// as long as its folder is not there.
func addWorktree(common, root, commit, mark string) (gitDir string, err error) {
	gitDir = filepath.Join(common, "worktrees", adminName(root))
	if _, err := os.Lstat(gitDir); err == nil {
		return "", fmt.Errorf("%s: %w", gitDir, fs.ErrExist)
	}
	// Beside the folder of all worktrees, where git does not look.
	dir := filepath.Join(common, newPrefix+adminName(root))
	if err := removeAll(dir); err != nil {
		return "", err
	}
	if err := makeLike(common, filepath.Join(dir, "logs")); err != nil {
		return "", err
	}
	files := [][2]string{
		{"gitdir", filepath.ToSlash(filepath.Join(root, ".git")) + "\n"}, // first: by it the rest is known to be ours
		{"locked", beingMade},
		{"commondir", "../..\n"},
		{"HEAD", commit + "\n"},
		{"logs/HEAD", ""}, // so that git notes where HEAD has been, whatever the person has set
	}
	if mark != "" {
		files = append(files, [2]string{markName, mark})
	}
	for _, f := range files {
		if err := writeDown(filepath.Join(dir, filepath.FromSlash(f[0])), f[1]); err != nil {
			return "", errors.Join(err, removeAll(dir))
		}
	}
	if err := appear(common, dir, gitDir); err != nil {
		return "", errors.Join(err, removeAll(dir))
	}
	if err := os.Mkdir(root, 0o777); err != nil {
		return "", errors.Join(err, removeAll(gitDir))
	}
	link := "gitdir: " + filepath.ToSlash(gitDir) + "\n"
	if err := os.WriteFile(filepath.Join(root, ".git"), []byte(link), 0o666); err != nil {
		return "", errors.Join(err, removeAll(root), removeAll(gitDir))
	}
	return gitDir, os.Remove(filepath.Join(gitDir, "locked"))
}

// appear puts the git folder of a worktree where git looks for it. The folder of
// all of them may go away meanwhile: git removes it with the last one.
func appear(common, dir, gitDir string) (err error) {
	for range 10 {
		if err = makeLike(common, filepath.Dir(gitDir)); err == nil {
			err = os.Rename(dir, gitDir)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return err
}

// makeLike makes a folder that those can read who can read another, as a
// repository may be shared.
func makeLike(other, dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	fi, err := os.Stat(other)
	if err != nil {
		return err
	}
	if parent := filepath.Dir(dir); parent != other {
		if err := makeLike(other, parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Chmod(dir, fi.Mode())
}

// writeDown writes a file that is there after the machine has lost its power too.
func writeDown(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// onlyGitAdds reports whether only git itself can make a worktree, as it keeps the
// refs of each, HEAD too, in tables.
func onlyGitAdds(common string) bool {
	_, err := os.Stat(filepath.Join(common, "reftable"))
	return err == nil
}

// gitAddsWorktree has git make a linked worktree, one at a time.
func gitAddsWorktree(ctx context.Context, r git.Repo, home, root, commit string) (gitDir string, err error) {
	lock, err := lockAdding(ctx, home)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	if _, err := r.Config("worktree.useRelativePaths", "false").Run(ctx, "worktree", "add", "--quiet", "--detach", "--no-checkout", root, commit); err != nil {
		return "", err
	}
	text, err := os.ReadFile(filepath.Join(root, ".git"))
	if err != nil {
		return "", err
	}
	link, ok := strings.CutPrefix(strings.TrimSpace(string(text)), "gitdir: ")
	if !ok {
		return "", fmt.Errorf("%s of git's own making says %q", filepath.Join(root, ".git"), text)
	}
	if link = filepath.FromSlash(link); !filepath.IsAbs(link) {
		link = filepath.Join(root, link)
	}
	return realPath(link)
}

// lockAdding waits until no worktree of this home is being made by git: much of
// git fails as long as one is.
func lockAdding(ctx context.Context, home string) (*filelock.Lock, error) {
	lock, err := waitLock(ctx, filepath.Join(home, "make.lock"))
	if err != nil {
		return nil, fmt.Errorf("wait for a worktree that is being made: %w", err)
	}
	return lock, nil
}

// add makes the worktree of a new place. Until it is furnished, its mark says that
// nothing in it need be kept.
func (p *Place) add(ctx context.Context, base string) (err error) {
	m := p.m
	if onlyGitAdds(m.names.common) {
		p.gitDir, err = gitAddsWorktree(ctx, m.repo, m.home, p.root, base)
		return err
	}
	text, err := json.Marshal(p.mark)
	if err != nil {
		return err
	}
	if p.gitDir, err = addWorktree(m.names.common, p.root, base, string(text)+"\n"); err != nil {
		return err
	}
	return p.copyOwnConfig(ctx)
}

// copyOwnConfig gives a worktree what the person has set for their own only, as
// "git worktree add" does.
func (p *Place) copyOwnConfig(ctx context.Context) error {
	own, err := readIfThere(filepath.Join(p.m.names.gitDir, "config.worktree"))
	if err != nil || own == nil {
		return err
	}
	path := filepath.Join(p.gitDir, "config.worktree")
	if err := os.WriteFile(path, own, 0o666); err != nil {
		return err
	}
	for _, name := range []string{"core.bare", "core.worktree"} {
		const none = 5
		if _, err := p.m.repo.Run(ctx, "config", "--file", path, "--unset-all", name); err != nil && git.ExitCode(err) != none {
			return err
		}
	}
	return nil
}
