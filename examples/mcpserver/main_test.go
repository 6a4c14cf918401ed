package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"go.uber.org/goleak"

	"github.com/claudepool/claudepool/claudetest"
)

// envMain makes the test binary be the program.
const envMain = "MCPSERVER_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(claudetest.EnvStandIn) != "" || os.Getenv(envMain) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

// patience bounds what a test waits for. It only makes a failure end.
const patience = 60 * time.Second

// server is the program as a process of its own, and a client of it.
type server struct {
	cmd    *exec.Cmd
	mark   string // in the environment of the server and of all it starts
	stdin  io.WriteCloser
	stderr *syncBuffer
	client *sdk.ClientSession
	spoken syncBuffer // all that came over stdout
}

// start starts the program, with more in its environment, and connects a client to it.
func start(t *testing.T, env []string, args ...string) *server {
	t.Helper()
	return startIn(t, t.TempDir(), env, args...)
}

// startIn starts the program with dir as its home, working directory, temporary
// folder and place of its registry.
func startIn(t *testing.T, dir string, env []string, args ...string) *server {
	t.Helper()
	s := launchIn(t, dir, env, args...)
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.begin(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := sdk.NewClient(&sdk.Implementation{Name: "test", Version: "1"}, nil)
	s.client, err = c.Connect(ctx, &sdk.IOTransport{Reader: tee{out, io.TeeReader(out, &s.spoken)}, Writer: s.stdin}, nil)
	if err != nil {
		t.Fatalf("connect: %v\n%s", err, s.stderr)
	}
	return s
}

// launch prepares the program; its stdout is not connected yet.
func launch(t *testing.T, env []string, args ...string) *server {
	t.Helper()
	return launchIn(t, t.TempDir(), env, args...)
}

func launchIn(t *testing.T, dir string, env []string, args ...string) *server {
	t.Helper()
	s := &server{cmd: exec.Command(os.Args[0], args...), mark: "TMPDIR=" + dir, stderr: &syncBuffer{}}
	s.cmd.Dir, s.cmd.Stderr = dir, s.stderr
	s.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}, env...)
	s.cmd.Env = append(s.cmd.Env, envMain+"=1", s.mark, "CLAUDEPOOL_STATE_DIR="+filepath.Join(dir, "state"))
	var err error
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *server) begin(t *testing.T) {
	t.Helper()
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.cmd.Process.Kill()
		if s.client != nil {
			s.client.Close()
		}
		if t.Failed() {
			t.Logf("the server logged:\n%s", s.stderr)
		}
	})
}

// wait waits for the end of the program and returns its exit code, -1 after a signal.
func (s *server) wait(t *testing.T) int {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- s.cmd.Wait() }()
	select {
	case err := <-done:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Logf("wait: %v", err)
		}
		return s.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		s.cmd.Process.Kill()
		t.Fatalf("the server has not ended; it logged:\n%s", s.stderr)
		return 0
	}
}

// noneLeft waits until no process of the server is left.
func (s *server) noneLeft(t *testing.T, within time.Duration) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Log("processes are only counted on Linux")
		return
	}
	var left []string
	for end := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
		if left = marked(t, s.mark); len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("after %v there are left: %s", within, strings.Join(left, "; "))
		}
	}
}

// marked lists the processes with a variable in their environment.
func marked(t *testing.T, variable string) []string {
	t.Helper()
	envs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, path := range envs {
		b, err := os.ReadFile(path) // fails for those of others, and those that have just ended
		if err != nil || !bytes.Contains(append([]byte{0}, b...), []byte("\x00"+variable+"\x00")) {
			continue
		}
		dir := filepath.Dir(path)
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil {
			continue
		}
		found = append(found, filepath.Base(dir)+" "+string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
	}
	return found
}

// call calls a tool that must succeed, and decodes what it gives.
func call[T any](t *testing.T, c *sdk.ClientSession, name string, in map[string]any) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	res, err := c.CallTool(ctx, &sdk.CallToolParams{Name: name, Arguments: in})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if res.IsError {
		t.Fatalf("%s: %s", name, res.Content[0].(*sdk.TextContent).Text)
	}
	b, err := json.Marshal(res.StructuredContent)
	if err != nil {
		t.Fatal(err)
	}
	var out T
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatalf("%s: %s: %v", name, b, err)
	}
	return out
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// tee closes one reader and reads another.
type tee struct {
	io.Closer
	io.Reader
}
