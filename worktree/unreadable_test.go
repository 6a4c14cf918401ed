//go:build linux

package worktree_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/claudepool/claudepool/worktree"
)

// Nobody can read everything but root, which tests may be run as: the clean-up is
// done by another user then.
func TestP6UnreadableFileIsNotRemoved(t *testing.T) {
	t.Parallel()
	for name, lock := range map[string]string{"file": "chmod 0 secret/key", "folder": "chmod 0 secret"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, program := forAnybody(t)
			repo, home := filepath.Join(dir, "repo"), filepath.Join(dir, "home")
			owner, root := startRole(t, "work", repo, home, "worktree", "work")
			sh(t, root, "mkdir secret; echo k >secret/key; "+lock)
			kill(t, owner)
			out, err := asNobody(t, dir, program, "clean", repo, home)
			if err == nil || !strings.Contains(string(out), "0 removed") || !strings.Contains(string(out), "secret") {
				t.Errorf("the clean-up says %q, %v", out, err)
			}
			sh(t, root, "chmod 700 secret; chmod 600 secret/key; test \"$(cat secret/key)\" = k")
		})
	}
}

// What is in folders that were made read-only is work like any other, and goes with
// the work. Root may write everywhere.
func TestP9ReadOnlyFolderStaysNotBehind(t *testing.T) {
	t.Parallel()
	const folder = "mkdir -p mod/x; echo r >mod/x/f; "
	for _, leftover := range []worktree.Leftover{worktree.Commit, worktree.Keep} {
		for name, script := range map[string]string{
			"left":      folder + "chmod 555 mod/x",
			"committed": folder + "git add .; git commit -qm f; chmod 555 mod/x mod",
			"changed":   "echo r >sub/two; chmod 555 sub",
		} {
			t.Run(string(leftover)+" "+name, func(t *testing.T) {
				t.Parallel()
				dir, program := forAnybody(t)
				repo := filepath.Join(dir, "repo")
				out, err := asNobody(t, dir, program, "two", repo, filepath.Join(dir, "home"), string(leftover), script)
				if err != nil || len(out) > 0 {
					t.Errorf("the next work begins with %s, %v", out, err)
				}
				sh(t, repo, "git config --global --add safe.directory "+repo)
				wantKept(t, repo, "r")
			})
		}
	}
}

// forAnybody makes a folder that every user may enter, with a repository, and the
// program of the tests.
func forAnybody(t *testing.T) (dir, program string) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "worktree-anybody")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	sh(t, dir, "mkdir repo; cd repo; "+fillScript)
	program = filepath.Join(dir, "program")
	// Not written by this process: what it starts meanwhile would have it open too.
	sh(t, dir, "cp '"+os.Args[0]+"' program; chmod 755 program")
	return dir, program
}

// asNobody runs a role as a user who is not root, whom all of the folder is given to.
func asNobody(t *testing.T, dir, program, role string, args ...string) ([]byte, error) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), envRole+"="+role, "HOME="+dir, "XDG_CONFIG_HOME="+dir)
	if os.Getuid() == 0 {
		const nobody = 65534
		sh(t, dir, "chmod 755 .; chown -R 65534:65534 .")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		defer sh(t, dir, "chown -R 0:0 .") // git trusts the owner only
	}
	return cmd.CombinedOutput()
}
