//go:build unix

package git

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// fake returns git that is a shell script.
func fake(t *testing.T, script string) Repo {
	t.Helper()
	path := filepath.Join(t.TempDir(), "git")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return (&Git{path: path}).In(t.TempDir())
}

func TestParseVersion(t *testing.T) {
	for text, want := range map[string]Version{
		"git version 2.39.5":                 {2, 39},
		"git version 2.25.1 (Apple Git-1)\n": {2, 25},
		"git version 2.47.windows.1":         {2, 47},
		"git version 2":                      {},
		"hub version x.y":                    {},
		"":                                   {},
	} {
		got, err := ParseVersion(text)
		if got != want || (err == nil) != (want != Version{}) {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	if !(Version{2, 9}).Less(Oldest) || Oldest.Less(Oldest) || !Oldest.Less(Version{3, 0}) {
		t.Error("versions are out of order")
	}
}

func TestOutput(t *testing.T) {
	ctx := t.Context()
	r := fake(t, `case "$1" in
lines) printf 'a\nb\n';;
fields) printf 'a\nx\0b\0';;
no) exit 1;;
fail) echo why >&2; exit 128;;
echo) cat;;
esac`)
	if got, err := r.Lines(ctx, "lines"); err != nil || !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("lines %q, %v", got, err)
	}
	if got, err := r.Fields(ctx, "fields"); err != nil || !slices.Equal(got, []string{"a\nx", "b"}) {
		t.Errorf("fields %q, %v", got, err)
	}
	if got, err := r.Lines(ctx, "none"); err != nil || got != nil {
		t.Errorf("lines %q, %v", got, err)
	}
	if yes, err := r.Succeeds(ctx, "no"); yes || err != nil {
		t.Errorf("%v, %v", yes, err)
	}
	if _, err := r.Run(ctx, "fail"); ExitCode(err) != 128 || !strings.Contains(err.Error(), "why") {
		t.Errorf("error %v", err)
	}
	var warnings bytes.Buffer
	if _, err := r.Warnings(&warnings).Succeeds(ctx, "fail"); err == nil || warnings.String() != "why\n" {
		t.Errorf("error %v, warnings %q", err, &warnings)
	}
	if got, err := r.Input(strings.NewReader("in")).Run(ctx, "echo"); err != nil || got != "in" {
		t.Errorf("%q, %v", got, err)
	}
	if ExitCode(nil) != 0 || ExitCode(errors.New("other")) != -1 {
		t.Error("exit codes of what is no error of git")
	}
}

// TestTriesAgain has git fail because another worktree is half made.
func TestTriesAgain(t *testing.T) {
	r := fake(t, `cat >>in; if [ -e tried ]; then exit 0; fi; touch tried; echo "fatal: failed to read .git/worktrees/x/commondir" >&2; exit 128`)
	if _, err := r.Input(strings.NewReader("in\n")).Run(t.Context(), "x"); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(filepath.Join(r.Dir(), "in")); err != nil || string(got) != "in\nin\n" {
		t.Errorf("it read %q, %v", got, err)
	}
}

// TestChildThatStays has git succeed and leave something running that has its
// output open, as a hook may.
func TestChildThatStays(t *testing.T) {
	r := fake(t, `echo done; sleep 20 & echo $! >child; exit "$1"`)
	defer func() {
		if err := (&Git{path: "/bin/sh"}).In(r.Dir()).Command(context.Background(), "-c", "kill $(cat child)").Run(); err != nil {
			t.Error(err)
		}
	}()
	start := time.Now()
	if got, err := r.Run(t.Context(), "0"); err != nil || got != "done" {
		t.Errorf("%q, %v", got, err)
	}
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestEndsWithItsContext(t *testing.T) {
	r := fake(t, `trap 'touch asked; exit 1' INT; echo >begun; while :; do sleep 0.01; done`)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("why")
	go func() {
		for {
			if _, err := os.Stat(filepath.Join(r.Dir(), "begun")); err == nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		cancel(why)
	}()
	if _, err := r.Run(ctx, "x"); !errors.Is(err, why) {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(filepath.Join(r.Dir(), "asked")); err != nil {
		t.Error("it was not asked to end: ", err)
	}
}

func TestEnviron(t *testing.T) {
	for name, kept := range map[string]bool{
		"GIT_DIR": false, "GIT_INDEX_FILE": false, "GIT_CONFIG": false, "LC_MESSAGES": false, "LANGUAGE": false,
		"GIT_CONFIG_GLOBAL": true, "GIT_AUTHOR_NAME": true, "GIT_SSH_COMMAND": true, "GIT_ASKPASS": true,
	} {
		t.Setenv(name, "x")
		if has := slices.Contains(Environ(), name+"=x"); has != kept {
			t.Errorf("%s is there: %v", name, has)
		}
	}
	if env := Environ(); !slices.Contains(env, "LC_ALL=C.UTF-8") || !slices.Contains(env, "GIT_TERMINAL_PROMPT=0") {
		t.Error(env)
	}
}

func TestCopiesDoNotShare(t *testing.T) {
	r := (&Git{path: "git"}).In("a").Config("a", "1").With("A=1")
	one, two := r.Config("b", "1").With("B=1"), r.Config("c", "1").In("b")
	if got := one.Command(t.Context(), "x").Args[1:]; !slices.Equal(got, []string{"-c", "a=1", "-c", "b=1", "x"}) {
		t.Errorf("%q", got)
	}
	if got := two.Command(t.Context(), "x").Args[1:]; !slices.Equal(got, []string{"-c", "a=1", "-c", "c=1", "x"}) || two.Dir() != "b" {
		t.Errorf("%q in %s", got, two.Dir())
	}
}
