package claudetest

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// obj is a JSON object on its way out.
type obj = map[string]any

// standIn is the process. One goroutine, the loop in run, owns what is above
// mu; a turn runs in a goroutine of its own and reports through done.
type standIn struct {
	args    *standInArgs
	script  Script
	faults  faultSet
	prefix  string
	version string
	out     *emitter
	stderr  io.Writer
	begun   time.Time
	ctx     context.Context // ends when the process is to stop its work
	stop    context.CancelFunc

	queue  []*userMessage
	turn   *turn
	busy   bool
	known  map[string]bool // uuids of messages
	eof    bool
	ending bool
	code   int // of an end that was asked for with a signal; -1: mirror the last result
	done   chan *turn
	jobEnd chan *job

	mu   sync.Mutex // guards what follows
	set  *settings
	conv *conversation
	bill bill
	asks map[string]chan hostAnswer
	// takeBack tells the host that what the turn had asked is void.
	takeBack func()
	jobs     map[string]*job
	parked   bool // a spare that has not been claimed
	results  int
	failed   bool // the last result was an error
	mcp      map[string]*mcpServer
}

// emitter writes lines to the host.
type emitter struct {
	mu      sync.Mutex
	w       io.Writer
	session string
	muted   bool // --output-format text or json
}

func (e *emitter) setSession(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.session = id
}

func (e *emitter) emit(m obj) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.muted {
		return
	}
	if m["type"] != "control_request" && m["type"] != "control_response" && m["type"] != "control_cancel_request" {
		if m["uuid"] == nil {
			m["uuid"] = newUUID()
		}
		if m["session_id"] == nil {
			m["session_id"] = e.session
		}
	}
	e.write(append(encode(m), '\n'))
}

// write ends the process when nobody reads any more, as the CLI does.
func (e *emitter) write(b []byte) {
	if _, err := e.w.Write(b); err != nil {
		os.Exit(1)
	}
}

func (e *emitter) raw(b []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.write(b)
}

// encode marshals what the stand-in made itself; a failure is a fault of this
// package, and shows as one.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		fmt.Fprintf(os.Stderr, "claudetest: encode %T: %v\n", v, err)
		os.Exit(2)
	}
	return b
}

func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// runStandIn is the whole life of the stand-in; the result is its exit code.
func runStandIn(script Script, argv []string, stdin io.Reader, stdout, stderr io.Writer) int {
	refuse := func(err error) int {
		fmt.Fprintln(stderr, err)
		return 1
	}
	faults, err := faultsFromEnv()
	if err != nil {
		return refuse(err)
	}
	version := os.Getenv(EnvStandInVersion)
	if version == "" {
		version = StandInVersion
	}
	args, err := parseStandInArgs(argv)
	if err != nil {
		return refuse(err)
	}
	if args.version {
		fmt.Fprintf(stdout, "%s (Claude Code)\n", version)
		return 0
	}
	if err := startFaults(faults); err != nil {
		return refuse(err)
	}
	if script == nil {
		if script, err = demoScript(); err != nil {
			return refuse(err)
		}
	}
	s := &standIn{
		args: args, script: script, faults: faults, prefix: os.Getenv(EnvStandInPrefix), version: version,
		out: &emitter{w: stdout, muted: args.output != "stream-json"}, stderr: stderr, begun: time.Now(),
		known: map[string]bool{}, done: make(chan *turn), jobEnd: make(chan *job), code: -1,
		asks: map[string]chan hostAnswer{}, jobs: map[string]*job{}, mcp: map[string]*mcpServer{}, parked: args.claim,
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	defer s.stop()
	if s.set, err = newSettings(args); err != nil {
		return refuse(err)
	}
	if s.conv, err = openConversation(args, s.set.cwd); err != nil {
		if _, wrong := errors.AsType[usageError](err); wrong {
			return refuse(err)
		}
		return s.startFailure(err)
	}
	s.bill = s.conv.bill
	s.out.setSession(s.conv.id)
	for name, c := range args.servers {
		s.addServer(name, c)
	}
	if args.input == "text" {
		return s.single(stdin, stdout)
	}
	return s.run(stdin)
}

// startFailure is what the CLI says when --resume names nothing it knows.
func (s *standIn) startFailure(err error) int {
	id := s.args.resume
	s.out.setSession(id)
	s.out.emit(obj{"type": "result", "subtype": "error_during_execution", "is_error": true, "num_turns": 0, "duration_ms": 0, "duration_api_ms": 0,
		"stop_reason": nil, "total_cost_usd": 0, "usage": obj{}, "modelUsage": obj{}, "permission_denials": []any{}, "errors": []string{err.Error()}, "result_index": 0})
	fmt.Fprintln(s.stderr, err)
	return 1
}

func faultsFromEnv() (faultSet, error) {
	var set faultSet
	for f := range strings.SplitSeq(os.Getenv(EnvStandInFaults), ",") {
		if f == "" {
			continue
		}
		parsed, err := ParseFault(f)
		if err != nil {
			return nil, fmt.Errorf("claudetest: %s: %w", EnvStandInFaults, err)
		}
		set = append(set, parsed)
	}
	return set, nil
}

// startFaults carries out the faults of the start. An error ends the process.
func startFaults(faults faultSet) error {
	if arg, ok := faults.find(FaultFailStarts); ok {
		n, file, _ := strings.Cut(arg, ":")
		limit, err := number(n, 1, 1000)
		if err != nil {
			return err
		}
		b, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		count, _ := strconv.Atoi(string(b)) // an empty or missing file means zero
		if count < limit {
			if err := os.WriteFile(file, []byte(strconv.Itoa(count+1)), 0o600); err != nil {
				return err
			}
			return fmt.Errorf("claudetest: start %d of %d that fail on purpose", count+1, limit)
		}
	}
	if arg, ok := faults.find(FaultSlowStart); ok {
		d, err := duration(arg)
		if err != nil {
			return err
		}
		time.Sleep(d)
	}
	return nil
}

// run serves the host until the end, and returns the exit code.
func (s *standIn) run(stdin io.Reader) int {
	lines := make(chan []byte)
	go func() { // ends with the process: a read of stdin cannot be interrupted
		defer close(lines)
		r := bufio.NewReaderSize(stdin, 1<<16)
		for {
			line, err := r.ReadBytes('\n')
			if len(line) > 0 {
				lines <- line
			}
			if err != nil {
				return
			}
		}
	}()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				lines = nil
				s.eof = !s.faults.has(FaultIgnoreTerm)
				s.withdrawAsks()
			} else if err := s.line(line); err != nil {
				fmt.Fprintln(s.stderr, err)
				s.killJobs()
				return 1
			}
		case sig := <-signals:
			if code, now := s.signal(sig); now {
				s.killJobs()
				return code
			}
		case t := <-s.done:
			s.finished(t)
		case j := <-s.jobEnd:
			s.jobFinished(j)
		}
		s.startNext()
		if s.turn != nil {
			continue
		}
		if s.ending || s.eof && len(s.queue) == 0 && s.jobCount() == 0 {
			s.killJobs()
			if err := s.conv.close(s.bill); err != nil {
				fmt.Fprintln(s.stderr, err)
			}
			return s.exitCode()
		}
	}
}

func (s *standIn) exitCode() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.code >= 0:
		return s.code
	case s.failed:
		return 1
	}
	return 0
}

// signal answers a signal: true means that the process ends now with code.
func (s *standIn) signal(sig os.Signal) (code int, now bool) {
	switch {
	case s.faults.has(FaultIgnoreTerm):
		return 0, false
	case sig == os.Interrupt:
		s.code, s.ending = 0, true
		s.stop() // a running turn ends with an error result first
		return 0, s.turn == nil
	case sig == syscall.SIGHUP:
		s.stop()
		return 129, true
	}
	s.stop()
	return 143, true
}

// userMessage is a prompt that waits.
type userMessage struct {
	uuid    string
	text    string
	command string // its name, such as "clear"; empty for a prompt
	silent  bool   // shouldQuery:false
	unasked bool   // a turn that nobody asked for
	origin  obj    // why it runs nevertheless
}

// joins says whether m may share a turn with others.
func (m *userMessage) joins() bool { return m.command == "" && !m.unasked && !m.silent }

func (s *standIn) enqueue(m *userMessage) {
	if m.uuid != "" {
		if s.known[m.uuid] {
			return
		}
		s.known[m.uuid] = true
	}
	if !s.busy {
		s.busy = true
		s.state("running")
	}
	s.lifecycle(m, "queued")
	s.queue = append(s.queue, m)
}

func (s *standIn) state(state string) {
	if os.Getenv("CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS") == "1" {
		s.out.emit(obj{"type": "system", "subtype": "session_state_changed", "state": state})
	}
}

func (s *standIn) lifecycle(m *userMessage, state string) {
	if m.uuid != "" {
		s.out.emit(obj{"type": "command_lifecycle", "command_uuid": m.uuid, "state": state})
	}
}

// startNext starts the next turn when none runs: a command alone, else all
// prompts that wait in front of the next command.
func (s *standIn) startNext() {
	if s.turn != nil || len(s.queue) == 0 || s.ending {
		return
	}
	n := 1
	for s.queue[0].joins() && n < len(s.queue) && s.queue[n].joins() {
		n++
	}
	t := s.newTurn(slices.Clone(s.queue[:n]))
	s.queue = slices.Delete(s.queue, 0, n)
	for _, m := range t.messages {
		s.lifecycle(m, "started")
	}
	s.turn = t
	go func() {
		t.run()
		s.done <- t
	}()
}

func (s *standIn) finished(t *turn) {
	s.turn = nil
	t.cancel()
	end := "completed"
	if t.aborted {
		end = "cancelled"
	}
	for _, m := range t.messages {
		s.lifecycle(m, end)
	}
	if len(s.queue) == 0 || s.ending {
		s.busy = false
		if !t.faults.has(FaultNoIdle) && !t.faults.has(FaultIdleFirst) {
			s.state("idle")
		}
	}
	if t.unsolicited {
		s.enqueue(&userMessage{text: "[[reply:nobody asked for this]]", unasked: true})
	}
}
