//go:build linux

package proctree_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool/internal/proctree"
)

// edited returns the identity of this program with other values.
func edited(t *testing.T, edit func(id object)) string {
	t.Helper()
	text, err := proctree.Identity()
	if err != nil {
		t.Fatal(err)
	}
	var id object
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber() // a start time need not survive as a float
	if err := d.Decode(&id); err != nil {
		t.Fatal(err)
	}
	edit(id)
	out, err := json.Marshal(id)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestJudge(t *testing.T) {
	t.Parallel()
	other := victim(t)
	for _, c := range []struct {
		name string
		edit func(id object)
		want proctree.Life
	}{
		{"this program", func(object) {}, proctree.Alive},
		{"another program", func(id object) { id["pid"], id["start"] = other, startTime(t, other) }, proctree.Alive},
		{"a pid in other hands", func(id object) { id["start"] = 1 }, proctree.Dead},
		{"a pid in nobody's hands", func(id object) { id["pid"] = 1 << 22 }, proctree.Dead},
		{"before the machine was started again", func(id object) { id["boot"] = "before" }, proctree.Dead},
		{"another machine", func(id object) { id["boot"], id["machine"] = "other", "other" }, proctree.Unknown},
		{"another container", func(id object) { id["namespace"] = "pid:[1]" }, proctree.Unknown},
		{"another user", func(id object) { id["user"] = os.Geteuid() + 1 }, proctree.Unknown},
		{"no token", func(id object) { delete(id, "token") }, proctree.Unknown},
		{"a token that is a path", func(id object) { id["token"] = "../x" }, proctree.Unknown},
		{"no pid", func(id object) { delete(id, "pid") }, proctree.Unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := proctree.Judge(edited(t, c.edit)); got != c.want {
				t.Errorf("judged %v, want %v", got, c.want)
			}
		})
	}
	for _, text := range []string{"", "closed", "null", "{", "[]", `{"pid":"x"}`} {
		if got := proctree.Judge(text); got != proctree.Unknown {
			t.Errorf("%q is judged %v, want unknown", text, got)
		}
	}
}

func TestIsSelf(t *testing.T) {
	t.Parallel()
	if !proctree.IsSelf(edited(t, func(object) {})) {
		t.Error("this program does not know itself")
	}
	if proctree.IsSelf(edited(t, func(id object) { id["token"] = "other" })) || proctree.IsSelf("") {
		t.Error("this program takes another for itself")
	}
}

// startStranger is startHost for a program that tells its identity.
func startStranger(t *testing.T, args ...string) (hostProgram, string) {
	t.Helper()
	h := hostProgram{cmd: command("stranger", args...), dir: t.TempDir()}
	h.cmd.Env = append(h.cmd.Env, "CLAUDEPOOL_STATE_DIR="+h.dir)
	h.cmd.Stderr = os.Stderr
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.kill)
	lines := bufio.NewReader(out)
	id, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	h.pids = readPIDs(lines)[1:]
	slices.Sort(h.pids)
	h.pids = slices.Compact(h.pids)
	if i := slices.IndexFunc(h.pids, isWatchdog); i >= 0 {
		h.watchdog = h.pids[i]
		h.pids = slices.Delete(h.pids, i, i+1)
	}
	if left := living(h.pids); h.watchdog == 0 || len(left) != len(h.pids) {
		t.Fatalf("watchdog %d, alive %v of %v", h.watchdog, left, h.pids)
	}
	return h, strings.TrimSpace(id)
}

// trees returns the leaders that the host has written down.
func (h hostProgram) trees(t *testing.T) []int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(h.dir, "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files in the registry: %v, %v; want one", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var book struct{ Trees []struct{ PID int } }
	if err := json.Unmarshal(text, &book); err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, tree := range book.Trees {
		pids = append(pids, tree.PID)
	}
	return pids
}

// endOf runs EndOf in a program of its own with that registry.
func endOf(t *testing.T, dir, identity string, leader int) recovery {
	t.Helper()
	cmd := command("end", identity, fmt.Sprint(leader))
	cmd.Env = append(cmd.Env, "CLAUDEPOOL_STATE_DIR="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var r recovery
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// withTree returns those of pids that carry the same marker as the leader.
func withTree(t *testing.T, pids []int, leader int) []int {
	t.Helper()
	marker := func(pid int) string {
		for _, kv := range environ(t, pid) {
			if strings.HasPrefix(kv, proctree.EnvTree+"=") {
				return kv
			}
		}
		return ""
	}
	want := marker(leader)
	return slices.DeleteFunc(slices.Clone(pids), func(pid int) bool { return marker(pid) != want })
}

// A host that is stopped does nothing about its trees: another program ends the
// one it was asked to end, and then all, and leaves the host alone.
func TestP3TreesOfAHostThatHangsAreEnded(t *testing.T) {
	t.Parallel()
	h, id := startStranger(t, "deaf", "child", "setsid", "daemon")
	if err := syscall.Kill(h.cmd.Process.Pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if got := proctree.Judge(id); got != proctree.Alive {
		t.Errorf("the stopped host is judged %v, want alive", got)
	}
	trees := h.trees(t)
	first := withTree(t, h.pids, trees[0])
	if len(trees) != 2 || len(first) != len(h.pids)/2 {
		t.Fatalf("trees %v, of the first %v of %v; want half", trees, first, h.pids)
	}
	if r := endOf(t, h.dir, id, trees[0]); r.Err != "" || len(r.Recovered[0].Procs) != len(first) {
		t.Errorf("ended %+v; want %v", r, first)
	}
	left := living(h.pids)
	want := slices.DeleteFunc(slices.Clone(h.pids), func(pid int) bool { return slices.Contains(first, pid) })
	if diff := cmp.Diff(want, left); diff != "" {
		t.Errorf("left, but for the other tree (-want +got):\n%s", diff)
	}
	// Which tree it is about is not known: all are ended.
	if r := endOf(t, h.dir, id, trees[0]+1_000_000); r.Err != "" {
		t.Errorf("ended %+v; want the other tree", r)
	}
	if left := living(append(h.pids, h.cmd.Process.Pid, h.watchdog)); len(left) != 2 {
		t.Errorf("left %v; want the host and its watchdog", left)
	}
}

func TestP7TreesOfADeadHostAreEndedByItsIdentity(t *testing.T) {
	t.Parallel()
	h, id := startStranger(t, "deaf", "child", "unmarked", "setsid", "daemon")
	h.killWithWatchdog()
	if got := proctree.Judge(id); got != proctree.Dead {
		t.Fatalf("the killed host is judged %v, want dead", got)
	}
	if r := endOf(t, h.dir, id, 0); r.Err != "" || len(r.Recovered[0].Procs) != len(h.pids) {
		t.Errorf("ended %+v; want %v", r, h.pids)
	}
	if left := living(h.pids); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	if r := endOf(t, h.dir, id, 0); r.Err != "" || len(r.Recovered[0].Procs) > 0 {
		t.Errorf("ended %+v again; want nothing", r)
	}
}

func TestP7EndOfTouchesNobodyElse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(host, tree object, id object)
		ends   bool
		err    string
	}{
		{"leader of a hanging host", func(_, _, _ object) {}, true, ""},
		{"reused pid of a leader", func(_, tree, _ object) { tree["start"] = 1 }, false, ""},
		{"another boot", func(_, _, id object) { id["boot"] = "before" }, false, ""},
		{"another container", func(_, _, id object) { id["namespace"] = "pid:[1]" }, false, "nothing is known"},
		{"another user", func(_, _, id object) { id["user"] = os.Geteuid() + 1 }, false, "nothing is known"},
		{"the record of a later program", func(host, _, _ object) { host["start"] = 1 }, false, "another program"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			leader, holder := victim(t), victim(t)
			book := forge(t, leader, startTime(t, leader))
			host := book["host"].(object)
			host["pid"], host["start"] = holder, startTime(t, holder)
			identity := edited(t, func(id object) {
				id["token"], id["pid"], id["start"] = "forged", holder, startTime(t, holder)
				c.change(host, book["trees"].([]object)[0], id)
			})
			dir := t.TempDir()
			writeBook(t, filepath.Join(dir, "forged.json"), book)
			r := endOf(t, dir, identity, 0)
			if ended := len(living([]int{leader})) == 0; ended != c.ends || (r.Err == "") != (c.err == "") || !strings.Contains(r.Err, c.err) {
				t.Errorf("ended %t with %+v; want %t and %q", ended, r, c.ends, c.err)
			}
			if len(living([]int{holder})) == 0 {
				t.Error("the host itself was ended")
			}
		})
	}
}

func TestEndOfRefusesThisProgram(t *testing.T) {
	t.Parallel()
	tree, pids := start(t, quick, "family", "deaf", "child")
	_, err := proctree.EndOf(t.Context(), edited(t, func(object) {}), tree.PID())
	if err == nil || !strings.Contains(err.Error(), "this one") {
		t.Errorf("error %v; want one that says that it is this program", err)
	}
	if left := living(pids); len(left) != len(pids) {
		t.Errorf("left %v of %v", left, pids)
	}
}
