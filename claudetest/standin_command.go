package claudetest

import (
	"fmt"
	"strings"
)

// command carries out a command of the CLI, such as /clear.
func (t *turn) command(name string) {
	s := t.s
	switch name {
	case "clear", "reset", "new":
		t.clear()
		return
	}
	t.init()
	text := ""
	switch name {
	case "cost", "usage":
		s.mu.Lock()
		text = s.costText()
		s.mu.Unlock()
	case "model":
		_, model, _ := strings.Cut(t.messages[0].text, " ")
		s.setModel(&controlRequest{Model: &model})
		text = "Set model to " + model
	default:
		text = "Unknown slash command: " + name
	}
	s.out.emit(obj{"type": "assistant", "parent_tool_use_id": nil, "timestamp": now(), "message": obj{"id": newUUID(), "type": "message", "role": "assistant",
		"model": "<synthetic>", "stop_reason": "end_turn", "usage": Usage{}, "content": []obj{{"type": "text", "text": text}}}})
	t.result(obj{"subtype": "success", "result": text, "local_command": name})
}

// clear starts a new conversation in this process.
func (t *turn) clear() {
	s := t.s
	if s.faults.has(FaultStaleSession) {
		t.init()
		t.result(obj{"subtype": "success", "result": "", "local_command": "clear"})
		return
	}
	s.mu.Lock()
	old := s.conv
	fresh := &conversation{id: newUUID(), system: old.system}
	if old.file != "" {
		fresh.file = strings.TrimSuffix(old.file, old.id+".jsonl") + fresh.id + ".jsonl"
	}
	err := old.close(s.bill)
	s.conv, s.bill = fresh, bill{}
	s.mu.Unlock()
	s.out.emit(obj{"type": "conversation_reset", "new_conversation_id": newUUID(), "trigger": "clear", "timestamp": now(), "user_message_uuid": t.messages[0].uuid})
	s.tellJobs()
	s.out.setSession(fresh.id)
	t.init()
	fields := obj{"subtype": "success", "result": "", "local_command": "clear"}
	if err != nil {
		fields = obj{"subtype": "error_during_execution", "is_error": true, "errors": []string{err.Error()}}
	}
	t.result(fields)
	t.unsolicited = s.faults.has(FaultUnsolicited)
}

// costText is the answer to /cost. The caller holds mu.
func (s *standIn) costText() string {
	lines := []string{fmt.Sprintf("Estimated cost:        $%.4f", s.bill.dollars())}
	for model, r := range s.bill.Models {
		lines = append(lines, fmt.Sprintf("    %s:  %d input, %d output", model, r.Input, r.Output))
	}
	return strings.Join(lines, "\n")
}
