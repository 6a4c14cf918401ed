package claudetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// rawJSON is JSON that has been checked.
type rawJSON = json.RawMessage

// output is what a tool gave: a text for the model, and what the host gets.
type output struct {
	text    string
	isError bool
	host    any
	content any // what the tool_result carries when it is not the text
}

func failed(format string, args ...any) output {
	text := fmt.Sprintf(format, args...)
	return output{text: text, isError: true, host: "Error: " + text}
}

// rejection is what the model reads of a call that an interrupt ended.
const rejection = "The user doesn't want to proceed with this tool use. The tool use was rejected (eg. if it was a file edit, the new_string was NOT written to the file). STOP what you are doing and wait for the user to tell you how to proceed."

// callTools carries out the tool calls of an answer, one after the other. The
// error is errAborted or one of the session file.
func (t *turn) callTools(blocks []Block) error {
	for _, b := range blocks {
		if b.Type != "tool_use" {
			continue
		}
		c := newCall(b)
		if !slices.Contains(t.s.toolNames(), c.tool) {
			if err := t.toolResult(b, failed("<tool_use_error>Error: No such tool available: %s</tool_use_error>", c.tool), nil, ""); err != nil {
				return err
			}
			continue
		}
		refusal, meta, err := t.permit(&c)
		switch {
		case err != nil:
			return t.rejected(b, err)
		case refusal != "":
			t.denied(c)
			if err := t.toolResult(b, failed("%s", refusal), meta, "permission-rule"); err != nil {
				return err
			}
			continue
		}
		out := t.carryOut(c)
		if t.ctx.Err() != nil {
			return t.rejected(b, errAborted{tools: true})
		}
		if err := t.toolResult(b, out, meta, ""); err != nil {
			return err
		}
	}
	return nil
}

func (t *turn) rejected(b Block, cause error) error {
	if err := t.toolResult(b, output{text: rejection, isError: true, host: "User rejected tool use"}, nil, "user-rejected"); err != nil {
		return err
	}
	return cause
}

// toolResult tells host and model what a call came to.
func (t *turn) toolResult(b Block, out output, decision obj, kind string) error {
	t.users++
	meta := obj{"id": b.ID}
	if kind != "" {
		meta["non_execution_kind"] = kind
	}
	if decision != nil {
		meta["permission_decision"] = decision
	}
	result := obj{"type": "tool_result", "tool_use_id": b.ID, "content": out.text}
	if out.content != nil {
		result["content"] = out.content
	}
	if out.isError || b.Name == "Bash" {
		result["is_error"] = out.isError
	}
	t.s.out.emit(obj{"type": "user", "message": obj{"role": "user", "content": []obj{result}}, "parent_tool_use_id": nil, "timestamp": now(),
		"tool_use_result": out.host, "tool_result_meta": []obj{meta}})
	return t.s.conv.add(Message{Role: "user", Content: []Block{{Type: "tool_result", Result: &ToolResult{ToolUseID: b.ID, Content: out.text, IsError: out.isError}}}})
}

func (t *turn) carryOut(c call) output {
	switch {
	case c.tool == "Bash":
		return t.bash(c)
	case c.tool == "Read", c.tool == "Write", c.tool == "Edit":
		t.s.mu.Lock()
		path := t.s.absolute(c.path)
		t.s.mu.Unlock()
		return fileTool(c, path)
	case c.tool == "StructuredOutput":
		return t.structure(c)
	case strings.HasPrefix(c.tool, "mcp__"):
		return t.s.callMCP(t.ctx, c)
	}
	return failed("the stand-in cannot carry out %s", c.tool)
}

func fileTool(c call, path string) output {
	switch c.tool {
	case "Read":
		b, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return failed("File does not exist.")
		} else if err != nil {
			return failed("%v", err)
		}
		return output{text: string(b), host: obj{"type": "text", "file": obj{"filePath": path, "content": string(b)}}}
	case "Write":
		var in struct{ Content string }
		if err := json.Unmarshal(c.input, &in); err != nil {
			return failed("%v", err)
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return failed("%v", err)
		}
		if err := os.WriteFile(path, []byte(in.Content), 0o644); err != nil {
			return failed("%v", err)
		}
		return output{text: "File created successfully at: " + path + " (file state is current in your context — no need to Read it back)", host: obj{"type": "create", "filePath": path, "content": in.Content}}
	}
	var in struct {
		Old string `json:"old_string"`
		New string `json:"new_string"`
	}
	if err := json.Unmarshal(c.input, &in); err != nil {
		return failed("%v", err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return failed("%v", err)
	}
	if n := strings.Count(string(b), in.Old); n != 1 || in.Old == "" {
		return failed("String to replace found %d times in file.", n)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(b), in.Old, in.New, 1)), 0o644); err != nil {
		return failed("%v", err)
	}
	return output{text: "The file " + path + " has been updated.", host: obj{"filePath": path, "oldString": in.Old, "newString": in.New}}
}

func (t *turn) structure(c call) output {
	t.s.mu.Lock()
	schema := t.s.set.schema
	t.s.mu.Unlock()
	if err := checkSchema(schema, c.input); err != nil {
		return failed("Output does not match required schema: %v", err)
	}
	t.structured = c.input
	const text = "Structured output provided successfully"
	return output{text: text, host: text}
}

// maxOutput is where the CLI cuts what a command printed.
const maxOutput = 30_000

// shell makes the command of a Bash call, in a session of its own.
func (s *standIn) shell(command string) *exec.Cmd {
	cmd := exec.Command("bash", "-c", command)
	s.mu.Lock()
	cmd.Dir = s.set.cwd
	cmd.Env = os.Environ()
	for k, v := range s.set.env() {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	s.mu.Unlock()
	cmd.Env = append(cmd.Env, "CLAUDECODE=1", EnvStandIn+"=") // a command may start this program as itself
	detach(cmd)
	return cmd
}

func (t *turn) bash(c call) output {
	var in struct {
		Background  bool   `json:"run_in_background"`
		Description string `json:"description"`
		Timeout     int    `json:"timeout"`
	}
	if err := json.Unmarshal(c.input, &in); err != nil {
		return failed("%v", err)
	}
	if in.Background && os.Getenv("CLAUDE_CODE_DISABLE_BACKGROUND_TASKS") != "1" {
		return t.s.startJob(c, in.Description)
	}
	if in.Timeout == 0 {
		in.Timeout = envNumber("BASH_DEFAULT_TIMEOUT_MS", 120_000)
	}
	ctx, cancel := context.WithTimeout(t.ctx, time.Duration(in.Timeout)*time.Millisecond)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := t.s.shell(c.command)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second
	err := runGroup(ctx, cmd)
	text := strings.TrimRight(stdout.String(), "\n")
	if len(text) > maxOutput {
		text = text[:maxOutput] + "\n… output cut"
	}
	errText := strings.TrimRight(stderr.String(), "\n")
	out := output{text: text, host: obj{"stdout": text, "stderr": errText, "interrupted": false, "isImage": false, "noOutputExpected": false}}
	if errText != "" {
		out.text = strings.TrimPrefix(out.text+"\n"+errText, "\n")
	}
	if err != nil {
		if cmd.ProcessState == nil { // it did not start
			return failed("%v", err)
		}
		code := cmd.ProcessState.ExitCode()
		if ctx.Err() != nil {
			code = 143
		}
		out = failed("Exit code %d\n%s", code, out.text)
	}
	return out
}

// job is a command in the background.
type job struct {
	id, tool, text string
	cmd            *exec.Cmd
	err            error
	stopped        bool // guarded by standIn.mu
}

// startJob starts a command that outlives its turn.
func (s *standIn) startJob(c call, description string) output {
	cmd := s.shell(c.command)
	if err := cmd.Start(); err != nil {
		return failed("%v", err)
	}
	j := &job{id: "b" + newUUID()[:8], tool: c.id, text: description, cmd: cmd}
	s.mu.Lock()
	s.jobs[j.id] = j
	s.mu.Unlock()
	s.tellJobs()
	s.out.emit(obj{"type": "system", "subtype": "task_started", "task_id": j.id, "tool_use_id": c.id, "description": description, "is_backgrounded": true, "task_type": "local_bash"})
	go func() { // ends with the command, or with the process, which kills it
		j.err = cmd.Wait()
		s.jobEnd <- j
	}()
	text := "Command running in background with ID: " + j.id + "."
	return output{text: text, host: obj{"stdout": "", "stderr": "", "interrupted": false, "backgroundTaskId": j.id}}
}

func (s *standIn) tellJobs() {
	s.mu.Lock()
	tasks := []obj{}
	for _, j := range s.jobs {
		tasks = append(tasks, obj{"task_id": j.id, "task_type": "local_bash", "description": j.text})
	}
	s.mu.Unlock()
	s.out.emit(obj{"type": "system", "subtype": "background_tasks_changed", "tasks": tasks})
}

func (s *standIn) jobCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.jobs)
}

// jobFinished starts the turn that tells the model that a command has ended,
// unless the host had stopped it.
func (s *standIn) jobFinished(j *job) {
	s.mu.Lock()
	delete(s.jobs, j.id)
	stopped := j.stopped
	s.mu.Unlock()
	status := "completed"
	switch {
	case stopped:
		status = "stopped"
	case j.err != nil:
		status = "failed"
	}
	s.out.emit(obj{"type": "system", "subtype": "task_updated", "task_id": j.id, "patch": obj{"status": status}})
	s.out.emit(obj{"type": "system", "subtype": "task_notification", "task_id": j.id, "tool_use_id": j.tool, "status": status,
		"summary": fmt.Sprintf("Background command %q %s", j.text, status)})
	s.tellJobs()
	if !stopped {
		s.enqueue(&userMessage{text: "[[reply:noticed that a background command has ended]]", unasked: true,
			origin: obj{"kind": "task-notification", "producer": "session-task", "runId": j.id}})
	}
}

// stopJob kills a background command; unknown ids are no error, as in the CLI.
func (s *standIn) stopJob(id string) {
	s.mu.Lock()
	j := s.jobs[id]
	if j != nil {
		j.stopped = true
	}
	s.mu.Unlock()
	if j != nil {
		killGroup(j.cmd)
	}
}

// killJobs ends what runs in the background when the process ends.
func (s *standIn) killJobs() {
	s.stop()
	s.mu.Lock()
	var jobs []*job
	for _, j := range s.jobs {
		jobs = append(jobs, j)
	}
	s.mu.Unlock()
	for _, j := range jobs {
		killGroup(j.cmd)
	}
}
