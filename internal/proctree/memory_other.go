//go:build !linux

package proctree

import (
	"errors"
	"fmt"
)

// FreeMemory returns how many bytes new processes can take. Here that is not
// known: the error is [errors.ErrUnsupported].
func FreeMemory() (int64, error) {
	return 0, fmt.Errorf("find out how much memory is free: %w", errors.ErrUnsupported)
}
