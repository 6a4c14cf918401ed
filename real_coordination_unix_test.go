//go:build unix

package claudepool_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claudetest"
)

// said answers with all that the conversation has been asked.
func said(r *claudetest.Request) claudetest.Reply {
	return claudetest.Text(strings.Join(r.Prompts, "|"))
}

func TestRealReviewRejectedTwiceThenApproved(t *testing.T) {
	for _, tc := range []struct {
		name string
		keep time.Duration
		warm int // attempts at the task in a process that was warm
	}{{"kept", time.Minute, 3}, {"from disk", 0, 1}} {
		t.Run(tc.name, func(t *testing.T) {
			p, _ := realPool(t, said, claudepool.PoolConfig{})
			st, err := p.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			task := reviewed("write the text")
			task.KeepSession = tc.keep
			id := submit(t, p, task)
			first := inReview(t, p, id)
			reject(t, p, id, "say it shorter")
			inReview(t, p, id)
			reject(t, p, id, "say it louder")
			last := inReview(t, p, id)
			if last.SessionID != first.SessionID || last.Rejections != 2 || last.Cost <= first.Cost {
				t.Errorf("session %s after %s, %d rejections, cost %v after %v; want one session, 2, and more",
					last.SessionID, first.SessionID, last.Rejections, last.Cost, first.Cost)
			}
			r := approve(t, p, id)
			got := strings.Split(r.Output, "|")
			if len(got) != 3 || got[0] != "write the text" || !strings.Contains(got[1], "say it shorter") || !strings.Contains(got[2], "say it louder") {
				t.Errorf("the model has been asked %q, want the task, then what each review said", got)
			}
			if m := p.Metrics(); st.ClaudeVersion >= "2.1.280" && m.Warm != tc.warm { // processes of older ones are never used again
				t.Errorf("%d attempts ran in a warm process, want %d", m.Warm, tc.warm)
			}
		})
	}
}

func TestRealMessageIsReadByItsSlot(t *testing.T) {
	p, api := realPool(t, said, claudepool.PoolConfig{Slots: 2})
	send(t, p, "slot-1", "the door is <open>")
	for i := range 2 {
		for _, slot := range []string{"slot-0", "slot-1"} {
			if _, err := p.Run(t.Context(), claudepool.Task{Prompt: fmt.Sprintf("task %d of %s", i, slot), Slot: slot}); err != nil {
				t.Fatal(err)
			}
		}
	}
	const want = `"content":"the door is \u003copen\u003e"`
	var given []string
	for _, r := range api.Requests() {
		if strings.Contains(r.Prompt, want) {
			given = append(given, r.Prompt)
		}
	}
	if len(given) != 1 || !strings.HasPrefix(given[0], "<messages>\n") || !strings.HasSuffix(given[0], "</messages>\n\ntask 0 of slot-1") {
		t.Errorf("the model was given the message with %q, want it once, before the first task of slot-1", given)
	}
}
