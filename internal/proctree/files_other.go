//go:build !unix

package proctree

import (
	"errors"
	"os"
)

// closedFiles is not reached: see supported.
func closedFiles() ([]*os.File, error) { return nil, errors.ErrUnsupported }
