//go:build unix

package worktree_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/claudepool/claudepool/worktree"
)

// envRole makes the test binary play one of the roles.
const envRole = "WORKTREE_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(envRole); role != "" {
		if err := roles[role](os.Args[1:]); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	dir, err := os.MkdirTemp("", "worktree")
	if err != nil {
		panic(err)
	}
	// Nothing of the person's who runs the tests.
	for name, value := range map[string]string{
		"HOME": dir, "XDG_CONFIG_HOME": dir, "CLAUDEPOOL_STATE_DIR": filepath.Join(dir, "state"), "GIT_CONFIG_NOSYSTEM": "1",
	} {
		os.Setenv(name, value)
	}
	flag.Parse()
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// roles are the programs that the tests start.
var roles = map[string]func(args []string) error{
	// work begins the work of its third argument in a place of the kind in its
	// second, prints its folder, and waits to be killed.
	"work": func(args []string) error {
		m, err := worktree.Open(context.Background(), worktree.Options{Repo: args[0], Home: args[1]})
		if err != nil {
			return err
		}
		p, err := m.Acquire(context.Background(), worktree.Kind(args[2]))
		if err != nil {
			return err
		}
		if err := p.Begin(context.Background(), worktree.Work{ID: args[3]}); err != nil {
			return err
		}
		fmt.Println(p.Root())
		io.Copy(io.Discard, os.Stdin)
		return nil
	},
	// two does a work, which is the script of its last argument, and begins another.
	// It prints what that one begins with beside its commit.
	"two": func(args []string) error {
		m, err := worktree.Open(context.Background(), worktree.Options{Repo: args[0], Home: args[1], Leftover: worktree.Leftover(args[2])})
		if err != nil {
			return err
		}
		p, err := m.Acquire(context.Background(), worktree.Worktree)
		if err != nil {
			return err
		}
		if err := p.Begin(context.Background(), worktree.Work{ID: "one"}); err != nil {
			return err
		}
		cmd := exec.Command("sh", "-ec", args[3])
		cmd.Dir = p.Root()
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if _, err := p.End(context.Background()); err != nil {
			return err
		}
		if err := p.Begin(context.Background(), worktree.Work{ID: "two"}); err != nil {
			return err
		}
		cmd = exec.Command("git", "status", "--porcelain", "-uall")
		cmd.Dir, cmd.Stdout = p.Root(), os.Stdout
		return errors.Join(cmd.Run(), m.Close())
	},
	// adopt says that it begins, takes a place, and ends what was left open in it.
	"adopt": func(args []string) error {
		m, err := worktree.Open(context.Background(), worktree.Options{Repo: args[0], Home: args[1]})
		if err != nil {
			return err
		}
		fmt.Println("begins")
		_, err = m.Acquire(context.Background(), worktree.Kind(args[2]))
		return err
	},
	// clean cleans up and prints what it removed, or why not.
	"clean": func(args []string) error {
		m, err := worktree.Open(context.Background(), worktree.Options{Repo: args[0], Home: args[1]})
		if err != nil {
			return err
		}
		removed, err := m.Clean(context.Background(), worktree.CleanOptions{})
		fmt.Printf("%d removed\n", len(removed))
		return err
	},
}

// startRole starts a role and returns it with its first line.
func startRole(t *testing.T, role string, args ...string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), envRole+"="+role)
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || strings.HasPrefix(line, "error:") {
		t.Fatalf("%s says %q: %v", role, line, err)
	}
	return cmd, strings.TrimSpace(line)
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
}

// sh runs a script in a folder and returns what it prints.
func sh(t *testing.T, dir, script string) string {
	t.Helper()
	return run(t, dir, script)
}

func run(t testing.TB, dir, script string) string {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git: ", err)
	}
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s in %s: %v\n%s", script, dir, err, out)
	}
	return strings.TrimSuffix(string(out), "\n")
}

// newRepo makes a repository with a commit on main.
func newRepo(t *testing.T) string {
	t.Helper()
	dir := realTemp(t)
	fill(t, dir)
	return dir
}

const fillScript = `
git init -q -b main .
git config user.name Person
git config user.email person@example.com
mkdir -p sub/deep
echo one >file
echo two >sub/two
echo three >sub/deep/three
printf '#!/bin/sh\n' >run
chmod +x run
ln -s file link
printf '*.log\n/ignored\n.env\n' >.gitignore
git add .
git commit -qm first
`

func fill(t *testing.T, dir string) { t.Helper(); sh(t, dir, fillScript) }

func realTemp(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func open(t *testing.T, o worktree.Options) *worktree.Manager {
	t.Helper()
	if o.Home == "" {
		o.Home = filepath.Join(realTemp(t), "home")
	}
	m, err := worktree.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func acquire(t *testing.T, m *worktree.Manager, kind worktree.Kind) *worktree.Place {
	t.Helper()
	p, err := m.Acquire(t.Context(), kind)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func begin(t *testing.T, p *worktree.Place, w worktree.Work) {
	t.Helper()
	if err := p.Begin(t.Context(), w); err != nil {
		t.Fatal(err)
	}
}

func end(t *testing.T, p *worktree.Place) worktree.Result {
	t.Helper()
	res, err := p.End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func release(t *testing.T, p *worktree.Place) {
	t.Helper()
	if err := p.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func clean(t *testing.T, m *worktree.Manager, o worktree.CleanOptions) []worktree.Removal {
	t.Helper()
	removed, err := m.Clean(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return removed
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// kinds runs a test for each kind of place.
func kinds(t *testing.T, test func(t *testing.T, kind worktree.Kind)) {
	for _, kind := range []worktree.Kind{worktree.Worktree, worktree.Clone} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			test(t, kind)
		})
	}
}

// contents returns the text of every file that some ref of a repository has, in
// any commit.
func contents(t *testing.T, repo string) map[string]bool {
	t.Helper()
	all := make(map[string]bool)
	out := sh(t, repo, "git rev-list --objects --glob='refs/*' | cut -d' ' -f1 | git cat-file --batch")
	for out != "" {
		head, rest, _ := strings.Cut(out, "\n")
		part := strings.Fields(head) // object, type, size
		size, err := strconv.Atoi(part[2])
		if err != nil {
			t.Fatal(head)
		}
		if part[1] == "blob" {
			all[strings.TrimSuffix(rest[:size], "\n")] = true
		}
		out = strings.TrimPrefix(rest[size:], "\n")
	}
	return all
}

// wantKept fails unless each text is in a file that some ref has.
func wantKept(t *testing.T, repo string, texts ...string) {
	t.Helper()
	have := contents(t, repo)
	for _, text := range texts {
		if !have[text] {
			t.Errorf("%q is on no ref; there are %q", text, slices.Sorted(maps.Keys(have)))
		}
	}
}

// fingerprint is all of a person's checkout that nobody else may change.
func fingerprint(t *testing.T, repo string) map[string]string {
	t.Helper()
	prints := make(map[string]string)
	gitDir := sh(t, repo, "git rev-parse --absolute-git-dir")
	common := sh(t, repo, "cd \"$(git rev-parse --git-common-dir)\" && pwd")
	add := func(root string, skip ...string) {
		err := filepath.Walk(root, func(p string, fi os.FileInfo, err error) error {
			switch {
			case os.IsNotExist(err):
				return nil
			case err != nil:
				return err
			case slices.Contains(skip, p):
				return filepath.SkipDir
			case fi.Mode()&os.ModeSymlink != 0:
				target, err := os.Readlink(p)
				prints[p] = "-> " + target
				return err
			case fi.IsDir():
				prints[p] = fi.Mode().String()
				return nil
			}
			text, err := os.ReadFile(p)
			prints[p] = fmt.Sprint(fi.Mode(), fi.ModTime(), string(text))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if top, err := exec.Command("git", "-C", repo, "rev-parse", "--show-toplevel").Output(); err == nil {
		add(strings.TrimSpace(string(top)), gitDir, common)
	}
	for _, dir := range []string{gitDir, common} {
		for _, name := range []string{"HEAD", "index", "config", "config.worktree", "hooks", "info", "FETCH_HEAD", "ORIG_HEAD", "logs/HEAD", "shallow", "modules", "MERGE_HEAD", "logs/refs/stash", "refs/stash"} {
			add(filepath.Join(dir, name))
		}
	}
	return prints
}
