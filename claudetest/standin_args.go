package claudetest

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// standInArgs is what the command line asks for.
type standInArgs struct {
	version                     bool
	prompt                      string
	input, output               string
	partials, replay, claim     bool
	model, mode, promptTool     string
	effort                      string
	system, appendSystem        string
	tools                       []string // nil: the default list
	allowed, disallowed         []string
	addDirs                     []string
	servers                     map[string]json.RawMessage
	schema                      json.RawMessage
	settings                    map[string]json.RawMessage
	resume, sessionID           string
	fork, volatile, allowBypass bool
	maxTurns                    int
	maxCost                     float64
}

// usageError is a command line that the CLI refuses, in its words.
type usageError string

func (e usageError) Error() string { return string(e) }

// takesNone are flags without a value; takesOne those with one that the
// stand-in reads or ignores; takesMany those that go on to the next flag.
var (
	takesNone = []string{"-p", "--print", "--verbose", "--include-partial-messages", "--replay-user-messages", "--await-claim", "--await-initialize",
		"--strict-mcp-config", "--allow-dangerously-skip-permissions", "--dangerously-skip-permissions", "--fork-session", "--no-session-persistence",
		"--disable-slash-commands", "--bare", "--safe-mode", "--restricted", "--version", "-v", "--exclude-dynamic-system-prompt-sections",
		"--forward-subagent-text", "--include-hook-events"}
	takesOne = []string{"--input-format", "--output-format", "--model", "--fallback-model", "--effort", "--system-prompt", "--append-system-prompt",
		"--system-prompt-file", "--append-system-prompt-file", "--system-prompt-snapshot", "--permission-mode", "--permission-prompt-tool", "--permission-prompts",
		"--setting-sources", "--settings", "--session-id", "--resume", "-r", "--max-turns", "--max-budget-usd", "--json-schema", "--agents", "--thinking"}
	takesMany = []string{"--tools", "--allowedTools", "--allowed-tools", "--disallowedTools", "--disallowed-tools", "--mcp-config", "--add-dir"}
)

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// parseStandInArgs reads the CLI's command line.
func parseStandInArgs(args []string) (*standInArgs, error) {
	a := &standInArgs{model: "claude-opus-5-5", mode: "default", input: "text", output: "text", servers: map[string]json.RawMessage{}}
	for len(args) > 0 {
		name, value, inline := strings.Cut(args[0], "=")
		if !strings.HasPrefix(args[0], "-") || args[0] == "-" {
			a.prompt, args = args[0], args[1:]
			continue
		}
		args = args[1:]
		if name == "--" {
			a.prompt = strings.Join(args, " ")
			break
		}
		var values []string
		switch {
		case slices.Contains(takesNone, name):
		case slices.Contains(takesOne, name):
			if !inline {
				if len(args) == 0 {
					return nil, usageError(fmt.Sprintf("error: option '%s' argument missing", name))
				}
				value, args = args[0], args[1:]
			}
			values = []string{value}
		case slices.Contains(takesMany, name):
			if inline {
				values = []string{value}
			}
			for len(args) > 0 && !strings.HasPrefix(args[0], "-") {
				values, args = append(values, args[0]), args[1:]
			}
		default:
			return nil, usageError(fmt.Sprintf("error: unknown option '%s'", name))
		}
		if err := a.set(name, values); err != nil {
			return nil, err
		}
	}
	return a, a.check()
}

func (a *standInArgs) set(name string, values []string) error {
	value := strings.Join(values, ",")
	var err error
	switch name {
	case "--version", "-v":
		a.version = true
	case "--input-format":
		a.input = value
	case "--output-format":
		a.output = value
	case "--include-partial-messages":
		a.partials = true
	case "--replay-user-messages":
		a.replay = true
	case "--await-claim":
		a.claim = true
	case "--model":
		a.model = value
	case "--effort":
		a.effort = value
	case "--permission-mode":
		a.mode = value
	case "--permission-prompt-tool":
		a.promptTool = value
	case "--dangerously-skip-permissions":
		a.mode, a.allowBypass = "bypassPermissions", true
	case "--allow-dangerously-skip-permissions":
		a.allowBypass = true
	case "--system-prompt":
		a.system = value
	case "--append-system-prompt":
		a.appendSystem = value
	case "--tools":
		a.tools = toolList(values)
	case "--allowedTools", "--allowed-tools":
		a.allowed = append(a.allowed, toolList(values)...)
	case "--disallowedTools", "--disallowed-tools":
		a.disallowed = append(a.disallowed, toolList(values)...)
	case "--add-dir":
		a.addDirs = append(a.addDirs, values...)
	case "--mcp-config":
		for _, v := range values {
			if err := a.addServers(v); err != nil {
				return err
			}
		}
	case "--settings":
		a.settings, err = settingsFrom(value)
		return err
	case "--setting-sources":
		for s := range strings.SplitSeq(value, ",") {
			if s != "" && !slices.Contains([]string{"user", "project", "local"}, s) {
				return usageError("Error processing --setting-sources: Invalid setting source: " + s + ". Valid options are: user, project, local")
			}
		}
	case "--json-schema":
		a.schema, err = object(value)
		if err != nil {
			return usageError("Error: --json-schema is not valid JSON Schema: " + err.Error())
		}
	case "--resume", "-r":
		a.resume = value
	case "--session-id":
		a.sessionID = value
		if !uuidForm.MatchString(value) {
			return usageError("Error: Invalid session ID. Must be a valid UUID.")
		}
	case "--fork-session":
		a.fork = true
	case "--no-session-persistence":
		a.volatile = true
	case "--max-turns":
		if a.maxTurns, err = strconv.Atoi(value); err != nil || a.maxTurns < 1 {
			return usageError("error: option '--max-turns' must be a positive number")
		}
	case "--max-budget-usd":
		if a.maxCost, err = strconv.ParseFloat(value, 64); err != nil || a.maxCost <= 0 {
			return usageError("error: option '--max-budget-usd' must be a positive number")
		}
	}
	return nil
}

func (a *standInArgs) check() error {
	switch {
	case a.version:
		return nil
	case a.input == "stream-json" && a.output != "stream-json":
		return usageError("Error: --input-format=stream-json requires output-format=stream-json.")
	case a.sessionID != "" && a.resume != "" && !a.fork:
		return usageError("Error: --session-id can only be used with --resume if --fork-session is also specified.")
	case !slices.Contains(modes, a.mode) && a.mode != "manual":
		return usageError(fmt.Sprintf("error: option '--permission-mode <mode>' argument '%s' is invalid. Allowed choices are %s.", a.mode, strings.Join(modes, ", ")))
	case (a.allowBypass || a.mode == "bypassPermissions") && os.Geteuid() == 0 && os.Getenv("IS_SANDBOX") != "1":
		return usageError("--dangerously-skip-permissions cannot be used with root/sudo privileges for security reasons")
	}
	if a.mode == "manual" {
		a.mode = "default"
	}
	return nil
}

var modes = []string{"acceptEdits", "auto", "bypassPermissions", "default", "dontAsk", "plan"}

// toolList splits "A,B" and "A B", but not inside parentheses. Empty values
// mean an empty list.
func toolList(values []string) []string {
	out := []string{}
	for _, v := range values {
		depth, from := 0, 0
		for i, c := range v + "," {
			switch c {
			case '(':
				depth++
			case ')':
				depth--
			case ',', ' ':
				if depth == 0 {
					if s := strings.TrimSpace(v[from:i]); s != "" {
						out = append(out, s)
					}
					from = i + 1
				}
			}
		}
	}
	return out
}

// addServers reads --mcp-config: a JSON object or a file with one.
func (a *standInArgs) addServers(v string) error {
	data := []byte(v)
	if !strings.HasPrefix(strings.TrimSpace(v), "{") {
		b, err := os.ReadFile(v)
		if err != nil {
			return usageError("Error: Invalid MCP configuration:\nMCP config file not found: " + v)
		}
		data = b
	}
	var c struct {
		Servers map[string]json.RawMessage `json:"mcpServers"`
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return usageError("Error: Invalid MCP configuration:\n" + err.Error())
	}
	for name, s := range c.Servers {
		a.servers[name] = s
	}
	return nil
}

func settingsFrom(v string) (map[string]json.RawMessage, error) {
	data := []byte(v)
	if !strings.HasPrefix(strings.TrimSpace(v), "{") {
		b, err := os.ReadFile(v)
		if err != nil {
			return nil, usageError("Error processing settings: Settings file not found: " + v)
		}
		data = b
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, usageError("Error processing settings: Invalid JSON provided to --settings")
	}
	return m, nil
}
