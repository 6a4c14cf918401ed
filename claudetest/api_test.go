package claudetest_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool/claudetest"
)

// caller is a client of the Messages API, as plain as can be.
type caller struct {
	t      *testing.T
	api    *claudetest.API
	client *http.Client
}

func newCaller(t *testing.T, script claudetest.Script) *caller {
	t.Helper()
	c := &caller{t: t, api: claudetest.NewAPI(t, script), client: &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(c.client.CloseIdleConnections)
	return c
}

func userText(s string) message { return message{"role": "user", "content": s} }

func conversation(messages ...message) message {
	return message{"model": "claude-sonnet-5", "max_tokens": 100, "messages": messages, "system": []message{{"type": "text", "text": "SYS"}},
		"tools": []message{{"name": "Bash"}}, "metadata": message{"user_id": `{"session_id":"s-1"}`}}
}

func (c *caller) post(ctx context.Context, body message) (*http.Response, error) {
	c.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		c.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(ctx, "POST", c.api.URL()+"/v1/messages", bytes.NewReader(b))
	if err != nil {
		c.t.Fatal(err)
	}
	return c.client.Do(r)
}

// answer posts without streaming and returns status and body.
func (c *caller) answer(body message) (int, message) {
	c.t.Helper()
	resp, err := c.post(c.t.Context(), body)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	var m message
	if err := json.NewDecoder(resp.Body).Decode(&m); err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, m
}

// text posts a prompt and returns the text of the answer.
func (c *caller) text(messages ...message) string {
	c.t.Helper()
	_, m := c.answer(conversation(messages...))
	return textOf(m)
}

func textOf(m message) string {
	var out []string
	for _, b := range list(m["content"]) {
		block := message(b.(map[string]any))
		if block.str("type") == "tool_use" {
			in, err := json.Marshal(block["input"])
			if err != nil {
				return err.Error()
			}
			out = append(out, block.str("name")+string(in))
			continue
		}
		out = append(out, block.str("text")+block.str("thinking"))
	}
	return strings.Join(out, "|")
}

// stream posts with streaming and puts the answer together again.
func (c *caller) stream(ctx context.Context, body message) (message, error) {
	c.t.Helper()
	body["stream"] = true
	resp, err := c.post(ctx, body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	out := message{}
	var blocks []any
	r := bufio.NewReader(resp.Body)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return message{"content": blocks}, err
		}
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			continue
		}
		var e message
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			return nil, err
		}
		switch e.str("type") {
		case "message_start":
			out = e.obj("message")
		case "content_block_start":
			blocks = append(blocks, map[string]any(e.obj("content_block")))
		case "content_block_delta":
			d, b := e.obj("delta"), blocks[int(e.num("index"))].(map[string]any)
			for _, k := range []string{"text", "thinking", "partial_json"} {
				if v := d.str(k); v != "" {
					old, _ := b[k].(string)
					b[k] = old + v
				}
			}
		case "content_block_stop":
			b := blocks[int(e.num("index"))].(map[string]any)
			if raw, ok := b["partial_json"].(string); ok {
				var input any
				if err := json.Unmarshal([]byte(raw), &input); err != nil {
					return nil, err
				}
				b["input"] = input
			}
		case "message_delta":
			out["stop_reason"], out["usage"] = e.obj("delta")["stop_reason"], e["usage"]
		case "error":
			return message{"content": blocks}, errors.New(e.obj("error").str("message"))
		case "message_stop":
			out["content"] = blocks
			return out, nil
		}
	}
}

func TestAPIAnswersTheSameBothWays(t *testing.T) {
	t.Parallel()
	reply := claudetest.Thinking("hm").And(claudetest.Text(strings.Repeat("héllo\n\"quoted\" ", 50)), claudetest.ToolUse("Bash", map[string]string{"command": "ls"}), claudetest.ToolUse("Read", nil)).
		Usage(claudetest.Usage{Input: 7, Output: 8, CacheRead: 9}).Chunks(5, 0)
	c := newCaller(t, claudetest.Sequence(reply))
	_, whole := c.answer(conversation(userText("x")))
	streamed, err := c.stream(t.Context(), conversation(userText("x")))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(textOf(whole), textOf(streamed)); d != "" {
		t.Error(d)
	}
	if !strings.HasPrefix(textOf(whole), "hm|héllo\n") || !strings.HasSuffix(textOf(whole), `|Bash{"command":"ls"}|Read{}`) {
		t.Error(textOf(whole))
	}
	for _, m := range []message{whole, streamed} {
		if u := m.obj("usage"); u.num("input_tokens") != 7 || u.num("output_tokens") != 8 || u.num("cache_read_input_tokens") != 9 || m.str("stop_reason") != "tool_use" {
			t.Errorf("%v %v", m["usage"], m["stop_reason"])
		}
	}
}

func TestAPIRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		reply claudetest.Reply
		code  int
		kind  string
	}{
		{claudetest.Status(401), 401, "authentication_error"},
		{claudetest.Status(429).Header("retry-after", "2"), 429, "rate_limit_error"},
		{claudetest.Status(500), 500, "api_error"},
		{claudetest.Status(529).Message("busy"), 529, "overloaded_error"},
		{claudetest.RateLimited(time.Unix(2_000_000_000, 0)), 429, "rate_limit_error"},
	} {
		c := newCaller(t, claudetest.Sequence(tt.reply))
		code, m := c.answer(conversation(userText("x")))
		if code != tt.code || m.obj("error").str("type") != tt.kind || m.obj("error").str("message") == "" {
			t.Errorf("%d %v, want %d %s", code, m, tt.code, tt.kind)
		}
	}
}

func TestAPIRefusesWhatIsNoRequest(t *testing.T) {
	t.Parallel()
	c := newCaller(t, nil)
	if code, m := c.answer(message{"messages": "x"}); code != 400 {
		t.Errorf("%d %v", code, m)
	}
	if code, m := c.answer(message{"messages": []message{}}); code != 400 {
		t.Errorf("%d %v", code, m)
	}
	resp, err := c.client.Get(c.api.URL() + "/elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if d := cmp.Diff([]string{"GET /elsewhere"}, c.api.Strays()); resp.StatusCode != 404 || d != "" {
		t.Error(resp.StatusCode, d)
	}
	if c.api.Count() != 0 {
		t.Errorf("%d requests counted", c.api.Count())
	}
}

func TestAPICutsConnections(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		reply claudetest.Reply
		text  string // what had come until then
	}{
		{"before", claudetest.Drop(), ""},
		{"within", claudetest.Text("0123456789").DropMidStream(), "01234"},
		{"within words", claudetest.Words(4, time.Millisecond).DropMidStream(), "word1 word2 "},
		{"with an error", claudetest.Text("0123456789").FailMidStream(), "01234"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCaller(t, claudetest.Sequence(tt.reply))
			got, err := c.stream(t.Context(), conversation(userText("x")))
			if err == nil {
				t.Fatal("the whole answer came")
			}
			if text := textOf(got); text != tt.text {
				t.Errorf("%q, want %q (%v)", text, tt.text, err)
			}
		})
	}
}

func TestAPIHangsUntilTheClientGivesUp(t *testing.T) {
	t.Parallel()
	for _, reply := range []claudetest.Reply{claudetest.Hang(), claudetest.Text("0123456789").HangMidStream(), claudetest.Text("x").Gate(make(chan struct{})), claudetest.Text("x").After(time.Hour)} {
		c := newCaller(t, claudetest.Sequence(reply))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := c.stream(ctx, conversation(userText("x")))
			done <- err
		}()
		r, err := c.api.Wait(t.Context(), func(*claudetest.Request) bool { return true })
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := <-done; err == nil {
			t.Error("an answer came")
		}
		if !r.Abandoned() {
			t.Error("the request was not abandoned")
		}
	}
}

func TestAPICloseEndsWhatHangs(t *testing.T) {
	t.Parallel()
	c := newCaller(t, claudetest.Sequence(claudetest.Hang()))
	done := make(chan error, 1)
	go func() {
		_, err := c.stream(t.Context(), conversation(userText("x")))
		done <- err
	}()
	r, err := c.api.Wait(t.Context(), func(*claudetest.Request) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	c.api.Close()
	select {
	case <-r.Done():
	default:
		t.Error("Close did not wait for the request")
	}
	if err := <-done; err == nil {
		t.Error("an answer came")
	}
	if r.Abandoned() {
		t.Error("the end of the API counts as the client's")
	}
	c.api.Close()
	if _, err := c.api.Wait(t.Context(), func(*claudetest.Request) bool { return false }); !errors.Is(err, claudetest.ErrClosed) {
		t.Error(err)
	}
}

func TestAPIGateReleases(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	c := newCaller(t, claudetest.Sequence(claudetest.Text("open").Gate(gate)))
	done := make(chan message, 1)
	go func() {
		m, err := c.stream(t.Context(), conversation(userText("x")))
		if err != nil {
			m = message{"error": err.Error()}
		}
		done <- m
	}()
	if _, err := c.api.Wait(t.Context(), func(r *claudetest.Request) bool { return r.Prompt == "x" }); err != nil {
		t.Fatal(err)
	}
	close(gate)
	if m := <-done; textOf(m) != "open" {
		t.Error(m)
	}
}

func TestRequestTellsTheConversation(t *testing.T) {
	t.Parallel()
	got := make(chan *claudetest.Request, 1)
	c := newCaller(t, func(r *claudetest.Request) claudetest.Reply { got <- r; return claudetest.Text("x") })
	toolUse := message{"role": "assistant", "content": []message{{"type": "tool_use", "id": "t1", "name": "Bash", "input": message{"command": "ls"}}}}
	toolResult := message{"role": "user", "content": []message{{"type": "tool_result", "tool_use_id": "t1", "is_error": true, "content": []message{{"type": "text", "text": "out"}}},
		{"type": "text", "text": "<system-reminder>be good</system-reminder>"}}}
	first := message{"role": "user", "content": []message{{"type": "text", "text": "<system-reminder>\ncontext\n</system-reminder>"},
		{"type": "text", "text": "<command-name>/clear</command-name>\n<command-message>clear</command-message>"}, {"type": "text", "text": "one"}}}
	c.text(first, toolUse, toolResult, message{"role": "assistant", "content": "hello"}, message{"role": "user", "content": []message{{"type": "text", "text": "[Request interrupted by user]"}, {"type": "text", "text": "two"}}}, toolUse, toolResult)
	r := <-got
	if r.Model != "claude-sonnet-5" || r.System != "SYS" || r.SessionID != "s-1" || r.Prompt != "two" || r.Round != 1 || r.Number != 1 || r.Attempt != 1 || r.Stream || r.MaxTokens != 100 {
		t.Errorf("%+v", r)
	}
	if d := cmp.Diff([]string{"one", "two"}, r.Prompts); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]claudetest.ToolResult{{ToolUseID: "t1", Content: "out", IsError: true}}, r.Results); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"Bash"}, r.ToolNames()); d != "" {
		t.Error(d)
	}
	if b := r.Messages[5].Content[0]; b.Name != "Bash" || string(b.Input) != `{"command":"ls"}` {
		t.Errorf("%+v", b)
	}
}

func TestAPIRemembersAsToldAndCountsAttempts(t *testing.T) {
	t.Parallel()
	c := newCaller(t, nil)
	c.text(userText("a"))
	c.text(userText("b"))
	c.text(userText("a"))
	var got []string
	for _, r := range c.api.Requests() {
		got = append(got, fmt.Sprintf("%d %s %d", r.Number, r.Prompt, r.Attempt))
	}
	if d := cmp.Diff([]string{"1 a 1", "2 b 1", "3 a 2"}, got); d != "" {
		t.Error(d)
	}
	c.api.Keep(1)
	c.text(userText("c"))
	if n := len(c.api.Requests()); n != 1 || c.api.Requests()[0].Prompt != "c" || c.api.Count() != 4 {
		t.Errorf("%d remembered, %d counted", n, c.api.Count())
	}
}

func TestWaitSeesWhatIsNotRemembered(t *testing.T) {
	t.Parallel()
	c := newCaller(t, nil)
	c.api.Keep(0)
	found := make(chan *claudetest.Request, 1)
	started := make(chan struct{}, 1)
	go func() {
		r, err := c.api.Wait(t.Context(), func(r *claudetest.Request) bool {
			started <- struct{}{}
			return r.Prompt == "wanted"
		})
		if err != nil {
			r = nil
		}
		found <- r
	}()
	// The first request that the waiter sees proves that it waits.
	for waiting := false; !waiting; {
		c.text(userText("other"))
		select {
		case <-started:
			waiting = true
		default:
		}
	}
	go func() {
		for range started { // later calls of the condition
		}
	}()
	c.text(userText("wanted"))
	if r := <-found; r == nil || r.Prompt != "wanted" {
		t.Errorf("%v", r)
	}
	close(started)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.api.Wait(ctx, func(*claudetest.Request) bool { return false }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestAPIServesManyAtOnce(t *testing.T) {
	t.Parallel()
	c := newCaller(t, claudetest.Match(claudetest.When("alpha", claudetest.Text("A")), claudetest.When("beta", claudetest.Text("B"), claudetest.Text("B2"))))
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			prompt, want := fmt.Sprintf("say %d alpha", i), "A"
			if i%2 == 1 {
				prompt, want = fmt.Sprintf("[[reply:%d]]", i), fmt.Sprint(i)
			}
			m, err := c.stream(t.Context(), conversation(userText(prompt)))
			if err != nil || textOf(m) != want {
				t.Errorf("%q %v, want %q", textOf(m), err, want)
			}
		})
	}
	wg.Wait()
	if c.api.Count() != 40 {
		t.Errorf("%d requests", c.api.Count())
	}
}

func TestScripts(t *testing.T) {
	t.Parallel()
	round := []message{userText("do beta"), {"role": "assistant", "content": []message{{"type": "tool_use", "id": "t", "name": "Bash", "input": message{}}}},
		{"role": "user", "content": []message{{"type": "tool_result", "tool_use_id": "t", "content": "out"}}}}
	c := newCaller(t, claudetest.Match(claudetest.When("beta", claudetest.ToolUse("Bash", nil), claudetest.Text("then"))))
	if got := c.text(round[:1]...) + " " + c.text(round...); got != "Bash{} then" {
		t.Error(got)
	}
	c = newCaller(t, claudetest.Sequence(claudetest.Text("1"), claudetest.Text("2")))
	if got := c.text(userText("x")) + c.text(userText("x")) + c.text(userText("x")); got != "122" {
		t.Error(got)
	}
	c = newCaller(t, claudetest.Echo)
	if got := c.text(userText("[[reply:x]]")); got != "[[reply:x]]" {
		t.Error(got)
	}
	c = newCaller(t, claudetest.Sequence())
	if got := c.text(userText("x")); !strings.HasPrefix(got, "claudetest:") {
		t.Error(got)
	}
	c = newCaller(t, claudetest.Sequence(claudetest.ToolUse("Bash", make(chan int))))
	if got := c.text(userText("x")); !strings.HasPrefix(got, "claudetest: input of tool Bash") {
		t.Error(got)
	}
	c = newCaller(t, claudetest.Sequence(claudetest.Huge(5_000_001)))
	if got := c.text(userText("x")); len(got) != 5_000_001 {
		t.Error(len(got))
	}
}

func TestAPICountsTokens(t *testing.T) {
	t.Parallel()
	c := newCaller(t, nil)
	resp, err := c.client.Post(c.api.URL()+"/v1/messages/count_tokens", "application/json", strings.NewReader(strings.Repeat("x", 400)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || strings.TrimSpace(string(b)) != `{"input_tokens":100}` {
		t.Errorf("%s %v", b, err)
	}
}

func BenchmarkAPI(b *testing.B) {
	api := claudetest.NewAPI(b, claudetest.Echo)
	api.Keep(0)
	body := conversation(userText("hello"))
	body["stream"], body["filler"] = true, strings.Repeat("x", 50_000) // as large as the CLI's
	data, err := json.Marshal(body)
	if err != nil {
		b.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	b.ReportAllocs()
	for b.Loop() {
		resp, err := client.Post(api.URL()+"/v1/messages", "application/json", bytes.NewReader(data))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			b.Fatal(err)
		}
		resp.Body.Close()
	}
}

func TestAPICloseWaitsForScripts(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	var finished atomic.Bool
	c := newCaller(t, func(*claudetest.Request) claudetest.Reply {
		close(entered)
		<-release
		finished.Store(true)
		return claudetest.Text("late")
	})
	cut := make(chan error, 1)
	go func() {
		_, err := c.stream(t.Context(), conversation(userText("x")))
		cut <- err
	}()
	<-entered
	closed := make(chan bool, 1)
	go func() {
		c.api.Close()
		closed <- finished.Load()
	}()
	if err := <-cut; err == nil { // Close has cut the connection, and waits
		t.Error("an answer came")
	}
	close(release)
	if !<-closed {
		t.Error("Close left a script running")
	}
}
