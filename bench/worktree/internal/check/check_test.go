package check

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// scene is a repository with a checkout, a place of each kind with work in it,
// and a witness who has heard of all that.
type scene struct {
	t           *testing.T
	dir, repo   string
	tree, clone string
	w           *Witness
}

func newScene(t *testing.T) *scene {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{t: t, dir: dir, repo: filepath.Join(dir, "repo"), tree: filepath.Join(dir, "tree"), clone: filepath.Join(dir, "clone")}
	s.write(".gitconfig", "[user]\nname = P\nemail = p@example.com\n[init]\ndefaultBranch = main\n")
	s.write("repo/file", "one\n")
	s.write("repo/.gitignore", IgnoreFile)
	s.write("outside/decoy", "x")
	s.git("repo", "init", "-q")
	s.git("repo", "add", "-A")
	s.git("repo", "commit", "-q", "-m", "one")
	s.git("repo", "branch", "release")
	s.git("repo", "branch", "feature")
	s.write("repo/file", "changed by the person\n")
	s.w, err = NewWitness(t.Context(), s.repo, []string{"main", "release"}, []string{filepath.Join(dir, "outside")})
	if err != nil {
		t.Fatal(err)
	}
	s.git("repo", "worktree", "add", "-q", "-b", "claude-pool/w1", s.tree)
	s.git(".", "clone", "-q", s.repo, s.clone)
	s.git("clone", "switch", "-q", "-c", "claude-pool/w2")
	return s
}

func (s *scene) write(path, text string) {
	s.t.Helper()
	full := filepath.Join(s.dir, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) git(dir string, args ...string) string {
	s.t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		s.t.Skip("needs git: ", err)
	}
	cmd := exec.Command("git", args...)
	cmd.Dir = filepath.Join(s.dir, dir)
	cmd.Env = append(os.Environ(), "HOME="+s.dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+filepath.Join(s.dir, ".gitconfig"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("git %v in %s: %v: %s", args, dir, err, out)
	}
	return strings.TrimSpace(string(out))
}

// begin has the witness hear that work begins in a place.
func (s *scene) begin(root string) {
	s.t.Helper()
	kind := "worktree"
	if root == s.clone {
		kind = "clone"
	}
	s.w.Said(Line{Op: OpAcquired, Root: root, Kind: kind})
	s.w.Said(Line{Op: OpBegun, Root: root, Work: "w", Inv: s.scan(root)})
}

func (s *scene) scan(root string) *Inventory {
	s.t.Helper()
	inv, err := Scan(s.t.Context(), root, root == s.clone, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return inv
}

// end has it hear that all there is in a place counts as written.
func (s *scene) end(root string) {
	s.t.Helper()
	s.w.Said(Line{Op: OpEnding, Root: root, Work: "w", Inv: s.scan(root)})
}

func (s *scene) look() []string {
	s.t.Helper()
	found, err := s.w.Look(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return found
}

// keep puts what is in a place on a recovery ref, as an annotated tag.
func (s *scene) keep(dir string) {
	s.t.Helper()
	s.git(dir, "add", "-A")
	s.git(dir, "commit", "-q", "--allow-empty", "-m", "kept")
	s.git(dir, "tag", "-a", "-m", "kept", "kept")
	if dir == "clone" {
		s.git(dir, "push", "-q", s.repo, "kept:refs/claude-pool/recovery/1/"+dir)
		return
	}
	s.git(dir, "update-ref", "refs/claude-pool/recovery/1/"+dir, "kept")
	s.git(dir, "tag", "-d", "kept")
}

func TestNothingIsWrong(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"tree", "clone"} {
		s := newScene(t)
		root := filepath.Join(s.dir, dir)
		s.begin(root)
		s.write(dir+"/new file\nwith a name", "written\n")
		s.write(dir+"/x.ign", "ignored\n")
		s.end(root)
		if found := s.look(); len(found) > 0 {
			t.Errorf("%s: while it is in the place: %q", dir, found)
		}
		s.keep(dir)
		if err := os.RemoveAll(root); err != nil {
			t.Fatal(err)
		}
		if found := s.look(); len(found) > 0 {
			t.Errorf("%s: when it is on a ref: %q", dir, found)
		}
	}
}

// Each kind of loss is noticed.
func TestLossIsNoticed(t *testing.T) {
	const written = "tree/sub/written"
	tests := map[string]struct {
		do   func(s *scene)
		want string
	}{
		"a file of a place that was removed": {func(s *scene) {
			s.begin(s.tree)
			s.write(written, "text\n")
			s.end(s.tree)
			os.RemoveAll(s.tree)
		}, "sub/written"},
		"the recovery ref that had it": {func(s *scene) {
			s.begin(s.clone)
			s.write("clone/written", "text\n")
			s.end(s.clone)
			s.keep("clone")
			os.RemoveAll(s.clone)
			s.git("repo", "update-ref", "-d", "refs/claude-pool/recovery/1/clone")
		}, "written"},
		"its mode": {func(s *scene) {
			s.begin(s.tree)
			s.write(written, "text\n")
			os.Chmod(filepath.Join(s.dir, written), 0o755)
			s.end(s.tree)
			os.Chmod(filepath.Join(s.dir, written), 0o644)
			s.keep("tree")
			os.RemoveAll(s.tree)
		}, "nowhere under its path and with its mode"},
		"its path": {func(s *scene) {
			s.begin(s.tree)
			s.write(written, "text\n")
			s.end(s.tree)
			os.Rename(filepath.Join(s.dir, written), filepath.Join(s.tree, "other"))
			s.keep("tree")
			os.RemoveAll(s.tree)
		}, "nowhere under its path and with its mode"},
		"what was only staged": {func(s *scene) {
			s.begin(s.tree)
			s.write(written, "staged\n")
			s.git("tree", "add", "-A")
			s.write(written, "text\n")
			s.end(s.tree)
			s.keep("tree")
			os.RemoveAll(s.tree)
		}, "sub/written"},
		"a link": {func(s *scene) {
			s.begin(s.tree)
			os.Symlink("nowhere", filepath.Join(s.tree, "link"))
			s.end(s.tree)
			os.Remove(filepath.Join(s.tree, "link"))
		}, "120000"},
		"a commit": {func(s *scene) {
			s.begin(s.tree)
			s.git("tree", "commit", "-q", "--allow-empty", "-m", "empty")
			s.end(s.tree)
			s.git("tree", "reset", "-q", "--hard", "HEAD~1")
		}, "commit"},
		"a stash of a clone": {func(s *scene) {
			s.begin(s.clone)
			s.write("clone/file", "stashed\n")
			s.git("clone", "stash", "-q")
			s.end(s.clone)
			s.keep("clone")
			os.RemoveAll(s.clone)
		}, "commit"},
		"a branch of a clone": {func(s *scene) {
			s.begin(s.clone)
			s.git("clone", "switch", "-q", "-c", "other")
			s.git("clone", "commit", "-q", "--allow-empty", "-m", "empty")
			s.git("clone", "switch", "-q", "-")
			s.end(s.clone)
			s.keep("clone")
			os.RemoveAll(s.clone)
		}, "commit"},
		"what is not committed in a nested repository": {func(s *scene) {
			s.begin(s.tree)
			s.write("tree/nested/file", "text\n")
			s.git("tree/nested", "init", "-q")
			s.git("tree/nested", "commit", "-q", "--allow-empty", "-m", "nothing")
			s.end(s.tree)
			s.keep("tree") // as a link to a repository, which has nothing
			os.RemoveAll(s.tree)
		}, "nested/file"},
		"what was in a place when the host died": {func(s *scene) {
			s.begin(s.tree)
			s.write(written, "text\n")
			if err := s.w.Died(s.t.Context()); err != nil {
				s.t.Fatal(err)
			}
			os.RemoveAll(s.tree)
		}, "sub/written"},
		"what was there before the host died": {func(s *scene) {
			s.write(written, "text\n")
			s.begin(s.tree)
			s.w.Said(Line{Op: OpDoing, Root: s.tree, Paths: []string{"other"}})
			os.RemoveAll(filepath.Join(s.tree, "sub"))
			if err := s.w.Died(s.t.Context()); err != nil {
				s.t.Fatal(err)
			}
		}, "sub/written"},
		"an object": {func(s *scene) {
			id := s.git("repo", "rev-parse", "feature:file")
			os.Remove(filepath.Join(s.repo, ".git/objects", id[:2], id[2:]))
		}, "P6: something on a kept ref is gone"},
		"a branch": {func(s *scene) { s.git("repo", "branch", "-D", "feature") }, "refs/heads/feature was"},
		"a target": {func(s *scene) { s.git("repo", "branch", "-D", "release") }, "refs/heads/release is gone"},
		"a target that went back": {func(s *scene) {
			s.git("repo", "branch", "-f", "release", s.git("repo", "commit-tree", "-m", "other", "main^{tree}"))
		}, "which does not come after it"},
		"a file of the checkout":    {func(s *scene) { s.write("repo/file", "one\n") }, "repo/file was"},
		"a file beside it":          {func(s *scene) { s.write("repo/new", "x") }, "was not there, and is now"},
		"a hook":                    {func(s *scene) { s.write("repo/.git/hooks/pre-commit", "x") }, "hooks/pre-commit was not there"},
		"the configuration":         {func(s *scene) { s.git("repo", "config", "a.b", "c") }, ".git/config was"},
		"the index":                 {func(s *scene) { s.git("repo", "add", "file") }, ".git/index was"},
		"HEAD":                      {func(s *scene) { s.git("repo", "symbolic-ref", "HEAD", "refs/heads/feature") }, ".git/HEAD was"},
		"what is outside":           {func(s *scene) { os.Remove(filepath.Join(s.dir, "outside/decoy")) }, "outside/decoy was"},
		"what a host says is wrong": {func(s *scene) { s.w.Said(Line{Op: OpFailed, Text: "P8: it hangs"}) }, "P8: it hangs"},
		"a change of the person's that a merge was not to touch": {func(s *scene) {
			s.w.Said(Line{Op: OpMerging, Target: "main", All: true})
			s.write("repo/file", "one\n")
		}, "repo/file was"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			if found := s.look(); len(found) > 0 {
				t.Fatalf("before: %q", found)
			}
			tt.do(s)
			found := s.look()
			if len(found) == 0 || !strings.Contains(strings.Join(found, "\n"), tt.want) {
				t.Errorf("found %q, want something with %q", found, tt.want)
			}
		})
	}
}

// A merge may move a checkout, but only what it changes.
func TestMergeMayMoveTheCheckout(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.write("tree/second", "two\n")
	s.git("tree", "add", "-A")
	s.git("tree", "commit", "-q", "-m", "two")
	s.w.Said(Line{Op: OpMerging, Target: "main", All: true})
	s.git("repo", "merge", "-q", "--ff-only", "claude-pool/w1")
	if found := s.look(); len(found) > 0 {
		t.Errorf("found %q", found)
	}
}

// Work may begin with the repository that its commit has a link to, as that commit
// of it is, and with nothing else in there.
func TestRepositoryOfALinkMayStay(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.write("tree/nested/file", "nested\n")
	s.git("tree/nested", "init", "-q")
	s.git("tree/nested", "add", "-A")
	s.git("tree/nested", "commit", "-q", "-m", "nested")
	s.git("tree", "add", "-A")
	s.git("tree", "commit", "-q", "-m", "link")
	s.git("tree/nested", "push", "-q", s.repo, "HEAD:refs/claude-pool/recovery/1/nested")
	s.begin(s.tree)
	if found := s.look(); len(found) > 0 {
		t.Errorf("found %q", found)
	}
	s.write("tree/nested/file", "of other work\n")
	s.begin(s.tree)
	if found := s.look(); !strings.Contains(strings.Join(found, "\n"), "nested/file") {
		t.Errorf("found %q; want what other work has left", found)
	}
}
