//go:build linux

package proctree_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/claudepool/claudepool/internal/proctree"
)

// shell is a shell with the tools of its system.
type shell struct {
	argv []string
	path string
}

func shells(t *testing.T) map[string]shell {
	t.Helper()
	all := map[string]shell{"sh": {[]string{"/bin/sh"}, os.Getenv("PATH")}}
	for _, name := range []string{"dash", "bash"} {
		if path, err := exec.LookPath(name); err == nil {
			all[name] = shell{[]string{path}, os.Getenv("PATH")}
		}
	}
	if path, err := exec.LookPath("busybox"); err == nil {
		dir := t.TempDir()
		for _, tool := range []string{"tail", "tr", "awk", "sleep", "date"} {
			if err := os.Symlink(path, filepath.Join(dir, tool)); err != nil {
				t.Fatal(err)
			}
		}
		all["busybox"] = shell{[]string{path, "sh"}, dir}
	}
	return all
}

func TestP7WatchdogScript(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile("watchdog.sh")
	if err != nil {
		t.Fatal(err)
	}
	for name, sh := range shells(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mark := fmt.Sprintf("%s=host%d.", proctree.EnvTree, os.Getpid()) + name
			run := func(env ...string) (*exec.Cmd, int) {
				cmd := exec.Command("sleep", "1000")
				cmd.Env = append([]string{"FIRST=1"}, env...)
				cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
				return cmd, cmd.Process.Pid
			}
			_, marked := run(mark + ".tree")
			_, member := run() // known by its group alone
			_, reused := run() // another process has the number of a group
			_, ended := run()  // its group was reported empty
			_, foreign := run(proctree.EnvTree + "=otherhost.tree")

			cmd := exec.Command(sh.argv[0], append(sh.argv[1:], "-c", string(script), "claudepool-watchdog", mark+".")...)
			cmd.Env = []string{"PATH=" + sh.path}
			cmd.Stderr = os.Stderr
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
				t.Fatalf("it said %q, %v", line, err)
			}
			fmt.Fprintf(in, "+ %d %d\n", member, startTime(t, member))
			fmt.Fprintf(in, "+ %d %d\n", ended, startTime(t, ended))
			fmt.Fprintf(in, "+ %d %d\n", reused, startTime(t, reused)-1)
			fmt.Fprintf(in, "- %d %d\n", ended, startTime(t, ended))
			fmt.Fprintf(in, "+ %d", foreign) // half a line: the host died over it
			in.Close()
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			if left := living([]int{marked, member}); len(left) > 0 {
				t.Errorf("left of the trees: %v of %v", left, []int{marked, member})
			}
			if left := living([]int{reused, ended, foreign}); len(left) != 3 {
				t.Errorf("left of others: %v; want %v", left, []int{reused, ended, foreign})
			}
		})
	}
}

func TestWatchdogScriptWithoutTools(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile("watchdog.sh")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", string(script))
	cmd.Env = []string{"PATH=" + t.TempDir()}
	if out, err := cmd.Output(); err == nil || !strings.HasPrefix(string(out), "no tail in ") {
		t.Errorf("%v, it said %q; want a missing tool", err, out)
	}
}
