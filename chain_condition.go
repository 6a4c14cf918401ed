package claudepool

import (
	"errors"
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

// parseCondition reads a condition. The reference may stand in braces.
func parseCondition(text string) (condition, error) {
	text = strings.TrimSpace(text)
	if rest, negated := strings.CutPrefix(text, "!"); negated {
		ref, err := parseRef(rest)
		return condition{ref: ref, op: "!"}, err
	}
	for _, op := range []string{" == ", " != ", " contains "} {
		left, right, found := strings.Cut(text, op)
		if !found {
			continue
		}
		ref, err := parseRef(left)
		if err != nil {
			return condition{}, err
		}
		right = strings.TrimSpace(right)
		arg, err := strconv.Unquote(right)
		if err != nil || right[0] != '"' {
			return condition{}, errors.New("compares with " + right + ", which is no text in double quotes")
		}
		return condition{ref: ref, op: strings.TrimSpace(op), arg: arg}, nil
	}
	ref, err := parseRef(text)
	return condition{ref: ref}, err
}

// parseRef reads a reference, which may stand in braces.
func parseRef(text string) (string, error) {
	text = strings.TrimSpace(text)
	if inner, ok := strings.CutPrefix(text, "{"); ok {
		text = strings.TrimSpace(strings.TrimSuffix(inner, "}"))
	}
	if text == "" || strings.ContainsFunc(text, func(r rune) bool {
		return r != '.' && r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) {
		return "", errors.New(strconv.Quote(text) + " is no reference such as steps.NAME.output")
	}
	return text, nil
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
