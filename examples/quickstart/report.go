package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/claudepool/claudepool"
)

// report prints the table of results, and what the whole came to.
func report(w io.Writer, prompts []string, out claudepool.FanOutResult, m claudepool.Metrics, took time.Duration) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "#\ttask\toutcome\tslot\ttime\tcost\tanswer")
	for i, r := range out.Results {
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%.1fs\t%v\t%s\n", i+1, cut(prompts[i%len(prompts)], 28), r.Outcome, cmp.Or(r.SlotID, "-"),
			time.Duration(r.Ran).Seconds(), r.Cost, cut(answer(r), 40))
	}
	t.Flush()

	c := out.Census
	fmt.Fprintf(w, "\n%d of %d done in %.1fs, for %v.\n", c.OK, c.Asked, took.Seconds(), c.Cost)
	attempts := m.Warm + m.Claimed + m.Spawned
	fmt.Fprintf(w, "Of %d attempts %d found the warm process of a slot, %d a spare one, and for %d one was started.\n", attempts, m.Warm, m.Claimed, m.Spawned)
	if n := c.Asked - c.OK; n > 0 {
		var classes []string
		for _, o := range claudepool.Outcomes() {
			if c.Failed[o] > 0 {
				classes = append(classes, fmt.Sprintf("%d %s", c.Failed[o], o))
			}
		}
		fmt.Fprintf(w, "%d not done: %s.\n", n, strings.Join(classes, ", "))
	}
}

// answer is what a task brought: its output, or why there is none.
func answer(r claudepool.TaskResult) string {
	if r.Failure != nil {
		return r.Failure.Message
	}
	return r.Output
}
