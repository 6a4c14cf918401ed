package claudetest_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/claudepool/claudepool/claudetest"
)

// play is what a turn with prompt comes to, one line for each answer, when
// each tool says "out".
func play(t *testing.T, prompt string) string {
	t.Helper()
	c := newCaller(t, nil)
	messages := []message{userText("before"), {"role": "assistant", "content": "ok"}, userText(prompt)}
	var out []string
	for range 10 {
		status, m := c.answer(conversation(messages...))
		if status != 200 {
			return strings.Join(append(out, fmt.Sprint(status)), "\n")
		}
		out = append(out, textOf(m))
		if m.str("stop_reason") != "tool_use" {
			return strings.Join(out, "\n")
		}
		var results []message
		for _, b := range list(m["content"]) {
			if block := message(b.(map[string]any)); block.str("type") == "tool_use" {
				results = append(results, message{"type": "tool_result", "tool_use_id": block.str("id"), "content": "out"})
			}
		}
		messages = append(messages, message{"role": "assistant", "content": m["content"]}, message{"role": "user", "content": results})
	}
	t.Fatalf("the turn does not end: %q", out)
	return ""
}

func TestDirectives(t *testing.T) {
	t.Parallel()
	const bash = `Bash{"command":"%s","description":"run a command"}`
	for _, tt := range []struct{ prompt, want string }{
		{"plain", "plain"},
		{"a [[ -e x ]] test and a [[Wiki link]]", "a [[ -e x ]] test and a [[Wiki link]]"},
		{"please [[reply:yes: [[indeed]]!]] thanks", "yes: [[indeed]]!"},
		{"[[reply:a]][[reply:b]]", "a|b"},
		{"[[reply:]]", ""},
		{"[[think:hm]][[reply:so]]", "hm|so"},
		{"[[bash:ls]]", fmt.Sprintf(bash, "ls") + "\nout"},
		{"[[reply:first]][[bash:ls]][[reply:then]]", "first|" + fmt.Sprintf(bash, "ls") + "\nthen"},
		{"[[bash:ls]][[and]][[read:f]][[reply:both]]", fmt.Sprintf(bash, "ls") + `|Read{"file_path":"f"}` + "\nboth"},
		{"[[bash:ls]][[bash:pwd]]", fmt.Sprintf(bash, "ls") + "\n" + fmt.Sprintf(bash, "pwd") + "\nout"},
		{"[[bash:if [[ -e x ]]; then echo y; fi]][[reply:.]]", fmt.Sprintf(bash, "if [[ -e x ]]; then echo y; fi") + "\n."},
		{"[[background:sleep 9]][[reply:.]]", `Bash{"command":"sleep 9","description":"run a command","run_in_background":true}` + "\n."},
		{"[[write:a.txt:x:y]][[reply:.]]", `Write{"content":"x:y","file_path":"a.txt"}` + "\n."},
		{`[[tool:mcp__a__b:{"x":1}]][[reply:.]]`, `mcp__a__b{"x":1}` + "\n."},
		{`[[output:{"n":1}]][[reply:.]]`, `StructuredOutput{"n":1}` + "\n."},
		{"[[history]]", "before\n[[history]]"},
		{"[[system]]", "SYS"},
		{"[[tools]]", "Bash"},
		{"[[model]]", "claude-sonnet-5"},
		{"[[stream:3]]", "word1 word2 word3"},
		{"[[stream:2:1ms]]", "word1 word2"},
		{"[[huge:20]]", "0123456789abcde 0123"},
		{"[[sleep:1ms]][[reply:late]]", "late"},
		{"[[status:529]]", "529"},
		{"[[bash:ls]][[status:401]]", fmt.Sprintf(bash, "ls") + "\n401"},
		{"[[limit:1h]]", "429"},
		{"[[usage:1,2]]", "ok"},
	} {
		if got := play(t, tt.prompt); got != tt.want {
			t.Errorf("%s\n got %q\nwant %q", tt.prompt, got, tt.want)
		}
	}
}

func TestDirectivesSayWhatIsMalformed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ prompt, want string }{
		{"[[nonsense]]", "unknown"},
		{"[[reply:open", "no closing ]]"},
		{"[[reply]]", "wants [[reply:text]]"},
		{"[[history:x]]", "takes no argument"},
		{"[[bad name:x]]", "lower-case letters"},
		{"[[bash: ]]", "empty"},
		{"[[write:name]]", "separated by a colon"},
		{"[[read:]]", "empty"},
		{"[[tool:X:nonsense]]", "not a JSON object"},
		{"[[tool::{}]]", "name is empty"},
		{"[[output:[1]]]", "not a JSON object"},
		{"[[stream:0]]", "whole number"},
		{"[[stream:3:soon]]", "not a duration"},
		{"[[huge:-1]]", "whole number"},
		{"[[sleep:-1s]]", "not a duration"},
		{"[[usage:1]]", "whole number"},
		{"[[status:200]]", "from 400 to 599"},
		{"[[status:500:0]]", "from 1 to"},
		{"[[limit:soon]]", "not a duration"},
		{"[[drop:end]]", "whole number"},
		{"[[drop:mid:]]", "must follow mid"},
		{"[[fault:nonsense]]", "unknown fault"},
		{"[[fault:crash]]", "only the stand-in"},
		{"[[and]]", "must come before"},
		{"[[bash:ls]][[and]]", "must follow"},
		{"[[bash:ls]][[and]][[reply:x]]", "must follow"},
	} {
		if got := play(t, tt.prompt); !strings.HasPrefix(got, "claudetest: ") || !strings.Contains(got, tt.want) {
			t.Errorf("%s\n got %q\nwant %q in it", tt.prompt, got, tt.want)
		}
	}
}

func TestDirectivesFailOnlyTheFirstAttempts(t *testing.T) {
	t.Parallel()
	c := newCaller(t, nil)
	for i, want := range []int{503, 503, 200} {
		if code, m := c.answer(conversation(userText("[[status:503:2]][[reply:x]]"))); code != want {
			t.Errorf("attempt %d: %d %v", i+1, code, m)
		}
	}
	for i, fails := range []bool{true, false} {
		if _, err := c.stream(t.Context(), conversation(userText("[[drop:mid:1]][[reply:abcdef]]"))); (err != nil) != fails {
			t.Errorf("attempt %d: %v", i+1, err)
		}
	}
}

func TestDirectivesSetTokenCounts(t *testing.T) {
	t.Parallel()
	c := newCaller(t, nil)
	// They hold for the later answers of the turn as well.
	_, m := c.answer(conversation(userText("[[usage:1000,20]][[bash:ls]][[reply:x]]"),
		message{"role": "assistant", "content": []message{{"type": "tool_use", "id": "t", "name": "Bash", "input": message{}}}},
		message{"role": "user", "content": []message{{"type": "tool_result", "tool_use_id": "t", "content": "out"}}}))
	if u := m.obj("usage"); u.num("input_tokens") != 1000 || u.num("output_tokens") != 20 {
		t.Error(u)
	}
}

func FuzzDirectives(f *testing.F) {
	for _, s := range []string{"", "plain", "[[reply:x]]", "[[bash:ls]][[and]][[read:f]]", "[[[[a]]]]", "[[stream:2:1ms]]", "[[status:500:1]]", "[[drop:mid:1]]", "[[fault:exit:3]]", "[[tool:X:{}]]"} {
		f.Add(s, 0)
	}
	f.Fuzz(func(t *testing.T, prompt string, round int) {
		// It must not panic, and must know its own mind.
		r := &claudetest.Request{Prompt: prompt, Prompts: []string{prompt}, Round: max(round, 0), Attempt: 1}
		claudetest.Directives(r)
	})
}

func FuzzParseFault(f *testing.F) {
	for _, s := range []string{"", "crash", "exit:3", "leak:9", "fail-starts:2:f", "hold-stdout:1s", "deny:Bash"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		fault, err := claudetest.ParseFault(s)
		if err != nil {
			return
		}
		if again, err := claudetest.ParseFault(string(fault)); err != nil || again != fault {
			t.Errorf("%q became %q, then %q, %v", s, fault, again, err)
		}
	})
}

func TestSleepIsFelt(t *testing.T) {
	t.Parallel()
	c := newCaller(t, nil)
	begun := time.Now()
	c.text(userText("[[sleep:50ms]][[reply:x]]"))
	if took := time.Since(begun); took < 50*time.Millisecond {
		t.Errorf("%v", took)
	}
}
