package claude

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// live is what a process was last brought to.
type live struct {
	Settings
	model string // what the CLI made of Settings.Model
	known bool   // the process has been brought to Settings once
	torn  bool   // a change failed half way: nothing is known
}

// putting is a change of settings under way: the requests that were sent.
type putting struct {
	want                        Settings
	model                       json.RawMessage // the answer to set_model, if it was sent
	mode, flags, servers, state *call
	rules, status               *call
}

// Apply changes the settings of a live process between two turns and reads
// them back. Only what differs is sent. The error is a [*SettingError] when one
// did not take, an [*OptionError] when it cannot be; the process can then be
// used on, but with which settings is not said: apply others, or reset it.
//
// A change of Model in the middle of a conversation is noted in the next
// prompt by the CLI; and it tests a model name it has not seen with a request
// of one token, which is in no figure of costs.
func (p *Process) Apply(ctx context.Context, s Settings) error {
	if err := s.validate(p.opts.Load().AllowBypass); err != nil {
		return err
	}
	if err := p.acquire(); err != nil {
		return err
	}
	defer p.release()
	return p.put(ctx, s)
}

// put brings the process to s.
func (p *Process) put(ctx context.Context, s Settings) error {
	q, err := p.postSettings(ctx, s)
	if err == nil {
		err = p.awaitSettings(ctx, q)
	}
	if err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.live.torn = true
	}
	return err
}

// postSettings sends the requests for what differs, and for reading back what
// does not, in one go.
func (p *Process) postSettings(ctx context.Context, s Settings) (*putting, error) {
	o := p.opts.Load()
	if s.mode() == PermissionPlan && o.AllowBypass && !p.caps.planHolds {
		return nil, &VersionError{Path: p.caps.Path, Found: p.caps.Version, Need: floorReuse, For: "plan mode together with AllowBypass (older versions then allow everything)"}
	}
	p.mu.Lock()
	was, mode := p.live, p.mode
	p.mu.Unlock()
	q := &putting{want: s}
	// A new process has its model and mode from its arguments.
	if s.Model != was.Model || was.torn {
		// The CLI may test the name first, and meanwhile answers other requests.
		var model any
		if s.Model != "" {
			model = s.Model
		}
		var err error
		q.model, err = p.request(ctx, "set_model", map[string]any{"subtype": "set_model", "model": model})
		var refused *ControlError
		if errors.As(err, &refused) {
			err = &SettingError{Field: "Model", Want: fmt.Sprintf("%q", s.Model), Got: refused.Message}
		}
		if err != nil {
			return nil, err
		}
	}
	post := func(c **call, name string, request map[string]any) error {
		request["subtype"] = name
		var err error
		*c, err = p.post(ctx, name, request)
		return err
	}
	var errs []error
	if s.mode() != mode || was.torn {
		errs = append(errs, post(&q.mode, "set_permission_mode", map[string]any{"mode": s.mode()}))
	}
	if was.torn || !sameFlags(s, was.flagged()) {
		errs = append(errs, post(&q.flags, "apply_flag_settings", map[string]any{"settings": s.flags()}))
	}
	if was.torn || !maps.EqualFunc(s.MCPServers, was.declared(), sameJSON) {
		errs = append(errs, p.postServers(ctx, &q.servers, s.MCPServers, o))
	}
	errs = append(errs, post(&q.state, "get_settings", map[string]any{}))
	if p.caps.listRules {
		errs = append(errs, post(&q.rules, "list_permission_rules", map[string]any{}))
	}
	errs = append(errs, post(&q.status, "mcp_status", map[string]any{}))
	return q, errors.Join(errs...)
}

// postServers declares the whole set of MCP servers, those of this program
// included: what is not named is removed.
func (p *Process) postServers(ctx context.Context, c **call, servers map[string]MCPServer, o *Options) error {
	set := map[string]any{}
	for name, raw := range servers {
		set[name] = withArgs(raw)
	}
	for name := range o.Servers {
		set[name] = map[string]string{"type": "sdk", "name": name}
	}
	var err error
	*c, err = p.post(ctx, "mcp_set_servers", map[string]any{"subtype": "mcp_set_servers", "servers": set})
	return err
}

// withArgs gives a server that is a command its arguments: without the key
// the CLI fails.
func withArgs(raw MCPServer) MCPServer {
	var m map[string]json.RawMessage
	if json.Unmarshal(raw, &m) != nil || m["command"] == nil || m["args"] != nil {
		return raw
	}
	m["args"] = json.RawMessage("[]")
	b, err := json.Marshal(m)
	if err != nil {
		return raw
	}
	return b
}

// isCommand reports whether the server is a process of its own.
func isCommand(raw MCPServer) bool {
	var m struct{ Command string }
	return json.Unmarshal(raw, &m) == nil && m.Command != ""
}

// flags are the settings that replace those of earlier calls.
func (s *Settings) flags() map[string]any {
	f := map[string]any{"permissions": nil, "effortLevel": nil, "env": nil, "agent": nil}
	if len(s.AllowedTools)+len(s.DisallowedTools) > 0 {
		f["permissions"] = map[string]any{"allow": notNil(s.AllowedTools), "deny": notNil(s.DisallowedTools)}
	}
	if s.Effort != "" {
		f["effortLevel"] = s.Effort
	}
	return f
}

// flagged are the settings whose flags the process has: none when it is new.
func (l *live) flagged() Settings {
	if !l.known {
		return Settings{}
	}
	return l.Settings
}

// declared are the MCP servers the process has been told of.
func (l *live) declared() map[string]MCPServer { return l.flagged().MCPServers }

func notNil(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func sameFlags(a, b Settings) bool {
	return a.Effort == b.Effort && slices.Equal(a.AllowedTools, b.AllowedTools) && slices.Equal(a.DisallowedTools, b.DisallowedTools)
}

func sameJSON(a, b json.RawMessage) bool { return bytes.Equal(compact(a), compact(b)) }

// wireFlags is the part of a settings file that Settings change.
type wireFlags struct {
	Effort      string `json:"effortLevel"`
	Agent       string `json:"agent"`
	Permissions struct {
		Allow []string `json:"allow"`
		Deny  []string `json:"deny"`
	} `json:"permissions"`
}

type wireSettings struct {
	Sources []struct {
		Source   string    `json:"source"`
		Settings wireFlags `json:"settings"`
	} `json:"sources"`
	Applied struct {
		Model  string `json:"model"`
		Effort string `json:"effort"` // empty for models that know none
	} `json:"applied"`
}

// awaitSettings waits for the answers and proves that they say what was wanted.
// The first thing that does not is the error; all answers are awaited.
func (p *Process) awaitSettings(ctx context.Context, q *putting) error {
	var errs []error
	fail := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	get := func(c *call, field, want string) json.RawMessage {
		if c == nil {
			return nil
		}
		answer, err := p.await(ctx, c)
		var refused *ControlError
		if errors.As(err, &refused) {
			err = &SettingError{Field: field, Want: want, Got: refused.Message}
		}
		fail(err)
		return answer
	}
	get(q.mode, "PermissionMode", fmt.Sprintf("%q", q.want.mode()))
	get(q.flags, "AllowedTools, DisallowedTools and Effort", "those given")
	servers := get(q.servers, "MCPServers", "those given")
	state := get(q.state, "settings", "to be readable")
	rules := get(q.rules, "rules", "to be readable")
	status := get(q.status, "MCPServers", "to be readable")
	if len(errs) > 0 {
		return errs[0]
	}
	resolved, err := p.checkState(q, state)
	fail(err)
	fail(p.checkMode(ctx, q))
	fail(checkRules(rules))
	fail(p.checkServers(q, servers, status))
	if len(errs) > 0 {
		return errs[0]
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.live = live{Settings: q.want, model: resolved, known: true}
	return nil
}

// checkState checks model, effort and rules. It returns the model's full name.
func (p *Process) checkState(q *putting, state json.RawMessage) (string, error) {
	var w wireSettings
	if err := decode(state, &w); err != nil {
		return "", err
	}
	p.mu.Lock()
	was := p.live
	p.mu.Unlock()
	var answered struct {
		Model string `json:"model"`
	}
	if q.model != nil {
		if err := decode(q.model, &answered); err != nil {
			return "", err
		}
	}
	want := answered.Model // newer versions say what they made of the name
	if q.want.Model == was.Model && was.known && !was.torn {
		want = was.model
	}
	if want != "" && w.Applied.Model != want {
		return "", &SettingError{Field: "Model", Want: fmt.Sprintf("%q (%s)", q.want.Model, want), Got: fmt.Sprintf("%q", w.Applied.Model)}
	}

	base := p.baseFlags()
	var got wireFlags
	for _, s := range w.Sources {
		if s.Source == "flagSettings" {
			got = s.Settings
		}
	}
	effort := string(q.want.Effort)
	if effort == "" {
		effort = base.Effort
	}
	if !sameEffort(effort, got.Effort, w.Applied.Effort) {
		return "", &SettingError{Field: "Effort", Want: fmt.Sprintf("%q", effort), Got: fmt.Sprintf("%q (applied: %q)", got.Effort, w.Applied.Effort)}
	}
	if got.Agent != base.Agent {
		return "", &SettingError{Field: "agent", Want: fmt.Sprintf("%q", base.Agent), Got: fmt.Sprintf("%q", got.Agent)}
	}
	if err := checkSet("AllowedTools", got.Permissions.Allow, base.Permissions.Allow, q.want.AllowedTools); err != nil {
		return "", err
	}
	if err := checkSet("DisallowedTools", got.Permissions.Deny, base.Permissions.Deny, q.want.DisallowedTools); err != nil {
		return "", err
	}
	return w.Applied.Model, nil
}

// sameEffort compares what is wanted with what is set and what is applied: the
// highest effort is applied without being listed as set.
func sameEffort(want, set, applied string) bool {
	if highest := string(EffortMax); want == highest || applied == highest {
		return want == highest && (applied == highest || applied == "")
	}
	return set == want
}

// baseFlags are the flag settings the process started with.
func (p *Process) baseFlags() wireFlags {
	var f wireFlags
	if raw := p.opts.Load().SettingsJSON; raw != nil {
		_ = decode(raw, &f) // Validate has seen that it is an object
	}
	return f
}

func checkSet(field string, got []string, want ...[]string) error {
	a, b := slices.Compact(slices.Sorted(slices.Values(got))), slices.Compact(slices.Sorted(slices.Values(slices.Concat(want...))))
	if !slices.Equal(a, b) {
		return &SettingError{Field: field, Want: fmt.Sprintf("%q", b), Got: fmt.Sprintf("%q", a)}
	}
	return nil
}

// checkMode goes by what the CLI announces, not by its answer: that only
// repeats the question.
func (p *Process) checkMode(ctx context.Context, q *putting) error {
	announced := func() PermissionMode {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.mode
	}
	if announced() != q.want.mode() {
		// The announcement follows the answer; it comes before that of any later request.
		if _, err := p.request(ctx, "get_settings", map[string]any{"subtype": "get_settings"}); err != nil {
			return err
		}
	}
	if got := announced(); got != q.want.mode() {
		return &SettingError{Field: "PermissionMode", Want: fmt.Sprintf("%q", q.want.mode()), Got: fmt.Sprintf("%q", got)}
	}
	return nil
}

// checkRules makes sure that nobody has granted anything for the session.
func checkRules(answer json.RawMessage) error {
	var w struct {
		State struct {
			Rules []struct {
				Source, Rule, Behavior string
			} `json:"rules"`
		} `json:"state"`
	}
	if answer == nil {
		return nil
	}
	if err := decode(answer, &w); err != nil {
		return err
	}
	for _, r := range w.State.Rules {
		if r.Source == "session" {
			return &SettingError{Field: "rules", Want: "none for the session", Got: r.Behavior + " " + r.Rule}
		}
	}
	return nil
}

// checkServers makes sure that each MCP server is there and connected, and no other.
func (p *Process) checkServers(q *putting, set, status json.RawMessage) error {
	o := p.opts.Load()
	var w struct {
		Errors map[string]string `json:"errors"`
	}
	if set != nil {
		if err := decode(set, &w); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.Errors)) {
		return &SettingError{Field: "MCPServers." + name, Want: "connected", Got: p.secrets.Load().text(w.Errors[name])}
	}
	servers, err := readStatus(status)
	if err != nil {
		return err
	}
	for name := range q.want.MCPServers {
		s, ok := servers[name]
		if !ok {
			return &SettingError{Field: "MCPServers." + name, Want: "connected", Got: "no such server"}
		}
		if s.Status != "connected" {
			return &SettingError{Field: "MCPServers." + name, Want: "connected", Got: strings.TrimSpace(s.Status + " " + p.secrets.Load().text(s.Error))}
		}
	}
	if o.InheritMCP {
		return nil
	}
	for name := range servers {
		if q.want.MCPServers[name] == nil && o.Servers[name] == nil {
			return &SettingError{Field: "MCPServers." + name, Want: "not there", Got: servers[name].Status}
		}
	}
	return nil
}

type wireServer struct {
	Name      string `json:"name"`
	Status    string `json:"status"`
	Error     string `json:"error"`
	Transport string `json:"transport"` // newer versions
	Config    struct {
		Type string `json:"type"`
	} `json:"config"`
}

func readStatus(answer json.RawMessage) (map[string]wireServer, error) {
	var w struct {
		Servers []wireServer `json:"mcpServers"`
	}
	if err := decode(answer, &w); err != nil {
		return nil, fmt.Errorf("claude: the answer to mcp_status: %w", err)
	}
	servers := make(map[string]wireServer, len(w.Servers))
	for _, s := range w.Servers {
		servers[s.Name] = s
	}
	return servers, nil
}
