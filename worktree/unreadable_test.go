//go:build linux

package worktree_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Nobody can read everything but root, which tests may be run as: the clean-up is
// done by another user then.
func TestP6UnreadableFileIsNotRemoved(t *testing.T) {
	t.Parallel()
	for name, lock := range map[string]string{"file": "chmod 0 secret/key", "folder": "chmod 0 secret"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, err := os.MkdirTemp("/tmp", "worktree-unreadable") // which every user may enter
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			repo, home := filepath.Join(dir, "repo"), filepath.Join(dir, "home")
			sh(t, dir, "mkdir repo; cd repo; "+fillScript)
			program := filepath.Join(dir, "program")
			text, err := os.ReadFile(os.Args[0])
			if err == nil {
				err = os.WriteFile(program, text, 0o755)
			}
			if err != nil {
				t.Fatal(err)
			}
			owner, root := startRole(t, "work", repo, home, "worktree", "work")
			sh(t, root, "mkdir secret; echo k >secret/key; "+lock)
			kill(t, owner)
			cmd := exec.Command(program, repo, home)
			cmd.Env = append(os.Environ(), envRole+"=clean", "HOME="+dir, "XDG_CONFIG_HOME="+dir)
			if os.Getuid() == 0 {
				const nobody = 65534
				sh(t, dir, "chown -R 65534:65534 .")
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
			}
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "0 removed") || !strings.Contains(string(out), "secret") {
				t.Errorf("the clean-up says %q, %v", out, err)
			}
			sh(t, root, "chmod 700 secret; chmod 600 secret/key; test \"$(cat secret/key)\" = k")
		})
	}
}
