package claudepool

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/claudepool/claudepool/internal/template"
)

// chainLook reads from the tasks of a chain's steps how the chain stands and
// what comes next. It changes nothing, and the same tasks always give the same
// answer: so a chain goes on after a restart where it was, and whoever asks how
// it stands gets the same answer as who runs it.
//
// Every run of a step is a task. Its key says which: "NAME", "NAME.0003" for
// the fourth item of a step with ForEach, and either with ".recovery" behind it
// for the recovery prompt.
type chainLook struct {
	plan *chainPlan
	rec  *TaskRecord
	// find returns a task, if it is there.
	find func(TaskID) (TaskRecord, bool)
	// from are the chains that this one resumes, the latest first.
	from []TaskID
	// refused are the tasks that could not be submitted, by key.
	refused map[string]error
	// memo, if there is one, remembers what cannot change any more.
	memo *chainMemo

	steps []StepResult // as far as they are looked at
	ready []stepTask   // what can be submitted now
	live  []TaskID     // what was submitted and has not ended
	// failed is the first step that failed for good, or -1.
	failed int
	// taken are the steps that were wholly taken over from an earlier chain.
	taken []bool
}

// chainMemo is what one look at a chain can tell the next.
type chainMemo struct {
	ended map[int]StepResult // steps of which nothing can change
	lists map[int][]any      // what steps with ForEach are run for
}

func newChainMemo() *chainMemo {
	return &chainMemo{ended: map[int]StepResult{}, lists: map[int][]any{}}
}

// stepTask is a task that runs a step.
type stepTask struct {
	key  string
	task Task
}

// look looks at the whole chain.
func (l *chainLook) look() {
	l.failed = -1
	l.steps, l.taken = make([]StepResult, len(l.plan.steps)), make([]bool, len(l.plan.steps))
	if l.memo == nil {
		l.memo = newChainMemo()
	}
	for _, i := range l.plan.order {
		l.steps[i] = StepResult{Name: l.plan.steps[i].Name, State: StepWaiting}
		l.step(i)
	}
	if l.failed < 0 && !l.rec.State.Terminal() {
		return
	}
	l.ready = nil
	if len(l.live) > 0 && !l.rec.State.Terminal() {
		return
	}
	why := "the chain had ended before"
	if l.failed >= 0 {
		why = fmt.Sprintf("step %q had failed", l.plan.steps[l.failed].Name)
	}
	for i := range l.steps {
		l.steps[i].skip(why)
	}
}

// skip notes that what has not been started of a step will not be.
func (s *StepResult) skip(why string) {
	for i := range s.Items {
		s.Items[i].skip(why)
	}
	switch s.State {
	case StepWaiting:
		s.State, s.Reason = StepSkipped, why
	case StepRunning: // for its items, or before its recovery
		s.State, s.Reason = StepCancelled, why
	}
}

// begun reports whether any step has.
func (l *chainLook) begun() bool {
	return slices.ContainsFunc(l.steps, func(s StepResult) bool { return s.TaskID != "" || len(s.Items) > 0 })
}

// over reports whether nothing runs and nothing is to be started.
func (l *chainLook) over() bool { return len(l.live) == 0 && len(l.ready) == 0 }

// step looks at one step. Those it needs were looked at before.
func (l *chainLook) step(i int) {
	s, out := &l.plan.steps[i], &l.steps[i]
	l.taken[i] = len(l.from) > 0
	for _, n := range s.needs {
		if s := l.steps[n].State; s == StepWaiting || s == StepRunning || l.fatal(n) {
			return
		}
		l.taken[i] = l.taken[i] && l.taken[n]
	}
	if was, ok := l.memo.ended[i]; ok {
		*out = was
		l.taken[i] = was.Resumed || was.State == StepSkipped && l.taken[i]
	} else {
		l.begin(i)
		if out.State != StepWaiting && out.State != StepRunning {
			l.memo.ended[i] = *out
		}
	}
	if l.fatal(i) && l.failed < 0 {
		l.failed = i
	}
}

// begin looks at a step whose time has come.
func (l *chainLook) begin(i int) {
	s, out := &l.plan.steps[i], &l.steps[i]
	switch {
	case s.when != nil && !s.when.holds(l.value(i, s.when.ref)):
		out.State, out.Reason = StepSkipped, "its condition does not hold: "+s.When
		return
	case s.each == "":
		*out = l.unit(i, s.Name, nil)
	default:
		l.items(i)
		out.setVars(s.OutputVars)
	}
	out.Name = s.Name
	l.taken[i] = out.Resumed
	if out.State == StepFailed || out.State == StepCancelled {
		out.Output = ""
	}
}

// fatal reports whether the step, or an item of it, ended in a way that ends
// the chain.
func (l *chainLook) fatal(i int) bool {
	if l.plan.steps[i].OnFailure.Continue {
		return false
	}
	bad := func(s StepState) bool { return s == StepFailed || s == StepCancelled }
	for _, item := range l.steps[i].Items {
		if bad(item.State) {
			return true
		}
	}
	return bad(l.steps[i].State)
}

// items looks at the runs of a step with ForEach.
func (l *chainLook) items(i int) {
	s, out := &l.plan.steps[i], &l.steps[i]
	list, known := l.memo.lists[i]
	if !known {
		text := l.value(i, s.each)
		if text == "" && l.nothingOf(i, s.each) {
			out.State, out.Reason = StepSkipped, "there is nothing to run it for: "+s.each+" comes from a step that gave nothing"
			return
		}
		var err error
		if list, err = listOf(text); err != nil {
			out.State, out.Outcome, out.Reason = StepFailed, OutcomeInvalid, fmt.Sprintf("%s %v", s.each, err)
			return
		}
		l.memo.lists[i] = list
	}
	out.State, out.Outcome, out.Resumed = StepCompleted, OutcomeOK, l.taken[i]
	bad := 0
	for n, value := range list {
		item := l.unit(i, fmt.Sprintf("%s.%04d", s.Name, n), &stepItem{index: n, value: asText(value)})
		item.Name = fmt.Sprintf("%s[%d]", s.Name, n)
		out.Items = append(out.Items, item)
		out.Cost = AddCost(out.Cost, item.Cost)
		out.Attempts += item.Attempts
		out.Recovered = out.Recovered || item.Recovered
		out.Resumed = out.Resumed && item.Resumed
		if out.Started.IsZero() || !item.Started.IsZero() && item.Started.Before(out.Started) {
			out.Started = item.Started
		}
		if item.Ended.After(out.Ended) {
			out.Ended = item.Ended
		}
		switch item.State {
		case StepCompleted:
			if item.Outcome == OutcomePartlyDenied && out.State == StepCompleted {
				out.Outcome = OutcomePartlyDenied
			}
		case StepWaiting, StepRunning:
			out.State = StepRunning
		case StepFailed, StepCancelled:
			bad++
			if out.State == StepCompleted && (!s.OnFailure.Continue || bad == len(list)) {
				out.State, out.Outcome = item.State, item.Outcome
				out.Reason = fmt.Sprintf("item %d of %d: %s", n, len(list), item.Reason)
			}
		}
	}
	switch out.State {
	case StepRunning:
		out.Outcome, out.Reason, out.Ended = "", "", time.Time{}
	case StepCompleted:
		out.Output = joined(out.Items)
	}
}

// joined is the list of the outputs, null for an item that has none.
func joined(items []StepResult) string {
	outputs := make([]any, len(items))
	for n, item := range items {
		if item.State != StepCompleted {
			continue
		}
		outputs[n] = item.Output
		if v, err := decodeJSON(item.Output); err == nil {
			outputs[n] = v
		}
	}
	return asText(outputs)
}

// nothingOf reports whether what a reference stands for is of a step that was
// skipped, or that failed and was gone on from.
func (l *chainLook) nothingOf(i int, ref string) bool {
	at := -1
	if name, ok := strings.CutPrefix(ref, "steps."); ok {
		name, _, _ = strings.Cut(name, ".")
		at = l.plan.index[name]
	} else if needs := l.plan.steps[i].needs; ref == refPrevious && len(needs) == 1 {
		at = needs[0]
	}
	return at >= 0 && l.steps[at].State != StepCompleted
}

// listOf reads the list that a step is to be run for.
func listOf(text string) ([]any, error) {
	v, err := readJSON(text)
	if err != nil {
		return nil, err
	}
	list, ok := v.([]any)
	switch {
	case !ok:
		return nil, errors.New("is no JSON list: " + shorten(text))
	case len(list) > MaxItems:
		return nil, fmt.Errorf("has %d items, more than %d", len(list), MaxItems)
	}
	return list, nil
}

// unit looks at one run of a step, and at that of its recovery prompt.
func (l *chainLook) unit(i int, key string, item *stepItem) StepResult {
	s := &l.plan.steps[i]
	vars := s.OutputVars
	if item != nil {
		vars = nil // those are of the whole list
	}
	if _, begun := l.find(stepID(l.rec.ID, key)); !begun && l.taken[i] {
		if out, ok := l.takeOver(key, vars); ok {
			return out
		}
	}
	scope := stepScope{l: l, step: i, item: item}
	out, rec := l.run(key, func() (Task, error) { return scope.task(s.Action, "") })
	out.setVars(vars)
	if out.State != StepFailed || s.OnFailure.RecoveryPrompt == "" {
		return out
	}
	scope.failure, scope.failed = out.Reason, rec.ID
	after := rec.ID
	if rec.SessionID == "" {
		after = l.sessionBefore(i)
	}
	again, _ := l.run(key+recoveryKey, func() (Task, error) {
		return scope.task(StepAction{Prompt: s.OnFailure.RecoveryPrompt, Definition: s.Action.Definition}, after)
	})
	again.setVars(vars)
	again.Recovered = again.State == StepCompleted
	again.Cost = AddCost(again.Cost, out.Cost)
	again.Attempts += out.Attempts
	if !out.Started.IsZero() {
		again.Started = out.Started
	}
	if again.State == StepFailed || again.State == StepCancelled {
		again.Reason = fmt.Sprintf("%s; and its recovery: %s", out.Reason, again.Reason)
	}
	if again.State == StepWaiting {
		again.State = StepRunning
	}
	return again
}

// recoveryKey ends the key of the task that runs a recovery prompt.
const recoveryKey = ".recovery"

// takeOver finds what an earlier chain has completed in the place of a run. All
// that the step needs comes from there too, so it would be asked the same again.
// What it has cost is that chain's.
func (l *chainLook) takeOver(key string, vars map[string]string) (StepResult, bool) {
	for _, chain := range l.from {
		for _, k := range []string{key, key + recoveryKey} {
			rec, ok := l.find(stepID(chain, k))
			if !ok {
				break
			}
			out := ended(&rec)
			out.setVars(vars)
			if out.State != StepCompleted {
				continue
			}
			out.Recovered, out.Resumed = k != key, true
			out.Cost, out.Attempts = 0, 0
			return out, true
		}
	}
	return StepResult{}, false
}

// run looks at the task with a key. If there is none it is to be submitted.
func (l *chainLook) run(key string, task func() (Task, error)) (StepResult, TaskRecord) {
	rec, exists := l.find(stepID(l.rec.ID, key))
	switch {
	case exists && rec.State.Terminal():
		return ended(&rec), rec
	case exists:
		l.live = append(l.live, rec.ID)
		return StepResult{
			State: StepRunning, TaskID: rec.ID, SlotID: rec.SlotID, Cost: rec.Cost, Attempts: rec.Attempts, Started: rec.First,
		}, rec
	}
	err := l.refused[key]
	if err == nil {
		var t Task
		if t, err = task(); err == nil {
			err = t.validate()
		}
		if err == nil && !l.rec.State.Terminal() {
			l.ready = append(l.ready, stepTask{key, t})
		}
	}
	if err != nil {
		return StepResult{State: StepFailed, Outcome: OutcomeInvalid, Reason: err.Error()}, rec
	}
	return StepResult{State: StepWaiting}, rec
}

// ended is what a task that has ended makes of its step.
func ended(rec *TaskRecord) StepResult {
	var out StepResult
	out.TaskID, out.SlotID, out.Cost, out.Attempts, out.Started = rec.ID, rec.SlotID, rec.Cost, rec.Attempts, rec.First
	out.Outcome, out.Ended = rec.Outcome, rec.Ended
	res := rec.Result
	if res == nil {
		res = &TaskResult{}
	}
	out.SlotID = cmp.Or(res.SlotID, out.SlotID)
	if res.Work != nil {
		out.Branch = res.Work.Branch
	}
	switch rec.State {
	case StateCompleted:
		out.State, out.Output = StepCompleted, res.Output
		if len(res.Structured) > 0 {
			out.Output = string(res.Structured)
		}
	case StateCancelled:
		out.State, out.Reason = StepCancelled, "its task was cancelled"
	default:
		out.State, out.Reason = StepFailed, string(rec.Outcome)
	}
	if f := res.Failure; f != nil && f.Message != "" {
		out.Reason = f.Message
	}
	return out
}

// setVars finds the output variables in the output of what has completed. If
// one is not there, it has failed.
func (s *StepResult) setVars(paths map[string]string) {
	if s.State != StepCompleted || len(paths) == 0 {
		return
	}
	doc, err := readJSON(s.Output)
	vars := make(map[string]string, len(paths))
	for name, path := range paths {
		if err != nil {
			break
		}
		if vars[name], err = atPath(doc, path); err != nil {
			err = fmt.Errorf("%w (wanted for the variable %q)", err, name)
		}
	}
	if err != nil {
		s.State, s.Outcome, s.Reason = StepFailed, OutcomeSchema, "its output "+err.Error()
		return
	}
	s.Vars = vars
}

// value returns what a reference of a step stands for. The plan has checked
// that it can stand for something.
func (l *chainLook) value(i int, ref string) string {
	if ref == refPrevious {
		if needs := l.plan.steps[i].needs; len(needs) == 1 {
			return l.handed(needs[0])
		}
		return ""
	}
	if name, ok := strings.CutPrefix(ref, "steps."); ok {
		step, part, _ := strings.Cut(name, ".")
		s := &l.steps[l.plan.index[step]]
		if part == "output" {
			return s.Output
		}
		return s.Vars[part]
	}
	return l.plan.chain.Arguments[ref]
}

// handed returns what a step hands on: its output, or if it was skipped what
// it was handed itself.
func (l *chainLook) handed(i int) string {
	if needs := l.plan.steps[i].needs; l.steps[i].State == StepSkipped && len(needs) == 1 {
		return l.handed(needs[0])
	}
	return l.steps[i].Output
}

// stepItem is the item that a step with ForEach runs for.
type stepItem struct {
	index int
	value string
}

// stepScope is what the texts of one run of a step can refer to.
type stepScope struct {
	l       *chainLook
	step    int
	item    *stepItem // nil without ForEach
	failure string    // for the recovery prompt
	failed  TaskID    // that it follows
}

func (s stepScope) resolve(ref string) (string, bool, error) {
	switch _, argument := s.l.plan.chain.Arguments[ref]; {
	case ref == refError:
		return s.failure, true, nil
	case ref == refItem && s.item != nil:
		return s.item.value, true, nil
	case ref == refIndex && s.item != nil:
		return fmt.Sprint(s.item.index), true, nil
	case argument, ref == refPrevious, strings.HasPrefix(ref, "steps."):
		return s.l.value(s.step, ref), true, nil
	}
	return "", false, nil
}

// keepStepSession is how long a slot holds the session of a chain with one
// session for the next step.
const keepStepSession = time.Minute

// task makes the task for an action of the step. after is the task of the step
// that failed before, for the recovery.
func (s stepScope) task(a StepAction, after TaskID) (Task, error) {
	chain, step, owner := s.l.plan.chain, &s.l.plan.steps[s.step], &s.l.rec.Task
	prompt, err := s.prompt(a)
	if err != nil {
		return Task{}, err
	}
	t := Task{
		Prompt: prompt, Tags: owner.Tags, Priority: owner.Priority, Owner: owner.Owner, Parent: s.l.rec.ID,
		Slot: step.Slot, Role: step.Role, Isolation: cmp.Or(chain.Isolation, owner.Isolation), Retry: step.OnFailure.Retry,
		Overrides: step.Overrides, Allowance: owner.Allowance,
	}
	t.Overrides.AgentConfig = chain.Overrides.Merge(step.Overrides.AgentConfig)
	if a.Definition != nil {
		t.Overrides.AgentConfig = a.Definition.agentConfig().Merge(t.Overrides.AgentConfig)
	}
	if t.Isolation.apart() {
		t.From = s.l.workBefore(s.step)
		if s.failed != "" {
			t.From = []TaskID{s.failed}
		}
	}
	if chain.MaxCost > 0 {
		t.Allowance = &Allowance{ID: string(s.l.rec.ID), Limit: chain.MaxCost}
	}
	if chain.OneSession {
		if s.step < len(s.l.plan.steps)-1 || step.OnFailure.RecoveryPrompt != "" && after == "" {
			t.KeepSession = keepStepSession
		}
		if t.Session.Task = cmp.Or(after, s.l.sessionBefore(s.step)); t.Session.Task != "" {
			t.Overrides.SystemPrompt, t.Overrides.AppendPrompt = "", ""
		}
	}
	return t, nil
}

// prompt expands the action's texts.
func (s stepScope) prompt(a StepAction) (string, error) {
	if a.Skill == "" {
		return template.Expand(a.Prompt, s.resolve)
	}
	if a.Definition == nil {
		return "", fmt.Errorf("skill %q was not found when the chain was submitted", a.Skill)
	}
	args := make(map[string]string, len(a.Arguments))
	for name, text := range a.Arguments {
		value, err := template.Expand(text, s.resolve)
		if err != nil {
			return "", err
		}
		args[name] = value
	}
	return a.Definition.Expand(args)
}

// workBefore returns the tasks whose work a step begins with: those of the steps
// that it needs.
func (l *chainLook) workBefore(i int) []TaskID {
	var ids []TaskID
	for _, n := range l.plan.steps[i].needs {
		ids = append(ids, l.workOf(n)...)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// workOf returns the tasks that have the work of a step, or if it did nothing that
// of the steps that it needs.
func (l *chainLook) workOf(i int) []TaskID {
	s := &l.steps[i]
	switch {
	case s.State != StepCompleted:
		return l.workBefore(i)
	case s.TaskID != "":
		return []TaskID{s.TaskID}
	}
	var ids []TaskID
	for _, item := range s.Items {
		if item.State == StepCompleted {
			ids = append(ids, item.TaskID)
		}
	}
	if len(ids) == 0 {
		return l.workBefore(i)
	}
	return ids
}

// sessionBefore returns the last task before a step that has a session.
func (l *chainLook) sessionBefore(i int) TaskID {
	for i--; i >= 0; i-- {
		if id := l.steps[i].TaskID; id != "" {
			if rec, ok := l.find(id); ok && rec.SessionID != "" {
				return id
			}
		}
	}
	return ""
}

// result is how the chain stands, as the caller sees it.
func (l *chainLook) result(now time.Time) ChainResult {
	r := l.rec
	out := ChainResult{TaskID: r.ID, State: r.State, Outcome: r.Outcome, Steps: l.steps}
	for i := range l.steps {
		out.Cost = AddCost(out.Cost, l.steps[i].Cost)
	}
	if r.State.Terminal() && !r.Ended.IsZero() {
		now = r.Ended
	}
	out.Total = Duration(now.Sub(r.Submitted))
	out.Success = r.State == StateCompleted && r.Outcome == OutcomeOK
	if r.Result != nil {
		out.Output, out.Failure = r.Result.Output, r.Result.Failure
	}
	return out
}

// end is what a chain that is over came to.
func (l *chainLook) end() (Outcome, *TaskResult) {
	res := &TaskResult{Outcome: OutcomeOK, Steps: l.steps, Output: l.output()}
	for i := range l.steps {
		if l.steps[i].Outcome == OutcomePartlyDenied {
			res.Outcome = OutcomePartlyDenied
		}
	}
	if l.failed >= 0 {
		s := &l.steps[l.failed]
		res.Outcome = cmp.Or(s.Outcome, OutcomeAgentError)
		reason := s.Reason
		for _, item := range s.Items {
			if s.Outcome == "" && (item.State == StepFailed || item.State == StepCancelled) {
				res.Outcome, reason = item.Outcome, item.Reason
				break
			}
		}
		if res.Outcome == OutcomeCancelled { // of a step's task: the chain itself was not
			res.Outcome = OutcomeAgentError
		}
		res.Failure = &Failure{Class: res.Outcome, Message: fmt.Sprintf("step %q: %s", s.Name, reason)}
	}
	return res.Outcome, res
}

// output is that of the last step that no other step needs and that was not
// skipped.
func (l *chainLook) output() string {
	needed := make([]bool, len(l.steps))
	for i := range l.plan.steps {
		for _, n := range l.plan.steps[i].needs {
			needed[n] = true
		}
	}
	for i := len(l.steps) - 1; i >= 0; i-- {
		if !needed[i] && (!l.plan.graph || l.steps[i].State != StepSkipped) {
			return l.handed(i)
		}
	}
	return ""
}
