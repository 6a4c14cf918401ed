package mcp

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/claudepool/claudepool"
)

// advise adds to an error what the caller can do next. The result is read by a
// model.
func advise(err error) error {
	var next string
	switch {
	case errors.Is(err, claudepool.ErrUnknownTask):
		next = "pool_list_tasks lists the tasks"
	case errors.Is(err, claudepool.ErrUnknownSlot):
		next = "pool_find_slots lists the slots"
	case errors.Is(err, claudepool.ErrUnknownSkill):
		next = "pool_skill_list lists the skills"
	case errors.Is(err, claudepool.ErrUnknownWorkflow):
		next = "pool_workflow_list lists the workflows"
	case errors.Is(err, claudepool.ErrMailboxFull):
		next = "pool_read_messages empties it"
	case errors.Is(err, fs.ErrExist):
		next = "it is never written over; edit that file, or move it away first"
	case errors.Is(err, claudepool.ErrUnknownKey):
		next = "context_list lists the keys"
	case errors.Is(err, claudepool.ErrKeyReused):
		next = "choose another idempotency_key for other work"
	case errors.Is(err, claudepool.ErrSlotBusy):
		next = "find another with pool_find_slots and state idle, or wait"
	case errors.Is(err, claudepool.ErrClosed):
		next = "it takes no more work; the server has to be started again"
	default:
		return err
	}
	return fmt.Errorf("%w; %s", err, next)
}

// invalid says which argument cannot be used, and why.
func invalid(field, format string, args ...any) error {
	return &claudepool.InvalidError{Field: field, Reason: fmt.Sprintf(format, args...)}
}
