//go:build unix

package main

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	hostMain() // when this program is started as a host
	os.Exit(m.Run())
}

// A short run: nothing may be lost, however long it takes on this machine.
func TestShortRun(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: kills hosts for some 20 seconds")
	}
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git: ", err)
	}
	var log bytes.Buffer
	m := &machine{dir: t.TempDir(), log: &log, lines: short}
	r, err := m.run(t.Context(), 25, 7)
	if err != nil {
		t.Fatalf("%v\n%s", err, &log)
	}
	if len(r.findings) > 0 {
		t.Errorf("%d violations:\n%s", len(r.findings), strings.Join(r.findings, "\n"))
	}
	if r.ops == 0 || r.ends == 0 || r.kept == 0 || r.kills == 0 {
		t.Errorf("hardly anything was done: %+v", r)
	}
	var out bytes.Buffer
	table(&out, r)
	t.Logf("\n%s", &out)
}
