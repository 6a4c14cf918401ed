// Package template replaces placeholders in the texts of chains, workflows and
// skills. It goes through a text once, from left to right: what a value holds
// is never taken for a placeholder.
package template

import (
	"fmt"
	"strings"
)

// Resolve returns the value of a placeholder. Not ok means that it is none:
// the text stays as it is.
type Resolve func(ref string) (value string, ok bool, err error)

// Error says which placeholder could not be replaced.
type Error struct {
	Placeholder string // as it is written
	Line        int    // where it stands, from 1
	Err         error  // what Resolve returned
}

func (e *Error) Error() string {
	if e.Line == 1 { // which goes without saying, as most texts have no other
		return fmt.Sprintf("placeholder %s: %v", e.Placeholder, e.Err)
	}
	return fmt.Sprintf("placeholder %s in line %d of the text: %v", e.Placeholder, e.Line, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Expand returns text with its placeholders replaced by what resolve returns.
// They are
//
//	{name} {name.part.part}         ref is the text between the braces
//	$ARGUMENTS $ARGUMENTS[2] $2     ref is the text as written
//	${NAME}                         ref is the text as written
//
// where a name starts with a letter or "_", and its parts are letters, digits,
// "_" and "-". Everything else is text. The first error of resolve comes back
// as an [*Error].
func Expand(text string, resolve Resolve) (string, error) {
	var out strings.Builder
	done := 0
	for i := 0; i < len(text); {
		written, ref := candidate(text[i:])
		if written == "" {
			i++
			continue
		}
		value, ok, err := resolve(ref)
		if err != nil {
			return "", &Error{Placeholder: written, Line: 1 + strings.Count(text[:i], "\n"), Err: err}
		}
		if ok {
			out.WriteString(text[done:i])
			out.WriteString(value)
			done = i + len(written)
		}
		i += len(written)
	}
	out.WriteString(text[done:])
	return out.String(), nil
}

// candidate returns what may be a placeholder at the start of text, as written
// and as it is resolved, or nothing.
func candidate(text string) (written, ref string) {
	switch text[0] {
	case '{':
		ref = reference(text[1:])
		if ref == "" || !strings.HasPrefix(text[1+len(ref):], "}") {
			return "", ""
		}
		return text[:len(ref)+2], ref
	case '$':
		written = variable(text)
		return written, written
	}
	return "", ""
}

// reference returns the name, with its parts, at the start of text.
func reference(text string) string {
	if text == "" || !letter(text[0]) {
		return ""
	}
	end := 0
	for end < len(text) && (word(text[end]) || text[end] == '.' && text[end-1] != '.') {
		end++
	}
	if text[end-1] == '.' {
		return ""
	}
	return text[:end]
}

// arguments is the variable for all arguments of a skill.
const arguments = "$ARGUMENTS"

// variable returns the placeholder with a dollar sign at the start of text.
func variable(text string) string {
	rest := text[1:]
	switch {
	case strings.HasPrefix(rest, "{"):
		name := upper(rest[1:])
		if name == "" || !strings.HasPrefix(rest[1+len(name):], "}") {
			return ""
		}
		return text[:len(name)+3]
	case strings.HasPrefix(text, arguments):
		after := text[len(arguments):]
		if strings.HasPrefix(after, "[") {
			n := digits(after[1:])
			if n != "" && strings.HasPrefix(after[1+len(n):], "]") {
				return text[:len(arguments)+len(n)+2]
			}
		}
		if after != "" && (letter(after[0]) || digit(after[0])) {
			return ""
		}
		return arguments
	}
	n := digits(rest)
	if after := rest[len(n):]; n == "" || after != "" && letter(after[0]) {
		return ""
	}
	return text[:1+len(n)]
}

// maxDigits bounds the number of an argument: what is longer is none.
const maxDigits = 3

func digits(text string) string {
	end := 0
	for end < len(text) && digit(text[end]) {
		end++
	}
	if end > maxDigits {
		return ""
	}
	return text[:end]
}

func upper(text string) string {
	end := 0
	for end < len(text) && ('A' <= text[end] && text[end] <= 'Z' || text[end] == '_' || end > 0 && digit(text[end])) {
		end++
	}
	return text[:end]
}

func letter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' }
func digit(c byte) bool  { return '0' <= c && c <= '9' }
func word(c byte) bool   { return letter(c) || digit(c) || c == '-' }
