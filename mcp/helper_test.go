package mcp_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/claudepool/claudepool"
)

func asInvalid(t *testing.T, err error) *claudepool.InvalidError {
	t.Helper()
	var invalid *claudepool.InvalidError
	if !errors.As(err, &invalid) {
		t.Fatalf("the error is %v, want an InvalidError", err)
	}
	return invalid
}

type args map[string]any

// call calls a tool that must succeed.
func (f *fixture) call(t *testing.T, name string, in args) *sdk.CallToolResult {
	t.Helper()
	res, err := f.client.CallTool(t.Context(), &sdk.CallToolParams{Name: name, Arguments: in})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if res.IsError {
		t.Fatalf("%s: %s", name, text(res))
	}
	return res
}

// tools are the names of the tools that are listed.
func (f *fixture) tools(t *testing.T) []string {
	t.Helper()
	var names []string
	for tool, err := range f.client.Tools(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, tool.Name)
	}
	return names
}

// refused calls a tool that must fail, and returns the error's text.
func (f *fixture) refused(t *testing.T, name string, in args) string {
	t.Helper()
	res, err := f.client.CallTool(t.Context(), &sdk.CallToolParams{Name: name, Arguments: in})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if !res.IsError {
		t.Fatalf("%s(%v) was not refused: %s", name, in, text(res))
	}
	return text(res)
}

// text is the text of a result.
func text(res *sdk.CallToolResult) string {
	for _, c := range res.Content {
		if t, ok := c.(*sdk.TextContent); ok {
			return t.Text
		}
	}
	return ""
}

// structured decodes the structured content of a result.
func structured[T any](t *testing.T, res *sdk.CallToolResult) T {
	t.Helper()
	b, err := json.Marshal(res.StructuredContent)
	if err != nil {
		t.Fatal(err)
	}
	var v T
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return v
}

// report is a task as the tools show it.
type report struct {
	claudepool.TaskResult
	NextOffset int    `json:"next_offset"`
	Note       string `json:"note"`
}

type waited struct {
	Done  bool     `json:"done"`
	Tasks []report `json:"tasks"`
}

type fannedOut struct {
	Results []report `json:"results"`
	Census  struct {
		claudepool.Census
		Unfinished int `json:"unfinished"`
	} `json:"census"`
}

type list struct {
	Tasks []struct {
		TaskID  claudepool.TaskID    `json:"task_id"`
		State   claudepool.TaskState `json:"state"`
		Outcome claudepool.Outcome   `json:"outcome"`
		Prompt  string               `json:"prompt"`
		Tags    []string             `json:"tags"`
		Parent  claudepool.TaskID    `json:"parent"`
	} `json:"tasks"`
	NextCursor claudepool.TaskID `json:"next_cursor"`
}

func decode(t *testing.T, message string) jsonrpc.Message {
	t.Helper()
	m, err := jsonrpc.DecodeMessage([]byte(message))
	if err != nil {
		t.Fatal(err)
	}
	return m
}
