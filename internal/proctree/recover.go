package proctree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Recovered is what [Recover] ended of one dead host program.
type Recovered struct {
	Host  int    // its pid
	Procs []Proc // in the order in which they were found
}

const (
	// recoverGrace is the time between SIGTERM and SIGKILL for trees whose host
	// is dead.
	recoverGrace = time.Second
	// keepForeign is how long a record of another machine, or of a container
	// that counts pids of its own, is kept: nothing here can tell whether its
	// host is alive.
	keepForeign = 30 * 24 * time.Hour
)

// Recover ends every tree in the user's registry whose host program is dead and
// returns what it ended, by host. A pool calls it when it starts. The trees of
// living hosts, this program among them, are not touched, and neither is a
// process that only has the pid of one in the registry.
//
// One bad record does not keep the others from being dealt with: the error
// joins all that went wrong, beside a result that holds what was done. A
// record that cannot be read as one is renamed to end in ".corrupt". A ctx that
// ends means SIGKILL at once.
func Recover(ctx context.Context) ([]Recovered, error) {
	if !supported {
		return nil, fmt.Errorf("recover process trees: %w", errors.ErrUnsupported)
	}
	dir, err := registryDir()
	if err != nil {
		return nil, fmt.Errorf("recover process trees: %w", err)
	}
	self, err := thisHost("")
	if err != nil {
		return nil, fmt.Errorf("recover process trees: %w", err)
	}
	return recoverDir(ctx, dir, self)
}

func recoverDir(ctx context.Context, dir string, self hostID) ([]Recovered, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("recover process trees: %w", err)
	}
	if err := private(dir); err != nil {
		return nil, fmt.Errorf("recover process trees: whoever can write to the registry chooses what is ended: %w", err)
	}
	var all []Recovered
	var errs []error
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		r, err := recoverFile(ctx, path, self)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // its host or another Recover was faster
			errs = append(errs, fmt.Errorf("recover process trees of %s: %w", path, err))
		}
		if len(r.Procs) > 0 {
			all = append(all, r)
		}
	}
	return all, errors.Join(errs...)
}

func recoverFile(ctx context.Context, path string, self hostID) (Recovered, error) {
	if !strings.HasSuffix(path, bookSuffix) {
		return Recovered{}, removeOld(path)
	}
	b, err := readBook(path)
	if errors.Is(err, errCorrupt) {
		return Recovered{}, os.Rename(path, path+lostSuffix)
	}
	if err != nil {
		return Recovered{}, err
	}
	if b.Version != bookVersion {
		return Recovered{}, nil // of a later release, which knows what to do
	}
	switch sameSystem(b.Host, self) {
	case unknown:
		return Recovered{}, removeOld(path)
	case no:
		return Recovered{}, removeIfThere(path) // nothing outlives a boot
	}
	if host := (Proc{PID: b.Host.PID, Start: b.Host.Start}); alive(host) {
		return Recovered{}, nil
	}
	r := Recovered{Host: b.Host.PID}
	r.Procs, err = endTrees(ctx, b.Trees, b.marks)
	if err != nil {
		return r, err
	}
	// A host that died while it wrote leaves a half-written file as well.
	return r, errors.Join(removeIfThere(path), removeIfThere(path+tmpSuffix))
}

// removeOld removes a file that is of no use to this program when it is old.
func removeOld(path string) error {
	fi, err := os.Lstat(path)
	if err != nil || fi.IsDir() || time.Since(fi.ModTime()) < keepForeign {
		return err
	}
	return removeIfThere(path)
}

// answer is yes, no, or that nobody here can know.
type answer int

const (
	unknown answer = iota
	no
	yes
)

// sameSystem says whether the pids of a and b are counted by the same running
// system.
func sameSystem(a, b hostID) answer {
	switch {
	case a.Boot == b.Boot && a.Namespace == b.Namespace:
		return yes
	case a.Boot != b.Boot && a.Machine == b.Machine:
		return no
	}
	return unknown
}

// endTrees ends what is left of recorded trees: every process whose marker
// satisfies match and, where a leader is still the recorded process, its whole
// group.
func endTrees(ctx context.Context, trees []record, match func(marker string) bool) ([]Proc, error) {
	return sweep(ctx, recoverGrace, func() ([]Proc, error) {
		procs, err := marked(match)
		if err != nil {
			return nil, err
		}
		for _, t := range trees {
			if !ownsGroup(t) {
				continue
			}
			group, err := members(t.PID)
			if err != nil {
				return nil, err
			}
			procs = append(procs, group...)
		}
		return procs, nil
	})
}
