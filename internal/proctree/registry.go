package proctree

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/claudepool/claudepool/internal/statedir"
)

// book is what a host program has written down: one file in the registry.
type book struct {
	Version int      `json:"version"`
	Host    hostID   `json:"host"`
	Trees   []record `json:"trees"`
}

const bookVersion = 1

// hostID tells a host program from all others, also from a later one that got
// the same pid.
type hostID struct {
	Token     string `json:"token"`
	PID       int    `json:"pid"`
	Start     uint64 `json:"start"`
	Boot      string `json:"boot"`      // changes when the machine starts
	Namespace string `json:"namespace"` // in which pids are counted, "" where there is only one
	Machine   string `json:"machine"`   // host name: the folder may be shared with other machines
}

// record is one tree of a host.
type record struct {
	PID   int    `json:"pid"` // of the leader, and the number of its group
	Start uint64 `json:"start"`
	Token string `json:"token"`
}

func thisHost(token string) (hostID, error) {
	self, err := lookup(os.Getpid())
	if err != nil {
		return hostID{}, fmt.Errorf("look at this process: %w", err)
	}
	boot, namespace, err := system()
	if err != nil {
		return hostID{}, fmt.Errorf("find out which boot of the machine this is: %w", err)
	}
	machine, err := os.Hostname()
	if err != nil {
		return hostID{}, err
	}
	return hostID{Token: token, PID: self.PID, Start: self.Start, Boot: boot, Namespace: namespace, Machine: machine}, nil
}

// registryDir returns the folder of this user's registry, which need not exist.
func registryDir() (string, error) {
	if dir, err := statedir.Given(); dir != "" || err != nil {
		return dir, err
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) && private(dir) == nil {
		return filepath.Join(dir, "claudepool"), nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no folder to write down process trees: set %s: %w", statedir.Env, err)
	}
	return filepath.Join(dir, "claudepool", "trees"), nil
}

// private returns an error unless dir is a folder of this user that nobody else
// can write to.
func private(dir string) error {
	fi, err := os.Stat(dir)
	switch {
	case err != nil:
		return err
	case !fi.IsDir():
		return fmt.Errorf("%s is no folder", dir)
	case !ownedByUser(fi):
		return fmt.Errorf("%s belongs to another user", dir)
	case fi.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s can be written to by others (mode %v)", dir, fi.Mode().Perm())
	}
	return nil
}

// The token makes the name of a host's file; the suffix tells it from files
// that are being written or were put aside.
const bookSuffix = ".json"

func bookPath(dir, token string) string { return filepath.Join(dir, token+bookSuffix) }

// write replaces the file at path, so that a reader sees the old text or the
// new one. It is not flushed to the disk: after a crash of the machine there are
// no trees.
func (b book) write(path string) (err error) {
	dir := filepath.Dir(path)
	defer func() {
		if err != nil {
			err = fmt.Errorf("write down the process trees, so that they can be ended after a crash: make %s a folder that only you can write to, or set %s to one: %w", dir, statedir.Env, err)
		}
	}()
	text, err := json.Marshal(b)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := private(dir); err != nil {
		return err
	}
	tmp := path + tmpSuffix
	if err := os.WriteFile(tmp, text, 0o600); err != nil {
		return errors.Join(err, removeIfThere(tmp))
	}
	return os.Rename(tmp, path)
}

const (
	tmpSuffix  = ".tmp"
	lostSuffix = ".corrupt"
)

// errCorrupt is the error of a file that is no book.
var errCorrupt = errors.New("not a record of process trees")

// readBook reads a file of the registry.
func readBook(path string) (book, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return book{}, err
	}
	var b book
	if err := json.Unmarshal(text, &b); err != nil {
		return book{}, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	if bookPath(filepath.Dir(path), b.Host.Token) != path || b.Host.Token == "" || b.Host.PID <= 0 {
		return book{}, fmt.Errorf("%w: it names no host program", errCorrupt)
	}
	for _, r := range b.Trees {
		if r.PID <= 1 || r.Token == "" {
			return book{}, fmt.Errorf("%w: it names no process", errCorrupt)
		}
	}
	return b, nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
