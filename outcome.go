package claudepool

// Outcome is the class of how an attempt, and with its last attempt a task,
// ended. The list is closed.
type Outcome string

// The outcomes.
const (
	OutcomeOK           Outcome = "ok"            // done
	OutcomePartlyDenied Outcome = "partly_denied" // done, but some tool calls were refused
	OutcomeAgentError   Outcome = "agent_error"   // the agent gave up
	OutcomeDenied       Outcome = "denied"        // not done, because a tool call was refused
	OutcomeMaxTurns     Outcome = "max_turns"     // the bound on model requests was reached
	OutcomeSchema       Outcome = "schema"        // no output, or none that fits the JSON schema
	OutcomeRejected     Outcome = "rejected"      // refused in review too often
	OutcomeConflict     Outcome = "conflict"      // the work could not be merged
	OutcomeRateLimited  Outcome = "rate_limited"  // the account has reached a limit
	OutcomeOverloaded   Outcome = "overloaded"    // the API has no capacity
	OutcomeAPIError     Outcome = "api_error"     // the API failed, or could not be reached
	OutcomeAuth         Outcome = "auth"          // not logged in, or the credential was refused
	OutcomeInvalid      Outcome = "invalid"       // the request itself cannot work
	OutcomeExpired      Outcome = "expired"       // waited too long
	OutcomeTimeout      Outcome = "timeout"       // ran too long
	OutcomeStalled      Outcome = "stalled"       // the agent fell silent
	OutcomeBudget       Outcome = "budget"        // the money was used up
	OutcomeCrashed      Outcome = "crashed"       // its process died, or what it wrote could not be saved
	OutcomeLost         Outcome = "lost"          // its host died
	OutcomeLaunch       Outcome = "launch"        // no process could be started
	OutcomeCancelled    Outcome = "cancelled"     // somebody cancelled it
)

// Outcomes lists every outcome.
func Outcomes() []Outcome {
	return []Outcome{
		OutcomeOK, OutcomePartlyDenied,
		OutcomeAgentError, OutcomeDenied, OutcomeMaxTurns, OutcomeSchema, OutcomeRejected, OutcomeConflict,
		OutcomeRateLimited, OutcomeOverloaded, OutcomeAPIError, OutcomeAuth, OutcomeInvalid,
		OutcomeExpired, OutcomeTimeout, OutcomeStalled, OutcomeBudget,
		OutcomeCrashed, OutcomeLost, OutcomeLaunch, OutcomeCancelled,
	}
}

// State returns the terminal state that a task with this outcome has.
func (o Outcome) State() TaskState {
	switch o {
	case OutcomeOK, OutcomePartlyDenied:
		return StateCompleted
	case OutcomeCancelled:
		return StateCancelled
	}
	return StateFailed
}

// Retryable reports whether another attempt may end better and is covered by
// [RetryPolicy]. Crashes are not: they have a counter of their own.
func (o Outcome) Retryable() bool {
	switch o {
	case OutcomeAgentError, OutcomeSchema, OutcomeRateLimited, OutcomeOverloaded, OutcomeAPIError, OutcomeStalled:
		return true
	}
	return false
}

// continues reports whether a retry goes on in the same session, because what
// was done until then is good, instead of starting from the beginning.
func (o Outcome) continues() bool {
	switch o {
	case OutcomeRateLimited, OutcomeOverloaded, OutcomeAPIError:
		return true
	}
	return false
}

// machinery reports whether o is the machinery's fault, not the agent's.
func (o Outcome) machinery() bool { return o == OutcomeCrashed || o == OutcomeLost }
