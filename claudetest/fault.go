package claudetest

import (
	"fmt"
	"strings"
)

// Fault is one way in which the stand-in misbehaves: a name, and for some an
// argument after a colon, such as "exit:3".
type Fault string

// faultNames maps each fault to the form of its argument.
var faultNames = map[string]string{}

// ParseFault reads a fault and checks its name and argument.
func ParseFault(s string) (Fault, error) {
	name, _, _ := strings.Cut(s, ":")
	if _, ok := faultNames[name]; !ok {
		return "", fmt.Errorf("claudetest: unknown fault %q", clip(name))
	}
	return Fault(s), nil
}
