//go:build linux

package proctree_test

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/claudepool/claudepool/internal/proctree"
)

// envRole makes the test binary play one of the roles.
const envRole = "PROCTREE_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(envRole); role != "" {
		roles[role](os.Args[1:])
		os.Exit(0)
	}
	dir, err := os.MkdirTemp("", "proctree")
	if err != nil {
		panic(err)
	}
	os.Setenv("CLAUDEPOOL_STATE_DIR", dir)
	flag.Parse()
	flag.Set("test.parallel", "16") // the tests wait for other processes far more than they compute
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); (err != nil || len(left) > 0) && code == 0 {
		fmt.Fprintln(os.Stderr, "left in the registry:", left, err)
		code = 1
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// roles are the programs that the tests start. Each prints one line with the
// pids of the processes it stands for, when all are up.
var roles = map[string]func(args []string){
	// polite exits at the end of its input.
	"polite": func([]string) {
		report()
		io.Copy(io.Discard, os.Stdin)
	},
	// exit exits at once with the status in its argument.
	"exit": func(args []string) {
		code, _ := strconv.Atoi(args[0])
		report()
		os.Exit(code)
	},
	// deaf ignores its input and SIGTERM.
	"deaf": func([]string) {
		signal.Ignore(syscall.SIGTERM)
		report()
		sleep()
	},
	// family starts the kinds of descendants in its arguments and ignores its
	// input, and SIGTERM with "deaf". With "leave" it exits when all are up.
	"family": func(args []string) {
		if slices.Contains(args, "deaf") {
			signal.Ignore(syscall.SIGTERM)
		}
		var pids []int
		mark := os.Getenv(proctree.EnvTree)
		for _, kind := range args {
			os.Setenv(proctree.EnvTree, mark)
			pids = append(pids, descendant(kind)...)
		}
		report(pids...)
		if slices.Contains(args, "leave") {
			return
		}
		sleep()
	},
	// say writes its argument to stderr.
	"say": func(args []string) {
		report()
		os.Stderr.WriteString(args[0])
	},
	// runner is never the same process for long: each goes on in another, in a
	// session of its own, and exits. It gives up after a while by itself.
	"runner": func(args []string) {
		n := 0
		if len(args) > 0 {
			n, _ = strconv.Atoi(args[0])
		} else {
			report()
		}
		next := exec.Command(os.Args[0], strconv.Itoa(n+1))
		next.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if n < 1000 && next.Start() != nil {
			os.Exit(1)
		}
	},
	// cycle starts and ends trees and checks that nothing is left.
	"cycle": func([]string) {
		for range 2 {
			var trees []*proctree.Tree
			for range 2 {
				t, err := proctree.Start(context.Background(), command("polite"), proctree.Options{Grace: time.Hour})
				if err != nil {
					fmt.Println(err)
					os.Exit(1)
				}
				trees = append(trees, t)
			}
			for _, t := range trees {
				if err := t.End(context.Background(), nil); err != nil {
					fmt.Println(err)
					os.Exit(1)
				}
			}
			files, err := os.ReadDir(os.Getenv("CLAUDEPOOL_STATE_DIR"))
			if left := children(os.Getpid()); len(left) > 0 || len(files) > 0 || err != nil {
				fmt.Println("left:", left, files, err)
				os.Exit(1)
			}
		}
	},
	// fork starts a deaf process and leaves it to init.
	"fork": func([]string) { report(spawn("deaf", nil, false)...) },
	"host": host,
	// stranger prints its identity, and is a host.
	"stranger": func(args []string) {
		id, err := proctree.Identity()
		if err != nil {
			id = err.Error()
		}
		fmt.Println(id)
		host(args)
	},
	// end runs EndOf and prints what it did.
	"end": func(args []string) {
		leader, _ := strconv.Atoi(args[1])
		ended, err := proctree.EndOf(context.Background(), args[0], leader)
		out := recovery{Recovered: []proctree.Recovered{{Procs: ended}}}
		if err != nil {
			out.Err = err.Error()
		}
		json.NewEncoder(os.Stdout).Encode(out)
	},
	// recover runs Recover and prints what it did.
	"recover": func([]string) {
		rec, err := proctree.Recover(context.Background())
		out := recovery{Recovered: rec}
		if err != nil {
			out.Err = err.Error()
		}
		json.NewEncoder(os.Stdout).Encode(out)
	},
}

// host starts trees, reports all, and waits to be killed.
func host(args []string) {
	var pids []int
	for range 2 {
		cmd := command("family", args...)
		t, err := proctree.Start(context.Background(), cmd, proctree.Options{})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		keep = append(keep, t)
		pids = append(pids, readPIDs(t.Stdout)...)
	}
	report(append(pids, children(os.Getpid())...)...)
	sleep()
}

var keep []*proctree.Tree

type recovery struct {
	Recovered []proctree.Recovered
	Err       string
}

// descendant starts a deaf process of one kind and returns its pid.
func descendant(kind string) []int {
	switch kind {
	case "child":
		return spawn("deaf", nil, false)
	case "unmarked": // has cleared its environment, but stayed in the group
		os.Unsetenv(proctree.EnvTree)
		return spawn("deaf", nil, false)
	case "holder": // holds stdin and stdout
		return spawn("deaf", nil, true)
	case "far holder": // holds them in a session of its own
		return spawn("deaf", &syscall.SysProcAttr{Setsid: true}, true)
	case "setsid":
		return spawn("deaf", &syscall.SysProcAttr{Setsid: true}, false)
	case "daemon": // in a session of its own, its parent gone
		return spawn("fork", &syscall.SysProcAttr{Setsid: true}, false)[1:]
	}
	return nil
}

// spawn starts a role and returns the pids that it reports.
func spawn(role string, attr *syscall.SysProcAttr, hold bool) []int {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(slices.Clone(os.Environ()), envRole+"="+role)
	cmd.SysProcAttr = attr
	if hold {
		cmd.Stdin, cmd.Stderr = os.Stdin, os.Stdout
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		panic(err)
	}
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	pids := readPIDs(out)
	if role == "fork" {
		cmd.Wait()
	}
	return pids
}

// report prints the own pid and more.
func report(more ...int) {
	fmt.Println(append([]int{os.Getpid()}, more...))
}

func readPIDs(r io.Reader) []int {
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		panic(err)
	}
	var pids []int
	for _, s := range strings.Fields(strings.Trim(line, "[]\n")) {
		pid, err := strconv.Atoi(s)
		if err != nil {
			panic(line)
		}
		pids = append(pids, pid)
	}
	return pids
}

// command returns a role as a command that a tree can be made of.
func command(role string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = []string{envRole + "=" + role, "PATH=" + os.Getenv("PATH")}
	return cmd
}

// children returns the pids of the live children of a process.
func children(parent int) []int {
	var pids []int
	for pid, ppid := range parents() {
		if ppid == parent {
			pids = append(pids, pid)
		}
	}
	return pids
}

// parents returns the live processes of the system and the parent of each.
func parents() map[int]int {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		panic(err)
	}
	all := make(map[int]int)
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // gone meanwhile
		}
		f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if f[0] == "Z" || f[0] == "X" {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		all[pid], _ = strconv.Atoi(f[1])
	}
	return all
}

// living returns those of pids that are alive.
func living(pids []int) []int {
	all := parents()
	return slices.DeleteFunc(slices.Clone(pids), func(pid int) bool { _, ok := all[pid]; return !ok })
}

// waitGone waits until none of the processes is left.
func waitGone(t *testing.T, pids []int) {
	t.Helper()
	const bound = 20 * time.Second // the promise is 5; a busy machine must not fail the test
	for end := time.Now().Add(bound); ; time.Sleep(10 * time.Millisecond) {
		left := living(pids)
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("processes %v of %v are still there after %v", left, pids, bound)
		}
	}
}

// start starts a role as a tree, ends it with the test, and returns the pids
// that it reported.
func start(t *testing.T, o proctree.Options, role string, args ...string) (*proctree.Tree, []int) {
	t.Helper()
	tree, err := proctree.Start(t.Context(), command(role, args...), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tree.End(context.Background(), nil); err != nil {
			t.Error(err)
		}
		tree.Stdout.Close()
		tree.Stderr.Close()
	})
	pids := readPIDs(tree.Stdout)
	if left := living(pids[1:]); len(left) != len(pids)-1 {
		t.Fatalf("alive %v; want %v", left, pids[1:])
	}
	return tree, pids
}

// sleep never returns. An empty select would be reported as a deadlock.
func sleep() {
	for {
		time.Sleep(time.Hour)
	}
}
