// Dag runs a graph of seven steps on three slots: what does not wait for
// another runs side by side. One step is run for each item of a list that an
// earlier one gave. At the end a timeline shows what ran when, and where.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/claudepool/claudepool"
	"github.com/claudepool/claudepool/claudetest"
	"github.com/claudepool/claudepool/examples/internal/demo"
)

func main() {
	claudetest.MainScript(standIn)
	real := flag.Bool("real", false, "use the Claude CLI in PATH and your login; costs some cents")
	flag.Parse()
	if err := run(context.Background(), demo.Claude(*real)); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, claude string) error {
	c, cleanup, err := demo.Config(claude)
	if err != nil {
		return err
	}
	defer cleanup()
	c.Slots = 3
	c.Agent.Tools = []string{} // words need none
	pool, err := claudepool.NewPoolBuilder().Config(c).Build(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()

	step := func(name, prompt string, needs ...string) claudepool.ChainStep {
		return claudepool.ChainStep{Name: name, Action: claudepool.StepAction{Prompt: prompt}, Needs: needs}
	}
	chapters := step("chapters", "Write one sentence on: {item}", "outline")
	chapters.ForEach = "steps.outline.output"
	chain, err := pool.ExecuteChain(ctx, claudepool.Chain{
		Arguments: map[string]string{"subject": "tea"},
		Steps: []claudepool.ChainStep{
			step("outline", "Name three chapters of a booklet on {subject}, as a JSON list of strings and nothing else."),
			step("title", "Find a title for a booklet on {subject}."),
			chapters,
			step("preface", "Write one sentence of preface for {steps.title.output}", "title"),
			step("index", "Name five index words for {steps.outline.output}", "outline"),
			step("book", "Join title, preface and chapters: {steps.title.output} {steps.preface.output} {steps.chapters.output}", "preface", "chapters"),
			step("blurb", "Praise in one line: {steps.book.output} with an index of {steps.index.output}", "book", "index"),
		},
	}, claudepool.ChainOptions{})
	if err != nil {
		return err
	}
	timeline(chain)
	fmt.Printf("The chain is %s for %v: %s\n", chain.State, chain.Cost, chain.Output)
	return nil
}

// width is how many characters the timeline is wide.
const width = 48

// timeline draws when each step, or each item of it, ran.
func timeline(chain claudepool.ChainResult) {
	var rows []claudepool.StepResult
	for _, s := range chain.Steps {
		if len(s.Items) > 0 {
			rows = append(rows, s.Items...)
		} else {
			rows = append(rows, s)
		}
	}
	begin, end := rows[0].Started, rows[0].Ended
	for _, r := range rows {
		if r.Started.Before(begin) {
			begin = r.Started
		}
		if r.Ended.After(end) {
			end = r.Ended
		}
	}
	column := func(t time.Time) int { return int(int64(width) * int64(t.Sub(begin)) / int64(end.Sub(begin)+1)) }
	for _, r := range rows {
		from, to := column(r.Started), column(r.Ended)
		fmt.Printf("%-12s %-7s %s%s\n", r.Name, r.SlotID, strings.Repeat(" ", from), strings.Repeat("=", max(to-from, 1)))
	}
}

// standIn takes a third of a second for an answer.
func standIn(r *claudetest.Request) claudetest.Reply {
	answer := claudetest.Text("(answer to: " + strings.SplitN(r.Prompt, ":", 2)[0] + ")")
	if strings.HasPrefix(r.Prompt, "Name three chapters") {
		answer = claudetest.Text(`["Leaves", "Water", "Cups"]`)
	}
	return answer.After(300 * time.Millisecond)
}
