package claudepool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/claudepool/claudepool/claude"
)

// defaultOwner is the owner of what a Go program submits.
const defaultOwner = "go"

// admitted is a task to store, or the one that its idempotency key names.
type admitted struct {
	TaskRecord
	known bool // it was stored before
}

// admit lets in what somebody submits. A key that the owner has used names its
// task, whatever has become since of the budget, slots, skills and sessions that
// it was submitted with: so that is settled before build, which checks a new
// request and makes the record to store. Of asked it looks at what
// [TaskRecord.SameRequest] does, and at the owner and the key.
func (p *Pool) admit(ctx context.Context, asked TaskRecord, build func() (TaskRecord, error)) (admitted, error) {
	if err := p.open(); err != nil {
		return admitted{}, err
	}
	if old, known, err := p.known(ctx, &asked); known || err != nil {
		return admitted{old, known}, err
	}
	r, err := build()
	return admitted{TaskRecord: r}, err
}

// known finds the task that the idempotency key of a request names, if it names
// one. That it asked for something else is an error.
func (p *Pool) known(ctx context.Context, asked *TaskRecord) (TaskRecord, bool, error) {
	key := asked.Task.IdempotencyKey
	if key == "" {
		return TaskRecord{}, false, nil
	}
	for old, err := range p.store.Tasks(ctx, TaskFilter{Owner: cmp.Or(asked.Task.Owner, defaultOwner), IdempotencyKey: key, Limit: 1}) {
		switch {
		case err != nil:
			return TaskRecord{}, false, fmt.Errorf("look for the task of the idempotency key %q: %w", key, err)
		case !old.SameRequest(asked):
			return TaskRecord{}, false, keyReused(&old)
		}
		return old, true, nil
	}
	return TaskRecord{}, false, nil
}

// keyReused is the error about the idempotency key of a task that somebody
// gives to another request.
func keyReused(r *TaskRecord) error {
	return fmt.Errorf("%w: %q of %q belongs to task %s", ErrKeyReused, r.Task.IdempotencyKey, r.Task.Owner, r.ID)
}

// accept lets in what somebody submits, and stores it if it is new.
func (p *Pool) accept(ctx context.Context, asked TaskRecord, build func() (TaskRecord, error)) (TaskID, error) {
	a, err := p.admit(ctx, asked, build)
	if err != nil {
		return "", err
	}
	r, _, err := p.create(ctx, a)
	return r.ID, err
}

// newTask checks a task that somebody submits, and that the budget can pay for
// it, and makes the record to store.
func (p *Pool) newTask(ctx context.Context, t Task) (TaskRecord, error) {
	r, err := p.newRecord(ctx, TaskID(p.ids.Next("task", time.Now())), t)
	if err != nil {
		return TaskRecord{}, err
	}
	return r, p.checkBudget(ctx, r.Task)
}

// newRecord checks a task and makes the record to store.
func (p *Pool) newRecord(ctx context.Context, id TaskID, t Task) (TaskRecord, error) {
	if err := t.validate(); err != nil {
		return TaskRecord{}, err
	}
	if t.Owner == "" {
		t.Owner = defaultOwner
	}
	if err := p.checkIsolation(ctx, &t); err != nil {
		return TaskRecord{}, err
	}
	if err := p.checkWork(ctx, &t); err != nil {
		return TaskRecord{}, err
	}
	key, err := p.checkOptions(&t)
	if err != nil {
		return TaskRecord{}, err
	}
	key += t.Isolation.keySuffix()
	if err := p.checkSlot(t); err != nil {
		return TaskRecord{}, err
	}
	now := time.Now()
	r := TaskRecord{ID: id, Task: t, LaunchKey: key, State: StatePending, Submitted: now, NotBefore: t.NotBefore, Lane: string(id)}
	if !t.Session.Fresh() {
		if r.Lane, err = p.lane(ctx, t.Session, id); err != nil {
			return TaskRecord{}, err
		}
	}
	return r, nil
}

// checkWork refuses an isolated task that could not begin with what it names.
func (p *Pool) checkWork(ctx context.Context, t *Task) error {
	if !t.Isolation.apart() {
		return nil
	}
	for i, id := range t.From {
		r, err := p.store.Task(ctx, id)
		name := fmt.Sprintf("from[%d]", i)
		switch {
		case errors.Is(err, ErrUnknownTask):
			return invalidField(name, "names task %q, which is unknown", id)
		case err != nil:
			return fmt.Errorf("%s: %w", name, err)
		case !r.Task.Isolation.apart():
			return invalidField(name, "names task %s, which has isolation %s and no branch", id, cmp.Or(r.Task.Isolation, IsolationNone))
		}
	}
	if t.Merge == "" {
		return nil
	}
	m, err := p.trees.open(ctx)
	if err != nil {
		return err
	}
	known, err := m.HasBranch(ctx, t.Merge)
	if err == nil && !known {
		err = invalidField("merge", "is %q, which is no branch of the repository", t.Merge)
	}
	return err
}

// lane returns the lane of a task that continues a session: that of the task
// whose session it is, so that one session never has two owners. A fork has a
// session of its own.
func (p *Pool) lane(ctx context.Context, s Session, id TaskID) (string, error) {
	switch {
	case s.Task != "":
		r, err := p.store.Task(ctx, s.Task)
		if err != nil {
			return "", fmt.Errorf("session of task %s: %w", s.Task, err)
		}
		if s.Fork {
			return string(id), nil
		}
		return r.Lane, nil
	case s.Fork:
		return string(id), nil
	}
	return p.sessions.lane(s.ID), nil
}

// validate checks what can be said of a task without a pool.
func (t Task) validate() error {
	switch {
	case strings.TrimSpace(t.Prompt) == "":
		return invalidField("prompt", "is empty")
	case !utf8.ValidString(t.Prompt):
		return invalidField("prompt", "is not valid UTF-8")
	case t.Isolation != "" && !slices.Contains(Isolations(), t.Isolation):
		return invalidField("isolation", "must be one of %v, not %q", Isolations(), t.Isolation)
	case t.OnCrash != "" && !slices.Contains(CrashPolicies(), t.OnCrash):
		return invalidField("on_crash", "must be one of %v, not %q", CrashPolicies(), t.OnCrash)
	case t.KeepSession < 0 || t.KeepSession > MaxKeepSession:
		return invalidField("keep_session", "must be between 0 and %v, not %v", MaxKeepSession, t.KeepSession)
	case t.Overrides.MaxCost < 0:
		return invalidField("overrides.max_budget_usd", "must be more than zero; leave it out for the default")
	case t.Overrides.Timeout < 0:
		return invalidField("overrides.timeout_secs", "must not be negative")
	case t.QueueTimeout < 0:
		return invalidField("queue_timeout", "must not be negative")
	case t.StallTimeout < 0:
		return invalidField("stall_timeout", "must not be negative")
	case t.Retry.First < 0 || t.Retry.Most < 0:
		return invalidField("retry", "must not have a negative pause")
	case t.Allowance != nil && (t.Allowance.ID == "" || t.Allowance.Limit <= 0):
		return invalidField("allowance", "must have an id and a limit above zero")
	case t.Review != nil && t.Review.MaxRejections < 0:
		return invalidField("max_rejections", "must not be negative; zero means %d", DefaultMaxRejections)
	case t.Session.Task != "" && t.Session.ID != "":
		return invalidField("session", "names both a task and an id")
	case !t.Session.Fresh() && (t.Overrides.SystemPrompt != "" || t.Overrides.AppendPrompt != ""):
		return invalidField("overrides.system_prompt", "cannot be given to a task that continues a session, which keeps its own")
	case t.Session.Fork && t.Session.Fresh():
		return invalidField("session", "has nothing to fork")
	}
	for i, tag := range t.Tags {
		if tag == "" || !utf8.ValidString(tag) || len(tag) > 256 {
			return invalidField(fmt.Sprintf("tags[%d]", i), "must be 1 to 256 bytes of valid UTF-8")
		}
	}
	for i, img := range t.Images {
		if img.MediaType == "" || len(img.Data) == 0 {
			return invalidField(fmt.Sprintf("images[%d]", i), "must have a media type and data")
		}
	}
	return t.Overrides.AgentConfig.validate("overrides.")
}

// plain reports whether a task runs with the options of its slot.
func (t *Task) plain() bool {
	o := &t.Overrides.AgentConfig
	return t.WorkDir == "" && len(t.Env) == 0 && o.Model == "" && o.Effort == "" && o.PermissionMode == "" &&
		o.SystemPrompt == "" && o.AppendPrompt == "" && o.MaxTurns == 0 && o.Tools == nil && len(o.AllowedTools) == 0 &&
		len(o.DisallowedTools) == 0 && len(o.MCPServers) == 0 && o.JSONSchema == nil && len(o.AddDirs) == 0 &&
		o.Agents == nil && o.Settings == nil && o.FallbackModel == ""
}

// checkOptions checks what the overrides make of the pool's options, and
// returns the launch key.
func (p *Pool) checkOptions(t *Task) (string, error) {
	if t.plain() {
		return p.key, nil
	}
	o := p.cfg.options(SlotConfig{}, t)
	if p.cfg.Permission != nil {
		o.Permission = refuseAll
	}
	if o.Settings.PermissionMode == claude.PermissionBypass && !p.cfg.AllowBypass {
		return "", invalidField("overrides.permission_mode", "is %s, which this pool was not built to allow (AllowBypass)", claude.PermissionBypass)
	}
	if err := o.Validate(); err != nil {
		return "", namedAs("overrides.", err)
	}
	return o.LaunchKey(), nil
}

// optionNames are the names that callers know the driver's options by.
var optionNames = map[string]string{
	"Model": "model", "Effort": "effort", "PermissionMode": "permission_mode", "SystemPrompt": "system_prompt",
	"AppendSystemPrompt": "append_system_prompt", "MaxTurns": "max_turns", "Tools": "tools", "AllowedTools": "allowed_tools",
	"DisallowedTools": "disallowed_tools", "MCPServers": "mcp_servers", "JSONSchema": "json_schema", "AddDirs": "add_dirs",
	"Agents": "agents", "SettingsJSON": "settings", "FallbackModel": "fallback_model",
}

// namedAs returns the driver's error about an option as one about the field
// that the caller filled in.
func namedAs(prefix string, err error) error {
	bad, ok := errors.AsType[*claude.OptionError](err)
	if !ok {
		return err
	}
	end := strings.IndexAny(bad.Field, ".[")
	if end < 0 {
		end = len(bad.Field)
	}
	name, known := optionNames[bad.Field[:end]]
	if !known {
		return fmt.Errorf("%s: %w", strings.TrimSuffix(prefix, "."), err)
	}
	return &InvalidError{Field: prefix + name + bad.Field[end:], Reason: bad.Reason}
}

// checkSlot refuses a task for a slot that does not exist. Roles may come later.
func (p *Pool) checkSlot(t Task) error {
	if t.Slot == "" {
		return nil
	}
	_, err := p.slot(t.Slot)
	return err
}

// checkBudget refuses what the budget can never pay. What only waits for
// others' reservations is taken.
func (p *Pool) checkBudget(ctx context.Context, t Task) error {
	limit := Microdollars(p.limit.Load())
	if limit == 0 {
		return nil
	}
	l, err := p.ledger(ctx)
	if err != nil {
		return err
	}
	need := cmp.Or(t.Overrides.MaxCost, p.cfg.DefaultCap, 1)
	if need > limit-l.Spent {
		return &BudgetExhausted{Scope: "pool", Spent: l.Spent, Assumed: l.Assumed, Reserved: l.Reserved, Limit: limit, Needed: need}
	}
	return nil
}
