package claudetest

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// demoScript obeys directives, and answers a plain prompt with a few words
// about it, at the pace of the environment.
func demoScript() (Script, error) {
	var pace time.Duration
	if v := os.Getenv(EnvStandInPace); v != "" {
		var err error
		if pace, err = duration(v); err != nil {
			return nil, fmt.Errorf("claudetest: %s: %w", EnvStandInPace, err)
		}
	}
	return func(r *Request) Reply {
		if ds, err := parseDirectives(r.Prompt); err != nil || len(ds) > 0 {
			return Directives(r)
		}
		text := canned(r.Prompt)
		for _, t := range r.Tools {
			var s schema
			if t.Name == "StructuredOutput" && json.Unmarshal(t.InputSchema, &s) == nil {
				return ToolUse(t.Name, s.sample(text))
			}
		}
		reply := Text(text).Usage(Usage{Input: 100 + len(r.Prompt)/4, Output: len(strings.Fields(text))})
		reply.chunk, reply.pause = -1, pace
		return reply
	}, nil
}

// canned is an answer that fits any prompt a little, and always the same one.
func canned(prompt string) string {
	subject := strings.Join(strings.Fields(prompt), " ")
	if r := []rune(subject); len(r) > 60 {
		subject = string(r[:60]) + "…"
	}
	ways := []string{
		"I looked into “%s”. It holds together: one small point was open, and it is settled now.",
		"Done: “%s”. I checked the result twice and found nothing left to change.",
		"About “%s”: the short answer is yes. The details follow the usual pattern.",
	}
	sum := 0
	for _, c := range []byte(prompt) {
		sum += int(c)
	}
	return fmt.Sprintf(ways[sum%len(ways)], subject)
}

// single is one prompt from the command line or stdin, as with claude -p.
func (s *standIn) single(stdin io.Reader, stdout io.Writer) int {
	text := s.args.prompt
	if text == "" {
		b, err := io.ReadAll(stdin)
		if err != nil || len(strings.TrimSpace(string(b))) == 0 {
			fmt.Fprintln(s.stderr, "Error: Input must be provided either through stdin or as a prompt argument when using --print")
			return 1
		}
		text = strings.TrimSpace(string(b))
	}
	t := s.newTurn([]*userMessage{{text: text}})
	defer t.cancel()
	t.run()
	switch s.args.output {
	case "json":
		fmt.Fprintf(stdout, "%s\n", encode(t.final))
	case "text":
		answer, _ := t.final["result"].(string)
		fmt.Fprintln(stdout, answer)
	}
	s.killJobs()
	if err := s.conv.close(s.bill); err != nil {
		fmt.Fprintln(s.stderr, err)
		return 1
	}
	return s.exitCode()
}
