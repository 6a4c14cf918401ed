package check

import (
	"regexp"
	"strings"
)

// Every prompt carries a mark, which names its task, and says how the task may
// fail: "<<r12.5>> may:api_error". What agents answer has no angle brackets, so
// no answer that is put into the prompt of a later step looks like a mark.
var (
	marks   = regexp.MustCompile(`<<([a-zA-Z0-9./!-]+)>>`)
	permits = regexp.MustCompile(`may:([a-z_,]+)`)
)

// Mark returns the last mark in a text, or nothing.
func Mark(text string) string {
	all := marks.FindAllStringSubmatch(text, -1)
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1][1]
}

// permitted returns the classes of outcome that the prompt of a task permits.
func permitted(prompt string) map[string]bool {
	may := map[string]bool{}
	if m := permits.FindStringSubmatch(prompt); m != nil {
		for class := range strings.SplitSeq(m[1], ",") {
			may[class] = true
		}
	}
	return may
}

// Answer is what an agent answers to the prompt with a mark.
func Answer(mark string) string { return "done " + mark }

// chainMark returns the part of a step's mark that is the chain's.
func chainMark(prompt string) string {
	chain, _, _ := strings.Cut(Mark(prompt), "/")
	return chain
}
