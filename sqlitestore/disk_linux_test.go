package sqlitestore_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/sqlitestore"
)

// tmpfs mounts a small file system. Only root can.
func tmpfs(t *testing.T, options string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to mount a small file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("needs root that may mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	for _, o := range []sqlitestore.Options{{}, quick} {
		t.Run(string(o.Synchronous), func(t *testing.T) {
			t.Parallel()
			dir := tmpfs(t, "size=2m")
			s := open(t, filepath.Join(dir, "pool.db"), o)
			defer s.Close()
			u := user{s, t, noon}
			u.create("a-held")
			held := u.claim()
			ballast := filepath.Join(dir, "ballast")
			fillUp(t, ballast)

			// What does not fit has no effect; what was there before stays.
			var stored int
			var err error
			for ; err == nil; stored++ {
				_, _, err = s.CreateTask(t.Context(), claudepool.TaskRecord{
					ID: claudepool.TaskID("b-" + strings.Repeat("x", stored+1)), Task: claudepool.Task{Prompt: strings.Repeat("long ", 2000), Owner: "go"}, Submitted: noon,
				})
			}
			stored--
			if !errors.Is(err, sqlitestore.ErrFull) || !strings.Contains(err.Error(), "make room") {
				t.Fatalf("error %v, want ErrFull", err)
			}
			_, err = s.Transition(t.Context(), claudepool.Transition{
				Task: held.ID, From: held.State, Fence: held.Fence, To: claudepool.StateCompleted, At: noon, Outcome: claudepool.OutcomeOK,
				Attempt: &claudepool.Attempt{Outcome: claudepool.OutcomeOK, Cost: 5}, Result: &claudepool.TaskResult{Output: strings.Repeat("result ", 10_000)},
			})
			if !errors.Is(err, sqlitestore.ErrFull) {
				t.Fatalf("error %v, want ErrFull", err)
			}
			if got := len(u.ids(claudepool.TaskFilter{})); got != stored+1 {
				t.Errorf("there are %d tasks, want %d", got, stored+1)
			}
			if r, err := s.Task(t.Context(), held.ID); err != nil || r.State != claudepool.StateRunning || r.Cost != 0 {
				t.Errorf("the task whose end did not fit is %s and has cost %d, error %v", r.State, r.Cost, err)
			}

			// With room all goes on, without a restart.
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			u.end(held, claudepool.OutcomeOK, 5)
			l, err := s.Ledger(t.Context(), claudepool.LedgerQuery{})
			if err != nil || l.Spent != 5 || l.Attempts != 1 {
				t.Errorf("ledger %+v, error %v", l, err)
			}
			u.create("c")
			closeStore(t, s)
			if got := table(t, raw(t, s.Path()), "PRAGMA integrity_check"); len(got) != 1 || got[0] != "ok" {
				t.Errorf("integrity: %v", got)
			}
		})
	}
	t.Run("no room for a new one", func(t *testing.T) {
		t.Parallel()
		dir := tmpfs(t, "size=64k")
		fillUp(t, filepath.Join(dir, "ballast"))
		s, err := sqlitestore.Open(t.Context(), filepath.Join(dir, "pool.db"), quick)
		if err == nil {
			s.Close()
		}
		if !errors.Is(err, sqlitestore.ErrFull) {
			t.Errorf("error %v, want ErrFull", err)
		}
	})
}

// fillUp takes all room that there is.
func fillUp(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("filling the disk up: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func TestReadOnlyFileSystem(t *testing.T) {
	t.Parallel()
	dir := tmpfs(t, "size=4m")
	path := filepath.Join(dir, "pool.db")
	closeStore(t, open(t, path, quick))
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	wantReadOnly(t, path)
}

// As anybody but root.
func TestReadOnlyPermissions(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv("SQLITESTORE_READ_ONLY"); dir != "" {
		for _, name := range []string{"file", "folder", "new"} {
			wantReadOnly(t, filepath.Join(dir, name, "pool.db"))
		}
		return
	}
	dir := t.TempDir()
	for _, name := range []string{"file", "folder", "new"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if name != "new" {
			closeStore(t, open(t, filepath.Join(dir, name, "pool.db"), quick))
		}
	}
	chmod := func(mode os.FileMode, name ...string) {
		t.Helper()
		if err := os.Chmod(filepath.Join(append([]string{dir}, name...)...), mode); err != nil {
			t.Fatal(err)
		}
	}
	chmod(0o444, "file", "pool.db")
	chmod(0o666, "file", "pool.db.lock")
	chmod(0o777, "file")
	chmod(0o555, "folder")
	chmod(0o555, "new")
	t.Cleanup(func() { chmod(0o755, "folder"); chmod(0o755, "new") })
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestReadOnlyPermissions$", "-test.v")
	cmd.Env = append(os.Environ(), "SQLITESTORE_READ_ONLY="+dir)
	if os.Getuid() == 0 { // whom permissions do not hold up
		if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
			t.Fatal(err)
		}
		chmod(0o755)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		cmd.Dir = "/"
	}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestReadOnlyPermissions") {
		t.Errorf("as somebody who may not write: %v\n%s", err, out)
	}
}

func wantReadOnly(t *testing.T, path string) {
	t.Helper()
	s, err := sqlitestore.Open(t.Context(), path, quick)
	if err == nil {
		s.Close()
	}
	if !errors.Is(err, sqlitestore.ErrReadOnly) || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v, want ErrReadOnly, with the path %s", err, path)
	}
}
