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
	"unicode/utf8"

	"github.com/claudepool/claudepool/internal/statedir"
)

// DefaultHome returns the folder for places of a user who names none. It is one
// that survives restarts and is no cache, for it has work in it. CLAUDEPOOL_STATE_DIR
// puts it elsewhere.
func DefaultHome() (string, error) {
	dir, err := statedir.Lasting()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "places"), nil
}

// homeMark is the text of the file that ties a folder of places to a repository.
type homeMark struct {
	Version int    `json:"version"`
	Common  string `json:"common_dir"`
}

// markName is the name of our mark in the folder of a repository's places, and in
// the git folder of each.
const markName = "claudepool.json"

const markVersion = 1

// openHome makes the folder for the places of this repository and returns it.
func (m *Manager) openHome(ctx context.Context) (string, error) {
	home := m.o.Home
	if home == "" {
		var err error
		if home, err = DefaultHome(); err != nil {
			return "", err
		}
	}
	home, err := filepath.Abs(home)
	if err != nil {
		return "", invalid("Home", "cannot be used: %w", err)
	}
	if err := m.clearHome(ctx, home); err != nil {
		return "", err
	}
	if err := m.checkOutside(ctx, home); err != nil {
		return "", err
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return "", fmt.Errorf("make a folder for places: %w", err)
	}
	if home, err = realPath(home); err != nil {
		return "", err
	}
	dir := filepath.Join(home, folderName(m.names.common))
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("make a folder for places: %w", err)
	}
	return dir, m.markHome(dir)
}

// clearHome repairs what a program that was killed has left half made, if the home
// has been used before. Without that, git may not even tell what worktrees there are.
func (m *Manager) clearHome(ctx context.Context, home string) error {
	real, err := realPath(home)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return invalid("Home", "cannot be used: %w", err)
	}
	m.home = filepath.Join(real, folderName(m.names.common))
	if _, err := os.Stat(m.home); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := m.markHome(m.home); err != nil {
		return err
	}
	return m.clearHalfMade(ctx, "")
}

// folderName names the folder of a repository's places: as people know it, and
// unlike that of any other.
func folderName(common string) string {
	name := filepath.Base(common)
	if name == ".git" {
		name = filepath.Base(filepath.Dir(common))
	}
	name = strings.TrimSuffix(name, ".git")
	for len(name) > 64 {
		_, n := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-n]
	}
	sum := sha256.Sum256([]byte(common))
	return strings.Trim(name, ". ") + "-" + hex.EncodeToString(sum[:6])
}

// checkOutside refuses a home inside of a working tree or the git folder of the
// repository: there it would be seen as files of the person's.
func (m *Manager) checkOutside(ctx context.Context, home string) error {
	real := home
	for { // of what is there already: what is not has no links
		r, err := filepath.EvalSymlinks(real)
		if err == nil {
			rest, _ := filepath.Rel(real, home)
			real = filepath.Join(r, rest)
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || filepath.Dir(real) == real {
			return invalid("Home", "cannot be used: %w", err)
		}
		real = filepath.Dir(real)
	}
	inside := []string{m.names.common}
	fields, err := m.repo.Lines(ctx, "worktree", "list", "--porcelain")
	if err != nil {
		return err
	}
	for _, f := range fields {
		if dir, ok := strings.CutPrefix(f, "worktree "); ok {
			inside = append(inside, filepath.FromSlash(dir))
		}
	}
	if m.names.top != "" {
		inside = append(inside, m.names.top)
	}
	for _, dir := range inside {
		if within(dir, real) {
			return invalid("Home", "is %s, inside of %s: choose a folder outside of the repository", home, dir)
		}
	}
	return nil
}

// within reports whether p is dir or below it.
func within(dir, p string) bool {
	rel, err := filepath.Rel(dir, p)
	return err == nil && filepath.IsLocal(rel)
}

// markHome marks an empty folder, or checks the mark that is there.
func (m *Manager) markHome(dir string) error {
	path := filepath.Join(dir, markName)
	text, err := os.ReadFile(path)
	if err == nil && len(text) == 0 { // the machine has lost its power
		return writeJSON(path, homeMark{markVersion, m.names.common})
	}
	if errors.Is(err, fs.ErrNotExist) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), markName) { // another manager marks it right now
				return fmt.Errorf("%w: %s has files, but no %s; move it away", ErrNotOurs, dir, markName)
			}
		}
		return writeJSON(path, homeMark{markVersion, m.names.common})
	}
	if err != nil {
		return err
	}
	var mark homeMark
	if err := json.Unmarshal(text, &mark); err != nil || mark.Version != markVersion || mark.Common != m.names.common {
		return fmt.Errorf("%w: %s is not a mark for %s; move the folder away", ErrNotOurs, path, m.names.common)
	}
	return nil
}

// writeJSON replaces a file, so that a reader sees the old text or the new one, also
// after the machine has lost its power.
func writeJSON(path string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
