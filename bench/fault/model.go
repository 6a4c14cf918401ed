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
// the task whose mark stands last in the conversation. It writes each prompt into
// a file before it answers.
func model(file string) claudetest.Script {
	return func(r *claudetest.Request) claudetest.Reply {
		mark := ""
		for _, p := range r.Prompts {
			if m := check.Mark(p); m != "" {
				mark = m
			}
		}
		if r.Round == 0 && r.Attempt == 1 && r.Prompt != "" {
			if err := writeDown(file, r.Prompt, mark); err != nil {
				return claudetest.Text(fmt.Sprintf("the prompt cannot be written down: %v", err))
			}
		}
		if strings.Contains(r.Prompt, "[[") {
			return claudetest.Directives(r)
		}
		return claudetest.Text(check.Answer(mark))
	}
}

// writeDown appends a prompt in one write, which no other process interrupts.
func writeDown(file, prompt, mark string) error {
	line, err := json.Marshal(check.Prompt{Mark: mark, Text: prompt, Resumed: strings.Contains(prompt, "Continue from where you left off.")})
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
