package claudetest_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/claudepool/claudepool/claudetest"
)

// The stand-in is only worth something while it does what the CLI does. These
// dialogues run against both and must read the same.

var compareFlags = []string{"--model", "claude-sonnet-5", "--tools", "Bash,Read,Edit,Write", "--strict-mcp-config", "--setting-sources", "", "--permission-prompt-tool", "stdio"}

// dialogues are what is compared.
var dialogues = []struct {
	name string
	args []string
	env  []string
	talk func(*client)
}{
	{"turns and clear", bypassFlags(), nil, func(c *client) {
		c.turn(id1, "[[reply:say this]]")
		c.turn(id2, "[[bash:echo hi]]")
		c.ask("get_usage", nil)
		c.turn(id3, "/clear")
		c.turn(id4, "[[usage:1000,100]][[history]]")
	}},
	{"partial messages", append(bypassFlags(), "--include-partial-messages"), nil, func(c *client) {
		c.turn(id1, "[[think:hm]][[reply:two words]]")
		c.turn(id2, "[[bash:echo hi]]")
	}},
	{"interrupt a stream", append(bypassFlags(), "--include-partial-messages"), nil, func(c *client) {
		c.turn(id1, "[[reply:warm]]")
		c.prompt(id2, "[[reply:half of this is said]][[hang:mid]]")
		c.until(is("stream_event/content_block_delta"))
		c.ask("interrupt", message{"for_user_message_uuids": []string{id2}})
		c.until(is("system/session_state_changed:idle"))
		c.ask("interrupt", message{"for_user_message_uuids": []string{id2}})
		c.turn(id3, "[[reply:on]]")
	}},
	{"interrupt a tool", bypassFlags(), nil, func(c *client) {
		c.turn(id1, "[[reply:warm]]")
		c.prompt(id2, "[[bash:touch $DIR/started; tail -f /dev/null]]")
		c.until(is("assistant"))
		c.waitForFile("started")
		c.ask("interrupt", nil)
		c.until(is("system/session_state_changed:idle"))
		c.turn(id3, "[[reply:on]]")
	}},
	{"permissions", compareFlags, nil, func(c *client) {
		c.answer = func(r message) (message, error) {
			if r.obj("input").str("file_path") == "good.txt" || strings.HasSuffix(r.obj("input").str("file_path"), "/good.txt") {
				return message{"behavior": "allow"}, nil
			}
			return message{"behavior": "deny", "message": "not today"}, nil
		}
		c.turn(id1, "[[write:$DIR/good.txt:content]]")
		c.turn(id2, "[[write:$DIR/bad.txt:content]]")
		c.ask("set_permission_mode", message{"mode": "acceptEdits"})
		c.turn(id3, "[[write:$DIR/free.txt:content]]")
		c.ask("set_permission_mode", message{"mode": "dontAsk"})
		c.turn(id4, "[[bash:touch x]][[reply:denied]]")
		c.ask("set_permission_mode", message{"mode": "nonsense"})
		c.ask("set_permission_mode", message{"mode": "bypassPermissions"})
	}},
	{"errors", bypassFlags(), []string{"CLAUDE_CODE_MAX_RETRIES=1"}, func(c *client) {
		c.turn(id1, "[[status:529]]")
		c.turn(id2, "[[status:401:1]][[reply:through]]")
		c.turn(id3, "[[limit:1h]]")
		c.turn(id4, "[[drop]]")
	}},
	{"a refusal that stops", compareFlags, nil, func(c *client) {
		c.answer = func(message) (message, error) {
			return message{"behavior": "deny", "message": "stop it", "interrupt": true}, nil
		}
		c.turn(id1, "[[write:$DIR/x:y]]")
		c.turn(id2, "[[reply:on]]")
	}},
	{"answers of the wrong shape", compareFlags, nil, func(c *client) {
		n := 0
		c.answer = func(message) (message, error) {
			if n++; n == 1 {
				return message{}, nil
			}
			return nil, errors.New("no handler")
		}
		c.turn(id1, "[[write:$DIR/x:y]][[reply:refused]]")
		c.turn(id2, "[[write:$DIR/x:y]][[reply:refused]]")
	}},
	{"a question without an answer", compareFlags, nil, func(c *client) {
		c.prompt(id1, "[[write:$DIR/x:y]]")
		c.until(is("control_request"))
		c.ask("interrupt", message{"cancel_queued": true})
		c.until(is("system/session_state_changed:idle"))
	}},
	{"changed input", compareFlags, nil, func(c *client) {
		c.answer = func(message) (message, error) {
			return message{"behavior": "allow", "updatedInput": message{"file_path": c.cmd.Dir + "/other", "content": "z"}}, nil
		}
		c.turn(id1, "[[write:$DIR/x:y]][[reply:written]]")
		c.turn(id2, "[[read:$DIR/other]][[reply:read]]")
		c.turn(id3, "[[read:$DIR/x]][[reply:missing]]")
	}},
	{"an API that hangs", bypassFlags(), nil, func(c *client) {
		c.turn(id1, "[[reply:warm]]")
		c.prompt(id2, "[[hang]]")
		c.until(is("system/init"))
		c.ask("interrupt", message{"cancel_queued": true})
		c.until(is("system/session_state_changed:idle"))
	}},
	{"a connection that drops", bypassFlags(), nil, func(c *client) {
		c.turn(id1, "[[drop:1]][[reply:got through]]")
	}},
	{"messages that wait", bypassFlags(), nil, func(c *client) {
		c.prompt(id1, "[[sleep:700ms]][[reply:first]]")
		c.until(is("system/init"))
		c.prompt(id2, "second")
		c.prompt(id3, "[[reply:third]]")
		c.prompt(id4, "/clear")
		c.until(func(m message) bool { return isResult(m) && m.str("local_command") == "clear" })
		c.until(is("system/session_state_changed:idle"))
	}},
	{"messages that are cancelled", bypassFlags(), nil, func(c *client) {
		c.turn(id1, "[[reply:warm]]")
		c.prompt(id2, "[[hang]]")
		c.until(is("system/init"))
		c.prompt(id3, "never")
		c.prompt(id4, "never")
		c.until(func(m message) bool { return m.kind() == "command_lifecycle/queued" && m.str("command_uuid") == id4 })
		c.ask("cancel_async_message", message{"message_uuid": id3})
		c.ask("interrupt", message{"cancel_queued": true})
		c.until(is("system/session_state_changed:idle"))
	}},
	{"a message without a question", bypassFlags(), nil, func(c *client) {
		c.send(message{"type": "user", "uuid": id1, "message": message{"role": "user", "content": "remember"}, "shouldQuery": false})
		c.until(is("system/session_state_changed:idle"))
		c.turn(id2, "[[history]]")
	}},
	{"a message word for word", bypassFlags(), nil, func(c *client) {
		c.send(message{"type": "user", "uuid": id1, "message": message{"role": "user", "content": "/clear [[reply:not a command]]"}, "client_composed": true})
		c.until(is("system/session_state_changed:idle"))
	}},
	{"settings", bypassFlags(), nil, func(c *client) {
		c.ask("set_model", message{"model": "claude-haiku-4-5"})
		c.ask("apply_flag_settings", message{"settings": message{"permissions": message{"deny": []string{"Write"}}}})
		c.ask("apply_flag_settings", message{"settings": message{"permissions": "x"}})
		c.ask("nonsense", nil)
		c.ask("stop_task", message{"task_id": "unknown"})
		c.ask("mcp_set_servers", message{"servers": message{}})
		c.ask("mcp_status", nil)
		c.ask("cancel_async_message", message{"message_uuid": id4})
		c.ask("claim_session", message{"cwd": "/"})
		c.turn(id1, "[[write:$DIR/x:y]][[model]]")
	}},
	{"limits", append(bypassFlags(), "--max-turns", "2"), nil, func(c *client) {
		c.turn(id1, "[[bash:echo 1]][[bash:echo 2]][[bash:echo 3]]")
		c.turn(id2, "[[reply:within]]")
	}},
	{"budget", append(bypassFlags(), "--max-budget-usd", "0.001"), nil, func(c *client) {
		c.turn(id1, "[[usage:1000,100]][[reply:dear]]")
		c.turn(id2, "[[reply:more]]")
		c.turn(id3, "/clear")
		c.turn(id4, "[[reply:again]]")
	}},
	{"structured output", append(bypassFlags(), "--json-schema", `{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"],"additionalProperties":false}`), nil, func(c *client) {
		c.turn(id1, `[[output:{"n":"bad"}]][[output:{"n":7}]]`)
		c.turn(id2, `[[reply:never]]`)
	}},
	{"a tool of the host that hangs", append(compareFlags[:len(compareFlags):len(compareFlags)], "--allowedTools", "mcp__host"), []string{"ENABLE_TOOL_SEARCH=false"}, func(c *client) {
		c.answer = func(r message) (message, error) {
			if r.obj("message").str("method") == "tools/call" {
				return nil, nil
			}
			return hostServer(r)
		}
		c.ask("initialize", message{"sdkMcpServers": []string{"host"}})
		c.until(func(message) bool { return c.listed() })
		c.prompt(id1, `[[tool:mcp__host__add:{"a":2}]]`)
		c.until(func(m message) bool { return m.obj("request").obj("message").str("method") == "tools/call" })
		c.ask("interrupt", message{"cancel_queued": true})
		c.until(is("system/session_state_changed:idle"))
	}},
	{"a tool of the host", append(compareFlags[:len(compareFlags):len(compareFlags)], "--allowedTools", "mcp__host__add"), []string{"ENABLE_TOOL_SEARCH=false"}, func(c *client) {
		c.answer = hostServer
		c.ask("initialize", message{"sdkMcpServers": []string{"host"}})
		c.until(func(message) bool { return c.listed() })
		c.turn(id1, `[[tool:mcp__host__add:{"a":2,"b":3}]]`)
	}},
}

func bypassFlags() []string {
	return append(compareFlags[:len(compareFlags):len(compareFlags)], "--permission-mode", "bypassPermissions", "--allow-dangerously-skip-permissions")
}

// hostServer is the smallest MCP server.
func hostServer(r message) (message, error) {
	msg := r.obj("message")
	result := message{}
	switch msg.str("method") {
	case "initialize":
		result = message{"protocolVersion": "2025-11-25", "capabilities": message{"tools": message{}}, "serverInfo": message{"name": "host", "version": "1"}}
	case "tools/list":
		result = message{"tools": []message{{"name": "add", "description": "add", "inputSchema": message{"type": "object"}}}}
	case "tools/call":
		result = message{"content": []message{{"type": "text", "text": "5"}}}
	}
	return message{"mcp_response": message{"jsonrpc": "2.0", "id": msg["id"], "result": result}}, nil
}

// listed says whether the host's tools have been asked for.
func (c *client) listed() bool {
	for _, m := range c.all {
		if m.obj("request").obj("message").str("method") == "tools/list" {
			return true
		}
	}
	return false
}

func TestStandInMatchesCLI(t *testing.T) {
	t.Parallel()
	cli := claudetest.CLI(t)
	version := versionOf(t, cli)
	for _, d := range dialogues {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			real, imitation := pair(t, cli, version, d.env, d.args...)
			d.talk(real)
			d.talk(imitation)
			if diff := cmp.Diff(story(real), story(imitation)); diff != "" {
				t.Errorf("the CLI (-) and the stand-in (+) differ:\n%s", diff)
			}
		})
	}
}

// story tells a conversation without what differs from run to run.
func story(c *client) []string {
	names := map[string]string{}
	name := func(kind, id string) string {
		if id == "" {
			return "-"
		}
		if names[id] == "" {
			names[id] = fmt.Sprintf("%s%d", kind, len(names)+1)
		}
		return names[id]
	}
	var out []string
	for _, m := range c.all {
		if line := tell(c, m, name); line != "" {
			out = append(out, line)
		}
	}
	return out
}

// tell is one message, or nothing for those that carry nothing a driver needs.
func tell(c *client, m message, name func(kind, id string) string) string {
	has := func(k string) bool { _, ok := m[k]; return ok }
	kind := m.kind()
	switch kind {
	case "system/ui_invalidate", "system/thinking_tokens", "system/informational", "system/task_started", "system/task_notification", "system/commands_changed":
		return ""
	case "system/init":
		return fmt.Sprintf("%s session=%s model=%s mode=%s key=%s version=%s", kind, name("session", m.str("session_id")), m.str("model"), m.str("permissionMode"), m.str("apiKeySource"), m.str("claude_code_version"))
	case "system/api_retry":
		return fmt.Sprintf("%s attempt=%v of %v status=%v %s", kind, m["attempt"], m["max_retries"], m["error_status"], m.str("error"))
	case "system/permission_denied":
		return fmt.Sprintf("%s %s reason=%s", kind, m.str("tool_name"), m.str("decision_reason_type"))
	case "system/status":
		return fmt.Sprintf("%s %v mode=%v", kind, m["status"], m["permissionMode"])
	case "conversation_reset":
		return fmt.Sprintf("%s session=%s new=%s by=%s", kind, name("session", m.str("session_id")), name("session", m.str("new_conversation_id")), m.str("trigger"))
	case "assistant", "user":
		msg := m.obj("message")
		line := fmt.Sprintf("%s %s error=%v api=%v aborted=%v told=%v", kind, blocks(c, msg["content"]), m["error"], m["api_error_status"], m["aborted"], m["user_message_uuids"])
		if kind == "assistant" {
			line += " synthetic=" + fmt.Sprint(msg.str("model") == "<synthetic>")
		}
		return line
	case "control_request":
		r := m.obj("request")
		return fmt.Sprintf("%s %s tool=%s method=%v", kind, r.str("subtype"), r.str("tool_name"), r.obj("message")["method"])
	}
	switch m.str("type") {
	case "command_lifecycle":
		return kind + " " + m.str("command_uuid")
	case "control_response":
		r := m.obj("response")
		return fmt.Sprintf("%s %s error=%v code=%v body=%s", kind, r.str("subtype"), r["error"], r["error_code"], body(r.obj("response")))
	case "stream_event":
		return fmt.Sprintf("%s %v %v", kind, m.obj("event")["index"], m.obj("event").obj("delta")["type"])
	case "result":
		line := fmt.Sprintf("%s error=%v turns=%v index=%v reason=%v stop=%v status=%v cost=%.6f since=%v session=%s told=%v",
			kind, m["is_error"], m["num_turns"], m["result_index"], m["terminal_reason"], m["stop_reason"], m["api_error_status"], m.num("total_cost_usd"),
			since(m), name("session", m.str("session_id")), m["user_message_uuids"])
		line += fmt.Sprintf(" local=%v structured=%v errors=%v denials=%d", m["local_command"], m["structured_output"], m["errors"], len(list(m["permission_denials"])))
		if m["is_error"] == false {
			line += fmt.Sprintf(" text=%q", strings.ReplaceAll(m.str("result"), c.cmd.Dir, "$DIR"))
		} else {
			line += fmt.Sprintf(" text=%v", has("result"))
		}
		return line
	}
	return kind
}

func list(v any) []any { l, _ := v.([]any); return l }

func since(m message) string {
	var out []string
	for model, u := range m.obj("model_usage_since_last_result") {
		row := message(u.(map[string]any))
		out = append(out, fmt.Sprintf("%s:%v/%v", model, row["inputTokens"], row["outputTokens"]))
	}
	return strings.Join(out, " ")
}

// blocks tells content blocks; texts of the CLI's own are only named.
func blocks(c *client, content any) string {
	if s, ok := content.(string); ok {
		return fmt.Sprintf("%q", s)
	}
	var out []string
	for _, b := range list(content) {
		block := message(b.(map[string]any))
		text := block.str("text") + block.str("thinking")
		if strings.HasPrefix(text, "API Error") {
			text, _, _ = strings.Cut(text, ".")
			text = text[:min(len(text), 20)]
		}
		line := block.str("type") + " " + text + block.str("name")
		if block.str("type") == "tool_result" {
			line += fmt.Sprintf(" error=%v", block["is_error"] == true)
		}
		out = append(out, strings.ReplaceAll(line, c.cmd.Dir, "$DIR"))
	}
	return strings.Join(out, ", ")
}

// body tells the parts of an answer that a driver reads.
func body(m message) string {
	var out []string
	for _, k := range []string{"still_queued", "turn", "cancelled", "model", "mode", "added", "removed", "mcpServers"} {
		if v, ok := m[k]; ok {
			out = append(out, fmt.Sprintf("%s=%v", k, v))
		}
	}
	if s := m.obj("session"); s != nil {
		out = append(out, fmt.Sprintf("cost=%.6f", s.num("total_cost_usd")))
	}
	return strings.Join(out, " ")
}
