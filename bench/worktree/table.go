//go:build unix

package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// row is what came of the rounds.
type row struct {
	log                                   io.Writer
	rounds, kills, gcs, locks             int
	lives, works, ends, ops, merges, kept int
	findings                              []string
}

// add adds up a life that has ended.
func (r *row) add(l *life) {
	w := l.witness
	r.lives++
	r.works += w.Works
	r.ends += w.Ends
	r.ops += w.Ops
	r.merges += w.Merges
	r.kept += w.Wrote
}

func table(w io.Writer, r *row) {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "rounds\tkills\trepositories\tgc\tpieces of work\tended\tdone by agents\tmerged\tfiles looked for\tlocks left\tviolations\t")
	fmt.Fprintf(out, "%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", r.rounds, r.kills, r.lives, r.gcs, r.works, r.ends, r.ops, r.merges, r.kept, r.locks, len(r.findings))
	out.Flush()
}
