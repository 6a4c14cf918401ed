//go:build unix

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/claudepool/claudepool/bench/fault/internal/check"
)

// row is what came of the rounds of a fault.
type row struct {
	fault
	log      io.Writer
	rounds   int
	findings []string
	left     int // processes

	total             check.Sums
	by                map[string]int // failed tasks by class
	accepted, resumed int
	sums              check.Sums // of the life under way, at the last look
	taken, gone       []time.Duration
	skipped           string
}

func newRow(f fault, log io.Writer) *row { return &row{fault: f, log: log, by: map[string]int{}} }

// find notes a violation, once in a life.
func (r *row) find(l *life, text string) {
	if l.found[text] {
		return
	}
	l.found[text] = true
	text = fmt.Sprintf("%s, round %d (%s): %s", r.name, l.round, l.dir, text)
	r.findings = append(r.findings, text)
	fmt.Fprintln(r.log, "VIOLATION", text)
}

func (r *row) takeOver(d time.Duration) { r.taken = append(r.taken, d) }
func (r *row) ended(d time.Duration)    { r.gone = append(r.gone, d) }

// add adds up a life that has ended.
func (r *row) add(l *life) {
	r.accepted += l.witness.Accepted()
	r.resumed += l.witness.Resumed
	t, s := &r.total, &r.sums
	for _, sum := range []struct{ to, from *int }{
		{&t.Tasks, &s.Tasks}, {&t.Pending, &s.Pending}, {&t.Running, &s.Running}, {&t.Review, &s.Review},
		{&t.Completed, &s.Completed}, {&t.Failed, &s.Failed}, {&t.Cancelled, &s.Cancelled}, {&t.Lost, &s.Lost},
	} {
		*sum.to += *sum.from
	}
	for class, n := range s.By {
		r.by[class] += n
	}
	t.Spent += s.Spent
	t.Estimated += s.Estimated
	t.Assumed += s.Assumed
	t.Unasked += s.Unasked
	r.sums = check.Sums{}
}

// table prints the rows.
func table(w io.Writer, rows []*row) {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "fault\trounds\taccepted\ttasks\tfinished\tpending\tfailed truthfully\tcancelled\tresumed\tattempts lost\tcharged\testimated\tassumed\tnever asked\tviolations\tprocesses left\ttake-over\tgone\t")
	for _, r := range rows {
		if r.skipped != "" {
			fmt.Fprintf(out, "%s\tskipped: %s\t\n", r.name, r.skipped)
			continue
		}
		t := &r.total
		fmt.Fprintf(out, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t$%.2f\t$%.2f\t$%.2f\t$%.2f\t%d\t%d\t%s\t%s\t\n", r.name, r.rounds, r.accepted, t.Tasks, t.Completed,
			t.Pending+t.Running+t.Review, t.Failed, t.Cancelled, r.resumed, t.Lost, float64(t.Spent)/1e6, float64(t.Estimated)/1e6, float64(t.Assumed)/1e6, float64(t.Unasked)/1e6,
			len(r.findings), r.left, spread(r.taken), spread(r.gone))
	}
	out.Flush()
	fmt.Fprintln(w, "\nTasks include the steps of chains. Of what was charged a part is estimated, for attempts that were cut off. Of that a part is\nassumed, as no figure was seen, and a part is for tasks about which the model was never asked.\nTake-over is from the start of a host until no claim of a dead one is left, gone from a host's\nend until none of its processes is left: median and most.")
	for _, r := range rows {
		fmt.Fprintf(w, "%s: %s; failed:", r.name, r.what)
		for _, class := range slices.Sorted(maps.Keys(r.by)) {
			fmt.Fprintf(w, " %s %d", class, r.by[class])
		}
		fmt.Fprintln(w)
	}
}

func spread(all []time.Duration) string {
	if len(all) == 0 {
		return "-"
	}
	slices.Sort(all)
	return fmt.Sprintf("%v/%v", all[len(all)/2].Round(time.Millisecond), all[len(all)-1].Round(time.Millisecond))
}
