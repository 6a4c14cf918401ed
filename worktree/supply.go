package worktree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/claudepool/claudepool/internal/filelock"
	"github.com/claudepool/claudepool/internal/git"
)

// versionNoFetchHead is the first that can fetch without writing FETCH_HEAD.
var versionNoFetchHead = git.Version{Major: 2, Minor: 29}

// supply puts into a place what work needs beside the files of its branch.
func (p *Place) supply(ctx context.Context) error {
	if err := p.copySparse(ctx); err != nil {
		return fmt.Errorf("make the checkout as sparse as that of %s: %w", p.m.names.top, err)
	}
	if p.m.names.top != "" {
		if err := p.m.fillSubmodules(ctx, p.m.names.top, p.checkout()); err != nil {
			return fmt.Errorf("fill the submodules: %w", err)
		}
	}
	if err := p.copyIgnored(ctx); err != nil {
		return fmt.Errorf("copy ignored files: %w", err)
	}
	if err := p.makeDir(); err != nil {
		return err
	}
	return p.setUp(ctx)
}

// makeDir makes the folder to work in, which the base may not have, or may have as a
// link that leads out of the place.
func (p *Place) makeDir() error {
	if p.m.names.prefix == "" { // of a bare repository
		return nil
	}
	root, err := os.OpenRoot(p.root)
	if err != nil {
		return err
	}
	defer root.Close()
	fi, err := root.Stat(p.m.names.prefix)
	if errors.Is(err, os.ErrNotExist) {
		return root.MkdirAll(p.m.names.prefix, 0o755)
	}
	if err == nil && !fi.IsDir() {
		err = errors.New("it is no folder")
	}
	if err != nil {
		return fmt.Errorf("the folder to work in, %s, is not in the place: %w", p.Dir(), err)
	}
	return nil
}

// copySparse gives the place the sparse checkout of the person's, or none.
func (p *Place) copySparse(ctx context.Context) error {
	if p.m.names.top == "" {
		return nil
	}
	if err := p.makeSparse(ctx); err != nil {
		return err
	}
	return p.noteFiles("config.worktree", "info/sparse-checkout")
}

func (p *Place) makeSparse(ctx context.Context) error {
	from, to := filepath.Join(p.m.names.gitDir, "info", "sparse-checkout"), filepath.Join(p.gitDir, "info", "sparse-checkout")
	want, err := readIfThere(from)
	if err != nil {
		return err
	}
	have, err := readIfThere(to)
	if err != nil || want == nil && have == nil {
		return err
	}
	on, err := isSet(ctx, p.m.repo, "core.sparseCheckout")
	if err != nil {
		return err
	}
	was, err := isSet(ctx, p.repo, "core.sparseCheckout")
	switch {
	case err != nil || !on && !was:
		return err
	case !on:
		_, err := p.repo.Run(ctx, "sparse-checkout", "disable")
		return err
	}
	if !was {
		cone, err := isSet(ctx, p.m.repo, "core.sparseCheckoutCone")
		if err != nil {
			return err
		}
		for name, value := range map[string]bool{"core.sparseCheckout": true, "core.sparseCheckoutCone": cone} {
			if _, err := p.repo.Run(ctx, "config", "--worktree", name, fmt.Sprint(value)); err != nil {
				return err
			}
		}
	}
	if string(want) != string(have) {
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o700), os.WriteFile(to, want, 0o600)); err != nil {
			return err
		}
	}
	if _, err := os.Stat(filepath.Join(p.gitDir, "index")); err != nil {
		return nil // nothing is checked out yet
	}
	// Also where the patterns are the same: files may be gone that somebody had
	// told git not to look at.
	_, err = p.repo.Run(ctx, "read-tree", "-m", "-u", "HEAD")
	return err
}

func readIfThere(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

func isSet(ctx context.Context, r git.Repo, name string) (bool, error) {
	value, err := r.Run(ctx, "config", "--bool", name)
	if git.ExitCode(err) == 1 {
		return false, nil
	}
	return value == "true", err
}

// fillSubmodules fills the submodules that the person's checkout at from has,
// out of that and not from the network.
func (m *Manager) fillSubmodules(ctx context.Context, from string, c checkout) error {
	if _, err := os.Lstat(filepath.Join(c.root, ".gitmodules")); err != nil {
		return nil
	}
	files, err := c.repo.Fields(ctx, "ls-files", "-z", "--stage")
	if err != nil {
		return err
	}
	for _, f := range files {
		info, path, _ := strings.Cut(f, "\t")
		part := strings.Fields(info)
		if len(part) != 3 || part[0] != "160000" {
			continue
		}
		theirs := filepath.Join(from, filepath.FromSlash(path))
		origin := gitFolder(theirs)
		if origin == "" {
			continue
		}
		if err := m.fillSubmodule(ctx, c, path, origin, part[1]); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		sub, err := c.below(ctx, path)
		if err != nil {
			return err
		}
		if err := m.fillSubmodules(ctx, theirs, sub); err != nil {
			return err
		}
	}
	return nil
}

// fillSubmodule checks a commit of a submodule out. One whose commit the person's
// copy does not have is left empty: at another commit it would look like work.
func (m *Manager) fillSubmodule(ctx context.Context, c checkout, path, origin, commit string) error {
	root := filepath.Join(c.root, filepath.FromSlash(path))
	theirs := m.pin(origin, "")
	if _, err := os.Lstat(filepath.Join(root, ".git")); err != nil {
		from, err := m.whoHas(ctx, origin, commit)
		if err != nil {
			return err
		}
		if from == "" {
			m.warnOfSubmodule(ctx, path, commit)
			return nil
		}
		head, err := theirs.Run(ctx, "rev-parse", "--verify", "HEAD^{commit}")
		if err != nil {
			return err
		}
		if err := removeNothings(root); err != nil {
			return err
		}
		if err := m.cloneQuietly(ctx, origin, root, head); err != nil {
			return err
		}
	}
	sub, err := c.below(ctx, path)
	if err != nil {
		return err
	}
	head, err := sub.head(ctx)
	if err != nil {
		return err
	}
	if head != "" && head == commit {
		if _, err := os.Lstat(filepath.Join(sub.gitDir, "index")); err == nil {
			return nil
		}
	}
	has, err := hasCommit(ctx, sub.repo, commit)
	if err == nil && !has {
		var from string
		if from, err = m.whoHas(ctx, origin, commit); from != "" {
			has = true // it need not be on a ref there
			err = fetchCommit(ctx, sub.repo, from, commit)
		}
	}
	switch {
	case err != nil:
		return err
	case !has:
		m.warnOfSubmodule(ctx, path, commit)
		return sub.empty()
	}
	_, err = sub.repo.Run(ctx, "checkout", "--quiet", "--force", "--detach", commit, "--")
	return err
}

// whoHas returns the git folder of who has a commit of a submodule: the person's
// copy of that, or the repository, where recovery refs keep what work has added. It
// is "" when nobody has it.
func (m *Manager) whoHas(ctx context.Context, origin, commit string) (string, error) {
	for _, dir := range []string{origin, m.names.common} {
		has, err := hasCommit(ctx, m.pin(dir, ""), commit)
		switch {
		case err != nil:
			return "", err
		case has:
			return dir, nil
		}
	}
	return "", nil
}

// fetchCommit brings a commit from another repository on this disk.
func fetchCommit(ctx context.Context, r git.Repo, from, commit string) error {
	_, err := r.Run(ctx, "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--upload-pack="+upload, from, "+"+commit+":refs/remotes/claude-pool/commit")
	return err
}

func (m *Manager) warnOfSubmodule(ctx context.Context, path, commit string) {
	m.log.WarnContext(ctx, "a submodule is left empty: the person's copy does not have its commit", "path", path, "commit", commit)
}

// hasCommit reports whether a repository has a commit.
func hasCommit(ctx context.Context, r git.Repo, commit string) (bool, error) {
	line, err := r.Input(strings.NewReader(commit+"\n")).Run(ctx, "cat-file", "--batch-check=%(objecttype)")
	return line == "commit", err
}

// cloneTries is how often a clone is begun that a file has vanished under.
const cloneTries = 10

// cloneQuietly clones a repository on this disk, with its remotes in place of
// itself, no branch, HEAD at a commit, and nothing checked out.
func (m *Manager) cloneQuietly(ctx context.Context, from, to, head string) error {
	const self = "claude-pool"
	r := m.quiet(m.git.In("")).WithoutHooks()
	for try := 1; ; try++ {
		_, err := r.Run(ctx, "clone", "--quiet", "--local", "--no-checkout", "--no-tags", "--template=", "--origin", self, from, to)
		if err == nil {
			break
		}
		// It links all files of the objects, also those that somebody is just writing.
		if try == cloneTries || !strings.Contains(err.Error(), "tmp_") {
			return err
		}
		if err := removeAll(to); err != nil {
			return err
		}
	}
	r = m.pin(filepath.Join(to, ".git"), to)
	for _, args := range [][]string{
		{"update-ref", "--no-deref", "HEAD", head},
		{"remote", "remove", self},
		{"fetch", "--quiet", "--no-recurse-submodules", from, "+refs/remotes/*:refs/remotes/*", "+refs/tags/*:refs/tags/*"},
	} {
		if _, err := r.Run(ctx, args...); err != nil {
			return err
		}
	}
	lines, err := r.Lines(ctx, "for-each-ref", "--format=delete %(refname)", "refs/heads")
	if err != nil {
		return err
	}
	return updateRefs(ctx, r, lines...)
}

// endStale ends work that a program which is no more has left open somewhere, so
// that its branch has all of it.
func (m *Manager) endStale(ctx context.Context, id string) error {
	for _, kind := range []Kind{Worktree, Clone} {
		numbers, err := m.numbers(kind)
		if err != nil {
			return err
		}
		for _, n := range numbers {
			if err := m.endStaleIn(ctx, placeName(kind, n), kind, id); err != nil {
				return fmt.Errorf("end %s, which was left open in %s: %w", id, placeName(kind, n), err)
			}
		}
	}
	return nil
}

// endStaleIn does so in one place. Another who takes that over right now ends the
// work too, and is waited for.
func (m *Manager) endStaleIn(ctx context.Context, name string, kind Kind, id string) error {
	const pause = 10 * time.Millisecond
	for {
		if p, err := m.find(name, kind); err != nil || p.mark.Work == nil || p.mark.Work.ID != id {
			return nil
		}
		err := m.endIfStale(ctx, name, kind)
		if !errors.Is(err, filelock.ErrLocked) {
			return err
		}
		if p, err := m.find(name, kind); err == nil && p.mark.Work != nil && p.mark.Work.ID == id && !p.mark.Work.Ending {
			return nil // it is worked on
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

func (m *Manager) endIfStale(ctx context.Context, name string, kind Kind) (err error) {
	p, lock, err := m.lockToEnd(ctx, name, kind, spareNone)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	_, err = p.end(ctx)
	return err
}
