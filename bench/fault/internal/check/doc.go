// Package check looks at the file of a pool's store from outside, and says what
// of the pool's promises does not hold.
//
// It knows nothing of the packages that wrote the file: it has its own queries
// over the tables, and its own idea of what they must say. What it compares the
// file with is what the program that used the pool said ([Line]), what the agent
// was asked ([Prompt]), and the file as it was before.
package check

// Op says what a [Line] tells.
type Op string

// The values of [Op]. Those that end in "ing" are said before a call, as what it
// does may stay although nobody is told: the rest after it returned.
const (
	OpBuilt      Op = "built"     // the pool runs
	OpTakenOver  Op = "takenover" // no claim of another pool is left
	OpAccepted   Op = "accepted"  // ID: a task or a chain; Key: its idempotency key; Text: its prompt
	OpCancelling Op = "cancelling"
	OpCancelled  Op = "cancelled" // State: what Cancel returned
	OpReviewing  Op = "reviewing"
	OpApproved   Op = "approved" // State: what ApproveResult returned
	OpRejected   Op = "rejected" // State: what RejectResult returned
	OpBudgeting  Op = "budgeting"
	OpSent       Op = "sent"   // ID: a message to a slot; Text: its content
	OpResult     Op = "result" // State and Outcome of a task that ended
	OpDrained    Op = "drained"
	OpClosed     Op = "closed"
	OpFailed     Op = "failed" // Text: an error that the program did not expect
)

// Line is something that a program has to say of its pool.
type Line struct {
	Op      Op     `json:"op"`
	ID      string `json:"id,omitempty"`
	Key     string `json:"key,omitempty"`
	State   string `json:"state,omitempty"`
	Outcome string `json:"outcome,omitempty"`
	Text    string `json:"text,omitempty"`
	Amount  int64  `json:"amount,omitempty"` // of a budget, in microdollars
	Cap     int64  `json:"cap,omitempty"`    // of a task without one, under that budget
}

// Prompt is a request that the model got from an agent.
type Prompt struct {
	Mark string `json:"mark"` // of the task, as [Mark] finds it
	// Text is what the agent was asked, if the request is the first of a turn.
	Text string `json:"text,omitempty"`
	// Resumed says that the turn goes on with an interrupted one.
	Resumed bool `json:"resumed,omitempty"`
	// Cost is what the answer costs in microdollars, if there is to be one.
	Cost int64 `json:"cost,omitempty"`
}
