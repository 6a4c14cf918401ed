package claudepool_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claude"
)

func send(t *testing.T, p *claudepool.Pool, to, content string) claudepool.Message {
	t.Helper()
	m, err := p.SendMessage(t.Context(), "tester", to, content)
	if err != nil {
		t.Fatalf("SendMessage to %s: %v", to, err)
	}
	return m
}

// waiting returns what waits at an address.
func waiting(t *testing.T, p *claudepool.Pool, to string) []string {
	t.Helper()
	all, err := p.PeekMessages(t.Context(), to)
	if err != nil {
		t.Fatalf("PeekMessages(%s): %v", to, err)
	}
	var out []string
	for _, m := range all {
		out = append(out, m.Content)
	}
	return out
}

func TestMessagesAreReadAndPeekedAt(t *testing.T) {
	t.Parallel()
	p := build(t, claudepool.PoolConfig{
		Launcher: &fakeLauncher{turn: echo}, Slots: 2, SlotConfigs: []claudepool.SlotConfig{{}, {Name: "alice"}},
	})
	first := send(t, p, "alice", "one")
	send(t, p, "slot-1", "two")
	send(t, p, claudepool.Coordinator, "three")
	if first.To != "slot-1" || first.ID == "" || first.From != "tester" || first.Content != "one" || time.Since(first.Sent).Abs() > time.Hour {
		t.Errorf("SendMessage = %+v, want it as it was stored, to slot-1", first)
	}
	for range 2 {
		if diff := cmp.Diff([]string{"one", "two"}, waiting(t, p, "alice")); diff != "" {
			t.Errorf("to alice (-want +got):\n%s", diff)
		}
	}
	if got := waiting(t, p, "slot-0"); len(got) != 0 {
		t.Errorf("to slot-0: %q, want nothing", got)
	}
	for _, address := range []string{"alice", claudepool.Coordinator} {
		n := len(waiting(t, p, address))
		if all, err := p.ReadMessages(t.Context(), address); err != nil || len(all) != n || n == 0 {
			t.Errorf("ReadMessages(%s) = %+v, %v; want %d", address, all, err, n)
		}
		if all, err := p.ReadMessages(t.Context(), address); err != nil || len(all) != 0 {
			t.Errorf("ReadMessages(%s) again = %+v, %v; want nothing: reading consumes", address, all, err)
		}
	}
}

func TestMessagesRefuseWhatCannotWork(t *testing.T) {
	t.Parallel()
	s := stored(t)
	p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}, Store: s})
	long := strings.Repeat("a", claudepool.MaxMessage)
	for name, tc := range map[string]struct{ from, to, content, field string }{
		"no sender":         {"", "slot-0", "x", "from"},
		"a long sender":     {strings.Repeat("a", claudepool.MaxMessageFrom+1), "slot-0", "x", "from"},
		"a broken sender":   {"\xff", "slot-0", "x", "from"},
		"no content":        {"me", "slot-0", " \n", "content"},
		"broken content":    {"me", "slot-0", "\xff", "content"},
		"too much content":  {"me", "slot-0", long + "a", "content"},
		"an unknown slot":   {"me", "slot-9", "x", ""},
		"no address at all": {"me", "", "x", ""},
	} {
		_, err := p.SendMessage(t.Context(), tc.from, tc.to, tc.content)
		bad, invalid := errors.AsType[*claudepool.InvalidError](err)
		if tc.field != "" && (!invalid || bad.Field != tc.field) || tc.field == "" && !errors.Is(err, claudepool.ErrUnknownSlot) {
			t.Errorf("%s: SendMessage = %v", name, err)
		}
	}
	for name, call := range map[string]func() ([]claudepool.Message, error){
		"ReadMessages": func() ([]claudepool.Message, error) { return p.ReadMessages(t.Context(), "slot-9") },
		"PeekMessages": func() ([]claudepool.Message, error) { return p.PeekMessages(t.Context(), "slot-9") },
		"Broadcast":    func() ([]claudepool.Message, error) { return p.Broadcast(t.Context(), "me", "") },
	} {
		_, err := call()
		if _, invalid := errors.AsType[*claudepool.InvalidError](err); !invalid && !errors.Is(err, claudepool.ErrUnknownSlot) {
			t.Errorf("%s = %v", name, err)
		}
	}
	if got := waiting(t, p, "slot-0"); len(got) != 0 {
		t.Errorf("%d messages wait though all were refused", len(got))
	}
	for i := range claudepool.MaxMessages {
		send(t, p, claudepool.Coordinator, fmt.Sprint(i))
	}
	if _, err := p.SendMessage(t.Context(), "me", claudepool.Coordinator, "x"); !errors.Is(err, claudepool.ErrMailboxFull) {
		t.Errorf("SendMessage to a full address = %v, want ErrMailboxFull", err)
	}
	// What waits for a slot that has gone can still be read.
	left := claudepool.Message{ID: "msg-0", From: "me", To: "slot-9", Content: "too late"}
	if err := s.SendMessage(t.Context(), left); err != nil {
		t.Fatal(err)
	}
	if all, err := p.ReadMessages(t.Context(), "slot-9"); err != nil || len(all) != 1 {
		t.Errorf("ReadMessages of a slot that has gone = %+v, %v; want the one message", all, err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.SendMessage(t.Context(), "me", "slot-0", "x"); !errors.Is(err, claudepool.ErrClosed) {
		t.Errorf("SendMessage after Close = %v", err)
	}
	if _, err := p.ReadMessages(t.Context(), "slot-0"); !errors.Is(err, claudepool.ErrClosed) {
		t.Errorf("ReadMessages after Close = %v", err)
	}
}

func TestBroadcastReachesTheSlotsThatAreAlive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBlocker()
		s := stored(t)
		p := build(t, claudepool.PoolConfig{
			Launcher: &fakeLauncher{turn: b.turn}, Slots: 4, MinSlots: 1, Store: s,
			SlotConfigs: []claudepool.SlotConfig{{}, {Name: "bob"}},
		})
		for instance, seen := range map[string]time.Duration{"pool-2": 0, "pool-3": -time.Hour} { // the last is not heard of any more
			if err := s.PutInstance(t.Context(), claudepool.InstanceRecord{ID: instance, Seen: time.Now().Add(seen)}); err != nil {
				t.Fatal(err)
			}
		}
		for _, other := range []claudepool.SlotRecord{
			{Instance: "pool-2", ID: "slot-7", Name: "eve"}, {Instance: "pool-3", ID: "slot-8"}, {Instance: "unknown", ID: "slot-9"},
		} {
			if _, err := s.PutSlot(t.Context(), other); err != nil {
				t.Fatal(err)
			}
		}
		stops := submit(t, p, claudepool.Task{Prompt: "busy", Slot: "slot-3"})
		<-b.begun
		for _, slot := range []string{"slot-0", "slot-1", "slot-2"} { // busy, so that the newest goes first
			submit(t, p, claudepool.Task{Prompt: "busy", Slot: slot})
			<-b.begun
		}
		if n, err := p.ScaleDown(t.Context(), 1); err != nil || n != 3 {
			t.Fatalf("ScaleDown = %d, %v", n, err)
		}
		synctest.Wait()
		for from, want := range map[string][]string{
			"me":     {"slot-0", "slot-1", "slot-2", "slot-7"},
			"slot-0": {"slot-1", "slot-2", "slot-7"},
			"bob":    {"slot-0", "slot-2", "slot-7"},
		} {
			sent, err := p.Broadcast(t.Context(), from, "hello from "+from)
			if err != nil {
				t.Fatal(err)
			}
			var to []string
			for _, m := range sent {
				to = append(to, m.To)
			}
			if diff := cmp.Diff(want, to); diff != "" {
				t.Errorf("from %s (-want +got):\n%s", from, diff)
			}
		}
		if got := waiting(t, p, "eve"); len(got) != 3 {
			t.Errorf("%q wait for the slot of another pool, by its name; want 3", got)
		}
		if got := waiting(t, p, claudepool.Coordinator); len(got) != 0 {
			t.Errorf("the coordinator got %q of a broadcast to slots", got)
		}
		for i := range claudepool.MaxMessages - 3 {
			send(t, p, "eve", fmt.Sprint(i))
		}
		sent, err := p.Broadcast(t.Context(), "me", "again")
		if !errors.Is(err, claudepool.ErrMailboxFull) || len(sent) != 3 {
			t.Errorf("with one address full, Broadcast = %d messages, %v; want 3 and ErrMailboxFull", len(sent), err)
		}
		close(b.release)
		wait(t, p, stops)
	})
}

func TestMessagesAreDeliveredAtTheStartOfTheNextTask(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}, Slots: 2})
		if err := p.SetContext(t.Context(), "key", "value"); err != nil {
			t.Fatal(err)
		}
		one := send(t, p, "slot-0", "first </messages> & second")
		send(t, p, "slot-0", "third")
		send(t, p, "slot-1", "not yours")
		task := claudepool.Task{Prompt: "the prompt", Slot: "slot-0"}
		r := wait(t, p, submit(t, p, task))
		synctest.Wait()
		context, rest, found := strings.Cut(r.Output, "<messages>\n")
		block, prompt, ended := strings.Cut(rest, "</messages>\n\n")
		if !found || !ended || !strings.Contains(context, "</run_context>") || prompt != "the prompt" {
			t.Fatalf("the prompt is %q, want the run context, the messages and the task's own, in this order", r.Output)
		}
		lines := strings.Split(strings.TrimSpace(block), "\n")
		want := fmt.Sprintf(`{"id":%q,"from":"tester","sent":%q,"content":"first \u003c/messages\u003e \u0026 second"}`, one.ID, one.Sent.Format(time.RFC3339Nano))
		if len(lines) != 2 || lines[0] != want || !strings.Contains(lines[1], `"content":"third"`) {
			t.Errorf("the block is\n%s\nwant two lines, of which the first is\n%s", block, want)
		}
		if got := waiting(t, p, "slot-0"); len(got) != 0 {
			t.Errorf("%q wait after their delivery", got)
		}
		if r := wait(t, p, submit(t, p, task)); strings.Contains(r.Output, "<messages>") {
			t.Errorf("the task after it was given %q, want no messages", r.Output)
		}
		if got := waiting(t, p, "slot-1"); len(got) != 1 {
			t.Errorf("to slot-1: %q, want the one that is its own", got)
		}
	})
}

func TestMessagesWaitForATaskThatIsNoCommand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}})
		send(t, p, "slot-0", "hello")
		if r := wait(t, p, submit(t, p, claudepool.Task{Prompt: "/cost", Commands: true})); r.Output != "/cost" {
			t.Errorf("the command was sent as %q", r.Output)
		}
		synctest.Wait()
		if got := waiting(t, p, "slot-0"); len(got) != 1 {
			t.Errorf("%q wait after a command, want the message", got)
		}
		r := wait(t, p, submit(t, p, claudepool.Task{Prompt: "/cost is a command"}))
		contains(t, "prompt of text", r.Output, "hello")
	})
}

// A prompt is given as many messages as there is room for, and the next one the rest.
func TestMessagesOfOnePromptAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}})
		contents := []string{strings.Repeat("\x01", claudepool.MaxMessage)} // longer than a prompt's share, in JSON
		for i := range 5 {
			contents = append(contents, strings.Repeat(fmt.Sprint(i), claudepool.MaxMessage))
		}
		for _, c := range contents {
			send(t, p, "slot-0", c)
		}
		for _, left := range []int{5, 2, 0, 0} {
			r := wait(t, p, submit(t, p, claudepool.Task{Prompt: "x"}))
			synctest.Wait()
			if got := waiting(t, p, "slot-0"); len(got) != left {
				t.Fatalf("after a prompt of %d bytes %d messages wait, want %d", len(r.Output), len(got), left)
			}
		}
	})
}

// What becomes of the messages to a slot when the task that was given them ends
// in every way.
func TestMessagesStayUntilTheirTaskHasEnded(t *testing.T) {
	t.Parallel()
	died := func(claude.Prompt) (claude.Result, error) { return claude.Result{}, errDied }
	refused := func(claude.Prompt) (claude.Result, error) { return claude.Result{}, claude.ErrInvalidPrompt }
	silent := func(claude.Prompt) (claude.Result, error) {
		time.Sleep(2 * time.Minute) // longer than the task may take
		return claude.Result{Interrupted: true, IsError: true}, context.Canceled
	}
	agentError := says(claude.Result{Subtype: "error_during_execution", IsError: true})
	type turns = []func(claude.Prompt) (claude.Result, error)
	for name, tc := range map[string]struct {
		turns turns // of the task; further ones are good
		edit  func(*claudepool.Task)
		given int  // in how many of the task's attempts
		left  bool // for the next task
	}{
		"completed":           {given: 1},
		"in review":           {edit: func(t *claudepool.Task) { t.Review = &claudepool.ReviewPolicy{} }, given: 1},
		"failed":              {turns: turns{says(claude.Result{Subtype: "error_max_turns", IsError: true})}, given: 1},
		"tried again":         {turns: turns{agentError}, given: 2},
		"resumed":             {turns: turns{died, died}, given: 3},
		"crashed for good":    {turns: turns{died}, edit: func(t *claudepool.Task) { t.OnCrash = claudepool.CrashFail }, given: 1, left: true},
		"its prompt not sent": {turns: turns{refused}, given: 1, left: true},
		"timed out unheard":   {turns: turns{silent}, edit: func(t *claudepool.Task) { t.Overrides.Timeout = time.Minute }, given: 1, left: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var seen []bool
				l := &fakeLauncher{turn: func(_ context.Context, _ *fakeAgent, p claude.Prompt, _ func(claude.Event)) (claude.Result, error) {
					seen = append(seen, strings.Contains(p.Text, `"content":"hello"`))
					if n := len(seen); n <= len(tc.turns) {
						return tc.turns[n-1](p)
					}
					return ok(p.Text, 1), nil
				}}
				p := build(t, claudepool.PoolConfig{Launcher: l})
				send(t, p, "slot-0", "hello")
				task := claudepool.Task{Prompt: "x"}
				if tc.edit != nil {
					tc.edit(&task)
				}
				id := submit(t, p, task)
				_, err := p.WaitFor(t.Context(), id, func(s claudepool.TaskState) bool {
					return s == claudepool.StatePendingReview || s.Terminal()
				})
				if err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				for i, given := range seen {
					if !given {
						t.Errorf("attempt %d was not given the message", i+1)
					}
				}
				if len(seen) != tc.given {
					t.Errorf("%d attempts, want %d", len(seen), tc.given)
				}
				if got := waiting(t, p, "slot-0"); (len(got) == 1) != tc.left {
					t.Errorf("%q wait for the next task: want the message there: %t", got, tc.left)
				}
				wait(t, p, submit(t, p, claudepool.Task{Prompt: "y"}))
				if last := seen[len(seen)-1]; last != tc.left {
					t.Errorf("the next task was given the message: %t, want %t", last, tc.left)
				}
			})
		})
	}
}

func TestMessagesOfACancelledTaskAreDeliveredOnceItsModelSpeaks(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		says    claude.Event // before it is cancelled
		answers bool         // after it was
		left    bool         // for the next task
	}{
		"interrupted":                {says: claude.TextDelta{Text: "so"}},
		"interrupted while it tries": {says: claude.ToolUse{Name: "Bash"}},
		"interrupted while it asks":  {says: claude.Requesting{}, left: true},
		"answered all the same":      {says: claude.Requesting{}, answers: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				begun := make(chan string, 1)
				p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: func(ctx context.Context, _ *fakeAgent, p claude.Prompt, emit func(claude.Event)) (claude.Result, error) {
					emit(tc.says)
					begun <- p.Text
					<-ctx.Done()
					if tc.answers {
						return ok("too late", 1), nil
					}
					return claude.Result{Interrupted: true, IsError: true}, context.Cause(ctx)
				}}})
				send(t, p, "slot-0", "hello")
				id := submit(t, p, claudepool.Task{Prompt: "x"})
				contains(t, "prompt", <-begun, "hello")
				if _, err := p.Cancel(t.Context(), id); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if got := waiting(t, p, "slot-0"); (len(got) == 1) != tc.left {
					t.Errorf("%q wait; want the message there: %t", got, tc.left)
				}
			})
		})
	}
}

func TestMessagesComeWithTheReworkToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}})
		id := submit(t, p, reviewed("x"))
		inReview(t, p, id)
		synctest.Wait()
		send(t, p, "slot-0", "by the way")
		reject(t, p, id, "not yet")
		got := inReview(t, p, id).Result.Output
		if !strings.HasPrefix(got, "<messages>\n") || !strings.Contains(got, "by the way") || !strings.Contains(got, "not yet") {
			t.Errorf("the rework was asked %q, want the message, then the feedback", got)
		}
	})
}

// Messages to a task that goes back to the queue of a durable store are given
// to the next pool's slot, with the task that continues it or any other.
func TestMessagesOutliveThePoolOnADurableStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBlocker()
		s := durable{stored(t)}
		p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: b.turn}, Store: s})
		send(t, p, "slot-0", "hello")
		id := submit(t, p, claudepool.Task{Prompt: "x"})
		contains(t, "prompt", <-b.begun, "hello")
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		p = build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}, Store: s})
		if r := wait(t, p, id); !strings.Contains(r.Output, "hello") || !strings.Contains(r.Output, "Continue") {
			t.Errorf("the task went on with %q, want the message and the word to continue", r.Output)
		}
	})
}

// undelivered is a store that fails to remove messages for a while.
type undelivered struct {
	claudepool.PoolStore
	*failures
}

func (u undelivered) TakeMessages(ctx context.Context, to string, ids []string) ([]claudepool.Message, error) {
	if err := u.next(); err != nil {
		return nil, err
	}
	return u.PoolStore.TakeMessages(ctx, to, ids)
}

func TestMessagesThatCannotBeRemovedAreDeliveredAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := undelivered{stored(t), &failures{}}
		s.left.Store(1)
		p := build(t, claudepool.PoolConfig{Launcher: &fakeLauncher{turn: echo}, Store: s})
		send(t, p, "slot-0", "hello")
		for i, want := range []bool{true, true, false} {
			r := wait(t, p, submit(t, p, claudepool.Task{Prompt: "x"}))
			if got := strings.Contains(r.Output, "hello"); r.Outcome != claudepool.OutcomeOK || got != want {
				t.Errorf("task %d ended %s and was given the message: %t, want %t", i, r.Outcome, got, want)
			}
		}
	})
}
