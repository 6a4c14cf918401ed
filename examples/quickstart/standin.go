package main

import (
	"strings"
	"time"

	"github.com/claudepool/claudepool/claudetest"
)

// canned are the built-in questions, and what the stand-in answers.
var canned = []struct{ question, answer string }{
	{"In one sentence: what does a mutex protect?", "An invariant over shared data, for as long as it is held."},
	{"In one sentence: what is a fencing token?", "A number that only grows, so that a late writer with an older one is refused."},
	{"Name one trap of a Go map that several goroutines use.", "One that writes while another reads ends the program, and no recover helps."},
	{"Which HTTP status says: come back later?", "429 when you asked too often, 503 when the server cannot; look at Retry-After."},
	{"One reason to prefer errors.Is over == ?", "It still finds the error after somebody has wrapped it."},
	{"A commit subject for: the loop missed the last row", "Count the last row too"},
	{"In one sentence: what is a reservation in a budget?", "Money set aside before it is spent, so that two spenders cannot both count on it."},
	{"A name for a function that retries with growing pauses?", "WithBackoff"},
}

func questions() []string {
	qs := make([]string, len(canned))
	for i, c := range canned {
		qs[i] = c.question
	}
	return qs
}

// standIn is the model of the stand-in: it answers a few letters at a time.
func standIn(r *claudetest.Request) claudetest.Reply {
	answer := "This is a stand-in, which knows nothing of that; run with -real to ask a model."
	for _, c := range canned {
		if c.question == r.Prompt {
			answer = c.answer
		}
	}
	usage := claudetest.Usage{Input: 1500 + len(r.Prompt)/4, Output: 8 * len(strings.Fields(answer))}
	return claudetest.Text(answer).Usage(usage).After(250*time.Millisecond).Chunks(5, 45*time.Millisecond)
}
