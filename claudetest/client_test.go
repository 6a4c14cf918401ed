package claudetest_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// limit ends a test that waits for something that does not come.
const limit = 60 * time.Second

// message is one line of the protocol.
type message map[string]any

func (m message) str(key string) string { s, _ := m[key].(string); return s }
func (m message) num(key string) float64 {
	n, _ := m[key].(float64)
	return n
}
func (m message) obj(key string) message {
	o, _ := m[key].(map[string]any)
	return o
}

// kind is type and subtype, or what stands for the subtype.
func (m message) kind() string {
	sub := m.str("subtype")
	for _, k := range []string{"state"} {
		if s := m.str(k); s != "" {
			sub = strings.TrimPrefix(sub+":"+s, ":")
		}
	}
	if ev := m.obj("event"); ev != nil {
		sub = ev.str("type")
	}
	if sub == "" {
		return m.str("type")
	}
	return m.str("type") + "/" + sub
}

// client speaks stream-json to a process under test. It is the smallest thing
// that can, so that it shares no fault with the package claude.
type client struct {
	t      *testing.T
	cmd    *exec.Cmd
	ctx    context.Context
	stdin  io.WriteCloser
	lines  chan []byte
	stderr lockedBuffer
	asks   int
	// answer handles control requests of the process; nil answers none.
	answer func(request message) (message, error)
	all    []message
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var streamArgs = []string{"-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose"}

// start runs path with the stream-json flags and args.
func start(t *testing.T, path string, env []string, dir string, args ...string) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	c := &client{t: t, ctx: ctx, lines: make(chan []byte, 1024)}
	c.cmd = exec.CommandContext(ctx, path, append(streamArgs[:len(streamArgs):len(streamArgs)], args...)...)
	c.cmd.Env, c.cmd.Dir, c.cmd.Stderr = env, dir, &c.stderr
	c.cmd.WaitDelay = time.Second
	var err error
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(c.lines)
		r := bufio.NewReaderSize(out, 1<<16)
		for {
			line, err := r.ReadBytes('\n')
			if len(line) > 0 {
				select {
				case c.lines <- line:
				case <-ctx.Done():
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-read
		c.cmd.Wait()
	})
	return c
}

func (c *client) send(m message) {
	c.t.Helper()
	b, err := json.Marshal(m)
	if err != nil {
		c.t.Fatal(err)
	}
	c.sendRaw(string(b) + "\n")
}

func (c *client) sendRaw(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.stdin, s); err != nil {
		c.t.Fatalf("write to the process: %v; stderr: %s", err, c.stderr.String())
	}
}

var errEnd = errors.New("the process closed its output")

// next returns the next message that is not a control request of the process;
// those it answers.
func (c *client) next() (message, error) {
	for {
		select {
		case line, ok := <-c.lines:
			if !ok {
				return nil, errEnd
			}
			var m message
			if err := json.Unmarshal(line, &m); err != nil {
				return nil, fmt.Errorf("line %.80q: %w", line, err)
			}
			c.all = append(c.all, m)
			if m.str("type") == "control_request" {
				c.reply(m)
			}
			return m, nil
		case <-c.ctx.Done():
			return nil, fmt.Errorf("nothing came; stderr: %s; so far: %s", c.stderr.String(), c.kinds())
		}
	}
}

func (c *client) reply(m message) {
	if c.answer == nil {
		return
	}
	body, err := c.answer(m.obj("request"))
	if body == nil && err == nil {
		return
	}
	resp := message{"subtype": "success", "request_id": m.str("request_id"), "response": body}
	if err != nil {
		resp = message{"subtype": "error", "request_id": m.str("request_id"), "error": err.Error()}
	}
	c.send(message{"type": "control_response", "response": resp})
}

func (c *client) kinds() []string {
	var out []string
	for _, m := range c.all {
		out = append(out, m.kind())
	}
	return out
}

// until returns all messages up to the first that fits.
func (c *client) until(fits func(message) bool) []message {
	c.t.Helper()
	var seen []message
	for {
		m, err := c.next()
		if err != nil {
			c.t.Fatalf("after %d messages: %v", len(c.all), err)
		}
		seen = append(seen, m)
		if fits(m) {
			return seen
		}
	}
}

func is(kind string) func(message) bool { return func(m message) bool { return m.kind() == kind } }

func isResult(m message) bool { return m.str("type") == "result" }

// ask sends a control request and returns its whole response object.
func (c *client) ask(subtype string, fields message) message {
	c.t.Helper()
	c.asks++
	id := fmt.Sprintf("ask-%d", c.asks)
	req := message{"subtype": subtype}
	for k, v := range fields {
		req[k] = v
	}
	c.send(message{"type": "control_request", "request_id": id, "request": req})
	seen := c.until(func(m message) bool {
		return m.str("type") == "control_response" && m.obj("response").str("request_id") == id
	})
	return seen[len(seen)-1].obj("response")
}

// prompt sends text, in which $DIR is the working directory.
func (c *client) prompt(id, text string) {
	c.t.Helper()
	text = strings.ReplaceAll(text, "$DIR", c.cmd.Dir)
	m := message{"type": "user", "message": message{"role": "user", "content": text}, "parent_tool_use_id": nil}
	if id != "" {
		m["uuid"] = id
	}
	c.send(m)
}

// turn sends a prompt and returns everything until idle, and the result.
func (c *client) turn(id, text string) ([]message, message) {
	c.t.Helper()
	c.prompt(id, text)
	seen := c.until(is("system/session_state_changed:idle"))
	for _, m := range seen {
		if isResult(m) {
			return seen, m
		}
	}
	c.t.Fatalf("no result before idle: %v", c.kinds())
	return nil, nil
}

// exit waits for the end of the process and returns its code.
func (c *client) exit() int {
	c.t.Helper()
	for range c.lines {
	}
	err := c.cmd.Wait()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		c.t.Fatal(err)
	}
	return c.cmd.ProcessState.ExitCode()
}

// waitForFile waits until a tool has made a file in the working directory.
func (c *client) waitForFile(name string) {
	c.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(filepath.Join(c.cmd.Dir, name)); err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-c.ctx.Done():
			c.t.Fatalf("no file %s; stderr: %s; so far: %s", name, c.stderr.String(), c.kinds())
		}
	}
}
