//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/claudepool/claudepool/bench/fault/internal/check"
	"github.com/claudepool/claudepool/claudetest"
)

// envPrompts names the file in which the agents' prompts are written down.
const envPrompts = "CLAUDEPOOL_FAULT_PROMPTS"

// model returns the script of a model that does what the prompt says, or if it
// says nothing, such as in the one that goes on with a conversation, answers for
// the task whose mark stands last in the conversation. It writes each
// request into a file before it answers.
func model(file string) claudetest.Script {
	return func(r *claudetest.Request) claudetest.Reply {
		mark := ""
		for _, p := range r.Prompts {
			if m := check.Mark(p); m != "" {
				mark = m
			}
		}
		reply := claudetest.Text(check.Answer(mark))
		if strings.Contains(r.Prompt, "[[") {
			reply = claudetest.Directives(r)
		}
		p := check.Prompt{Mark: mark, Cost: cost(reply.Tokens())}
		if r.Round == 0 && r.Attempt == 1 {
			p.Text, p.Resumed = r.Prompt, strings.Contains(r.Prompt, "Continue from where you left off.")
		}
		if err := writeDown(file, p); err != nil {
			return claudetest.Text(fmt.Sprintf("the request cannot be written down: %v", err))
		}
		return reply
	}
}

// cost returns what an answer costs in microdollars, at the list price of the
// model that the slots ask for.
func cost(u claudetest.Usage) int64 { return int64(2*u.Input + 10*u.Output) }

// writeDown appends a request in one write, which no other process interrupts.
func writeDown(file string, p check.Prompt) error {
	line, err := json.Marshal(p)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
