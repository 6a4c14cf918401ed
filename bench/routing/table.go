package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/claudepool/claudepool"
)

// sample is a request with the route that a senior engineer would choose.
type sample struct {
	Request string               `json:"request"`
	Expect  claudepool.RouteKind `json:"expect"`
	// Accept are other routes that are as good, or nearly so.
	Accept []claudepool.RouteKind `json:"accept,omitempty"`
	Note   string                 `json:"note,omitempty"`
}

// right reports whether a route is the expected one or an accepted one.
func (s sample) right(kind claudepool.RouteKind) bool {
	return kind == s.Expect || slices.Contains(s.Accept, kind)
}

//go:embed requests.json
var requests []byte

// samples reads the table.
func samples() ([]sample, error) {
	d := json.NewDecoder(bytes.NewReader(requests))
	d.DisallowUnknownFields()
	var out []sample
	if err := d.Decode(&out); err != nil {
		return nil, fmt.Errorf("requests.json: %w", err)
	}
	return out, nil
}
