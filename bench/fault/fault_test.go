//go:build unix

package main

import (
	"bytes"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/claudepool/claudepool/claudetest"
)

func TestMain(m *testing.M) {
	roles() // when this program is started as a host or as an agent
	os.Exit(m.Run())
}

// A short run of every fault that does not need minutes. What was promised must
// hold, however long it takes on this machine: that no process is left within
// seconds is for the command to say.
func TestShortRun(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: kills hosts for a minute or two")
	}
	rounds := map[string]int{
		"kill": 30, "real": 2, "real-slots": 1, "real-freeze": 1, "real-term": 2, "slots": 2, "freeze-slots": 1, "disk": 3, "clock": 3, "store": 3,
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range faults() {
		if f.slow {
			continue // a host that is stopped for a minute: only in the full run
		}
		t.Run(f.name, func(t *testing.T) {
			var log bytes.Buffer
			m := &machine{dir: t.TempDir(), self: self, log: &log, gone: patience}
			switch {
			case f.real:
				m.claude = claudetest.CLI(t)
			case f.name == "disk" && (runtime.GOOS != "linux" || os.Geteuid() != 0):
				t.Skip("needs root on Linux, to mount a small file system") // marked for CI: needs root
			}
			f.perLife = min(f.perLife, 10) // so that one life has a budget
			r, err := m.run(t.Context(), f, rounds[f.name], 7)
			if err != nil {
				t.Fatalf("%v\n%s", err, &log)
			}
			if len(r.findings) > 0 || r.left > 0 {
				t.Errorf("%d violations:\n%s", len(r.findings), strings.Join(r.findings, "\n"))
			}
			if r.accepted == 0 || r.total.Tasks != r.total.Completed+r.total.Failed+r.total.Cancelled {
				t.Errorf("of %d accepted, %d tasks: %+v", r.accepted, r.total.Tasks, r.total)
			}
			var out bytes.Buffer
			table(&out, []*row{r})
			t.Logf("\n%s", &out)
		})
	}
}
