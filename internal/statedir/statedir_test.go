package statedir

import (
	"path/filepath"
	"runtime"
	"testing"
)

func TestLasting(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(Env, dir)
	if got, err := Lasting(); err != nil || got != dir {
		t.Errorf("%s, %v; want %s", got, err, dir)
	}
	t.Setenv(Env, "relative")
	if _, err := Lasting(); err == nil {
		t.Error("no error for a relative path")
	}
	t.Setenv(Env, "")
	if given, err := Given(); given != "" || err != nil {
		t.Errorf("given: %s, %v", given, err)
	}
	if runtime.GOOS != "linux" {
		t.Skip("the folders of other systems are their own")
	}
	for state, want := range map[string]string{
		filepath.Join(dir, "s"): filepath.Join(dir, "s", "claudepool"),
		"":                      filepath.Join(dir, ".local", "state", "claudepool"),
		"relative":              filepath.Join(dir, ".local", "state", "claudepool"),
	} {
		t.Setenv("HOME", dir)
		t.Setenv("XDG_STATE_HOME", state)
		if got, err := Lasting(); err != nil || got != want {
			t.Errorf("XDG_STATE_HOME=%q: %s, %v; want %s", state, got, err, want)
		}
	}
}
