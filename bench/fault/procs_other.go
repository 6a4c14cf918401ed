//go:build unix && !linux

package main

import (
	"errors"
	"fmt"
)

// marked needs the environments of other processes, which only Linux shows.
func marked(string) ([]process, error) { return nil, nil }

func mountSmall(string, int) (func() error, error) {
	return nil, fmt.Errorf("mount a small file system: %w here", errors.ErrUnsupported)
}
