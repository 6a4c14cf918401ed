package claudetest

import (
	"bytes"
	"os"
	"os/exec"
	"strconv"
)

// leaked is what the fault leak keeps.
var leaked [][]byte

// beforeResult carries out the faults that come before the result m.
func (t *turn) beforeResult(m obj) {
	s, f := t.s, t.faults
	if t.messages[0].command != "" {
		return
	}
	if arg, ok := f.find(FaultLeak); ok {
		if n, err := number(arg, 1, 4096); err == nil {
			leaked = append(leaked, bytes.Repeat([]byte{1}, n<<20)) // written to, so that it is resident
		}
	}
	if d, ok := f.hold(FaultHoldStdout); ok {
		leaveBehind(d.String(), false)
	}
	if d, ok := f.hold(FaultEscape); ok {
		leaveBehind(d.String(), true)
	}
	if arg, ok := f.find(FaultLongLine); ok {
		n, err := number(arg, 1, 1<<30)
		if err != nil {
			n = 64 << 20
		}
		const head, tail = `{"type":"system","subtype":"notification","text":"`, `"}` + "\n"
		line := append([]byte(head), bytes.Repeat([]byte{'x'}, max(n-len(head)-len(tail)+1, 0))...)
		s.out.raw(append(line, tail...))
	}
	if f.has(FaultGarbage) {
		s.out.raw([]byte("this is no JSON: {]\n"))
	}
	if f.has(FaultHalfLine) {
		line := encode(m)
		s.out.raw(line[:len(line)/2])
		die()
	}
	if arg, ok := f.find(FaultExit); ok {
		code, err := strconv.Atoi(arg)
		if err != nil {
			code = 1
		}
		os.Exit(code)
	}
	if f.has(FaultCrash) {
		die()
	}
	if f.has(FaultFreeze) {
		s.out.mu.Lock() // nobody writes any more
		select {}
	}
	if f.has(FaultIdleFirst) {
		s.state("idle")
	}
	if f.has(FaultForeignResult) {
		foreign := obj{}
		for k, v := range m {
			foreign[k] = v
		}
		id := newUUID()
		foreign["user_message_uuid"], foreign["user_message_uuids"], foreign["uuid"] = id, []string{id}, newUUID()
		foreign["result"] = "an answer to somebody else"
		s.out.emit(foreign)
	}
}

// afterResult carries out the faults that come after the result m.
func (t *turn) afterResult(m obj) {
	if t.messages[0].command != "" {
		return
	}
	if t.faults.has(FaultDuplicateResult) {
		t.s.out.emit(m)
	}
	if t.faults.has(FaultCrashAfter) {
		die()
	}
}

// leaveBehind starts a child that outlives this process: one that holds
// stdout, or one that has left our session.
func leaveBehind(d string, escape bool) {
	self, err := os.Executable()
	if err != nil {
		return
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), EnvStandIn+"="+holding+d)
	if escape {
		detach(cmd)
	} else {
		cmd.Stdout = os.Stdout
	}
	if cmd.Start() == nil {
		go cmd.Wait() // reap it when it ends before us
	}
}
