package sqlitestore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/sqlitestore"
)

func init() {
	modes["pause"], modes["stop"] = pauseInWrite, stopInWrite
}

// pauseInWrite shares the file, and stays in the middle of a write until it is
// given SIGCONT.
func pauseInWrite(path, name string) error {
	return writeAround(path, name, func(goOn <-chan os.Signal) { <-goOn })
}

// stopInWrite is pauseInWrite of a program that is stopped.
func stopInWrite(path, name string) error {
	return writeAround(path, name, func(goOn <-chan os.Signal) {
		if err := unix.Kill(os.Getpid(), unix.SIGSTOP); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		<-goOn // it goes on for a moment before it is stopped
	})
}

func writeAround(path, name string, middle func(goOn <-chan os.Signal)) error {
	goOn := make(chan os.Signal, 1)
	signal.Notify(goOn, unix.SIGCONT)
	s, err := sqlitestore.Open(context.Background(), path, sqlitestore.Options{Peer: true})
	if err != nil {
		return err
	}
	var told error
	err = sqlitestore.SetContextAround(context.Background(), s, name, "v", func() {
		told = tell("writes", "")
		middle(goOn)
	})
	return errors.Join(err, told, s.Close())
}

// A peer that stays in the middle of a write keeps all others from writing, for
// its lock cannot be broken. They are told who it is, and nothing is lost.
func TestWhoHoldsTheWriteLock(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		mode   string
		says   string
		signal unix.Signal // ends that
		stored []string
	}{
		{"stopped, and goes on", "stop", "process %d (%s) has been stopped in the middle of a write; continue it (kill -CONT %[1]d) or end it", unix.SIGCONT, []string{"ours", "theirs"}},
		{"stopped, and is ended", "stop", "process %d (%s) has been stopped in the middle of a write; continue it (kill -CONT %[1]d) or end it", unix.SIGKILL, []string{"ours"}},
		{"hangs", "pause", "process %d (%s) has it now", unix.SIGCONT, []string{"ours", "theirs"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := openNew(t, sqlitestore.Options{Peer: true, BusyTimeout: time.Millisecond})
			u := user{s, t, noon}
			u.create("before")
			peer, told := startWorker(t, c.mode, s.Path(), "theirs")
			ended := false
			t.Cleanup(func() {
				if !ended {
					peer.Process.Kill()
					peer.Wait()
				}
			})
			if line, err := bufio.NewReader(told).ReadString('\n'); err != nil {
				t.Fatalf("the peer has told %q: %v", line, err)
			}
			pid := peer.Process.Pid
			if c.mode == "stop" {
				awaitStop(t, pid)
			}

			locks := ownLocks(t, s.Path())
			err := s.SetContext(t.Context(), "ours", "v")
			if !errors.Is(err, sqlitestore.ErrBusy) {
				t.Fatalf("error %v, want ErrBusy", err)
			}
			comm, err2 := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
			if err2 != nil {
				t.Fatal(err2)
			}
			for _, want := range []string{s.Path(), fmt.Sprintf(c.says, pid, strings.TrimSpace(string(comm)))} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q: %v", want, err)
				}
			}
			if diff := cmp.Diff(locks, ownLocks(t, s.Path())); diff != "" || len(locks) == 0 {
				t.Errorf("to find out who it is has changed the locks of this program (-before +after):\n%s", diff)
			}
			if got := u.ids(claudepool.TaskFilter{}); len(got) != 1 { // one can read all the same
				t.Errorf("%d tasks, want 1", len(got))
			}

			if err := peer.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			ended = true
			var exit *exec.ExitError
			if err := peer.Wait(); err != nil && (c.signal != unix.SIGKILL || !errors.As(err, &exit)) {
				t.Fatalf("the peer: %v", err)
			}
			if err := s.SetContext(t.Context(), "ours", "v"); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.stored, table(t, raw(t, s.Path()), "SELECT key FROM context ORDER BY key")); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
			closeStore(t, s)
			if got := table(t, raw(t, s.Path()), "PRAGMA integrity_check"); len(got) != 1 || got[0] != "ok" {
				t.Errorf("integrity: %v", got)
			}
		})
	}
}

// awaitStop waits until a child is stopped.
func awaitStop(t *testing.T, pid int) {
	t.Helper()
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(pid, &status, unix.WUNTRACED, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			t.Fatal(err)
		case !status.Stopped():
			t.Fatalf("process %d has ended (status %#x), and was not stopped", pid, status)
		default:
			return
		}
	}
}

// ownLocks are the locks that this program has on the -shm file.
func ownLocks(t *testing.T, path string) []string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path+"-shm", &st); err != nil {
		t.Fatal(err)
	}
	all, err := os.ReadFile("/proc/locks")
	if err != nil {
		t.Fatal(err)
	}
	mine := fmt.Sprintf(" %d %02x:%02x:%d ", os.Getpid(), unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	var own []string
	for line := range strings.Lines(string(all)) {
		if _, lock, numbered := strings.Cut(line, ": "); numbered && strings.Contains(lock, mine) {
			own = append(own, lock)
		}
	}
	// While others change their locks the list may show one twice.
	slices.Sort(own)
	return slices.Compact(own)
}

func TestLockHolder(t *testing.T) {
	t.Parallel()
	const locks = `1: POSIX  ADVISORY  READ 11 fe:00:1234 120 120
2: POSIX  ADVISORY  WRITE 12 fe:01:1234 120 120
3: POSIX  ADVISORY  WRITE 13 fe:00:12345 120 120
4: FLOCK  ADVISORY  WRITE 14 fe:00:1234 0 EOF
5: OFDLCK ADVISORY  WRITE -1 fe:00:1234 120 120
6: POSIX  ADVISORY  WRITE 15 fe:00:1234 121 127
7: POSIX  ADVISORY  WRITE 16 fe:00:1234 0 119
`
	for _, c := range []struct {
		name, more string
		want       int
	}{
		{"none", "", 0},
		{"the byte", "8: POSIX  ADVISORY  WRITE 4711 fe:00:1234 120 120\n", 4711},
		{"more than the byte", "8: POSIX  ADVISORY  WRITE 4711 fe:00:1234 120 127\n", 4711},
		{"all of it", "8: POSIX  ADVISORY  WRITE 4711 fe:00:1234 0 EOF", 4711},
		{"who waits does not have it", "8: -> POSIX  ADVISORY  WRITE 4711 fe:00:1234 120 120\n", 0},
		{"of another namespace", "8: POSIX  ADVISORY  WRITE 0 fe:00:1234 120 120\n", 0},
		{"no number", "8: POSIX  ADVISORY  WRITE 4711 fe:00:1234 x 120\n", 0},
		{"cut off", "8: POSIX  ADVISORY  WRITE 4711 fe:00:1234 120", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := sqlitestore.LockHolder(locks+c.more, "fe:00:1234", 120); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

func TestBlame(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ stat, want string }{
		{"4711 (mcpserver) T 1 4711", "process 4711 (mcpserver) has been stopped in the middle of a write; continue it (kill -CONT 4711) or end it (kill -KILL 4711), and all goes on"},
		{"4711 (a) T (b) t 1 4711", "process 4711 (a) T (b) is held by a debugger in the middle of a write; let it go on there, or end it (kill -KILL 4711), and all goes on"},
		{"4711 (sqlite3) S 1 4711", "process 4711 (sqlite3) has it now; it is one that reads or copies the database by hand, or a peer that hangs; all goes on when it is done or has been ended"},
		{"4711 (sqlite3)", ""},
		{"4711 ", ""},
		{")(", ""},
	} {
		if got := sqlitestore.Blame(4711, c.stat); got != c.want {
			t.Errorf("%q: got %q, want %q", c.stat, got, c.want)
		}
	}
}
