package worktree

import (
	"os/exec"

	"github.com/claudepool/claudepool/internal/git"
)

// Files that git-lfs looks after are what git-lfs makes of them where it is
// installed: worktrees share its store with the repository, and clones are told
// where that is, so that only what is nowhere on this machine is downloaded.
// Where it is not installed they stay the pointers that git has.

func hasLFS() bool {
	_, err := exec.LookPath("git-lfs")
	return err == nil
}

// withoutLFS takes back the filter that an earlier git-lfs may have left in the
// person's configuration: it would let every checkout fail.
func withoutLFS(r git.Repo) git.Repo {
	return r.Config("filter.lfs.clean", "").Config("filter.lfs.smudge", "").Config("filter.lfs.process", "").Config("filter.lfs.required", "false")
}
