package worktree

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/claudepool/claudepool/internal/filelock"
)

// mergeRoom is the folder in which merges into one target work, one at a time
// over all programs. Whoever has it may remove what is in it.
type mergeRoom struct {
	dir  string
	lock *filelock.Lock
}

// lockName is the name of the file that is locked.
const lockName = "lock"

// roomsOf is where the rooms of a home are.
func roomsOf(home string) string { return filepath.Join(home, "merge") }

// enterRoom waits for the room of a ref, and for no longer than ctx.
func enterRoom(ctx context.Context, home, ref string) (*mergeRoom, error) {
	// A branch's name may be longer than a file's, and have a slash.
	sum := sha256.Sum256([]byte(ref))
	dir := filepath.Join(roomsOf(home), hex.EncodeToString(sum[:8]))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// git writes real paths down, and they are compared with this one.
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	lock, err := waitLock(ctx, filepath.Join(dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("wait for another merge into %s: %w", ref, err)
	}
	return &mergeRoom{dir: dir, lock: lock}, nil
}

// waitLock takes a lock. The system's own way of waiting could not be ended.
func waitLock(ctx context.Context, path string) (*filelock.Lock, error) {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		lock, err := filelock.Try(path)
		if !errors.Is(err, filelock.ErrLocked) {
			return lock, err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, context.Cause(ctx)
		}
	}
}

func (r *mergeRoom) leave() error { return r.lock.Unlock() }
