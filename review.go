package claudepool

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxFeedback bounds what a review says in bytes.
const MaxFeedback = 64 << 10

// limit returns the rejection with which a task has failed.
func (p *ReviewPolicy) limit() int {
	if p == nil || p.MaxRejections == 0 {
		return DefaultMaxRejections
	}
	return p.MaxRejections
}

// ApproveResult completes a task whose result waits for a review, with the
// outcome that the result has. It returns the state of the task. A task in any
// other state is left as it is, and the error is [ErrNotInReview]; so it is for
// all but the first of several reviewers.
func (p *Pool) ApproveResult(ctx context.Context, id TaskID) (TaskState, error) {
	return p.review(ctx, id, func(TaskRecord) Transition { return Transition{To: StateCompleted} })
}

// RejectResult sends a task whose result waits for a review back to work: it
// goes on in its session, with the feedback for a prompt. With the last
// rejection that [ReviewPolicy] allows, the task has failed instead, as
// [OutcomeRejected], and keeps the output. Feedback must be valid UTF-8, not
// blank, and at most [MaxFeedback] bytes. State and error are as those of
// [Pool.ApproveResult].
func (p *Pool) RejectResult(ctx context.Context, id TaskID, feedback string) (TaskState, error) {
	switch {
	case strings.TrimSpace(feedback) == "":
		return "", invalidField("feedback", "is empty; say what has to change")
	case !utf8.ValidString(feedback):
		return "", invalidField("feedback", "is not valid UTF-8")
	case len(feedback) > MaxFeedback:
		return "", invalidField("feedback", "must be at most %d bytes, not %d; put longer texts into files and name those", MaxFeedback, len(feedback))
	}
	return p.review(ctx, id, func(r TaskRecord) Transition {
		if n := r.Rejections + 1; n >= r.Task.Review.limit() {
			message := fmt.Sprintf("its result was rejected in review, rejection %d of %d: %s", n, r.Task.Review.limit(), feedback)
			return Transition{To: StateFailed, Outcome: OutcomeRejected, Result: p.endedEarly(r, OutcomeRejected, message)}
		}
		return Transition{To: StatePending, ResumeSession: r.SessionID, CountRejection: true, Feedback: feedback}
	})
}

// review moves a task on from its review.
func (p *Pool) review(ctx context.Context, id TaskID, next func(TaskRecord) Transition) (TaskState, error) {
	if err := p.usable(); err != nil {
		return "", err
	}
	r, err := p.store.Task(ctx, id)
	if err != nil {
		return "", err
	}
	if r.State == StatePendingReview {
		t := next(r)
		t.Task, t.From, t.At = id, StatePendingReview, time.Now()
		r, err = p.store.Transition(ctx, t)
		if !errors.Is(err, ErrConflict) {
			return r.State, err
		}
	}
	return r.State, fmt.Errorf("task %s is %s: %w", id, r.State, ErrNotInReview)
}
