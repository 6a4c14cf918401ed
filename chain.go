package claudepool

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"
)

// Chain is a number of steps of which later ones see what earlier ones gave.
//
// If no step says what it needs, each follows the one before it. As soon as one
// has Needs the chain is a graph: a step starts when all it needs has ended,
// and one without Needs at once, so that independent steps run side by side.
//
// The texts of steps may hold placeholders: {previous_output}, the output of
// the step before; {steps.NAME.output} and {steps.NAME.VAR} of any step that
// runs before, in a graph of those that the step needs, directly or not; the
// names in Arguments; in a step with ForEach {item} and {index}; in a recovery
// prompt {error}. Other braces are text. Placeholders are replaced once: what
// a value holds is never taken for one.
type Chain struct {
	Steps     []ChainStep       `json:"steps"`
	Arguments map[string]string `json:"arguments,omitempty"`
	// Overrides hold for all steps; a step's own win.
	Overrides AgentConfig `json:"overrides,omitzero"`
	// OneSession keeps one conversation over all steps. It is possible when
	// each step follows the one before it and none has ForEach. By default each
	// step starts fresh.
	OneSession bool `json:"one_session,omitempty"`
	// Isolation says what of the file system the steps share with others.
	Isolation ChainIsolation `json:"isolation,omitempty"`
	// MaxCost caps all steps together. Zero means no cap.
	MaxCost Microdollars `json:"max_cost_microdollars,omitempty"`
	// Resume is an earlier chain with the same steps that did not complete.
	// What its steps have completed is taken over instead of paid for again. Its
	// isolation is taken over too, whatever the pool's is now.
	Resume TaskID `json:"resume,omitempty"`
}

// same reports whether two chains ask for the same. What their skills said when
// they were submitted has no bearing on it.
func (c *Chain) same(other *Chain) bool {
	if c == nil || other == nil {
		return c == other
	}
	return bytes.Equal(c.asked(), other.asked())
}

// asked is what the caller gave, in a form that can be compared.
func (c *Chain) asked() []byte {
	a := *c
	a.Steps = slices.Clone(a.Steps)
	for i := range a.Steps {
		a.Steps[i].Action.Definition = nil
	}
	b, err := json.Marshal(a)
	if err != nil {
		return nil // a raw value that is no JSON, which no pool takes
	}
	return b
}

// ChainIsolation says what of the file system a chain shares with others.
type ChainIsolation = Isolation

// ChainStep is one step of a [Chain].
type ChainStep struct {
	// Name is unique in the chain: letters, digits, "_" and "-", at most 64.
	Name   string     `json:"name"`
	Action StepAction `json:"action"`
	// Overrides win over the chain's.
	Overrides TaskOverrides     `json:"overrides,omitzero"`
	OnFailure StepFailurePolicy `json:"on_failure,omitzero"`
	// OutputVars names parts of the step's output for later steps: each value
	// is a dot path into the structured output, or into the output read as
	// JSON, such as "files.0.name". A path that leads nowhere fails the step.
	OutputVars map[string]string `json:"output_vars,omitempty"`
	// Needs names the steps that must have ended before.
	Needs []string `json:"needs,omitempty"`
	// ForEach names a value that is a JSON list, such as "steps.split.output":
	// the step runs once for each item. Its output is the list of their outputs.
	ForEach string `json:"for_each,omitempty"`
	// When skips the step unless it holds: REF, !REF, REF == "x", REF != "x" or
	// REF contains "x". A REF alone holds unless its value is empty, "false",
	// "0", "null", "[]" or "{}".
	When string `json:"when,omitempty"`
	// Slot and Role pin the step as they do a [Task].
	Slot string `json:"slot,omitempty"`
	Role string `json:"role,omitempty"`
}

// StepAction is what a step does: a prompt, or a skill with arguments.
type StepAction struct {
	Prompt string `json:"prompt,omitempty"`
	Skill  string `json:"skill,omitempty"`
	// Arguments of the skill may hold placeholders.
	Arguments map[string]string `json:"arguments,omitempty"`
	// Definition is the skill as it was when the chain was submitted. The pool
	// sets it.
	Definition *Skill `json:"definition,omitempty"`
}

// StepFailurePolicy says what happens when a step fails. First it is tried
// again as Retry says, then RecoveryPrompt is run, then the step is left as
// failed if Continue is set. Else the chain starts nothing more, and fails when
// what runs has ended.
type StepFailurePolicy struct {
	Retry RetryPolicy `json:"retry,omitzero"`
	// RecoveryPrompt is what an agent is asked in place of the step that
	// failed. What it answers is the step's output.
	RecoveryPrompt string `json:"recovery_prompt,omitempty"`
	// Continue goes on with an empty output.
	Continue bool `json:"continue,omitempty"`
}

// ChainOptions say how a chain is queued; see the same fields of [Task].
type ChainOptions struct {
	Tags           []string
	Priority       int
	IdempotencyKey string
	Owner          string
	NotBefore      time.Time
	QueueTimeout   time.Duration // until the chain, not each step, is first started
	Call           *Call
	// Admit, if set, is shown the chain as it will be stored, with the skills
	// of its steps as their Definition. Its error refuses the chain.
	Admit func(Chain) error
}

// StepState is where a step of a chain stands.
type StepState string

// The states of a step.
const (
	StepWaiting   StepState = "waiting"   // for the steps it needs
	StepRunning   StepState = "running"   // queued or running
	StepCompleted StepState = "completed" // also when the recovery prompt did it
	StepFailed    StepState = "failed"
	StepSkipped   StepState = "skipped" // by its condition, or because the chain ended before
	StepCancelled StepState = "cancelled"
)

// StepResult is how a step stands, and what it came to.
type StepResult struct {
	Name    string    `json:"name"`
	State   StepState `json:"state"`
	Outcome Outcome   `json:"outcome,omitempty"`
	// TaskID is the task that runs the step, the last one if there were more.
	TaskID TaskID `json:"task_id,omitempty"`
	// Output is the step's output; of a step with ForEach a JSON list.
	Output string            `json:"output,omitempty"`
	Vars   map[string]string `json:"vars,omitempty"`
	// Partial is the end of what a running step has answered so far, at most
	// [MaxPartial] bytes. It is known to the pool that runs it.
	Partial string `json:"partial,omitempty"`
	// Items are the runs of a step with ForEach, in order.
	Items []StepResult `json:"items,omitempty"`
	// Branch has what the step has written, if it was isolated.
	Branch string `json:"branch,omitempty"`
	// Recovered says that the recovery prompt gave the output.
	Recovered bool `json:"recovered,omitempty"`
	// Resumed says that the step was completed by the chain that this one
	// resumes, which has paid for it.
	Resumed bool `json:"resumed,omitempty"`
	// Reason says why the step failed or was skipped.
	Reason   string       `json:"reason,omitempty"`
	SlotID   string       `json:"slot_id,omitempty"`
	Cost     Microdollars `json:"cost_microdollars"`
	Attempts int          `json:"attempts,omitempty"`
	Started  time.Time    `json:"started,omitzero"`
	Ended    time.Time    `json:"ended,omitzero"`
}

// MaxPartial bounds [StepResult].Partial.
const MaxPartial = 4 << 10

// ChainResult is how a chain stands, and what it came to.
type ChainResult struct {
	TaskID  TaskID    `json:"task_id"`
	State   TaskState `json:"state"`
	Outcome Outcome   `json:"outcome,omitempty"`
	Success bool      `json:"success"`
	// Output is that of the last step that nothing else needs.
	Output  string       `json:"output"`
	Failure *Failure     `json:"failure,omitempty"`
	Steps   []StepResult `json:"steps"`
	// Cost is what the steps have cost so far.
	Cost  Microdollars `json:"cost_microdollars"`
	Total Duration     `json:"total"` // from submission to now, or to the end
}
