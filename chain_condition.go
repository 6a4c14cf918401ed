package claudepool

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// condition is a parsed [ChainStep].When.
type condition struct {
	ref string
	op  string // "", "!", "==", "!=" or "contains"
	arg string
}

// conditionForms is what a condition may look like, for messages.
const conditionForms = `REF, !REF, REF == "x", REF != "x" or REF contains "x"`

var (
	// conditionForm takes a condition apart: "!", the reference, the operator
	// and the text it compares with.
	conditionForm = regexp.MustCompile(`(?s)^\s*(!?)\s*(\S+?|\{[^}]*\})(?:\s+(==|!=|contains)\s+(.*?))?\s*$`)
	refForm       = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)
)

// parseCondition reads a condition. The reference may stand in braces.
func parseCondition(text string) (condition, error) {
	m := conditionForm.FindStringSubmatch(text)
	if m == nil {
		return condition{}, fmt.Errorf("is not understood: %s", shorten(text))
	}
	not, op, quoted := m[1], m[3], m[4]
	ref, err := parseRef(m[2])
	switch {
	case err != nil:
		return condition{}, err
	case op == "":
		return condition{ref: ref, op: not}, nil
	case not != "":
		return condition{}, errors.New("has both ! and " + op)
	}
	arg, err := strconv.Unquote(quoted)
	if err != nil || quoted[0] != '"' {
		return condition{}, fmt.Errorf("compares with %s, which is no text in double quotes", shorten(quoted))
	}
	return condition{ref: ref, op: op, arg: arg}, nil
}

// parseRef reads a reference, which may stand in braces.
func parseRef(text string) (string, error) {
	ref := strings.TrimSpace(text)
	if inner, ok := strings.CutPrefix(ref, "{"); ok {
		ref = strings.TrimSpace(strings.TrimSuffix(inner, "}"))
	}
	if !refForm.MatchString(ref) {
		return "", fmt.Errorf("%s is no reference such as steps.NAME.output", shorten(text))
	}
	return ref, nil
}

// empties are the values that do not hold by themselves.
var empties = []string{"", "false", "0", "null", "[]", "{}"}

// holds reports whether the condition holds for the value of its reference.
func (c condition) holds(value string) bool {
	switch value := strings.TrimSpace(value); c.op {
	case "==":
		return value == c.arg
	case "!=":
		return value != c.arg
	case "contains":
		return strings.Contains(value, c.arg)
	case "!":
		return slices.Contains(empties, value)
	default:
		return !slices.Contains(empties, value)
	}
}
