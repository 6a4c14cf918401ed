package mcp_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/mcp"
)

func TestReview(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{}, mcp.Options{})
	submit := func(in args) args {
		t.Helper()
		id := structured[report](t, f.call(t, "pool_submit_with_review", in)).TaskID
		f.call(t, "pool_wait", args{"task_ids": []claudepool.TaskID{id}})
		return args{"task_id": id}
	}
	wait := func(id args) report {
		t.Helper()
		return structured[waited](t, f.call(t, "pool_wait", args{"task_ids": []any{id["task_id"]}})).Tasks[0]
	}
	id := submit(args{"prompt": "say one", "idempotency_key": "k", "tags": []string{"x"}})
	if again := submit(args{"prompt": "say one", "idempotency_key": "k"}); again["task_id"] != id["task_id"] {
		t.Errorf("one key gave %v and %v", id, again)
	}
	reject := args{"task_id": id["task_id"], "feedback": "say two"}
	if st := structured[report](t, f.call(t, "pool_reject_result", reject)).State; st != claudepool.StatePending && st != claudepool.StateRunning {
		t.Errorf("after a rejection the task is %s", st)
	}
	if r := wait(id); r.State != claudepool.StatePendingReview || r.Output != "two" {
		t.Errorf("the second draft is %+v", r)
	}
	if st := structured[report](t, f.call(t, "pool_approve_result", id)).State; st != claudepool.StateCompleted {
		t.Errorf("after the approval the task is %s", st)
	}
	for _, tool := range []string{"pool_approve_result", "pool_reject_result"} {
		in := args{"task_id": id["task_id"]}
		if tool == "pool_reject_result" {
			in["feedback"] = "again"
		}
		if msg := f.refused(t, tool, in); !strings.Contains(msg, "completed") || !strings.Contains(msg, "has ended") || strings.Contains(msg, "pool_wait") {
			t.Errorf("%s on a completed task: %q", tool, msg)
		}
	}
	f.call(t, "pool_pause", nil)
	queued := structured[report](t, f.call(t, "pool_submit_with_review", args{"prompt": "say one"})).TaskID
	if msg := f.refused(t, "pool_approve_result", args{"task_id": queued}); !strings.Contains(msg, "pending") || !strings.Contains(msg, "pool_wait") || strings.Contains(msg, "ended") {
		t.Errorf("pool_approve_result on a task that waits: %q", msg)
	}
	f.call(t, "pool_resume", nil)
	last := submit(args{"prompt": "say one", "max_rejections": 1})
	f.call(t, "pool_reject_result", args{"task_id": last["task_id"], "feedback": "no"})
	if r := wait(last); r.State != claudepool.StateFailed || r.Outcome != claudepool.OutcomeRejected || r.Output != "one" {
		t.Errorf("after the last rejection: %+v", r)
	}
}

func TestMessages(t *testing.T) {
	t.Parallel()
	f := setup(t, claudepool.PoolConfig{Slots: 2}, mcp.Options{})
	type sent struct{ Sent []struct{ ID, To string } }
	type messages struct{ Messages []claudepool.Message }
	contents := func(tool, slot string) []string {
		t.Helper()
		got := []string{}
		for _, m := range structured[messages](t, f.call(t, tool, args{"slot_id": slot})).Messages {
			got = append(got, m.From+": "+m.Content)
		}
		return got
	}
	f.call(t, "pool_pause", nil)
	one := structured[sent](t, f.call(t, "pool_send_message", args{"from": "me", "to": "slot-1", "content": "first"}))
	if len(one.Sent) != 1 || one.Sent[0].To != "slot-1" || one.Sent[0].ID == "" {
		t.Errorf("pool_send_message gave %+v", one)
	}
	if all := structured[sent](t, f.call(t, "pool_broadcast", args{"from": "me", "content": "second"})).Sent; len(all) != 2 {
		t.Errorf("pool_broadcast reached %+v", all)
	}
	want := []string{"me: first", "me: second"}
	for _, tool := range []string{"pool_peek_messages", "pool_read_messages"} {
		if diff := cmp.Diff(want, contents(tool, "slot-1")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tool, diff)
		}
	}
	if left := contents("pool_peek_messages", "slot-1"); len(left) != 0 {
		t.Errorf("after they were read there are %v", left)
	}
	if got := contents("pool_read_messages", claudepool.Coordinator); len(got) != 0 {
		t.Errorf("for the coordinator there are %v", got)
	}
	if msg := f.refused(t, "pool_send_message", args{"from": "me", "to": "nobody", "content": "x"}); !strings.Contains(msg, "nobody") || !strings.Contains(msg, "pool_find_slots") {
		t.Errorf("to nobody: %q", msg)
	}
	for field, in := range map[string]args{
		"content": {"from": "me", "to": "slot-0", "content": ""}, "from": {"from": "", "to": "slot-0", "content": "x"}, "to": {"from": "me", "content": "x"},
	} {
		if msg := f.refused(t, "pool_send_message", in); !strings.Contains(msg, field) {
			t.Errorf("%v: %q does not name %s", in, msg, field)
		}
	}
}
