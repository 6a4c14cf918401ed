package claudetest

import (
	"strings"
	"sync/atomic"
)

// Echo answers with the prompt.
func Echo(r *Request) Reply { return Text(r.Prompt) }

// Sequence answers the first request with the first reply and so on; after the
// last one it goes on with the last. Use it when one process asks at a time.
func Sequence(replies ...Reply) Script {
	var next atomic.Int64
	return func(*Request) Reply {
		if len(replies) == 0 {
			return Text("claudetest: Sequence has no replies")
		}
		n := next.Add(1) - 1
		return replies[min(n, int64(len(replies)-1))]
	}
}

// Rule is one line of a [Match] table.
type Rule struct {
	// Contains is looked for in the prompt. Empty matches every prompt.
	Contains string
	// Replies answer the requests of the turn in order: the first request, the
	// one after the first tool round, and so on. The last one repeats.
	Replies []Reply
}

// When makes a [Rule].
func When(contains string, replies ...Reply) Rule { return Rule{contains, replies} }

// Match answers by the first rule that fits the prompt, else like [Directives].
func Match(rules ...Rule) Script {
	return func(r *Request) Reply {
		for _, rule := range rules {
			if len(rule.Replies) > 0 && strings.Contains(r.Prompt, rule.Contains) {
				return rule.Replies[min(r.Round, len(rule.Replies)-1)]
			}
		}
		return Directives(r)
	}
}
