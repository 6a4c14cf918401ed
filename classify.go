package claudepool

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/claudepool/claudepool/claude"
	"github.com/claudepool/claudepool/internal/schema"
	"github.com/claudepool/claudepool/worktree"
)

// verdict is what an attempt came to.
type verdict struct {
	outcome Outcome
	message string
	failure *Failure // details, if the process or the API gave any
	// handBack says that the attempt did not end: the pool shuts down.
	handBack bool
	// final says that no other attempt is to follow.
	final bool
	// spoilt says that the attempt's session must not be gone on with.
	spoilt bool
	// elsewhere says that another pool may do better: its program may be logged in.
	elsewhere bool
}

// shutDown is the message of a turn that the end of the pool has cut off.
const shutDown = "the pool was shut down"

// judge is the one place where what an agent says becomes an outcome. cause is
// why the pool ended the turn, if it did; wanted the JSON schema of the output,
// if one was asked for.
func judge(res claude.Result, err, cause error, wanted json.RawMessage) verdict {
	switch {
	case cause == nil:
	case errors.Is(cause, errCancelled):
		return verdict{outcome: OutcomeCancelled, message: "cancelled on request"}
	case errors.Is(cause, errHandBack), errors.Is(cause, ErrClosed):
		return verdict{outcome: OutcomeLost, message: shutDown, handBack: true}
	case errors.Is(cause, errTimeout):
		return verdict{outcome: OutcomeTimeout, message: cause.Error() + "; give the task more time (timeout)"}
	case errors.Is(cause, errStalled):
		return verdict{outcome: OutcomeStalled, message: "the agent " + cause.Error()}
	case errors.Is(cause, errOverspent):
		return verdict{outcome: OutcomeBudget, message: "the task " + cause.Error() + "; raise its cap or the budget"}
	case errors.Is(cause, errRefused):
		return verdict{outcome: OutcomeAuth, message: "the API refused the credential (401); log in again or set a valid key"}
	case errors.Is(cause, errLostClaim):
		return verdict{outcome: OutcomeLost, message: cause.Error()}
	}
	if err != nil {
		return judgeError(err)
	}
	if res.IsError {
		return judgeFailure(res)
	}
	return judgeSuccess(res, wanted)
}

// judgeError judges an attempt that has no result of the agent.
func judgeError(err error) verdict {
	var launch *launchError
	var exit *claude.ExitError
	var place *placeError
	switch {
	case errors.As(err, &place):
		return verdict{outcome: placeClass(err), message: err.Error()}
	case errors.As(err, &launch):
		return verdict{outcome: launchClass(err), message: err.Error(), failure: exitDetails(err)}
	case errors.Is(err, claude.ErrInvalidPrompt), errors.Is(err, errInvalidSession):
		return verdict{outcome: OutcomeInvalid, message: err.Error()}
	case errors.Is(err, claude.ErrDisturbed):
		return verdict{outcome: OutcomeCrashed, message: err.Error(), spoilt: true}
	case errors.As(err, &exit):
		return verdict{outcome: OutcomeCrashed, message: err.Error(), failure: exitDetails(err)}
	}
	return verdict{outcome: OutcomeCrashed, message: err.Error()}
}

// placeClass tells the work of tasks that cannot go together from a repository
// that cannot give a place.
func placeClass(err error) Outcome {
	switch {
	case errors.Is(err, worktree.ErrConflict):
		return OutcomeConflict
	case errors.Is(err, worktree.ErrNoRepository), errors.Is(err, worktree.ErrNoCommit):
		return OutcomeInvalid
	}
	return OutcomeLaunch
}

func exitDetails(err error) *Failure {
	exit, ok := errors.AsType[*claude.ExitError](err)
	if !ok {
		return nil
	}
	return &Failure{ExitCode: &exit.Code, Stderr: exit.Stderr, Command: exit.Command}
}

// judgeFailure judges a result that calls itself an error.
func judgeFailure(res claude.Result) verdict {
	message := cmp.Or(strings.TrimSpace(strings.Join(res.Errors, "; ")), strings.TrimSpace(res.Text),
		strings.TrimSpace("the agent gave no reason: "+res.Subtype+" "+res.TerminalReason))
	v := func(o Outcome) verdict { return verdict{outcome: o, message: message} }
	switch res.Subtype {
	case "error_max_turns":
		return v(OutcomeMaxTurns)
	case "error_max_budget_usd":
		return v(OutcomeBudget)
	case "error_max_structured_output_retries":
		return v(OutcomeSchema)
	}
	switch res.TerminalReason {
	case "prompt_too_long", "blocking_limit", "image_error":
		return v(OutcomeInvalid)
	case "budget_exhausted":
		return v(OutcomeBudget)
	}
	if o, known := apiFailures[res.APIError]; known {
		return v(o)
	}
	switch s := res.APIStatus; {
	case s == 401, s == 403:
		return v(OutcomeAuth)
	case s == 429:
		return v(OutcomeRateLimited)
	case s == 529:
		return v(OutcomeOverloaded)
	case s >= 500, s == 0 && res.TerminalReason == "api_error", s == 0 && res.APIError != "":
		return v(OutcomeAPIError)
	case s >= 400:
		return v(OutcomeInvalid)
	}
	if len(res.Denials) > 0 {
		return v(OutcomeDenied)
	}
	return v(OutcomeAgentError)
}

// apiFailures are the CLI's words for what the API answered, where they say
// more than the status does.
var apiFailures = map[string]Outcome{
	"authentication_failed": OutcomeAuth,
	"billing_error":         OutcomeAuth, // the account cannot pay
	"rate_limit":            OutcomeRateLimited,
	"overloaded":            OutcomeOverloaded,
	"model_not_found":       OutcomeInvalid,
	"invalid_request":       OutcomeInvalid,
}

// judgeSuccess judges a result that calls itself a success.
func judgeSuccess(res claude.Result, wanted json.RawMessage) verdict {
	if err := checkOutput(wanted, res.Structured); err != nil {
		return verdict{outcome: OutcomeSchema, message: err.Error()}
	}
	switch {
	case res.TerminalReason == "hook_stopped":
		return verdict{outcome: OutcomeDenied, message: "a hook ended the turn"}
	case res.TerminalReason != "" && res.TerminalReason != "completed":
		return verdict{outcome: OutcomeAgentError, message: "the turn ended early: " + res.TerminalReason}
	case len(res.Denials) == 0:
		return verdict{outcome: OutcomeOK}
	case strings.TrimSpace(res.Text) == "" && res.Structured == nil:
		return verdict{outcome: OutcomeDenied, message: fmt.Sprintf("%d tool calls were refused (%s first) and nothing came of it; %s", len(res.Denials), res.Denials[0].Tool, howToAllow)}
	}
	return verdict{outcome: OutcomePartlyDenied, message: fmt.Sprintf("%d tool calls were refused (%s first); %s", len(res.Denials), res.Denials[0].Tool, howToAllow)}
}

// checkOutput says why a structured output is not what was asked for, if
// anything was.
func checkOutput(wanted, output json.RawMessage) error {
	if wanted == nil {
		return nil
	}
	s, err := schema.Of(wanted) // made when the task was submitted
	if err != nil {
		return fmt.Errorf("the structured output cannot be checked: its JSON schema %w", err)
	}
	return s.Check(output)
}

// howToAllow ends every message about refusals.
const howToAllow = "allow more by the permission mode (acceptEdits lets slots edit) or by allowed tools"

// resetTime is when an account's limit that ended the turn is lifted; zero if
// it is not known or did not end it.
func resetTime(res claude.Result) time.Time {
	if l := res.RateLimit; l != nil && l.Status == "rejected" && !l.Overage {
		return l.ResetsAt
	}
	return time.Time{}
}
