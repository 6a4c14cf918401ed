//go:build linux

package proctree_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// object is JSON as the registry keeps it.
type object = map[string]any

// startTime returns field 22 of /proc/PID/stat.
func startTime(t *testing.T, pid int) uint64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	var start uint64
	if _, err := fmt.Sscan(strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))[19], &start); err != nil {
		t.Fatal(err)
	}
	return start
}

// victim starts a process that belongs to no tree.
func victim(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd.Process.Pid
}

// forge returns the record of a dead host on this system with one tree.
func forge(t *testing.T, pid int, start uint64) object {
	t.Helper()
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	namespace, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	machine, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return object{
		"version": 1,
		"host": object{
			"token": "forged", "pid": os.Getpid(), "start": 1, // the pid of a living process, another start
			"boot": strings.TrimSpace(string(boot)), "namespace": namespace, "machine": machine,
		},
		"trees": []object{{"pid": pid, "start": start, "token": "tree"}},
	}
}

func writeBook(t *testing.T, path string, book object) {
	t.Helper()
	text, err := json.Marshal(book)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func listDir(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestP7RecoverTouchesNobodyElse(t *testing.T) {
	t.Parallel()
	const file = "forged.json"
	for _, c := range []struct {
		name   string
		change func(book, host, tree object)
		ends   bool
		left   []string
	}{
		{"leader of a dead host", func(_, _, _ object) {}, true, []string{}},
		{"reused pid of a leader", func(_, _, tree object) { tree["start"] = tree["start"].(uint64) - 1 }, false, []string{}},
		{"living host", func(_, host, _ object) { host["start"] = startTime(t, os.Getpid()) }, false, []string{file}},
		{"another boot", func(_, host, _ object) { host["boot"] = "another" }, false, []string{}},
		{"another machine", func(_, host, _ object) { host["boot"], host["machine"] = "another", "another" }, false, []string{file}},
		{"another container", func(_, host, _ object) { host["namespace"] = "pid:[1]" }, false, []string{file}},
		{"a later version", func(book, _, _ object) { book["version"] = 2 }, false, []string{file}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			pid := victim(t)
			book := forge(t, pid, startTime(t, pid))
			c.change(book, book["host"].(object), book["trees"].([]object)[0])
			dir := t.TempDir()
			writeBook(t, filepath.Join(dir, file), book)
			r := runRecover(t, dir)
			ended := len(living([]int{pid})) == 0
			if r.Err != "" || ended != c.ends || (len(r.Recovered) == 1) != c.ends {
				t.Errorf("recovered %+v, ended %t; want %t", r, ended, c.ends)
			}
			if diff := cmp.Diff(c.left, listDir(t, dir)); diff != "" {
				t.Errorf("left in the registry (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRecoverPutsCorruptRecordsAside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := victim(t)
	book := forge(t, good, startTime(t, good))
	text, err := json.Marshal(book)
	if err != nil {
		t.Fatal(err)
	}
	writeBook(t, filepath.Join(dir, "forged.json"), book)
	for name, bad := range map[string]string{
		"empty":      "",
		"half":       string(text[:len(text)/2]),
		"null":       "null",
		"array":      "[]",
		"other name": string(text),
		"everybody":  strings.Replace(strings.Replace(string(text), "forged", "everybody", 1), fmt.Sprintf(`"pid":%d,"start":%d`, good, startTime(t, good)), `"pid":-1,"start":0`, 1),
	} {
		if err := os.WriteFile(filepath.Join(dir, name+".json"), []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if r := runRecover(t, dir); r.Err != "" || len(r.Recovered) != 1 || len(living([]int{good})) != 0 {
		t.Errorf("recovered %+v; want the one good record", r)
	}
	want := []string{"array.json.corrupt", "empty.json.corrupt", "everybody.json.corrupt", "half.json.corrupt", "null.json.corrupt", "other name.json.corrupt"}
	if diff := cmp.Diff(want, listDir(t, dir)); diff != "" {
		t.Errorf("left in the registry (-want +got):\n%s", diff)
	}
}

func TestRecoverForgetsOldFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	foreign := forge(t, 99, 99)
	foreign["host"].(object)["namespace"] = "pid:[1]"
	for _, name := range []string{"old.json", "new.json"} {
		foreign["host"].(object)["token"] = strings.TrimSuffix(name, ".json")
		writeBook(t, filepath.Join(dir, name), foreign)
	}
	for _, name := range []string{"old.json.tmp", "new.json.tmp", "old.json.corrupt", "new.json.corrupt"} {
		writeBook(t, filepath.Join(dir, name), foreign)
	}
	past := time.Now().Add(-31 * 24 * time.Hour)
	for _, name := range []string{"old.json", "old.json.tmp", "old.json.corrupt"} {
		if err := os.Chtimes(filepath.Join(dir, name), past, past); err != nil {
			t.Fatal(err)
		}
	}
	if r := runRecover(t, dir); r.Err != "" || len(r.Recovered) != 0 {
		t.Errorf("recovered %+v; want nothing", r)
	}
	if diff := cmp.Diff([]string{"new.json", "new.json.corrupt", "new.json.tmp"}, listDir(t, dir)); diff != "" {
		t.Errorf("left in the registry (-want +got):\n%s", diff)
	}
}

func TestRecoverFromAnUntrustedFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pid := victim(t)
	writeBook(t, filepath.Join(dir, "forged.json"), forge(t, pid, startTime(t, pid)))
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if r := runRecover(t, dir); !strings.Contains(r.Err, dir) || len(living([]int{pid})) != 1 {
		t.Errorf("recovered %+v; want an error and a living process", r)
	}
}

func TestRecoverWithoutRegistry(t *testing.T) {
	t.Parallel()
	if r := runRecover(t, filepath.Join(t.TempDir(), "none")); r.Err != "" || len(r.Recovered) > 0 {
		t.Errorf("recovered %+v; want nothing", r)
	}
}
